"""Whether a stage may be fitted, or continued: everything that it builds on is as it was."""

from collections.abc import Callable, Mapping
from typing import Any

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import differing_keys
from pdd_lightning.store.files import FORMAT, require_format
from pdd_lightning.store.folders import RunFolder, StageFolder
from pdd_lightning.types import Json


def verify_finished(run: RunFolder, stage: int, settings: Callable[[int], Json], data: str) -> str | None:
    """Check every finished stage up to one against the present settings and data.

    Args:
        run: The run.
        stage: The stage that is to be fitted.
        settings: The present settings of a stage.
        data: Fingerprint of the present data.

    Returns:
        Fingerprint of the stage before; None at stage 1.

    Raises:
        ArtifactError: If something changed, or if an earlier stage is not complete.
    """
    previous: str | None = None
    for k in range(1, stage):
        if not run.stage(k).complete:
            raise ArtifactError(
                f"--stage={stage} needs stage {k}, which is not complete in {run.directory}: fit it first "
                f"(--stage {k}, or leave --stage out to fit the next unfinished one)"
            )
        previous = run.stage(k).verify(settings(k), data, previous).fingerprint
    if run.stage(stage).complete:
        run.stage(stage).verify(settings(stage), data, previous)
    return previous


def stage_origin(stage: int, data: str, previous: str | None) -> Json:
    """Which stage this is, and what it builds on.

    Args:
        stage: Its number.
        data: Fingerprint of the data.
        previous: Fingerprint of the stage before; None at stage 1.
    """
    return {"format": FORMAT, "stage": stage, "data": data, "previous stage": previous}


def verify_checkpoint(folder: StageFolder, settings: Json, origin: Json, found: Mapping[str, Any]) -> None:
    """Compare what a checkpoint of a stage was made of with the present settings and data.

    Args:
        folder: Of the stage that is to be continued.
        settings: Its present settings.
        origin: What :func:`stage_origin` says of it now.
        found: What the checkpoint says: `settings` and the keys of `origin`.

    Raises:
        ArtifactError: Naming what differs.
    """
    require_format(folder.checkpoints, found.get("format", 1))  # which the first one did not say
    changed = differing_keys(found.get("settings", {}), settings, "model.")
    changed += differing_keys({key: found.get(key) for key in origin}, origin)
    if changed:
        raise ArtifactError(
            f"the checkpoint in {folder.checkpoints} was made under other settings: {'; '.join(changed)}. Restore the "
            f"old options, or delete {folder.checkpoints} to start the stage again"
        )
