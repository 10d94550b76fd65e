"""`pdd-cli select`: real images as a finished run, which everything that reads distilled images reads too."""

from dataclasses import dataclass, field

from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.given_run import GivenRun
from pdd_lightning.selection import RandomSelection, Selection
from pdd_lightning.selection.base import class_positions
from pdd_lightning.stage.context import selection_context
from pdd_lightning.types import Json, LabelledImages


@dataclass(frozen=True)
class Selecting:
    """What `pdd-cli select` chooses.

    Args:
        method: How to choose.
        ipc: Images per class; null takes as many as all stages of the distillation together.

    Example:
        >>> from pdd_lightning.selection import Herding
        >>> Selecting(Herding(epochs=20), ipc=10).method.name
        'herding'
    """

    method: Selection = field(default_factory=RandomSelection)
    ipc: int | None = None

    def __post_init__(self) -> None:
        if self.ipc is not None and self.ipc < 1:
            raise ConfigError(f"select.ipc must be at least 1, got {self.ipc}")


class SelectedRun(GivenRun):
    """Selected real images in the place of a one-stage distillation.

    Args:
        evaluator: Knows the run, its data and how networks are trained.
        selecting: What to choose.

    Raises:
        ConfigError: If a class has too few images.
    """

    kind, done = "select", "selected"

    def __init__(self, evaluator: Evaluator, selecting: Selecting) -> None:
        super().__init__(evaluator, selecting.method.name)
        self.selecting = selecting
        options = self.module.options
        self.ipc = sum(options.per_stage) if selecting.ipc is None else selecting.ipc
        self.asked = options.total_asked if selecting.ipc is None else f"select.ipc={selecting.ipc}"
        # Before anything is written.
        class_positions(self.data.train, self.data.class_names, self.ipc, self.asked)

    def origin(self) -> Json:
        """See :meth:`GivenRun.origin`."""
        return {"method": self.selecting.method.describe(), "ipc": self.ipc}

    def images(self) -> LabelledImages:
        """See :meth:`GivenRun.images`.

        Raises:
            ConfigError: If the network does not suit the method, or its training diverges.
        """
        context = selection_context(self.module.options, self.data, self.evaluator.device)
        return self.data.train.take(self.selecting.method.select(context, self.ipc, self.asked))
