"""Train a network on a distilled set of digits, progressively, in plain PyTorch; then write its images as pictures.

python examples/use_distilled_set.py checkpoints/sample
"""

import sys
from pathlib import Path

import torch
from torch.nn import functional as F
from torchvision.utils import save_image  # type: ignore[import-untyped]

from pdd_lightning.augment import DSA
from pdd_lightning.datamodules import DigitsData, Preprocessing
from pdd_lightning.networks import ConvNet
from pdd_lightning.store import RunFolder
from pdd_lightning.subsets import read_run

# How the sample says it wants to be used, in stage_01/config.yaml: model.recipe, model.network, model.augmentation.
EPOCHS, WIDTH = 150, 32
AUGMENTATION = DSA(operations=("color", "crop", "cutout", "scale", "rotate"))


def main(folder: str) -> None:
    run = RunFolder(Path(folder))
    data = DigitsData()  # only to test on; the subsets are all that is trained on
    data.setup()
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    network = ConvNet(width=WIDTH).build(data.image_shape, data.num_classes)

    images, labels = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for subset in read_run(run):
        part = subset.decoded  # with multi-formation (model.factor), a stored image holds several training images
        images, labels = torch.cat([images, part.images]), torch.cat([labels, part.labels])  # U_k = S_1 ∪ ... ∪ S_k
        optimizer = torch.optim.SGD(network.parameters(), lr=subset.rate, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [EPOCHS // 2], gamma=0.1)
        network.train()
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            augmented = AUGMENTATION.apply(images, AUGMENTATION.draw(len(images), data.image_shape, draws))
            F.cross_entropy(network(augmented), labels).backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            correct = network(data.test.images).argmax(1) == data.test.labels
        print(f"after stage {subset.stage}: {len(labels)} images, accuracy {100 * correct.float().mean().item():.1f} %")

    # Images are stored as networks read them; the run knows the way back to pictures.
    preprocessing = Preprocessing.read(run.preprocessing)
    save_image(preprocessing.invert(images).clamp(0, 1), "distilled.png", nrow=data.num_classes)
    print("pictures: distilled.png")


if __name__ == "__main__":
    main(sys.argv[1])
