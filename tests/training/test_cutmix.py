"""CutMix: drawing, mixing images and mixing labels."""

import pytest
import torch
from torch.nn import functional as F

from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.training.cutmix import Mix, draw_mix, mixed_cross_entropy
from pdd_lightning.training.recipe import Recipe

SHAPE = (2, 6, 8)


def draws(count: int, probability: float = 1.0) -> list[Mix | None]:
    draw = generator(0, "cutmix")
    return [draw_mix(probability, 4, SHAPE, draw) for _ in range(count)]


def test_a_rectangle_comes_from_the_partner() -> None:
    images = torch.randn(3, *SHAPE)
    mix = Mix(torch.tensor([2, 0, 1]), (1, 4, 2, 8), 1 - 18 / 48)
    mixed = mix.apply(images)
    for index, partner in enumerate([2, 0, 1]):
        for row in range(6):
            for column in range(8):
                source = partner if 1 <= row < 4 and 2 <= column < 8 else index
                assert torch.equal(mixed[index, :, row, column], images[source, :, row, column])


def test_labels_count_by_area() -> None:
    logits, labels = torch.randn(3, 5, dtype=torch.float64), torch.tensor([4, 0, 2])
    mix = Mix(torch.tensor([2, 0, 1]), (1, 4, 2, 8), 0.625)
    soft = 0.625 * F.one_hot(labels, 5) + 0.375 * F.one_hot(labels[[2, 0, 1]], 5)
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, mix), F.cross_entropy(logits, soft.double()))
    assert mixed_cross_entropy(logits, labels, None) == F.cross_entropy(logits, labels)


def test_parts_of_a_minibatch_add_up() -> None:
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 0])
    mix = Mix(torch.tensor([4, 3, 0, 2, 1]), (0, 3, 0, 8), 0.5)
    parts = [slice(rank, None, 2) for rank in range(2)]
    added = sum(mixed_cross_entropy(logits[part], labels, mix, part, "sum") for part in parts)
    torch.testing.assert_close(added, 5 * mixed_cross_entropy(logits, labels, mix))


def test_the_share_is_the_area_that_stays() -> None:
    shares = []
    for mix in draws(200):
        assert mix is not None
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 6
        assert 0 <= left <= right <= 8
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / 48)
        assert sorted(mix.order.tolist()) == [0, 1, 2, 3]
        shares.append(mix.share)
    assert min(shares) < 0.55
    assert max(shares) > 0.95


def test_the_probability_decides_how_often() -> None:
    assert 50 < sum(mix is not None for mix in draws(200, 0.5)) < 150


def test_without_it_nothing_is_drawn() -> None:
    draw, other = generator(0, "a"), generator(0, "a")
    assert draw_mix(0.0, 4, SHAPE, draw) is None
    assert torch.rand((), generator=draw) == torch.rand((), generator=other)


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_an_impossible_probability(probability: float) -> None:
    with pytest.raises(ConfigError, match="cutmix is a probability in"):
        Recipe(cutmix=probability)
