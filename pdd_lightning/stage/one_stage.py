"""The baselines of one stage: as many images as all stages of a run together, learned at once.

Each is distilled by itself. The shorter one would be a state on the way of the longer one only where no rate decays and
the last state is kept (`image_lr_decay_at` and `keep` count in parts of all iterations).
"""

from dataclasses import replace

from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import ONE_STAGE, ONE_STAGES, Json, stage_title


def title(options: StageOptions, stage: int) -> str:
    """What a stage is called; see :func:`pdd_lightning.types.stage_title`.

    Args:
        options: Of the run, or of the baseline.
        stage: Number of the stage.
    """
    return stage_title(stage, baseline=baseline_of(options))


def baseline_of(options: StageOptions) -> str | None:
    """Which of a run's baselines a fit makes: one stage, where the run around it looks for it; None for none of them.

    The name of the folder alone would not tell: a run of one stage may be called so by its owner.
    """
    above = RunFolder(options.run.directory.parent)
    if options.stages > 1 or above.completed(1) == 0:
        return None
    return next((name for name in ONE_STAGES if options.run == above.one_stage(name)), None)


def header(options: StageOptions) -> str | None:
    """What stands above a baseline's images; None for the number of the stage."""
    return "one stage" if baseline_of(options) else None


def one_stage_changes(options: StageOptions, baseline: str) -> Json:
    """Options of the model in which a baseline differs from a stage of the run.

    Args:
        options: Of the run.
        baseline: Name of the baseline.
    """
    steps = options.steps_per_stage
    return {
        "stages": 1,
        "ipc": sum(options.per_stage),
        "iterations": sum(steps) if baseline == ONE_STAGE else max(steps),  # no stage is to have had more
        "image_lr": options.rates_per_stage[0],  # it begins where stage 1 does: fresh networks, no earlier subsets
        "discard": None,  # it is to learn from all real images, where the stages may divide them
        "transition": False,  # no later stage would read where training on the images ends
    }


def one_stage_options(options: StageOptions, baseline: str) -> StageOptions:
    """The options of a baseline, which lies in the run's folder and finds the experts of its first stage.

    Args:
        options: Of the run.
        baseline: Name of the baseline.
    """
    folders = {"run_dir": str(options.run.one_stage(baseline).directory), "experts_dir": str(options.experts_folder)}
    changes: dict[str, object] = {**one_stage_changes(options, baseline), **folders, "stage": 1}
    return replace(options, **changes)  # type: ignore[arg-type]


def one_stage_arguments(options: StageOptions, baseline: str) -> list[str]:
    """What turns the command line of the run's `fit` into that of a baseline."""
    alone, differing = one_stage_options(options, baseline), one_stage_changes(options, baseline)
    changes = {name: "null" if value is None else value for name, value in differing.items()}
    return [
        *(f"--{name}={getattr(alone, name)}" for name in ("run_dir", "experts_dir")),
        *(f"--model.{name}={value}" for name, value in changes.items()),
    ]
