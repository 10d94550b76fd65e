"""Each method against a plain transcription that looks at every pair."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import CLASSES, NETWORK, SHAPE, toy_images

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.networks import Architecture
from pdd_lightning.rng import generator
from pdd_lightning.selection import Forgetting, Herding, KCenter, RandomSelection, Selection, SelectionContext
from pdd_lightning.selection.forgetting import most_forgotten
from pdd_lightning.selection.random import random_images
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import ImageShape

METHODS: list[Selection] = [RandomSelection(), Herding(epochs=2), KCenter(epochs=2), Forgetting(epochs=2)]
TRAINED = METHODS[1:]


@pytest.fixture
def context(tmp_path: Path) -> SelectionContext:
    names = ("zero", "one", "two")
    real = toy_images(40)
    return SelectionContext(Problem(NETWORK, SHAPE, CLASSES), real, names, "toy", tmp_path)


def naive_herding(features: Tensor, count: int) -> list[int]:
    rows = features.tolist()
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    chosen: list[int] = []
    for _ in range(count):
        distances = {}
        for row in range(len(rows)):
            if row not in chosen:
                members = [rows[i] for i in [*chosen, row]]
                average = [sum(column) / len(members) for column in zip(*members, strict=True)]
                distances[row] = sum((a - b) ** 2 for a, b in zip(average, mean, strict=True))
        chosen.append(min(distances, key=lambda row: distances[row]))
    return chosen


def naive_k_center(features: Tensor, count: int) -> list[int]:
    pairs = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
    while len(chosen) < count:
        nearest = {row: min(float(pairs[row, c]) for c in chosen) for row in range(len(features)) if row not in chosen}
        chosen.append(max(nearest, key=lambda row: nearest[row]))
    return chosen


def naive_forgetting(positions: Sequence[int], counts: Sequence[int], count: int) -> list[int]:
    left, chosen = list(positions), []
    for _ in range(count):
        best = left[0]
        for position in left:
            if counts[position] > counts[best]:
                best = position
        left.remove(best)
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 7, 30])
def test_the_same_rows_as_every_pair_gives(seed: int, count: int) -> None:
    features = torch.randn(30, 6, dtype=torch.float64, generator=generator(seed, "features"))
    assert Herding().pick(features, count).tolist() == naive_herding(features, count)
    assert KCenter().pick(features, count).tolist() == naive_k_center(features, count)
    counts = torch.randint(4, (60,), generator=generator(seed, "counts"))
    positions = torch.randperm(60, generator=generator(seed, "positions"))[:30]
    assert most_forgotten(positions, counts, count).tolist() == naive_forgetting(
        positions.tolist(), counts.tolist(), count
    )


@pytest.mark.parametrize("method", [Herding(), KCenter()], ids=lambda m: m.name)
def test_examples_that_coincide_are_taken_once(method: Herding | KCenter) -> None:
    features = torch.zeros(5, 3, dtype=torch.float64)
    features[4] = 1
    assert sorted(method.pick(features, 5).tolist()) == [0, 1, 2, 3, 4]


def test_herding_finds_the_mean() -> None:
    features = torch.tensor([[-3.0], [3.0], [0.5], [9.0], [-9.0]], dtype=torch.float64)
    assert Herding().pick(features, 1).tolist() == [2]
    assert KCenter().pick(features, 3).tolist() == [2, 4, 3]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("ipc", [1, 5, 13])
def test_classes_are_whole_and_nothing_twice(method: Selection, ipc: int, context: SelectionContext) -> None:
    positions = method.select(context, ipc)
    assert len(set(positions.tolist())) == CLASSES * ipc
    assert context.real.labels[positions].tolist() == [label for label in range(CLASSES) for _ in range(ipc)]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_the_same_again_and_stored(
    method: Selection, context: SelectionContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = method.select(context, 4)
    elsewhere = replace(context, folder=tmp_path / "elsewhere")
    assert torch.equal(method.select(elsewhere, 4), positions)
    monkeypatch.setattr(type(method), "choose", None)
    assert torch.equal(method.select(context, 4), positions)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_fewer_images_are_the_first_of_more(method: Selection, context: SelectionContext) -> None:
    more = method.select(context, 6).view(CLASSES, 6)
    assert torch.equal(method.select(context, 2).view(CLASSES, 2), more[:, :2])


def test_another_seed_chooses_others(context: SelectionContext) -> None:
    for method in METHODS:
        other = method.select(replace(context, problem=replace(context.problem, seed=1)), 4)
        assert not torch.equal(method.select(context, 4), other), method.name


def test_one_training_serves_all(context: SelectionContext, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings: list[int] = []
    train = Learner.train

    def counted(self: Learner, *args: object, **options: object) -> None:
        trainings.append(1)
        train(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "train", counted)
    for method in TRAINED:
        for ipc in (2, 3):
            method.select(context, ipc)
    assert len(trainings) == 1
    assert len(list((context.folder / "forgetting").iterdir())) == 1
    Herding(epochs=3).select(context, 2)
    assert len(trainings) == 2


def test_random_images_are_as_before(context: SelectionContext) -> None:
    """The images that distillations start from must not change."""
    images, labels = random_images(context.real, context.class_names, 2, 5, 1)
    expected = []
    for label in range(CLASSES):
        positions = (context.real.labels == label).nonzero().flatten()
        order = torch.randperm(len(positions), generator=generator(5, "draw", 1, label))
        expected.append(positions[order[:2]])
    assert torch.equal(images, context.real.images[torch.cat(expected)])
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_more_than_a_class_has(method: Selection, context: SelectionContext) -> None:
    with pytest.raises(ConfigError, match=r"select\.ipc=14: class 'one' has only 13 training images"):
        method.select(context, 14, "select.ipc=14")
    assert not list(context.folder.iterdir())


class Plain(Architecture):
    """A network without features."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        channels, height, width = image_shape
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_network_without_features(method: Selection, context: SelectionContext) -> None:
    plain = replace(context, problem=replace(context.problem, architecture=Plain()))
    if isinstance(method, Herding | KCenter):
        with pytest.raises(ConfigError, match=rf"model\.network=Plain: {method.name} compares features"):
            method.select(plain, 2)
    else:
        assert len(method.select(plain, 2)) == 2 * CLASSES


@pytest.mark.parametrize("options", [{"epochs": 0}, {"learning_rate": 0.0}, {"batch_size": 0}, {"momentum": 1.0}])
@pytest.mark.parametrize("make", [Herding, KCenter, Forgetting])
def test_options_out_of_range(make: Callable[..., Selection], options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
        make(**options)


def test_a_training_that_diverges(context: SelectionContext) -> None:
    with pytest.raises(ConfigError, match=r"learning_rate=1e\+30: .* diverged; lower it"):
        Forgetting(epochs=2, learning_rate=1e30).select(context, 2)
    assert not list(context.folder.iterdir())


@pytest.mark.parametrize("kind", ["selection", "forgetting"])
def test_files_that_were_damaged_or_copied(kind: str, context: SelectionContext) -> None:
    method = Forgetting(epochs=2)
    method.select(context, 2)
    method.select(replace(context, problem=replace(context.problem, seed=1)), 2)
    if kind == "forgetting":
        for path in (context.folder / "selection").iterdir():
            path.unlink()
    one, other = sorted((context.folder / kind).iterdir())
    one.write_bytes(other.read_bytes())
    with pytest.raises(ArtifactError, match=r"seed: \d then, \d now\. Delete it"):
        [method.select(replace(context, problem=replace(context.problem, seed=seed)), 2) for seed in (0, 1)]
    for path in (context.folder / kind).iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="is damaged"):
        method.select(context, 2 if kind == "selection" else 3)
