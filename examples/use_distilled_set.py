"""Train a network on a distilled set, progressively, in plain PyTorch; then write its images as pictures.

python examples/use_distilled_set.py checkpoints/sample

How the set wants to be used stands in its run's configuration. CutMix, which IDC trains with too, is left out here.
"""

import argparse
import importlib
import math
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn import functional as F
from torchvision.utils import save_image  # type: ignore[import-untyped]

from pdd_lightning.datamodules import Preprocessing
from pdd_lightning.errors import PDDError
from pdd_lightning.stage.subsets import read_run
from pdd_lightning.store.folders import RunFolder


def build(named: dict[str, Any]) -> Any:
    """An object of a class that the configuration names, with its options."""
    module, _, name = named["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**named.get("init_args", {}))


def main(run: RunFolder, pictures: Path) -> None:
    subsets = read_run(run)
    config = yaml.safe_load(run.stage(1).config.read_text(encoding="utf-8"))
    recipe, augmentation = config["model"]["recipe"], build(config["model"]["augmentation"])
    data = build(config["data"])  # only to test on; the subsets are all that is trained on
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    network = build(config["model"]["network"]).build(data.image_shape, data.num_classes)

    images, labels = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for subset in subsets:
        part = subset.decoded  # with multi-formation (model.factor), a stored image holds several training images
        images, labels = torch.cat([images, part.images]), torch.cat([labels, part.labels])  # U_k = S_1 ∪ ... ∪ S_k
        options = {"momentum": recipe["momentum"], "weight_decay": recipe["weight_decay"]}
        optimizer = torch.optim.SGD(network.parameters(), lr=subset.rate, **options)
        decays = [math.ceil(point * recipe["epochs"]) for point in recipe["decay_at"]]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, decays, gamma=recipe["decay"])
        network.train()
        for _ in range(recipe["epochs"]):
            for chosen in torch.randperm(len(labels), generator=draws).split(recipe["batch_size"]):
                drawn = augmentation.draw(len(chosen), data.image_shape, draws)
                optimizer.zero_grad()
                F.cross_entropy(network(augmentation.apply(images[chosen], drawn)), labels[chosen]).backward()
                optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            scores = torch.cat([network(some) for some in data.test.images.split(1000)])
        accuracy = 100 * (scores.argmax(1) == data.test.labels).float().mean().item()
        print(f"after stage {subset.stage}: {len(labels)} images, accuracy {accuracy:.1f} %")

    # Images are stored as networks read them; the run knows the way back to pictures.
    preprocessing = Preprocessing.read(run.preprocessing)
    save_image(preprocessing.invert(images).clamp(0, 1), pictures, nrow=data.num_classes)
    print(f"pictures: {pictures}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="Folder of a finished run, such as checkpoints/sample.")
    parser.add_argument("--pictures", type=Path, default=Path("distilled.png"), help="Where to write the images.")
    given = parser.parse_args()
    if given.pictures.suffix != ".png" or not given.pictures.absolute().parent.is_dir():
        parser.error(f"--pictures={given.pictures}: name a file that ends with .png, in a folder that exists")
    try:
        main(RunFolder(given.run), given.pictures)
    except (PDDError, OSError) as error:
        parser.error(str(error))
