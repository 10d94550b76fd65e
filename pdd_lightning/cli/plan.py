"""`pdd-cli plan`: what a run will take, before it starts."""

from collections.abc import Sequence
from typing import Any, Final

from pdd_lightning.cli.application import Application, application
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.planning.estimate import Amounts
from pdd_lightning.planning.planner import Planner
from pdd_lightning.progress import duration
from pdd_lightning.stage.logs import loggers_of
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.files import require_writable

ALONE: Final[dict[str, Any]] = {"devices": 1, "num_nodes": 1, "strategy": "auto", "max_time": None}
"""Options of the trainer in a rehearsal, which is a process by itself."""


def main(args: Sequence[str]) -> int:
    """Measure, and print the plan.

    Args:
        args: The options.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If the user can mend what is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> few = ["--model.stages=1", "--model.transition=false", "--evaluation.baselines=[]", "--plan.seconds=0.1"]
        >>> with TemporaryDirectory() as run:
        ...     main(["--config=configs/smoke/stage.yaml", f"--run_dir={run}", *few])
        Plan
        ...
        stage 1 start, data ...
        evaluation start, data ...
        all time ...
        0
    """
    # A stage named in the file is for `fit`; a plan is of all.
    with application("plan", [*args, "--stage=null"]) as app:
        plan, minutes = planner_of(app).run(), app.option("plan").minutes
        if minutes is not None:
            print(shorter(plan, app.model.options, app.evaluation, minutes))
    return 0


def planner_of(app: Application) -> Planner:
    """Plans the run of a configuration, once everything is checked that a run checks.

    Args:
        app: The configuration.

    Raises:
        PDDError: If the user can mend what is wrong.
    """
    module, data, processes = app.model, app.datamodule, app.trainer_of(logger=False)
    data.prepare_data()
    data.setup("fit")
    module.verify_finished(data.fingerprint)
    module.check(data)
    app.evaluator().check()
    require_writable(module.run.directory, "--run_dir")
    # The logs of a rehearsal go where it works, not to loggers that keep them.
    logs = app.option("trainer").logger is not False
    return Planner(
        module,
        data,
        evaluation=app.evaluation,
        planning=app.option("plan"),
        schedule=(app.option("checkpoint_every"), app.option("checkpoint_minutes")),
        world=processes.num_devices * processes.num_nodes,
        make_stage=app.stage,
        stage_trainer=lambda stage, callbacks: app.stage_trainer(
            stage,
            callbacks,
            logger=loggers_of(logs, stage.run, stage.folder.directory.name),
            enable_checkpointing=False,
            **ALONE,
        ),
        evaluation_trainer=lambda steps, callbacks: app.evaluation_trainer(steps, callbacks, **ALONE),
    )


def shorter(plan: Amounts, options: StageOptions, evaluation: Evaluation, minutes: float) -> str:
    """A line that says which options would bring a run to so many minutes, about.

    Args:
        plan: Of the run as it is.
        options: Of its stages.
        evaluation: How it is scored.
        minutes: How long it may take.
    """
    starting = sum(line.seconds for line in plan.lines if line.work == "start")
    if plan.seconds <= 60 * minutes:
        return f"--plan.minutes={minutes:g}: the run fits into it as it is"
    if starting >= 60 * minutes:
        return f"--plan.minutes={minutes:g}: its processes alone take {duration(starting)} to start; allow more"
    share = (60 * minutes - starting) / (plan.seconds - starting)
    members = options.dynamics.members_option
    counts = {
        f"model.dynamics.{members}": options.dynamics.members if members else 0,
        "model.recipe.epochs": options.recipe.epochs if options.transition or evaluation.recipe is None else 0,
        "evaluation.recipe.epochs": 0 if evaluation.recipe is None else evaluation.recipe.epochs,
        "evaluation.full.epochs": evaluation.full.epochs,
    }
    steps = [str(max(1, round(share * count))) for count in options.steps_per_stage]
    wanted = [f"--model.iterations {steps[0] if len({*steps}) == 1 else '[' + ','.join(steps) + ']'}"]
    wanted += [f"--{name} {max(1, round(share * count))}" for name, count in counts.items() if count]
    return f"--plan.minutes={minutes:g}: {100 * share:.0f} % of all work would fit into it, as with {' '.join(wanted)}"
