"""What IDC's augmentation leaves of images: one of crop, scale and rotate, as published, against all three.

python benchmarks/augmentation.py --root data/cifar10 --networks 10

The folder is that of configs/data/cifar10_folder.yaml. Networks train on 16 random real images per class, reduced and
enlarged again as IDC's are before their first step.
"""

import json
from argparse import ArgumentParser
from dataclasses import replace
from statistics import fmean, stdev

import torch
from torch import Tensor

from pdd_lightning.datamodules import ImageFolderData
from pdd_lightning.networks import ConvNet
from pdd_lightning.rng import generator
from pdd_lightning.selection.random import random_images
from pdd_lightning.training import DSA, Recipe
from pdd_lightning.training.formation import decode_set, encode
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import LabelledImages

PUBLISHED = DSA(("flip", "color", "crop", "scale", "rotate"), one_per_step=False, one_of=("crop", "scale", "rotate"))
WAYS = {"one of three": PUBLISHED, "all three": replace(PUBLISHED, one_of=())}
RECIPE = Recipe(epochs=100, batch_size=64, decay_at=(0.666, 0.833), decay=0.2, cutmix=0.5)


def high_frequencies(images: Tensor) -> float:
    """Mean energy of images (N, C, H, W) above half the highest frequency, in their middle: borders are cut away."""
    side = images.shape[-1]
    middle = images[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4]
    window = torch.hann_window(middle.shape[-1], periodic=False)
    energy = torch.fft.fft2(middle * window[:, None] * window).abs().square()
    frequency = torch.fft.fftfreq(middle.shape[-1]).abs()
    high = torch.maximum(frequency[:, None], frequency) > 0.25
    return float(energy[..., high].sum() / len(images))


def left_of(images: Tensor, augmentation: DSA, batches: int = 40) -> dict[str, float]:
    """What moving, scaling and turning leave of the high frequencies, and the part of the pixels from outside."""
    size, *shape = images.shape
    moving = replace(augmentation, operations=tuple(name for name in augmentation.operations if name != "color"))
    energy, outside = [], []
    for number in range(batches):
        params = moving.draw(size, (shape[0], shape[1], shape[2]), generator(0, "benchmark", number))
        energy.append(high_frequencies(moving.apply(images, params)))
        outside.append(1 - float(moving.apply(torch.ones_like(images[:, :1]), params).mean()))
    return {"high frequencies left": fmean(energy) / high_frequencies(images), "pixels from outside": fmean(outside)}


def accuracies(data: ImageFolderData, augmentation: DSA, networks: int) -> list[float]:
    """Accuracies on 2,000 test images of networks trained on one fixed small set."""
    problem = Problem(ConvNet(width=32), data.image_shape, data.num_classes, augmentation)
    images, labels = random_images(data.train, data.class_names, 16, 0, "benchmark")
    small = decode_set(LabelledImages(encode(images, 2, "nearest"), labels[::4]), 2)
    test = data.test.take(torch.randperm(len(data.test), generator=generator(0, "benchmark", "test"))[:2000])
    found = []
    for number in range(networks):
        learner = Learner(problem.network())
        learner.load(problem.initial_state("benchmark", number))
        learner.train(small, 0.01, RECIPE, augmentation, 0, "benchmark", number)
        found.append(learner.accuracy(test))
    return found


if __name__ == "__main__":
    options = ArgumentParser(description=__doc__)
    options.add_argument("--root", required=True, help="CIFAR-10 as an image folder.")
    options.add_argument("--cache_dir", default="checkpoints/cache")
    options.add_argument("--networks", type=int, default=10)
    given = options.parse_args()
    torch.set_num_threads(1)
    folder = ImageFolderData(given.root, validation_fraction=0.02, max_per_class=1000, cache_dir=given.cache_dir)
    folder.setup()
    some = folder.train.images[:: len(folder.train) // 500]
    for way, augmentation in WAYS.items():
        row: dict[str, float] = left_of(some, augmentation)
        if given.networks > 1:
            scores = accuracies(folder, augmentation, given.networks)
            row |= {"accuracy": fmean(scores), "deviation": stdev(scores)}
        print(json.dumps({"augmentation": way, **{key: round(value, 4) for key, value in row.items()}}), flush=True)
