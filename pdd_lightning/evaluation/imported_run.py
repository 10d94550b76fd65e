"""`pdd-cli import`: images of others as a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from pdd_lightning.errors import ConfigError, DataError
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.given_run import GivenRun
from pdd_lightning.evaluation.imported_files import ImportedFiles
from pdd_lightning.evaluation.imported_images import Space, labelled_images
from pdd_lightning.evaluation.row import BASELINES
from pdd_lightning.types import Json, LabelledImages


@dataclass(frozen=True)
class Importing:
    """What `pdd-cli import` reads.

    Args:
        files: A file of images and one of labels (.pt, .npy), one file that holds both (.pt, .npz, .safetensors), or a
            folder with a folder of image files for each class.
        space: What the values are: pixels, or what networks read, normalised and, with `data.zca`, whitened. Null
            finds it out.
        rate: Learning rate for training on the images; null takes the one in the files, or else the best of
            `evaluation.random_rates` on held-out real images.
        factor: Each image holds factor x factor training images, as those of IDC do.
        name: Of the images in tables.

    Raises:
        ConfigError: If an option is out of range.

    Example:
        >>> Importing(["images_best.pt", "labels_best.pt"], rate=0.02, name="MTT").space is None
        True
    """

    files: list[str] = field(default_factory=list)
    space: Space | None = None
    rate: float | None = None
    factor: int = 1
    name: str = "imported"

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise ConfigError(f"imported.rate must be positive and finite, got {self.rate}")
        if self.factor < 1:
            raise ConfigError(f"imported.factor must be at least 1, got {self.factor}")
        if self.name in BASELINES:
            raise ConfigError(f"imported.name={self.name}: this is the name of a baseline; choose another")
        if not self.name.strip() or not self.name.isprintable():
            raise ConfigError(f"imported.name={self.name!r}: give a name that a table can show")


class ImportedRun(GivenRun):
    """Images of others in the place of a one-stage distillation.

    Args:
        evaluator: Knows the run, its data and how networks are trained.
        importing: What to make of them.
        found: What was read.

    Raises:
        DataError: If images, labels or learning rate do not suit the data.
        ConfigError: If an option does not suit them, or the space is not clear.
    """

    kind, done = "imported", "imported"

    def __init__(self, evaluator: Evaluator, importing: Importing, found: ImportedFiles) -> None:
        super().__init__(evaluator, importing.name)
        self.importing = importing
        _, height, width = self.data.image_shape
        if not 1 <= importing.factor <= min(height, width):
            raise ConfigError(f"--factor={importing.factor}: images of {height}x{width} pixels do not hold as many")
        self._images, self.space = labelled_images(found, self.data, importing.space)
        self._digests, self._beside = found.digests, found.rate
        self._rate = importing.rate
        if importing.rate is None and found.rate is not None:
            self._rate = _rate(*found.rate)

    @property
    def rate(self) -> float | None:
        """See :attr:`GivenRun.rate`."""
        return self._rate

    @property
    def rate_origin(self) -> str:
        """Where the learning rate is from, for a message."""
        if self.importing.rate is not None:
            return "as given"
        if self._beside is not None:
            return f"from {self._beside[1]}"
        rates: Sequence[float] = self.evaluator.evaluation.random_rates
        if len(rates) == 1:
            return "the only one of evaluation.random_rates"
        return f"the best of evaluation.random_rates={rates} on held-out real images"

    @property
    def factor(self) -> int:
        """See :attr:`GivenRun.factor`."""
        return self.importing.factor

    def origin(self) -> Json:
        """See :meth:`GivenRun.origin`."""
        return {"files": self._digests, "space": self.space, "rate": self.rate, "factor": self.factor}

    def images(self) -> LabelledImages:
        """See :meth:`GivenRun.images`."""
        return self._images


def _rate(tensor: Tensor, path: Path) -> float:
    rate = float(tensor) if tensor.numel() == 1 else float("nan")
    if not 0 < rate < float("inf"):
        shown = f"{rate:g}" if tensor.numel() == 1 else f"{tensor.numel()} values"
        raise DataError(f"{path}: its learning rate is {shown}, expected one that is positive; give --rate")
    return rate
