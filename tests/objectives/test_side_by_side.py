"""Which works of a step are computed in one go."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cases import synthetic_side
from toys import SHAPE, toy_context

from pdd_lightning.compute.cuda_graphs import LANES
from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.objectives import SyntheticSide, Work
from pdd_lightning.objectives.base import SideBySide


class Counting(SideBySide):
    """Notes the works of each go."""

    def __init__(self) -> None:
        self.went: list[list[int]] = []

    def loss_of(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext) -> torch.Tensor:
        self.went.append([work.part for work in works])
        return torch.tensor(float(sum(work.part for work in works)))


class Own(Counting):
    """Has a loss of its own, of each work."""

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> torch.Tensor:
        return 10 * super().loss(synthetic, work, context)


@pytest.mark.parametrize(
    ("objective", "device", "wanted", "total"),
    [
        (Counting, "cuda", [[*range(LANES)], [*range(LANES, LANES + 2)]], 15.0),
        (Counting, "cpu", [[part] for part in range(LANES + 2)], 15.0),
        (Own, "cuda", [[part] for part in range(LANES + 2)], 150.0),
    ],
)
def test_works_lie_side_by_side_where_they_are_recorded(
    objective: type[Counting], device: str, wanted: list[list[int]], total: float, tmp_path: Path
) -> None:
    context = toy_context(tmp_path, device=torch.device(device))
    synthetic, made = synthetic_side(SHAPE, previous=False), objective()
    works = [Work(MatchPoint(torch.zeros(1)), 0, 0, part) for part in range(LANES + 2)]
    assert sum(float(loss) for loss in made.losses(synthetic, works, context)) == total
    assert made.went == wanted
