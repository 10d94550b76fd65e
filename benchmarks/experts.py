"""Epochs of experts on real images: tensors in memory against a DataLoader with workers, one network at a time.

With as many images as a union has it is a transition: --images 100 --epochs 100 --workers 0.

python benchmarks/experts.py --images 10000 --json
"""

from collections.abc import Sequence

import torch
from harness import Settings, Work, compare, count, natural, parser
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pdd_lightning.networks import ConvNet, build_template, initial_state
from pdd_lightning.process.workers import Advance, share_out, spare
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import NoAugmentation
from pdd_lightning.training.gradients import Recordings
from pdd_lightning.training.learner import Learner, train_together
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages


def _problem(settings: Settings) -> tuple[ConvNet, tuple[int, int, int], LabelledImages]:
    shape = (3, settings["size"], settings["size"])
    images = torch.randn(settings["images"], *shape, generator=generator(0, "benchmark"))
    return ConvNet(width=settings["width"]), shape, LabelledImages(images, torch.arange(len(images)) % 10)


def ours(settings: Settings) -> Work:
    """As `ExpertTrajectories` trains: several networks at once."""
    architecture, shape, data = _problem(settings)
    data, device = data.to(settings["device"]), torch.device(settings["device"])
    recipe = Recipe(
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        momentum=0.0,
        weight_decay=0.0,
        decay_at=(),
        precision=settings["precision"],
    )
    members, processes = range(settings["networks"]), settings["processes"]
    if processes > 1:
        spare(device)  # before anything is compiled
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    recordings = Recordings()
    learners = [
        Learner(build_template(architecture, shape, 10), device, settings["compile"], recordings) for _ in members
    ]
    keys = [("benchmark", member) for member in members]

    learners[0].compile(recipe, len(data), shape)

    def train(group: Sequence[int], advance: Advance) -> None:
        for member in group:
            learners[member].load(initial_state(architecture, shape, 10, 0, member))
        of_these = [keys[member] for member in group]
        train_together([learners[member] for member in group], data, 0.01, recipe, NoAugmentation(), 0, of_these)

    groups = [members] if processes == 1 else [[member] for member in members]
    return lambda: share_out(train, groups, processes, lambda _: None)


def reference(settings: Settings) -> Work:
    """The usual loop: a loader with workers, torch's optimiser, one network after the other."""
    architecture, shape, data = _problem(settings)
    networks = [build_template(architecture, shape, 10).to(settings["device"]) for _ in range(settings["networks"])]
    loader = DataLoader(
        TensorDataset(data.images, data.labels),
        batch_size=settings["batch_size"],
        shuffle=True,
        num_workers=settings["workers"],
        persistent_workers=settings["workers"] > 0,
    )

    def train(network: nn.Module) -> None:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(settings["epochs"]):
            for images, labels in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(network(images.to(settings["device"])), labels.to(settings["device"]))
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    def work() -> None:
        for network in networks:
            train(network)

    return work


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=count, default=5000)
    options.add_argument("--epochs", type=count, default=1)
    options.add_argument("--batch-size", type=count, default=256)
    options.add_argument("--size", type=count, default=32, help="Height and width of the images.")
    options.add_argument("--width", type=count, default=128, help="Channels of the ConvNet.")
    options.add_argument("--networks", type=count, default=1, help="How many, which ours trains side by side on a GPU.")
    options.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="Of ours.")
    options.add_argument("--compile", action="store_true", help="Compile the steps, as compile_networks: true does.")
    options.add_argument("--workers", type=natural, default=2)
    options.add_argument("--processes", type=count, default=1, help="Of ours, which share the threads on a CPU.")
    compare(__file__, options)
