"""What the images of a stage begin with."""

from dataclasses import replace

import torch
from toys import CLASSES, NETWORK, SHAPE, toy_images

from pdd_lightning.dynamics import StartStates
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.stage.initial_images import initial_images
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training.formation import encode

REAL = toy_images(60, SHAPE)
NAMES = tuple(f"class {label}" for label in range(CLASSES))
MIXED = StageOptions(network=NETWORK, objective=MeanEmbedding(), dynamics=StartStates(), factor=2, initial="mixed")


def test_a_mixed_initialisation_reduces_images_as_the_option_says() -> None:
    """Nearest pixels are those of the real images; averages are not. Both show the same images."""
    whole, labels = initial_images(replace(MIXED, initial="real"), 1, REAL, NAMES, 2 * 4)
    for reduction in ("bilinear", "nearest"):
        stored, found = initial_images(replace(MIXED, reduction=reduction), 1, REAL, NAMES, 2)
        assert torch.equal(found, torch.arange(CLASSES).repeat_interleave(2))
        assert torch.equal(stored, encode(whole, 2, reduction))
        is_real = torch.isin(stored, REAL.images[torch.isin(REAL.labels, labels)])
        assert bool(is_real.all()) == (reduction == "nearest")
    assert torch.equal(initial_images(MIXED, 1, REAL, NAMES, 2)[0], encode(whole, 2, "bilinear"))
