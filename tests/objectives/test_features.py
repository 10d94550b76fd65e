"""Feature alignment against the equations of CAFE, written down naively in double precision."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import synthetic_side
from torch import Tensor, nn
from torch.nn import functional as F
from toys import CLASSES, NETWORK, SHAPE, toy_context, toy_images, toy_module, toy_state

from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import Classifier, ConvNet, ResNet, build_template
from pdd_lightning.objectives import FeatureAlignment, SyntheticSide, Work
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.types import ImageShape

EVERYTHING = DSA(one_per_step=False)


def layers_by_hand(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Every block's activation, and the flat features, of the toy network of two blocks."""
    features: Any = module.features
    outputs = []
    for block in (features.block1, features.block2):
        images = block.activation(block.norm(block.conv(images)))
        outputs.append(images)
        images = block.pool(images)
    return [*outputs, images.flatten(1)]


def section_3(synthetic: SyntheticSide, context: StageContext, count: int, weights: list[float], beta: float) -> Tensor:
    """sum_k sum_l w_l || f_kl(S) - f_kl(T) ||^2 + beta * mean over T of -log softmax(<F(x), f_kL(S)>)_y."""
    shape, augmentation = context.image_shape, context.augmentation
    module = toy_module(toy_state(shape=shape, dtype=torch.float64), shape=shape)
    images, labels = synthetic.images, synthetic.labels
    if synthetic.previous is not None:
        images = torch.cat([synthetic.previous.images, images])
        labels = torch.cat([synthetic.previous.labels, labels])
    total = torch.zeros((), dtype=torch.float64)
    everything, answers, centres = [], [], []
    for label in range(CLASSES):
        keys = ("match", 3, 1, label)
        drawn = augmentation.draw(1, shape, generator(0, "stage", 1, *keys))
        real = augmentation.apply(context.real_images(label, count, *keys), drawn)
        mine = augmentation.apply(images[labels == label], drawn)
        sides = zip(weights, layers_by_hand(module, real), layers_by_hand(module, mine), strict=True)
        for weight, theirs, ours in sides:
            total = total + weight * (theirs.detach().mean(0) - ours.mean(0)).pow(2).sum()
        everything += list(theirs.detach())
        answers += [label] * len(theirs)
        centres.append(ours.mean(0))
    for features, answer in zip(everything, answers, strict=True):
        logits = torch.stack([features.dot(centre) for centre in centres])
        total = total - beta / len(everything) * F.log_softmax(logits, 0)[answer]
    return total


@pytest.mark.parametrize("previous", [False, True], ids=["first-stage", "conditioned"])
@pytest.mark.parametrize("augmentation", [NoAugmentation(), EVERYTHING], ids=["none", "everything"])
@pytest.mark.parametrize(("weights", "beta"), [(None, 1.0), ([0.1, 1.0, 2.0], 25.6), (None, 0.0)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)], ids=str)
def test_the_loss_and_its_gradient_are_those_of_the_paper(
    shape: ImageShape,
    weights: list[float] | None,
    beta: float,
    augmentation: Augmentation,
    previous: bool,
    tmp_path: Path,
) -> None:
    real = toy_images(15, shape, dtype=torch.float64)
    context = toy_context(tmp_path, shape=shape, augmentation=augmentation, real=real)
    synthetic = synthetic_side(shape, previous=previous, dtype=torch.float64)
    point = MatchPoint(context.network.layout.flatten(toy_state(shape=shape, dtype=torch.float64)))
    objective = FeatureAlignment(beta, weights, real_batch_size=4)
    assert objective.parts(context) == 1
    found = objective.loss(synthetic, Work(point, 3, 1), context)
    wanted = section_3(synthetic, context, 4, weights or [1.0] * 3, beta)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=0)
    mine, naive = (torch.autograd.grad(loss, synthetic.images)[0] for loss in (found, wanted))
    assert (mine - naive).norm() < 1e-8 * naive.norm()


def test_the_augmentation_of_its_own_takes_the_place_of_the_method_s(tmp_path: Path) -> None:
    synthetic = synthetic_side(SHAPE, previous=False)
    losses = []
    for method, own in [(EVERYTHING, None), (NoAugmentation(), EVERYTHING), (EVERYTHING, NoAugmentation())]:
        context = toy_context(tmp_path, augmentation=method)
        point = MatchPoint(context.network.layout.flatten(context.bank[0]))
        losses.append(FeatureAlignment(augmentation=own).loss(synthetic, Work(point, 0, 0), context).item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("network", [ConvNet(width=4, depth=2, pooling="none"), ResNet(10, norm="instance")], ids=str)
def test_networks_name_their_layers(network: Any) -> None:
    """Each hook sees what the next module sees: as many outputs as names, of falling resolution, the features last."""
    template = build_template(network, (3, 16, 16), CLASSES)
    assert isinstance(template, Classifier)
    context = toy_context(Path(), architecture=network, shape=(3, 16, 16))
    outputs = context.network.embed_layers(dict(template.named_parameters()), torch.randn(2, 3, 16, 16))
    assert len(outputs) == len(template.layers) + 1
    assert all(a.shape[-1] >= b.shape[-1] for a, b in pairwise(outputs[:-1]))
    assert outputs[-1].shape == (2, template.head.in_features)
    assert not any(module._forward_hooks for module in context.network.template.modules())


def test_a_network_without_layers_is_refused() -> None:
    nameless = Classifier(nn.Flatten(), nn.Linear(64, CLASSES))
    with pytest.raises(ConfigError, match="names no layers: give it the names of the modules in its features"):
        FeatureAlignment().check(nameless)


def test_each_layer_has_a_weight() -> None:
    network = toy_module(toy_state(NETWORK))
    FeatureAlignment(layer_weights=[1.0, 1.0, 0.0]).check(network)
    with pytest.raises(ConfigError, match=r"has 2 numbers, and model.network has 3 layers, the features included"):
        FeatureAlignment(layer_weights=[1.0, 1.0]).check(network)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"real_batch_size": 0}, "objective.real_batch_size must be at least 1, got 0"),
        ({"discrimination": -1.0}, "objective.discrimination must be at least 0 and finite, got -1"),
        ({"layer_weights": [1.0, float("nan")]}, "objective.layer_weights must be at least 0 and finite"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FeatureAlignment(**options)


def test_every_option_is_a_setting() -> None:
    options: list[dict[str, Any]] = [
        {},
        {"discrimination": 2.0},
        {"layer_weights": [1.0]},
        {"real_batch_size": 3},
        {"augmentation": DSA()},
    ]
    described = [FeatureAlignment(**each).describe() for each in options]
    assert all(a != b for i, a in enumerate(described) for b in described[:i])
