"""Training the networks of a table's row: side by side in one fit against one after the other with a DataLoader.

python benchmarks/evaluation.py --networks 5 --epochs 100 --json
"""

import logging
import warnings

import torch
from harness import Settings, Work, compare, count, parser
from lightning.pytorch import Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pdd_lightning.evaluation.module import EvaluationModule, Phase
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.process.workers import Advance, share_out, spare
from pdd_lightning.rng import generator
from pdd_lightning.training.gradients import Recordings
from pdd_lightning.training.learner import SCORED_AT_ONCE, Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import ImageShape, LabelledImages


def _problem(settings: Settings) -> tuple[ImageShape, LabelledImages]:
    shape = (3, settings["size"], settings["size"])
    images = torch.randn(settings["images"], *shape, generator=generator(0, "benchmark"))
    return shape, LabelledImages(images, torch.arange(len(images)) % 10)


def ours(settings: Settings) -> Work:
    """As `pdd-cli evaluate` trains and scores a row."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    shape, data = _problem(settings)
    count, recipe, device = settings["networks"], Recipe(epochs=settings["epochs"]), torch.device(settings["device"])
    phase = Phase([data] * count, [0.01] * count, recipe, settings["compile"])
    recordings = Recordings()

    problem, processes = Problem(ConvNet(width=settings["width"]), shape, 10), settings["processes"]
    if processes > 1:
        spare(device)  # before anything is compiled
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    if settings["compile"] and device.type == "cpu":
        Learner(problem.network(), device, True, recordings).compile(recipe, len(data), shape)

    def fit(members: range, advance: Advance) -> None:
        module = EvaluationModule(
            problem,
            [phase.of(members)],
            data,
            "benchmark",
            list(members),
            recordings=recordings,
        )
        Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            max_steps=module.total_steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module)

    shares = [range(part * count // processes, (part + 1) * count // processes) for part in range(processes)]
    return lambda: share_out(fit, shares, processes, lambda _: None)


def reference(settings: Settings) -> Work:
    """One network after the other, a loader without workers, torch's optimiser; each is scored at its end."""
    shape, data = _problem(settings)
    loader = DataLoader(TensorDataset(data.images, data.labels), batch_size=256, shuffle=True)
    device = settings["device"]

    def work() -> None:
        for _ in range(settings["networks"]):
            network = build_template(ConvNet(width=settings["width"]), shape, 10).to(device)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
            for _ in range(settings["epochs"]):
                for images, labels in loader:
                    optimizer.zero_grad()
                    loss = F.cross_entropy(network(images.to(device)), labels.to(device))
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
            with torch.no_grad():
                network.eval()
                for images, labels in DataLoader(loader.dataset, batch_size=SCORED_AT_ONCE):
                    network(images.to(device)).argmax(1).eq(labels.to(device)).sum().item()

    return work


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=count, default=100)
    options.add_argument("--processes", type=count, default=1, help="Of ours, which share the threads on a CPU.")
    options.add_argument("--networks", type=count, default=5)
    options.add_argument("--epochs", type=count, default=20)
    options.add_argument("--compile", action="store_true", help="Compile the steps, as compile_networks: true does.")
    options.add_argument("--size", type=count, default=32, help="Height and width of the images.")
    options.add_argument("--width", type=count, default=128, help="Channels of the ConvNet.")
    compare(__file__, options)
