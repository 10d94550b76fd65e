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
    plan.json                          what the run was expected to take
    evaluation/                        results
    tensorboard/                       logs

Everything is safetensors or JSON: reading an artifact never executes code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import differing_keys, file_digest, fingerprint
from pdd_lightning.store.files import FORMAT, read_json, require_format, write_json
from pdd_lightning.types import Json


@dataclass(frozen=True)
class Manifest:
    """What a finished stage was made of and what came out.

    Attributes:
        settings: Everything that the result depends on.
        data: Fingerprint of the data.
        previous: Fingerprint of the stage before; None at stage 1.
        files: Digest of each file.
        summary: Figures worth keeping.

    Example:
        >>> made = Manifest({"ipc": 1}, "data", None, {"synthetic.safetensors": "digest"}, summary={})
        >>> made.fingerprint == Manifest({"ipc": 2}, "data", None, made.files, summary={}).fingerprint
        False
    """

    settings: Json
    data: str
    previous: str | None
    files: dict[str, str]
    summary: Json

    @property
    def fingerprint(self) -> str:
        """Identity of the finished stage."""
        made = {"settings": self.settings, "data": self.data, "previous": self.previous, "files": self.files}
        return fingerprint(made)


@dataclass(frozen=True)
class StageFolder:
    """One stage's artifacts.

    Example:
        >>> folder = StageFolder(Path("checkpoints/mine/stage_01"), stage=1)
        >>> folder.complete, folder.synthetic.name
        (False, 'synthetic.safetensors')
    """

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
        manifest = Manifest(settings, data, previous, files, summary)
        write_json(self.manifest, {"format": FORMAT, "stage": self.stage, **vars(manifest)})

    def read_manifest(self) -> Manifest:
        """The manifest, checked for form.

        Raises:
            ArtifactError: If it is damaged or of another format.
        """
        found = read_json(self.manifest)
        require_format(self.manifest, found.get("format"))
        parts = [found.get(key) for key in ("settings", "data", "previous", "files", "summary")]
        settings, data, previous, files, summary = parts
        if (
            not (isinstance(settings, dict) and isinstance(files, dict) and isinstance(summary, dict))
            or not (isinstance(data, str) and (previous is None or isinstance(previous, str)))
            or found.get("stage") != self.stage
        ):
            raise ArtifactError(f"{self.manifest} is not the manifest of stage {self.stage}; restore it from a copy")
        return Manifest(settings, data, previous, files, summary)

    def fingerprint(self) -> str:
        """Identity of the finished stage: what it was made of and what came out."""
        return self.read_manifest().fingerprint

    def verify(self, settings: Json | None, data: str | None, previous: str | None) -> Manifest:
        """Check that the stage is what the present settings would make, and that its files are untouched.

        Args:
            settings: The present settings of this stage; None does not compare them.
            data: The present data's fingerprint; None does not compare it.
            previous: Fingerprint of the stage before.

        Returns:
            The stage's manifest.

        Raises:
            ArtifactError: Naming what differs and what to do.
        """
        manifest = self.read_manifest()
        remedy = (
            f"Restore the old options, choose another --run_dir, or delete {self.directory} and the later stages to "
            "make them again."
        )
        if settings is not None and (changed := differing_keys(manifest.settings, settings, "model.")):
            raise ArtifactError(
                f"stage {self.stage} in {self.directory} was made under other settings: {'; '.join(changed)}. {remedy}"
            )
        if data is not None and manifest.data != data:
            raise ArtifactError(
                f"stage {self.stage} in {self.directory} was made from other data: fingerprint {manifest.data} "
                f"then, {data} now (images, split or preprocessing changed). {remedy}"
            )
        if manifest.previous != previous:
            raise ArtifactError(
                f"stage {self.stage - 1} changed under the finished stage {self.stage} in {self.directory}. {remedy}"
            )
        for name in manifest.files:
            self.verify_file(self.directory / Path(name).name, manifest)
        return manifest

    def verify_file(self, path: Path, manifest: Manifest | None = None) -> None:
        """Check that a file of the finished stage is the one that the stage wrote.

        Args:
            path: The file.
            manifest: Of the stage, where it is read already.

        Raises:
            ArtifactError: If it is missing or was changed.
        """
        files = (manifest or self.read_manifest()).files
        remedy = f"Restore it from a copy, or delete {self.directory} and the later stages to make them again."
        if path == self.end_states:
            remedy = f"Run again with --rebuild true to make it from the subsets. {remedy}"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing though stage {self.stage} is complete. {remedy}")
        if file_digest(path) != files.get(path.name):
            raise ArtifactError(f"{path} was changed after stage {self.stage} was complete. {remedy}")


@dataclass(frozen=True)
class RunFolder:
    """A run's artifacts.

    Example:
        >>> run = RunFolder(Path("checkpoints/mine"))
        >>> run.completed()  # a run that has not begun
        0
        >>> run.stage(2).end_states.as_posix()
        'checkpoints/mine/stage_02/end_states.safetensors'
    """

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
    def selected_by(self) -> str | None:
        """The name of the selection that made the run; None for a distillation, and where nothing is complete."""
        select = self.stage(1).read_manifest().settings.get("select") if self.stage(1).complete else None
        return str(select["name"]) if isinstance(select, dict) else None

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
    def plan(self) -> Path:
        """What `pdd-cli plan` said before the run."""
        return self.directory / "plan.json"

    @property
    def evaluation(self) -> Path:
        """Results."""
        return self.directory / "evaluation"

    @property
    def tensorboard(self) -> Path:
        """Logs for TensorBoard."""
        return self.directory / "tensorboard"


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
        previous = folder.verify(settings(k), data, previous).fingerprint


def origin(run: RunFolder, stage: int, data: str) -> Json:
    """Which stage this is, and what it builds on."""
    previous = run.stage(stage - 1).fingerprint() if stage > 1 else None
    return {"format": FORMAT, "stage": stage, "data": data, "previous stage": previous}


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
    require_format(run.stage(stage).checkpoints, found.get("format", 1))  # which the first one did not say
    here = origin(run, stage, data)
    changed = differing_keys(found.get("settings", {}), settings, "model.")
    changed += differing_keys({key: found.get(key) for key in here}, here)
    if changed:
        folder = run.stage(stage).checkpoints
        raise ArtifactError(
            f"the checkpoint in {folder} was made under other settings: {'; '.join(changed)}. Restore the old options, "
            f"or delete {folder} to start the stage again"
        )
