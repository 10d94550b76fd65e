"""Objectives that compute several match points, or parts of them, in one go on a GPU."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor

from pdd_lightning.dynamics.base import MatchPoint, StageContext
from pdd_lightning.objectives.base import Objective, SyntheticSide, Work
from pdd_lightning.recorded import LANES, records


class SideBySide(Objective):
    """An objective whose works lie side by side where they are recorded (:mod:`pdd_lightning.recorded`)."""

    @abstractmethod
    def loss_of(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext, step: int) -> Tensor:
        """The sum of the losses of a few works, computed in one go; see :meth:`Objective.losses`."""

    def loss(
        self, synthetic: SyntheticSide, point: MatchPoint, context: StageContext, step: int, index: int, part: int = 0
    ) -> Tensor:
        """See :meth:`Objective.loss`."""
        return self.loss_of(synthetic, [Work(point, index, part)], context, step)

    def losses(
        self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext, step: int
    ) -> Iterator[Tensor]:
        """See :meth:`Objective.losses`."""
        if not records(context.device) or type(self).loss is not SideBySide.loss:  # a subclass's own loss counts
            yield from super().losses(synthetic, works, context, step)
            return
        for first in range(0, len(works), LANES):
            yield self.loss_of(synthetic, works[first : first + LANES], context, step)
