"""Distil with Lightning's own Trainer: a stage is a LightningModule, and the rest are callbacks.

python examples/by_hand.py --run_dir checkpoints/by_hand

Run again, it continues. `pdd.distil` does all this, and more: it holds the folder, checks options and takes signals.
"""

import argparse
from pathlib import Path

from lightning.pytorch import Trainer

import pdd_lightning as pdd
from pdd_lightning.dynamics import StartStates
from pdd_lightning.objectives import MeanEmbedding

STAGES = 2


def next_stage(run_dir: Path) -> pdd.StageModule:
    """The first stage that is not complete in the folder; its parts are its own, for they keep what it needs."""
    return pdd.StageModule(
        network=pdd.ConvNet(width=16),
        objective=MeanEmbedding(),
        dynamics=StartStates(5),
        augmentation=pdd.DSA(operations=("color", "crop", "cutout", "scale", "rotate")),
        recipe=pdd.Recipe(epochs=50),
        stages=STAGES,
        ipc=1,
        iterations=50,
        optimizer="adam",
        image_lr=0.3,
        learning_rate=0.1,
        learning_rate_lr=0.0,
        run_dir=str(run_dir),
    )


def main(run_dir: Path) -> None:
    data = pdd.DigitsData()
    while not (module := next_stage(run_dir)).folder.complete:
        checkpoints = module.folder.checkpoints
        trainer = Trainer(
            accelerator="cpu",
            max_steps=module.iterations,
            # StageCallback exports the images and makes the start states of the next stage.
            callbacks=[pdd.StageCallback(), pdd.StageCheckpoint(checkpoints, steps=20, minutes=10)],
            plugins=[pdd.SealedCheckpointIO()],  # whole files or none, and nothing is unpickled
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data, ckpt_path=pdd.latest_checkpoint(checkpoints), weights_only=True)
    print(pdd.load(run_dir))
    print(pdd.evaluate(module, data, seeds=2, baselines=[], trainer={"logger": False}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run_dir", type=Path, default=Path("checkpoints/by_hand"), help="Folder of the run.")
    main(parser.parse_args().run_dir)
