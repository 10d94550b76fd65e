"""One epoch of an expert on real images: the plain loop over tensors against a DataLoader with workers.

python benchmarks/experts.py --images 10000 --json
"""

import torch
from harness import Settings, Work, compare, parser
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pdd_lightning.augment import NoAugmentation
from pdd_lightning.learning import Learner, Recipe
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.rng import generator
from pdd_lightning.types import LabelledImages


def _problem(settings: Settings) -> tuple[nn.Module, LabelledImages]:
    shape = (3, settings["size"], settings["size"])
    images = torch.randn(settings["images"], *shape, generator=generator(0, "benchmark"))
    labels = torch.arange(len(images)) % 10
    return build_template(ConvNet(width=settings["width"]), shape, 10), LabelledImages(images, labels)


def ours(settings: Settings) -> Work:
    """As `ExpertTrajectories` trains."""
    network, data = _problem(settings)
    learner, data = Learner(network, settings["device"]), data.to(settings["device"])
    recipe = Recipe(epochs=1, batch_size=settings["batch_size"], momentum=0.0, weight_decay=0.0, decay_at=())
    return lambda: learner.train(data, 0.01, recipe, NoAugmentation(), 0, "benchmark")


def reference(settings: Settings) -> Work:
    """The usual loop: a loader with workers, torch's optimiser."""
    network, data = _problem(settings)
    network.to(settings["device"])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    loader = DataLoader(
        TensorDataset(data.images, data.labels),
        batch_size=settings["batch_size"],
        shuffle=True,
        num_workers=settings["workers"],
        persistent_workers=settings["workers"] > 0,
    )

    def work() -> None:
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(images.to(settings["device"])), labels.to(settings["device"])).backward()
            optimizer.step()

    return work


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=int, default=5000)
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--size", type=int, default=32, help="Height and width of the images.")
    options.add_argument("--width", type=int, default=128, help="Channels of the ConvNet.")
    options.add_argument("--workers", type=int, default=2)
    compare(__file__, options.parse_args())
