"""The baseline of one stage: as many images and iterations as all stages of a run together, learned at once."""

from dataclasses import replace

from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import Json, stage_title


def title(options: StageOptions, stage: int) -> str:
    """What a stage is called; see :func:`pdd_lightning.types.stage_title`.

    Args:
        options: Of the run, or of the baseline.
        stage: Number of the stage.
    """
    return stage_title(stage, baseline=is_baseline(options))


def is_baseline(options: StageOptions) -> bool:
    """Whether a fit makes a run's baseline: one stage, where the run around it looks for it.

    The name of the folder alone would not tell: a run of one stage may be called so by its owner.
    """
    above = RunFolder(options.run.directory.parent)
    return options.stages == 1 and options.run == above.one_stage and above.completed(1) == 1


def header(options: StageOptions) -> str | None:
    """What stands above the baseline's images; None for the number of the stage."""
    return "one stage" if is_baseline(options) else None


def one_stage_changes(options: StageOptions) -> Json:
    """Options of the model in which the baseline differs from a stage of the run."""
    return {
        "stages": 1,
        "ipc": sum(options.per_stage),
        "iterations": sum(options.steps_per_stage),
        "image_lr": options.rates_per_stage[0],  # it begins where stage 1 does: fresh networks, no earlier subsets
        "discard": None,  # it is to learn from all real images, where the stages may divide them
        "transition": False,  # no later stage would read where training on the images ends
    }


def one_stage_options(options: StageOptions) -> StageOptions:
    """The options of the baseline, which lies in the run's folder and finds the experts of its first stage.

    Args:
        options: Of the run.
    """
    folders = {"run_dir": str(options.run.one_stage.directory), "experts_dir": str(options.experts_folder)}
    changes: dict[str, object] = {**one_stage_changes(options), **folders, "stage": 1}
    return replace(options, **changes)  # type: ignore[arg-type]


def one_stage_arguments(options: StageOptions) -> list[str]:
    """What turns the command line of the run's `fit` into that of the baseline."""
    alone = one_stage_options(options)
    changes = {name: "null" if value is None else value for name, value in one_stage_changes(options).items()}
    return [
        *(f"--{name}={getattr(alone, name)}" for name in ("run_dir", "experts_dir")),
        *(f"--model.{name}={value}" for name, value in changes.items()),
    ]
