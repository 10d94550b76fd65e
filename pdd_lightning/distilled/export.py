"""Writing an export whole or not at all, where nothing is yet."""

import secrets
import shutil
from contextlib import suppress
from os.path import abspath
from pathlib import Path

from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.formats import Format
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.store.files import require_writable


def export_set(distilled: DistilledSet, path: Path, form: Format, option: str = "path") -> Path:
    """Write a set where nothing is yet, or an empty file or folder.

    Args:
        distilled: The set.
        path: The file or folder to make.
        form: Its format.
        option: What was given the path, for messages.

    Returns:
        The path.

    Raises:
        ConfigError: If something is there, the path has the name of another format, or the format cannot hold the set.
        ArtifactError: If it cannot be written; nothing is left then.
    """
    require_free(path, form, option)
    # Beside it, since a rename is atomic within one file system only.
    target = Path(abspath(path.expanduser()))
    begun = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        form.write(distilled, begun)
        require_free(path, form, option)  # another process may have been faster
        if target.is_dir():
            target.rmdir()  # empty; not every system renames over it
        begun.replace(target)
    except (OSError, ArtifactError) as error:
        cause = error.__cause__ if isinstance(error, ArtifactError) else error
        if not isinstance(cause, OSError):
            raise
        raise ArtifactError(
            f"{option}={path}: cannot be written ({cause.strerror or cause}); free space or permissions there, or "
            "choose another path"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(begun) if begun.is_dir() else begun.unlink(missing_ok=True)
    return path


def require_free(path: Path, form: Format, option: str = "path") -> None:
    """Check, before work is begun, that an export may be written.

    Args:
        path: The file or folder to make.
        form: Its format.
        option: What was given the path, for messages.

    Raises:
        ConfigError: Naming what stands in the way.
    """
    target = Path(abspath(path.expanduser()))
    if form.suffix and target.suffix != form.suffix:
        raise ConfigError(f"{option}={path}: a file of the format {form.name} is called *{form.suffix}; add it")
    if target.is_dir():
        taken = bool(form.suffix) or any(target.iterdir())
    else:
        taken = target.is_symlink() or (target.exists() and (not form.suffix or target.stat().st_size > 0))
    if taken:
        raise ConfigError(f"{option}={path}: exists, and nothing is overwritten; choose another path or remove it")
    require_writable(target.parent, f"{option}={path}")
