"""Telling a run of selected images from a distillation."""

from pdd_lightning.errors import ConfigError
from pdd_lightning.store import RunFolder


def selected_by(run: RunFolder) -> str | None:
    """The name of the selection that made a run; None for a distillation, and where nothing is complete."""
    settings = run.stage(1).read_manifest().get("settings") if run.stage(1).complete else None
    select = settings.get("select") if isinstance(settings, dict) else None
    return str(select["name"]) if isinstance(select, dict) else None


def refuse_selected(run: RunFolder) -> None:
    """Refuse to distil into a run of selected images.

    Raises:
        ConfigError: Naming the selection.
    """
    if (selected := selected_by(run)) is not None:
        raise ConfigError(
            f"--run_dir={run.directory} holds images selected by {selected}; choose another folder to distil"
        )
