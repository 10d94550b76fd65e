"""`pdd_lightning.load`: a distilled set from wherever it lies."""

from os import PathLike
from pathlib import Path

from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.formats import format_of
from pdd_lightning.distilled.from_run import read_set
from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.folders import RunFolder


def load(path: str | PathLike[str]) -> DistilledSet:
    """Load a distilled set. Nothing is unpickled, and no class is imported but those of this package.

    Args:
        path: The folder of a run, or an export: the file or folder that `pdd-cli export` made.

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
        raise ArtifactError(f"{where} does not exist: give the folder of a run, or an export")
    try:
        form, run = format_of(where), RunFolder(where)
        if form is not None:
            return form.read(where)
        if run.completed():
            return read_set(run)
    except ArtifactError as error:
        raise error if str(where) in str(error) else ArtifactError(f"{where}: {error}") from error
    raise ArtifactError(
        f"{where} is no distilled set: give the folder of a run with a complete stage, or what `pdd-cli export` made"
    )
