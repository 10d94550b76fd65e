"""An epoch of shuffled, augmented minibatches: indexing tensors against a DataLoader that augments image by image.

python benchmarks/data.py --images 10000 --json
"""

import torch
from harness import Settings, Work, compare, count, natural, parser
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2  # type: ignore[import-untyped]

from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA
from pdd_lightning.training.recipe import Batches
from pdd_lightning.types import LabelledImages


def _images(settings: Settings) -> LabelledImages:
    shape = (3, settings["size"], settings["size"])
    images = torch.randn(settings["images"], *shape, generator=generator(0, "benchmark"))
    return LabelledImages(images, torch.arange(len(images)) % 10)


def ours(settings: Settings) -> Work:
    """As networks are trained: a crop and a flip for every image of a minibatch at once, where the images are."""
    data = _images(settings).to(settings["device"])
    augmentation = DSA(operations=("crop", "flip"), one_per_step=False)
    shape = (3, settings["size"], settings["size"])

    def work() -> int:
        batches, draws = Batches(len(data), settings["batch_size"], 0, "benchmark"), generator(0, "draws")
        seen = 0
        for step in range(batches.per_epoch):
            batch = data.take(batches[step])
            seen += len(augmentation.apply(batch.images, augmentation.draw(len(batch), shape, draws)))
        return seen

    return work


class _Augmented(Dataset[tuple[Tensor, Tensor]]):
    """The usual data set: one image at a time."""

    def __init__(self, data: LabelledImages, size: int) -> None:
        self.data = data
        self.transform = v2.Compose([v2.RandomCrop(size, padding=size // 8), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.data.images[index]), self.data.labels[index]


def reference(settings: Settings) -> Work:
    """The usual loader: workers that crop and flip each image and collate minibatches."""
    loader = DataLoader(
        _Augmented(_images(settings), settings["size"]),
        batch_size=settings["batch_size"],
        shuffle=True,
        num_workers=settings["workers"],
        persistent_workers=settings["workers"] > 0,
    )

    def work() -> int:
        seen = 0
        for images, labels in loader:
            images.to(settings["device"]), labels.to(settings["device"])
            seen += len(images)
        return seen

    return work


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=count, default=10000)
    options.add_argument("--batch-size", type=count, default=256)
    options.add_argument("--size", type=count, default=32, help="Height and width of the images.")
    options.add_argument("--workers", type=natural, default=2)
    compare(__file__, options)
