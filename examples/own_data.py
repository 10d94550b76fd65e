"""Distil data of your own: arrays in memory, or a folder of images.

python examples/own_data.py                       # arrays, drawn here
python examples/own_data.py --folder my_images    # train/<class>/* and test/<class>/*, or <class>/* alone
"""

import argparse
from pathlib import Path

import numpy as np

import pdd_lightning as pdd
from pdd_lightning.errors import PDDError


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy stripes that run down, across or both ways: uint8 of shape (N, 1, 16, 16), and labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    waves = 80 * np.sin(np.arange(16) * 1.2 + draw.uniform(0, 6, (count, 1)))
    down, across = (labels != 1)[:, None, None] * waves[:, None, :], (labels != 0)[:, None, None] * waves[:, :, None]
    levels = 128 + down + across + draw.normal(0, 40, (count, 16, 16))
    return levels.clip(0, 255).astype(np.uint8)[:, None], labels


def main(folder: Path | None, run_dir: Path, iterations: int) -> None:
    data: pdd.ImageDataModule
    if folder is None:
        data = pdd.TensorData(*stripes(300, seed=0), *stripes(90, seed=1), class_names=("down", "across", "both"))
    else:
        data = pdd.ImageFolderData(str(folder), image_size=32)
    # The defaults are for small images; `network`, `recipe` and all other options can be given.
    distilled = pdd.distil(data, "dm", stages=2, ipc=1, iterations=iterations, run_dir=run_dir)
    print(distilled)
    # Whole data sets are given again: those in memory are nowhere on disk.
    print(pdd.evaluate(run_dir, data, seeds=3, baselines=["random"], random_rates=[0.1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="Folder of images; without it, arrays are drawn.")
    parser.add_argument("--run_dir", type=Path, default=Path("checkpoints/own_data"), help="Folder of the run.")
    parser.add_argument("--iterations", type=int, default=100, help="Optimiser steps of a stage.")
    given = parser.parse_args()
    try:
        main(given.folder, given.run_dir, given.iterations)
    except PDDError as error:
        parser.error(str(error))
