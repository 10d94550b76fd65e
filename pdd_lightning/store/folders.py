"""Where everything of a run lies, and what makes a stage complete.

A run folder holds::

    stage_01/config.yaml               the exact configuration
    stage_01/synthetic.safetensors     images, labels and learning rate of S_1
    stage_01/synthetic.png             pictures of S_1 ... S_k
    stage_01/end_states.safetensors    theta^(1) of every member of the bank: where stage 2 starts
    stage_01/witnesses.safetensors     fresh networks, by which a set that suits its bank alone is known
    stage_01/stage.json                written last: settings, digests of the files, digest of the stage before
    stage_01/usage.json                what the stage took
    stage_01/checkpoints/              Lightning checkpoints while the stage is being fitted
    stage_01/transition/               members of the bank that wait for the others to be trained
    stage_01/renewals/                 experts or start states that were renewed while the stage is being fitted
    stage_01/last_good.safetensors     only if the stage diverged: what it held at the last finite loss
    experts/stage_01-<fingerprint>/    expert trajectories, one file per expert
    forgetting/, selection/            what selecting real images computed
    preprocessing.safetensors          how to turn the images back into pictures
    plan.json                          what the run was expected to take
    one_stage/, one_stage_short/       the run's baselines of one stage, each a run by itself
    diagnose.json, diagnose.png        how accuracy went along the training on each union, if that was asked
    evaluation/config.yaml             the exact configuration of the last evaluation
    evaluation/results.json            every row, for programs
    evaluation/results.md              every row, for people
    evaluation/rows/                   what is known of each training, so that none is done twice
    evaluation/usage.json              what the evaluations took
    tensorboard/                       logs
    run.lock                           held by the process that works in the folder
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import differing_keys, file_digest, fingerprint
from pdd_lightning.store.files import FORMAT, read_json, require_format, write_json
from pdd_lightning.types import Json

GIVEN: Final[Mapping[str, str]] = {"select": "images selected by {}", "imported": "images imported as {}"}
"""How images that no stage distilled are spoken of, by the part of their settings that holds their name."""


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

    @property
    def given(self) -> tuple[str, str] | None:
        """How images came here that no stage distilled: the key of `GIVEN`, and their name; None for a distillation."""
        for kind in GIVEN:
            if isinstance(part := self.settings.get(kind), dict):
                return kind, str(part.get("name"))
        return None

    @property
    def given_as(self) -> str | None:
        """The name of images that were selected or imported, for tables; None for a distillation."""
        return self.given and self.given[1]

    @property
    def holds(self) -> str:
        """What the stage holds, for a message."""
        return GIVEN[self.given[0]].format(self.given[1]) if self.given else "distilled images"


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
    def config(self) -> Path:
        """The exact configuration."""
        return self.directory / "config.yaml"

    @property
    def synthetic(self) -> Path:
        """Images, labels and learning rate of the stage's subset."""
        return self.directory / "synthetic.safetensors"

    @property
    def end_states(self) -> Path:
        """States at the end of training on the union: the next stage's start states."""
        return self.directory / "end_states.safetensors"

    @property
    def witnesses(self) -> Path:
        """States of fresh networks at the end of training on the union, which no stage matches."""
        return self.directory / "witnesses.safetensors"

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
    def transition(self) -> Path:
        """Members of the bank whose end states are known while others are still trained."""
        return self.directory / "transition"

    @property
    def renewals(self) -> Path:
        """What the dynamics of an unfinished stage renewed within its steps."""
        return self.directory / "renewals"

    @property
    def usage(self) -> Path:
        """What the stage took."""
        return self.directory / "usage.json"

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
            settings: See :meth:`verify_made`, as for the others.
            data: Fingerprint of the present data.
            previous: Fingerprint of the stage before.

        Returns:
            The stage's manifest.

        Raises:
            ArtifactError: Naming what differs and what to do.
        """
        manifest = self.verify_made(settings, data, previous)
        for name in manifest.files:
            self.verify_file(self.directory / Path(name).name, manifest)
        return manifest

    def verify_made(self, settings: Json | None, data: str | None, previous: str | None) -> Manifest:
        """Check that the stage is what the present settings would make, whatever became of its files.

        Args:
            settings: The present settings of this stage, to distil; None does not compare them.
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
        if settings is not None and manifest.given is not None:
            raise ArtifactError(
                f"--run_dir={self.directory.parent} holds {manifest.holds}; choose another folder to distil"
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
class EvaluationFolder:
    """What evaluations of a run leave.

    Example:
        >>> EvaluationFolder(Path("checkpoints/mine/evaluation")).results.name
        'results.json'
    """

    directory: Path

    @property
    def config(self) -> Path:
        """The exact configuration of the last one."""
        return self.directory / "config.yaml"

    @property
    def results(self) -> Path:
        """Every row, for programs."""
        return self.directory / "results.json"

    @property
    def page(self) -> Path:
        """Every row, for people."""
        return self.directory / "results.md"

    @property
    def rows(self) -> Path:
        """What is known of each training."""
        return self.directory / "rows"

    @property
    def usage(self) -> Path:
        """What they took."""
        return self.directory / "usage.json"


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
    def given_as(self) -> str | None:
        """The name of images that were selected or imported; None for a distillation, and where nothing is complete."""
        return self.stage(1).read_manifest().given_as if self.stage(1).complete else None

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
    def diagnosis(self) -> Path:
        """What `pdd-cli diagnose` measured."""
        return self.directory / "diagnose.json"

    @property
    def diagnosis_picture(self) -> Path:
        """The same, for people."""
        return self.directory / "diagnose.png"

    def one_stage(self, baseline: str) -> "RunFolder":
        """One of the run's baselines of one stage, by its name."""
        return RunFolder(self.directory / baseline.replace("-", "_"))

    @property
    def evaluation(self) -> EvaluationFolder:
        """Results."""
        return EvaluationFolder(self.directory / "evaluation")

    @property
    def tensorboard(self) -> Path:
        """Logs for TensorBoard."""
        return self.directory / "tensorboard"
