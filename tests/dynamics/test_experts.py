"""Expert trajectories: what is stored, what is kept, and who makes it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchs_sgd import by_hand
from toys import CLASSES, NETWORK, SHAPE, toy_context, toy_images

from pdd_lightning.dynamics import ExpertTrajectories, Ranks, StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.networks import ConvNet
from pdd_lightning.store.files import read_tensors
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.learner import Learner, step_together, train_together
from pdd_lightning.training.problem import Problem

OPTIONS: dict[str, Any] = {"experts": 2, "epochs": 1, "max_start_epoch": 2, "learning_rate": 0.05, "batch_size": 4}


def experts(**options: Any) -> ExpertTrajectories:
    return ExpertTrajectories(**{**OPTIONS, **options})


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return toy_context(tmp_path)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The number of every expert that is trained from here on."""
    members: list[object] = []

    def counting(*args: Any, **kwargs: Any) -> None:
        members.extend(keys[-1] for keys in args[6])
        train_together(*args, **kwargs)

    monkeypatch.setattr("pdd_lightning.dynamics.experts.train_together", counting)
    return members


def files(context: StageContext) -> list[Path]:
    return sorted(context.experts.glob("*/expert_*.safetensors"))


def rows(context: StageContext) -> list[Tensor]:
    return [read_tensors(path)[0]["rows"] for path in files(context)]


# What is stored


@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA()], ids=["plain", "dsa"])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 5e-4)])
def test_rows_are_the_epochs_of_torchs_sgd(
    momentum: float, weight_decay: float, augmentation: Augmentation, tmp_path: Path
) -> None:
    context = toy_context(tmp_path, augmentation=augmentation)
    experts(momentum=momentum, weight_decay=weight_decay).prepare(context)
    for member, found in enumerate(rows(context)):
        wanted = by_hand(context, member, 3, momentum=momentum, weight_decay=weight_decay)
        torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-6, atol=1e-6)


def test_the_first_row_is_the_start_state(context: StageContext) -> None:
    experts().prepare(context)
    for member, found in enumerate(rows(context)):
        assert torch.equal(found[0], context.network.layout.flatten(context.bank[member]))


def test_augment_false_shows_the_real_images_as_they_are(tmp_path: Path) -> None:
    plain, augmented = toy_context(tmp_path / "a"), toy_context(tmp_path / "b", augmentation=DSA())
    experts().prepare(plain)
    experts(augment=False).prepare(augmented)
    assert torch.equal(rows(plain)[0], rows(augmented)[0])


def test_only_the_snapshots_that_are_read_are_stored(context: StageContext) -> None:
    experts(epochs=3, min_start_epoch=1, max_start_epoch=2, train_epochs=8).prepare(context)
    whole = experts(epochs=1, max_start_epoch=5, learning_rate=0.05)
    stored = rows(context)
    for path in files(context):
        path.unlink()
    whole.prepare(context)
    for few, all_of_them in zip(stored, rows(context), strict=True):
        assert torch.equal(few, all_of_them[[1, 2, 4, 5]])


def test_half_the_space_keeps_the_way_from_snapshot_to_snapshot(tmp_path: Path) -> None:
    context = toy_context(tmp_path)
    exact, half = experts(epochs=1, max_start_epoch=6), experts(epochs=1, max_start_epoch=6, storage="bfloat16")
    exact.prepare(context)
    half.prepare(context)
    for expert in range(2):
        for epoch in range(7):
            start, target = (exact._row(expert, e) for e in (epoch, epoch + 1))
            rounded_start, rounded_target = (half._row(expert, e) for e in (epoch, epoch + 1))
            way = (target - start).norm()
            assert (rounded_start - start).norm() <= 0.004 * way * 2
            assert ((rounded_target - rounded_start) - (target - start)).norm() <= 0.008 * way
        assert torch.equal(half._row(expert, 0), exact._row(expert, 0))
        assert not torch.equal(half._row(expert, 3), exact._row(expert, 3))
    (in_half,) = {p.parent for p in files(context) if '"bfloat16"' in (p.parent / "settings.json").read_text()}
    sizes = [
        sum(p.stat().st_size for p in files(context) if (p.parent == in_half) == chosen) for chosen in (False, True)
    ]
    assert sizes[1] < 0.65 * sizes[0]


def test_networks_may_be_trained_in_bfloat16(tmp_path: Path) -> None:
    """Near the others, and not the same; what is kept is float32."""
    context = toy_context(tmp_path)
    paths = []
    for precision in ("float32", "bfloat16"):
        experts(precision=precision).prepare(context)
        paths.append({*files(context)})
    exact = read_tensors(min(paths[0]))[0]["rows"]
    rounded = read_tensors(min(paths[1] - paths[0]))[0]["rows"]
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.1 * (exact[-1] - exact[0]).norm()


@pytest.mark.parametrize("at_once", [2, 3, 8])
def test_experts_trained_at_once_are_those_trained_alone(at_once: int, tmp_path: Path) -> None:
    alone = toy_context(tmp_path / "alone", members=4, augmentation=DSA())
    together = replace(alone, experts=tmp_path / "together", networks_at_once=at_once)
    for context in (alone, together):
        experts(experts=4).prepare(context)
    for wanted, found in zip(rows(alone), rows(together), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert len(rows(together)) == 4


@pytest.mark.parametrize("at_once", [2, 3])
def test_a_rehearsal_counts_the_steps_of_groups(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What preparing takes is the rehearsed group, as often as there are groups, and the pieces that it lacks."""
    context = toy_context(tmp_path, members=6, networks_at_once=at_once)
    widths: list[int] = []

    def counting(learners: Sequence[Learner], *rest: Any) -> list[Tensor]:
        widths.append(len(learners))
        return step_together(learners, *rest)

    for module in ("pdd_lightning.training.learner", "pdd_lightning.dynamics.experts"):
        monkeypatch.setattr(f"{module}.step_together", counting)
    dynamics = experts(experts=6)
    rehearsal = dynamics.preparation(replace(context, experts=tmp_path / "rehearsal")).rehearse()
    widths.clear()
    rehearsal.piece(1)
    assert widths == [at_once]
    widths.clear()
    experts(experts=6).prepare(context)
    assert rehearsal.pieces == len(widths) - 6 // at_once * dynamics.train_epochs


def test_an_interruption_within_a_group_changes_nothing(tmp_path: Path) -> None:
    """A member that is made again is trained with those that it was trained with before."""
    context = toy_context(tmp_path, members=4, networks_at_once=3)
    experts(experts=4).prepare(context)
    before = [path.read_bytes() for path in files(context)]
    files(context)[1].unlink()
    experts(experts=4).prepare(context)
    assert [path.read_bytes() for path in files(context)] == before


def test_rows_in_half_the_space_are_those_of_the_same_list(tmp_path: Path) -> None:
    """Sums over other rows before them would be others."""
    alone, shared = toy_context(tmp_path / "a"), toy_context(tmp_path / "b")
    options: dict[str, Any] = {"min_start_epoch": 2, "max_start_epoch": 2, "storage": "bfloat16"}
    experts(storage="bfloat16").prepare(shared)
    for context in (alone, shared):
        experts(**options).prepare(context)
    assert [path.read_bytes() for path in files(alone)] == [path.read_bytes() for path in files(shared)]


# Where matches begin and end


def test_a_match_goes_from_a_row_to_the_row_some_epochs_later(context: StageContext) -> None:
    dynamics = experts(epochs=2, min_start_epoch=1)
    dynamics.prepare(context)
    stored = rows(context)
    # The rows are those of epochs 1 to 4: nothing reads the start state.
    pairs = {(expert, epoch): (r[epoch - 1], r[epoch + 1]) for expert, r in enumerate(stored) for epoch in (1, 2)}
    seen = set()
    for step in range(40):
        point = dynamics.point(step, 0)
        assert point.target is not None
        seen |= {key for key, (a, b) in pairs.items() if torch.equal(point.start, a) and torch.equal(point.target, b)}
    assert seen == set(pairs)


def test_start_and_target_never_coincide(context: StageContext) -> None:
    dynamics = experts()
    dynamics.prepare(context)
    for step in range(20):
        point = dynamics.point(step, 0)
        assert point.target is not None
        assert not torch.equal(point.start, point.target)


def test_points_are_a_function_of_the_counter(context: StageContext) -> None:
    first, second = experts(), experts()
    for dynamics in (first, second):
        dynamics.prepare(context)
    onward = [first.point(step, 1).start for step in range(8)]
    back = [second.point(step, 1).start for step in reversed(range(8))]
    assert all(torch.equal(a, b) for a, b in zip(onward, reversed(back), strict=True))


# What is kept


def test_nothing_is_trained_twice(context: StageContext, trained: list[object]) -> None:
    experts().prepare(context)
    assert trained == [0, 1]
    experts().prepare(context)
    assert trained == [0, 1]


def test_an_interrupted_preparation_continues(tmp_path: Path, trained: list[object]) -> None:
    context = toy_context(tmp_path, members=3)
    experts(experts=3).prepare(context)
    before = rows(context)
    files(context)[1].unlink()
    trained.clear()
    experts(experts=3).prepare(context)
    assert trained == [1]
    assert all(torch.equal(a, b) for a, b in zip(before, rows(context), strict=True))


def test_a_damaged_expert_is_made_again(context: StageContext, trained: list[object]) -> None:
    experts().prepare(context)
    path = files(context)[1]
    before = path.read_bytes()
    path.write_bytes(before[:-100])
    trained.clear()
    experts().prepare(context)
    assert trained == [1]
    assert path.read_bytes() == before


def test_more_experts_train_only_the_new_ones(tmp_path: Path, trained: list[object]) -> None:
    experts(experts=2).prepare(toy_context(tmp_path, members=2))
    trained.clear()
    experts(experts=3).prepare(toy_context(tmp_path, members=3))
    assert trained == [2]


def test_a_longer_horizon_trains_again_and_repeats_the_beginning(context: StageContext, trained: list[object]) -> None:
    experts(max_start_epoch=2).prepare(context)
    short = rows(context)
    trained.clear()
    experts(max_start_epoch=3).prepare(context)
    assert trained == [0, 1]
    for before, after in zip(short, rows(context), strict=True):
        assert len(after) == 5
        assert torch.equal(after[: len(before)], before)


def test_a_shorter_horizon_uses_the_longer_experts(context: StageContext, trained: list[object]) -> None:
    experts(max_start_epoch=4).prepare(context)
    trained.clear()
    experts(max_start_epoch=1).prepare(context)
    assert trained == []


def test_experts_of_other_settings_lie_in_folders_of_their_own(context: StageContext, trained: list[object]) -> None:
    experts().prepare(context)
    experts(learning_rate=0.01).prepare(context)
    assert trained == [0, 1, 0, 1]
    assert len({path.parent for path in files(context)}) == 2


# What is refused

Change = Callable[[StageContext], StageContext]


def other_data(context: StageContext) -> StageContext:
    return replace(context, data="other data")


def other_network(context: StageContext) -> StageContext:
    return toy_context(context.experts.parent, architecture=ConvNet(width=8, depth=2))


def other_start(context: StageContext) -> StageContext:
    return replace(context, bank=StateBank.random(Problem(NETWORK, SHAPE, CLASSES, seed=1), 2))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_data, "data: 'other data' then, 'toy data' now"),
        (other_network, "network.width: 8 then, 4 now"),
        (other_start, "start: "),
    ],
)
def test_experts_from_elsewhere_are_refused(change: Change, named: str, context: StageContext) -> None:
    experts().prepare(context)
    (mine,) = {path.parent for path in files(context)}
    experts().prepare(change(context))
    (other,) = {path.parent for path in files(context)} - {mine}
    (mine / "expert_0001.safetensors").write_bytes((other / "expert_0001.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match=f"{mine}/expert_0001.safetensors was made for.*{named}.*Delete {mine}"):
        experts().prepare(context)


def test_matches_beyond_the_end_of_the_experts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_start_epoch=4 \+ epochs=2 reaches epoch 6, but train_epochs=5"):
        experts(max_start_epoch=4, epochs=2, train_epochs=5)
    assert experts(max_start_epoch=4, epochs=2, train_epochs=6).train_epochs == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 0}, "dynamics.experts must be at least 1, got 0"),
        ({"epochs": 0}, "dynamics.epochs must be at least 1, got 0"),
        ({"min_start_epoch": 3}, "min_start_epoch=3 and max_start_epoch=2"),
        ({"min_start_epoch": -1}, "min_start_epoch=-1"),
        ({"learning_rate": 0.0}, "dynamics.learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "dynamics.learning_rate must be positive and finite, got nan"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experts(**options)


def test_experts_that_diverge_are_not_stored(context: StageContext) -> None:
    images = toy_images(10).images * 1e30
    with pytest.raises(ConfigError, match=r"dynamics.learning_rate=1e\+20: expert 0 of stage 1 diverged"):
        experts(learning_rate=1e20).prepare(replace(context, real=replace(context.real, images=images)))
    assert files(context) == []


# Who makes them


def test_two_ranks_make_together_what_one_makes_alone(tmp_path: Path, trained: list[object]) -> None:
    alone, shared = toy_context(tmp_path / "alone", members=3), toy_context(tmp_path / "shared", members=3)
    experts(experts=3).prepare(alone)
    trained.clear()
    second = replace(shared, ranks=Ranks(1, 2))
    # While rank 0 waits at the barrier, rank 1 does its share.
    experts(experts=3).prepare(replace(shared, ranks=Ranks(0, 2, lambda: experts(experts=3).prepare(second))))
    assert trained == [0, 2, 1]
    assert [path.name for path in files(alone)] == [path.name for path in files(shared)]
    assert all(torch.equal(a, b) for a, b in zip(rows(alone), rows(shared), strict=True))
