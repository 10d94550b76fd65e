"""What every objective promises, at the match points of every dynamics that it can be used with."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import PAIRS, Case, make_case, synthetic_side, union

from pdd_lightning.objectives import Work
from pdd_lightning.training.augmentation import NoAugmentation
from pdd_lightning.types import ImageShape

SHAPES: list[ImageShape] = [(1, 8, 8), (3, 8, 8), (1, 16, 16), (3, 32, 32), (1, 64, 64), (3, 64, 64)]
# One of each kind: shapes, norms and conditioning do not depend on the distance.
KINDS = [
    ("trajectory", "experts"),
    ("gradient-layerwise-weights", "synthetic"),
    ("gradient-mse-convolutions", "real"),
    ("mean", "start"),
    ("features", "dynamic"),
]


def named(pairs: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("objective", "dynamics"), pairs, ids=["-at-".join(pair) for pair in pairs])


@named(PAIRS)
class TestEveryPair:
    @pytest.fixture
    def case(self, objective: str, dynamics: str, tmp_path: Path) -> Case:
        return make_case(tmp_path, objective, dynamics)

    def test_the_loss_is_a_finite_scalar(self, case: Case) -> None:
        loss = case.loss()
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert loss > 0

    def test_the_gradient_reaches_every_image(self, case: Case) -> None:
        (gradient,) = torch.autograd.grad(case.loss(), case.synthetic.images)
        assert torch.isfinite(gradient).all()
        assert (gradient.flatten(1).norm(dim=1) > 0).sum() >= 4  # a minibatch of the walk may leave some out

    def test_the_gradient_reaches_the_rate_where_it_is_learned(self, objective: str, case: Case) -> None:
        (gradient,) = torch.autograd.grad(case.loss(), case.synthetic.rate, allow_unused=True)
        if objective == "trajectory":
            assert torch.isfinite(gradient)
            assert gradient != 0
        else:
            assert gradient is None

    def test_the_same_counter_gives_the_same_loss(self, objective: str, dynamics: str, tmp_path: Path) -> None:
        first, second = (make_case(tmp_path, objective, dynamics) for _ in range(2))
        for case in (first, second):
            case.dynamics.point(0, 0)
        assert first.loss(0, 1) == first.loss(0, 1) == second.loss(0, 1)

    def test_another_counter_gives_another_loss(self, case: Case) -> None:
        point, parts = case.dynamics.point(0, 0), range(case.objective.parts(case.context))

        def at(step: int, index: int, stage: int = 1, seed: int = 0) -> float:
            context = replace(case.context, stage=stage, problem=replace(case.context.problem, seed=seed))
            return sum(case.objective.loss(case.synthetic, Work(point, step, index, p), context).item() for p in parts)

        losses = [at(7, 0), at(8, 0), at(7, 1), at(7, 0, stage=2), at(7, 0, seed=1)]
        assert len(set(losses)) == len(losses)

    def test_the_gradients_of_the_parts_add_up(self, case: Case) -> None:
        images, point = case.synthetic.images, case.dynamics.point(0, 0)
        (whole,) = torch.autograd.grad(case.loss(), images)
        added = torch.zeros_like(images)
        for part in range(case.objective.parts(case.context)):
            loss = case.objective.loss(case.synthetic, Work(point, 0, 0, part), case.context)
            added += torch.autograd.grad(loss, images)[0]
        torch.testing.assert_close(added, whole)

    def test_a_loss_leaves_nothing_behind(self, case: Case) -> None:
        point = case.dynamics.point(0, 0)
        before = [t.clone() for t in (case.synthetic.images, point.start, case.context.real.images)]
        case.loss().backward()  # type: ignore[no-untyped-call]
        after = (case.synthetic.images, point.start, case.context.real.images)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert not point.start.requires_grad
        assert all(p.grad is None for p in case.context.network.template.parameters())


@named(PAIRS)
def test_the_walk_through_two_episodes_goes_on(objective: str, dynamics: str, tmp_path: Path) -> None:
    case = make_case(tmp_path, objective, dynamics, previous=True)
    for step in range(5):
        (gradient,) = torch.autograd.grad(case.loss(step), case.synthetic.images)
        assert torch.isfinite(gradient).all()
        case.dynamics.advance(step, union(case.synthetic), 0.05)


@pytest.mark.parametrize("previous", [False, True], ids=["first-stage", "conditioned"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@named(KINDS)
def test_any_image_norm_and_stage(
    objective: str, dynamics: str, shape: ImageShape, norm: str, previous: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path, objective, dynamics, shape=shape, norm=norm, previous=previous)
    loss = case.loss()
    (gradient,) = torch.autograd.grad(loss, case.synthetic.images)
    assert gradient.shape == case.synthetic.images.shape
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert gradient.norm() > 0


@named(PAIRS)
def test_earlier_subsets_take_part_and_learn_nothing(objective: str, dynamics: str, tmp_path: Path) -> None:
    case = make_case(tmp_path, objective, dynamics, previous=True, augmentation=NoAugmentation())
    assert case.synthetic.previous is not None
    alone = synthetic_side((1, 8, 8), previous=False)
    assert case.loss() != case.loss(side=alone)
    earlier = case.synthetic.previous.images
    case.loss().backward()  # type: ignore[no-untyped-call]
    assert not earlier.requires_grad
    assert earlier.grad is None
    assert case.synthetic.images.grad is not None


# The discrimination loss of identical images is that of a classifier, not zero.
@named([pair for pair in PAIRS if pair[0] not in ("trajectory", "features")])
def test_identical_images_have_no_loss(objective: str, dynamics: str, tmp_path: Path) -> None:
    """The real images of each class, as the synthetic ones: nothing is left to learn."""
    case = make_case(tmp_path, objective, dynamics)
    case.objective.real_batch_size = 100  # type: ignore[attr-defined]
    real = case.context.real
    same = replace(
        case.synthetic, images=real.images.clone().requires_grad_(), labels=real.labels, rate=torch.tensor(0.05)
    )
    assert case.loss(side=same) < 1e-3 * case.loss()


# The other objectives are not divided by classes.
@named([pair for pair in PAIRS if pair[0].startswith(("gradient", "mean"))])
def test_a_part_learns_only_the_images_of_its_class(objective: str, dynamics: str, tmp_path: Path) -> None:
    case = make_case(tmp_path, objective, dynamics)
    loss = case.objective.loss(case.synthetic, Work(case.dynamics.point(0, 0), 0, 0, 1), case.context)
    (gradient,) = torch.autograd.grad(loss, case.synthetic.images)
    moved = gradient.flatten(1).norm(dim=1) > 0
    assert torch.equal(moved, case.synthetic.labels == 1)
