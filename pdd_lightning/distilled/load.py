"""`pdd_lightning.load`: a distilled set from wherever it lies."""

from os import PathLike
from pathlib import Path

from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.from_run import read_set
from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.folders import RunFolder


def load(path: str | PathLike[str]) -> DistilledSet:
    """Load a distilled set. Nothing is unpickled, and no class is imported but those of this package.

    Args:
        path: The folder of a run.

    Raises:
        ArtifactError: If there is none, or it is incomplete, damaged or of another release.

    Example:
        >>> import torch
        >>> from pdd_lightning.datamodules import DigitsData
        >>> distilled = load("checkpoints/sample")
        >>> len(distilled.union(2)), distilled.subset(3).images.shape
        (20, torch.Size([10, 1, 8, 8]))
        >>> digits = DigitsData().load_raw()
        >>> network = distilled.train(seed=0)
        >>> distilled.evaluate(network, digits.test_images, digits.test_labels) > 0.9
        True
    """
    where = Path(path).expanduser()
    if not where.exists():
        raise ArtifactError(f"{where} does not exist: give the folder of a run")
    return read_set(RunFolder(where))
