"""Results that are slow to compute, kept on disk between processes."""

import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pdd_lightning.digest import digest
from pdd_lightning.errors import DataError
from pdd_lightning.types import State

log = logging.getLogger(__name__)


def cached(cache_dir: str | None, name: str, build: Callable[[], State]) -> State:
    """Read tensors from the cache, or build them and leave them there.

    A file that is damaged counts as missing. Several processes may build the same file at once: each writes
    its own and the last one renamed stays.

    Args:
        cache_dir: The cache's folder, made when missing. None builds every time.
        name: The file's name without suffix. It must change with everything that the tensors depend on.
        build: Computes the tensors, each with storage of its own.

    Raises:
        DataError: If the cache cannot be written.
    """
    if cache_dir is None:
        return build()
    path = Path(cache_dir).expanduser() / f"{name}.safetensors"
    tensors = _read(path)
    if tensors is None:
        tensors = build()
        try:
            _write(path, tensors)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"cache_dir={cache_dir!r}: cannot write {path.name} ({error}). Name a writable folder with "
                "free space, or set `cache_dir: null` to do without a cache."
            ) from error
    return tensors


def _digest(tensors: State) -> str:
    return digest(*(part for name in sorted(tensors) for part in (name, tensors[name])))


def _read(path: Path) -> State | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("digest")
            tensors: State = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        log.warning("Rebuilding the damaged cache file %s: %s", path, error)
        return None
    # The format itself has no checksum, and a flipped byte in an image would go unnoticed.
    if _digest(tensors) != expected:
        log.warning("Rebuilding the damaged cache file %s: its contents do not match their digest", path)
        return None
    return tensors


def _write(path: Path, tensors: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        save_file(tensors, temporary, metadata={"digest": _digest(tensors)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
