"""Files of a run: paths, atomic writing, checked reading, fingerprints.

A run folder holds::

    stage_01/synthetic.safetensors     images, labels and learning rate of S_1
    stage_01/synthetic.png             pictures of S_1 ... S_k
    stage_01/end_states.safetensors    theta^(1) of every member of the bank: where stage 2 starts
    stage_01/stage.json                written last: settings, digests of the files, digest of the stage before
    stage_01/checkpoints/              Lightning checkpoints while the stage is being fitted
    stage_01/last_good.safetensors     only if the stage diverged: what it held at the last finite loss
    experts/stage_01-<fingerprint>/             expert trajectories, one file per expert
    forgetting/, selection/            what selecting real images computed
    preprocessing.safetensors          how to turn the images back into pictures
    evaluation/                        results
    tensorboard/                       logs

Everything is safetensors or JSON: reading an artifact never executes code.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pdd_lightning.errors import ArtifactError
from pdd_lightning.lock import require_present
from pdd_lightning.sealing import content_digest, sorted_header

FORMAT = 1
"""Version of the artifacts' form; readers refuse a newer one."""

_REMEDY = "restore it from a copy, or delete its folder to have it made again"

Json = dict[str, object]


def fingerprint(value: object) -> str:
    """Digest of anything JSON can hold, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def differing_keys(old: Mapping[str, object], new: Mapping[str, object], prefix: str = "") -> list[str]:
    """Dotted names of what differs between two nested settings, each with both values."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} then, {b!r} now")
    return lines


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


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 atomically."""
    atomic_write(path, text.encode())


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object atomically, with a digest of its own by which a reader knows it unchanged."""
    # As JSON would read it back: tuples and lists have one digest.
    text = json.dumps({**value, "digest": fingerprint(dict(value))}, indent=2, allow_nan=False)
    atomic_write(path, f"{text}\n".encode())


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
def _opened(path: Path, device: str) -> Iterator[Any]:
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; {_REMEDY}")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {_REMEDY}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file of ours says beside its tensors, which are not looked at.

    Raises:
        ArtifactError: If the file is missing or damaged.
    """
    with _opened(path, "cpu") as file:
        return dict(file.metadata() or {})


def read_tensors(
    path: Path, names: Iterable[str] | None = None, device: str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file of ours.

    Args:
        path: The file.
        names: Tensors that must be there; others are an error too. None accepts any.
        device: Where to put them.

    Returns:
        Tensors and metadata, the file's own digest left out.

    Raises:
        ArtifactError: If the file is missing, damaged, of a newer format or holds other tensors, or any value is
            not finite.
    """
    with _opened(path, device) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.get("format") != str(FORMAT):
        raise ArtifactError(
            f"{path} has format {metadata.get('format')!r}, this version reads {FORMAT}; use a matching release"
        )
    told = metadata.pop("digest", None)
    if told is not None and told != content_digest({n: t.cpu() for n, t in tensors.items()}, metadata):
        raise ArtifactError(f"{path} is damaged (its contents do not match their digest); {_REMEDY}")
    if names is not None and set(tensors) != set(names):
        raise ArtifactError(f"{path} holds {sorted(tensors)}, expected {sorted(names)}; {_REMEDY}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtifactError(f"{path}: {name} has values that are not finite; {_REMEDY}")
    return tensors, metadata


@dataclass(frozen=True)
class StageFolder:
    """One stage's artifacts."""

    directory: Path
    stage: int

    @property
    def synthetic(self) -> Path:
        """Images, labels and learning rate of the stage's subset."""
        return self.directory / "synthetic.safetensors"

    @property
    def end_states(self) -> Path:
        """States at the end of training on the union: the next stage's start states."""
        return self.directory / "end_states.safetensors"

    @property
    def last_good(self) -> Path:
        """Left by a stage that diverged: its images before they did."""
        return self.directory / "last_good.safetensors"

    @property
    def pictures(self) -> Path:
        """The images of all stages so far, for people."""
        return self.directory / "synthetic.png"

    @property
    def manifest(self) -> Path:
        """What the stage was made of; its existence means that the stage is complete."""
        return self.directory / "stage.json"

    @property
    def checkpoints(self) -> Path:
        """Lightning checkpoints of an unfinished stage."""
        return self.directory / "checkpoints"

    @property
    def complete(self) -> bool:
        """Whether the stage is finished."""
        return self.manifest.is_file()

    def finish(self, settings: Json, data: str, previous: str | None, summary: Json) -> None:
        """Declare the stage complete; everything else must be on disk.

        Args:
            settings: Everything the result depends on.
            data: Fingerprint of the data.
            previous: Fingerprint of the stage before; None at stage 1.
            summary: Figures worth keeping.
        """
        files = {path.name: file_digest(path) for path in (self.synthetic, self.end_states) if path.is_file()}
        write_json(
            self.manifest,
            {
                "format": FORMAT,
                "stage": self.stage,
                "settings": settings,
                "data": data,
                "previous": previous,
                "files": files,
                "summary": summary,
            },
        )

    def read_manifest(self) -> Json:
        """The manifest, checked for form.

        Raises:
            ArtifactError: If it is damaged or of a newer format.
        """
        manifest = read_json(self.manifest)
        if manifest.get("format") != FORMAT:
            raise ArtifactError(
                f"{self.manifest} has format {manifest.get('format')!r}, this version reads {FORMAT}; use a matching "
                "release, or restore the file from a copy"
            )
        if manifest.get("stage") != self.stage or not isinstance(manifest.get("files"), dict):
            raise ArtifactError(f"{self.manifest} is not the manifest of stage {self.stage}; restore it from a copy")
        return manifest

    def fingerprint(self) -> str:
        """Identity of the finished stage: what it was made of and what came out."""
        manifest = self.read_manifest()
        return fingerprint({key: manifest.get(key) for key in ("settings", "data", "previous", "files")})

    def verify(self, settings: Json | None, data: str | None, previous: str | None) -> None:
        """Check that the stage is what the present settings would make, and that its files are untouched.

        Args:
            settings: The present settings of this stage; None does not compare them.
            data: The present data's fingerprint; None does not compare it.
            previous: Fingerprint of the stage before.

        Raises:
            ArtifactError: Naming what differs and what to do.
        """
        manifest = self.read_manifest()
        remedy = (
            f"Restore the old options, choose another --run_dir, or delete {self.directory} and the later stages to "
            "make them again."
        )
        old = manifest.get("settings")
        if not isinstance(old, dict):
            raise ArtifactError(f"{self.manifest} does not say under which settings it was made. {remedy}")
        if settings is not None and (changed := differing_keys(old, settings, "model.")):
            raise ArtifactError(
                f"stage {self.stage} in {self.directory} was made under other settings: {'; '.join(changed)}. {remedy}"
            )
        if data is not None and manifest.get("data") != data:
            raise ArtifactError(
                f"stage {self.stage} in {self.directory} was made from other data: fingerprint {manifest.get('data')} "
                f"then, {data} now (images, split or preprocessing changed). {remedy}"
            )
        if manifest.get("previous") != previous:
            raise ArtifactError(
                f"stage {self.stage - 1} changed under the finished stage {self.stage} in {self.directory}. {remedy}"
            )
        files = manifest["files"]
        assert isinstance(files, dict)
        for name in files:
            self.verify_file(self.directory / Path(str(name)).name)

    def verify_file(self, path: Path) -> None:
        """Check that a file of the finished stage is the one that the stage wrote.

        Raises:
            ArtifactError: If it is missing or was changed.
        """
        files = self.read_manifest()["files"]
        remedy = f"Restore it from a copy, or delete {self.directory} and the later stages to make them again."
        if path == self.end_states:
            remedy = f"Run again with --rebuild true to make it from the subsets. {remedy}"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing though stage {self.stage} is complete. {remedy}")
        if not isinstance(files, dict) or file_digest(path) != files.get(path.name):
            raise ArtifactError(f"{path} was changed after stage {self.stage} was complete. {remedy}")


@dataclass(frozen=True)
class RunFolder:
    """A run's artifacts."""

    directory: Path

    def stage(self, stage: int) -> StageFolder:
        """A stage's folder, counted from 1."""
        return StageFolder(self.directory / f"stage_{stage:02d}", stage)

    def completed(self, stages: int | None = None) -> int:
        """How many stages are complete, in order from the first.

        Args:
            stages: Count no further than this; None counts all.
        """
        done = 0
        while done != stages and self.stage(done + 1).complete:
            done += 1
        return done

    @property
    def experts(self) -> Path:
        """Expert trajectories, one folder per fingerprint."""
        return self.directory / "experts"

    @property
    def forgetting(self) -> Path:
        """Folder of trainings on real data, from which selections take features and forgetting events."""
        return self.directory / "forgetting"

    @property
    def selection(self) -> Path:
        """Folder of selected real images' positions."""
        return self.directory / "selection"

    @property
    def preprocessing(self) -> Path:
        """How to turn images of the networks' space back into pictures."""
        return self.directory / "preprocessing.safetensors"

    @property
    def evaluation(self) -> Path:
        """Results."""
        return self.directory / "evaluation"

    @property
    def tensorboard(self) -> Path:
        """Logs for TensorBoard."""
        return self.directory / "tensorboard"
