"""An experiment: a YAML file that lists runs, and what their table is to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pdd_lightning.errors import ConfigError

_RUN: Final = {"config", "options"}
_SCALE: Final = {"note", "needs", "options", "runs"}
_EXPERIMENT: Final = {"title", "source", "published", "against", "every_stage", "scales"}


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment.

    Attributes:
        name: Of its rows.
        config: Its configuration.
        options: Of the command line, beside the configuration.

    Example:
        >>> PlannedRun("mtt", Path("configs/digits/mtt.yaml"), ("--model.ipc=2",)).arguments(Path("runs"), ())
        ['--config', 'configs/digits/mtt.yaml', '--model.ipc=2', '--run_dir=runs/mtt', '--experts_dir=runs/experts']
    """

    name: str
    config: Path
    options: tuple[str, ...] = ()

    def arguments(self, folder: Path, more: Sequence[str]) -> list[str]:
        """For `pdd-cli run`.

        Args:
            folder: Of the experiment's runs, which share their experts.
            more: Options that the user gave.
        """
        places = [f"--run_dir={folder / self.name}", f"--experts_dir={folder / 'experts'}"]
        return ["--config", str(self.config), *self.options, *more, *places]


@dataclass(frozen=True)
class Experiment:
    """A table of the paper at one scale.

    Attributes:
        name: Of the experiment.
        scale: How large.
        title: Above the table.
        source: Where the published figures stand.
        note: What differs at this scale.
        needs: Options that the user must give.
        runs: In the order of the table.
        published: Accuracies in percent by the name of the run, and by its order where it is not the progressive one.
        against: The run that others are compared with, by their names.
        every_stage: Whether the table shows what was reached after earlier stages too.

    Example:
        >>> import yaml
        >>> path = Path("configs/experiments/tablea8.yaml")
        >>> [run.name for run in Experiment.parse(path, yaml.safe_load(path.read_text()), "small").runs]
        ['dsa', 'pdd_dsa']
    """

    name: str
    scale: str
    title: str
    source: str
    note: str
    needs: tuple[str, ...]
    runs: tuple[PlannedRun, ...]
    published: Mapping[str, str]
    against: Mapping[str, str]
    every_stage: bool

    @classmethod
    def parse(cls, path: Path, content: object, scale: str) -> Self:
        """What a file of an experiment says of a scale.

        Args:
            path: The file, from which configurations are named.
            content: What it holds.
            scale: One of the file's.

        Raises:
            ConfigError: If there is no such scale, or the file holds something else.
        """
        top = _object(content, _EXPERIMENT, str(path))
        scales = _object(top["scales"], None, f"{path}: scales")
        if scale not in scales:
            raise ConfigError(f"--scale={scale}: {path.stem} has the scales {', '.join(scales)}")
        mine = _object(scales[scale], _SCALE, f"{path}: scales.{scale}")
        shared, runs = _options(mine.get("options", {})), list[PlannedRun]()
        for name, planned in mine["runs"].items():
            run = _object(planned, _RUN, f"{path}: scales.{scale}.runs.{name}")
            options = (*shared, *_options(run.get("options", {})))
            runs.append(PlannedRun(str(name), (path.parent / run["config"]).resolve(), options))
        return cls(
            name=path.stem,
            scale=scale,
            title=top["title"],
            source=top["source"],
            note=mine["note"],
            needs=tuple(mine.get("needs", ())),
            runs=tuple(runs),
            published={str(key): str(value) for key, value in top.get("published", {}).items()},
            against=dict(top.get("against", {})),
            every_stage=bool(top.get("every_stage", False)),
        )

    def check(self, given: Sequence[str]) -> None:
        """Refuse to begin without what this scale needs.

        Args:
            given: Options of the user's.

        Raises:
            ConfigError: Naming the option.
        """
        for option in self.needs:
            if not any(arg == f"--{option}" or arg.startswith(f"--{option}=") for arg in given):
                raise ConfigError(f"--{option} is missing: --scale={self.scale} of {self.name} needs it; {self.note}")


def _options(values: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"--{key}={_text(value)}" for key, value in values.items())


def _text(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{','.join(map(_text, value))}]" if isinstance(value, list) else str(value)


def _object(value: object, keys: set[str] | None, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected options, found {value!r}")
    if keys is not None and (unknown := sorted(map(str, value.keys() - keys))):
        raise ConfigError(f"{where}.{unknown[0]}: there is no such option; known are {', '.join(sorted(keys))}")
    return value
