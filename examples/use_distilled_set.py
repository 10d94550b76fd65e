"""Train a network on a distilled set, progressively, in plain PyTorch; then write the images as pictures.

python examples/use_distilled_set.py checkpoints/sample
"""

import sys
from pathlib import Path

import torch
from torchvision.utils import save_image  # type: ignore[import-untyped]

from pdd_lightning.datamodules import DigitsData, Preprocessing
from pdd_lightning.networks import ConvNet
from pdd_lightning.store import RunFolder, read_tensors
from pdd_lightning.subsets import read_run

EPOCHS = 150  # on each union


def main(folder: str) -> None:
    run = RunFolder(Path(folder))
    subsets = read_run(run)
    data = DigitsData()
    data.setup()

    torch.manual_seed(0)
    network = ConvNet(width=32).build(data.image_shape, data.num_classes)
    images, labels = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for subset in subsets:
        images = torch.cat([images, subset.data.images])
        labels = torch.cat([labels, subset.data.labels])
        optimizer = torch.optim.SGD(network.parameters(), lr=subset.rate, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [EPOCHS // 2], gamma=0.1)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            schedule.step()
        accuracy = (network(data.test.images).argmax(1) == data.test.labels).float().mean().item()
        print(f"after stage {subset.stage}: {len(labels)} images, test accuracy {100 * accuracy:.1f} %")

    preprocessing = Preprocessing.from_tensors(read_tensors(run.preprocessing)[0])
    save_image(preprocessing.invert(images).clamp(0, 1), "distilled.png", nrow=data.num_classes)
    print("pictures: distilled.png")


if __name__ == "__main__":
    main(sys.argv[1])
