"""What a stage was made of, compared with what it would be made of now."""

from collections.abc import Callable, Mapping
from typing import Any

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store import Json, RunFolder, differing_keys


def verify_finished(run: RunFolder, stage: int, settings: Callable[[int], Json], data: str) -> None:
    """Check every finished stage up to one against the present settings and data.

    Args:
        run: The run.
        stage: The stage that is to be fitted.
        settings: The present settings of a stage.
        data: Fingerprint of the present data.

    Raises:
        ArtifactError: If something changed, or if an earlier stage is not complete.
    """
    previous: str | None = None
    for k in range(1, stage + 1):
        folder = run.stage(k)
        if not folder.complete:
            if k < stage:
                raise ArtifactError(
                    f"--stage={stage} needs stage {k}, which is not complete in {run.directory}: fit it first "
                    f"(--stage {k}, or leave --stage out to fit the next unfinished one)"
                )
            return
        folder.verify(settings(k), data, previous)
        previous = folder.fingerprint()


def origin(run: RunFolder, stage: int, data: str) -> Json:
    """Which stage this is, and what it builds on."""
    previous = run.stage(stage - 1).fingerprint() if stage > 1 else None
    return {"stage": stage, "data": data, "previous stage": previous}


def verify_checkpoint(run: RunFolder, stage: int, settings: Json, data: str, found: Mapping[str, Any]) -> None:
    """Compare what a checkpoint of a stage was made of with the present settings and data.

    Args:
        run: The run.
        stage: The stage that is to be continued.
        settings: Its present settings.
        data: Fingerprint of the present data.
        found: What the checkpoint says: `settings` and the keys of :func:`origin`.

    Raises:
        ArtifactError: Naming what differs.
    """
    here = origin(run, stage, data)
    changed = differing_keys(found.get("settings", {}), settings, "model.")
    changed += differing_keys({key: found.get(key) for key in here}, here)
    if changed:
        folder = run.stage(stage).checkpoints
        raise ArtifactError(
            f"the checkpoint in {folder} was made under other settings: {'; '.join(changed)}. Restore the old options, "
            f"or delete {folder} to start the stage again"
        )
