"""Distribution matching against equation 4 of the paper, written down naively in double precision."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cases import synthetic_side
from torch import Tensor, nn
from toys import CLASSES, NETWORK, SHAPE, toy_context, toy_images, toy_module, toy_state

from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import Architecture, Classifier
from pdd_lightning.objectives import GradientMatching, MeanEmbedding, SyntheticSide, Work
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.types import ImageShape

EVERYTHING = DSA(one_per_step=False)


def equation_4(synthetic: SyntheticSide, context: StageContext, count: int) -> Tensor:
    """Sum over classes of || mean psi(A(T_c)) - mean psi(A(S_c)) ||^2, with one A for both."""
    shape, augmentation = context.image_shape, context.augmentation
    module = toy_module(toy_state(shape=shape, dtype=torch.float64), shape=shape)
    assert isinstance(module, Classifier)
    images, labels = synthetic.images, synthetic.labels
    if synthetic.previous is not None:
        images = torch.cat([synthetic.previous.images, images])
        labels = torch.cat([synthetic.previous.labels, labels])
    total = torch.zeros((), dtype=torch.float64)
    for label in range(CLASSES):
        keys = ("match", 3, 1, label)
        drawn = augmentation.draw(1, shape, generator(0, "stage", 1, *keys))
        sides = (context.real_images(label, count, *keys), images[labels == label])
        real, mine = (module.embed(augmentation.apply(side, drawn)).mean(0) for side in sides)
        total = total + (real.detach() - mine).pow(2).sum()
    return total


@pytest.mark.parametrize("previous", [False, True], ids=["first-stage", "conditioned"])
@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA(), EVERYTHING], ids=["none", "one", "everything"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 32, 32)], ids=str)
def test_the_loss_and_its_gradient_are_those_of_equation_4(
    shape: ImageShape, augmentation: Augmentation, previous: bool, tmp_path: Path
) -> None:
    real = toy_images(15, shape, dtype=torch.float64)
    context = toy_context(tmp_path, shape=shape, augmentation=augmentation, real=real)
    synthetic = synthetic_side(shape, previous=previous, dtype=torch.float64)
    point = MatchPoint(context.network.layout.flatten(toy_state(shape=shape, dtype=torch.float64)))
    objective = MeanEmbedding(real_batch_size=4)
    found = torch.stack([objective.loss(synthetic, Work(point, 3, 1, c), context) for c in range(CLASSES)]).sum()
    wanted = equation_4(synthetic, context, 4)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=0)
    mine, naive = (torch.autograd.grad(loss, synthetic.images)[0] for loss in (found, wanted))
    assert (mine - naive).norm() < 1e-8 * naive.norm()


@dataclass(frozen=True)
class Plain(Architecture):
    """A network without the division into features and head."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(image_shape).numel(), num_classes))


WITHOUT_FEATURES = "model.network builds a Sequential, whose features are unknown: build a .*Classifier"


def test_a_network_without_features_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    network = Plain().build(SHAPE, CLASSES)
    with pytest.raises(ConfigError, match=WITHOUT_FEATURES):
        MeanEmbedding().check(network)
    GradientMatching().check(network)
    MeanEmbedding().check(toy_module(toy_state(NETWORK)))


def test_a_network_without_features_is_refused_in_a_loss(tmp_path: Path) -> None:
    context = toy_context(tmp_path, architecture=Plain())
    point = MatchPoint(context.network.layout.flatten(context.bank[0]))
    with pytest.raises(ConfigError, match=WITHOUT_FEATURES):
        MeanEmbedding().loss(synthetic_side(SHAPE, previous=False), Work(point, 0, 0), context)


def test_it_needs_real_images() -> None:
    with pytest.raises(ConfigError, match=r"objective.real_batch_size must be at least 1, got 0"):
        MeanEmbedding(real_batch_size=0)


def test_every_option_is_a_setting() -> None:
    assert MeanEmbedding(3).describe() != MeanEmbedding(4).describe()
