"""Writing files whole or not at all, and reading them with their contents checked.

Everything is safetensors or JSON: reading an artifact never executes code.
"""

import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pdd_lightning.errors import ArtifactError, ConfigError, DataError
from pdd_lightning.process.lock import require_present
from pdd_lightning.store.digests import content_digest, fingerprint
from pdd_lightning.types import Json, State

FORMAT = 2
"""Version of the artifacts' form; readers refuse every other one."""


log = logging.getLogger(__name__)


_REMEDY = "restore it from a copy, or delete its folder to have it made again"


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write a whole file or nothing: a temporary file in the same folder, fsync, then rename.

    Raises:
        ArtifactError: If the folder cannot be written; an old file is then untouched.
    """
    # In the same folder, since os.replace is atomic within one file system only. Not tempfile: it makes files
    # that the other members of a group cannot read.
    require_present(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ArtifactError(
            f"cannot write {path}: {error.strerror or error}. Free space or permissions there, or choose another "
            "folder with --run_dir; everything finished before is intact."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_format(path: Path, found: object) -> None:
    """Refuse what another release has written.

    Args:
        path: The file.
        found: The format that it says it has, as a number or its text.

    Raises:
        ArtifactError: Naming both formats.
    """
    if str(found) != str(FORMAT):
        age = "an earlier" if str(found).isdigit() and int(str(found)) < FORMAT else "another"
        raise ArtifactError(
            f"{path} has format {found}, written by {age} release, and this one reads format {FORMAT}: use the release "
            "that made it, or another folder to make it anew"
        )


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 atomically."""
    atomic_write(path, text.encode())


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object atomically, with a digest of its own by which a reader knows it unchanged."""
    # As JSON would read it back: tuples and lists have one digest.
    text = json.dumps({**value, "digest": fingerprint(dict(value))}, indent=2, allow_nan=False)
    atomic_write(path, f"{text}\n".encode())


def as_json(value: Mapping[str, object]) -> Json:
    """The object as a file would give it back: with lists in place of tuples."""
    read: Json = json.loads(json.dumps(dict(value), allow_nan=False))
    return read


def read_json(path: Path) -> Json:
    """Read a JSON object.

    Returns:
        What :func:`write_json` was given.

    Raises:
        ArtifactError: If the file is missing, is not a JSON object, or was changed since it was written.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_no_number)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not readable JSON ({error}); delete it to have it made again") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds {type(value).__name__}, expected a JSON object; delete it")
    digest = value.pop("digest", None)
    if digest is not None and digest != fingerprint(value):
        raise ArtifactError(f"{path} was changed after it was written; restore it, or delete it to have it made again")
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as one safetensors file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    signed = {"format": str(FORMAT), **(metadata or {})}
    signed["digest"] = content_digest(plain, signed)
    atomic_write(path, sorted_header(save(plain, signed)))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; {_REMEDY}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {_REMEDY}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file of ours says beside its tensors, which are not looked at.

    Raises:
        ArtifactError: If the file is missing or damaged.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def read_tensors(path: Path, names: Iterable[str] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file of ours.

    Args:
        path: The file.
        names: Tensors that must be there; others are an error too. None accepts any.

    Returns:
        Tensors, on the CPU, and metadata, the file's own digest left out.

    Raises:
        ArtifactError: If the file is missing, damaged, of another format or holds other tensors, or any value is
            not finite.
    """
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    require_format(path, metadata.get("format"))
    told = metadata.pop("digest", None)
    if told is not None and told != content_digest(tensors, metadata):
        raise ArtifactError(f"{path} is damaged (its contents do not match their digest); {_REMEDY}")
    if names is not None and set(tensors) != set(names):
        raise ArtifactError(f"{path} holds {sorted(tensors)}, expected {sorted(names)}; {_REMEDY}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtifactError(f"{path}: {name} has values that are not finite; {_REMEDY}")
    return tensors, metadata


def sorted_header(data: bytes) -> bytes:
    """A safetensors file whose header is in order: safetensors leaves the order of metadata to chance.

    The digest of a stage's files then depends on nothing but their content, so a stage that was made again just as
    it was still suits the stages after it.
    """
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:body]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors are aligned to 8 bytes
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(data)[body:]))


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
    if path.is_file():
        try:
            return read_tensors(path)[0]
        except ArtifactError as error:
            log.warning("Rebuilding a cache file: %s", str(error).removesuffix(f"; {_REMEDY}"))
    tensors = build()
    _remove_temporaries(path.parent.glob(".*.tmp"), _OLD)
    try:
        write_tensors(path, tensors)
    except ArtifactError as error:
        raise DataError(
            f"cache_dir={cache_dir!r}: cannot write {path.name} ({error.__cause__}). Name a writable folder with "
            "free space, or set `cache_dir: null` to do without a cache."
        ) from error
    return tensors


_OLD = 3600.0
"""Seconds after which nobody writes a temporary file any more."""


def remove_unfinished(folder: Path, shared: Path) -> None:
    """Remove what a process left that was killed while it wrote: temporary files of ours, which nothing reads.

    Args:
        folder: Of the run, in which nobody else works.
        shared: A folder in it that other runs may write to: there a temporary file must be an hour old.
    """
    found = list(folder.rglob(".*.tmp"))
    _remove_temporaries((path for path in found if shared not in path.parents), float("-inf"))
    _remove_temporaries((path for path in found if shared in path.parents), _OLD)


def _remove_temporaries(paths: Iterable[Path], age: float) -> None:
    """Remove those that :func:`atomic_write` named, if they are so many seconds old."""
    for path in paths:
        with suppress(OSError):  # another process may remove it at the same time
            ours = re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", path.name) and path.is_file()
            if ours and time.time() - path.stat().st_mtime >= age:
                path.unlink()


def require_writable(folder: Path, option: str) -> None:
    """Check that a folder can be written or made, without making it: others may still refuse.

    Raises:
        ConfigError: If that is not possible.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        reason = f"{existing} is not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"no permission to write in {existing}"
    else:
        return
    raise ConfigError(f"{option}: cannot write to {folder} ({reason}); choose another folder or mend its permissions")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if there is none."""
    total = 0
    for path in folder.rglob("*"):
        # Another run that shares the folder may take a temporary file away.
        with suppress(FileNotFoundError):
            status = path.stat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
