"""Train a network on a distilled set, progressively, in plain PyTorch; then write its images as pictures.

python examples/use_distilled_set.py checkpoints/sample

`pdd.load(run).train()` does it in one call. CutMix, which IDC trains with too, is left out here.
"""

import argparse
import math
from pathlib import Path

import torch
from torch.nn import functional as F
from torchvision.utils import save_image  # type: ignore[import-untyped]

import pdd_lightning as pdd
from pdd_lightning.errors import PDDError


def main(run: Path, pictures: Path) -> None:
    distilled, data = pdd.load(run), pdd.recorded_data(run)
    data.prepare_data()
    data.setup()  # only to test on; the distilled images are all that is trained on
    about, recipe = distilled.about, distilled.about.recipe
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    network = about.network.build(about.image_shape, len(about.class_names))

    for k, rate in enumerate(distilled.rates, start=1):
        union = distilled.union(k)  # U_k = S_1 ∪ ... ∪ S_k
        optimizer = torch.optim.SGD(
            network.parameters(), lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        decays = [math.ceil(point * recipe.epochs) for point in recipe.decay_at]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, decays, gamma=recipe.decay)
        network.train()
        for _ in range(recipe.epochs):
            for chosen in torch.randperm(len(union), generator=draws).split(recipe.batch_size):
                drawn = about.augmentation.draw(len(chosen), about.image_shape, draws)
                optimizer.zero_grad()
                scores = network(about.augmentation.apply(union.images[chosen], drawn))
                F.cross_entropy(scores, union.labels[chosen]).backward()
                optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            scores = torch.cat([network(some) for some in data.test.images.split(1000)])
        accuracy = 100 * (scores.argmax(1) == data.test.labels).float().mean().item()
        print(f"after stage {k}: {len(union)} images, accuracy {accuracy:.1f} %")

    # Images are stored as networks read them; the set knows the way back to pictures.
    pixels = distilled.pixels(distilled.union().images).clamp(0, 1)
    save_image(pixels, pictures, nrow=len(about.class_names))
    print(f"pictures: {pictures}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="Folder of a finished run, such as checkpoints/sample.")
    parser.add_argument("--pictures", type=Path, default=Path("distilled.png"), help="Where to write the images.")
    given = parser.parse_args()
    if given.pictures.suffix != ".png" or not given.pictures.absolute().parent.is_dir():
        parser.error(f"--pictures={given.pictures}: name a file that ends with .png, in a folder that exists")
    try:
        main(given.run, given.pictures)
    except (PDDError, OSError) as error:
        parser.error(str(error))
