"""`pdd-cli diagnose`: how accuracy goes along the training that every stage of a run ends with."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pdd_lightning.cli.application import application
from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.cli.plan import ALONE
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.evaluation.diagnosis import phase_curves, require_diagnosable
from pdd_lightning.evaluation.diagnosis_report import diagnosis_json, diagnosis_lines, diagnosis_table
from pdd_lightning.evaluation.findings import findings
from pdd_lightning.process.launch import load_data
from pdd_lightning.store.files import require_writable, write_json
from pdd_lightning.store.folders import RunFolder


def main(args: Sequence[str]) -> int:
    """Train members of the bank and fresh networks through the phases of a run, and say what stands out.

    Accuracy is that on held-out training images; the test set plays no part. Nothing that a stage left is changed.

    Args:
        args: The run's folder, ``--networks``, and options that its own configuration is to be read with.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If the user can mend what is wrong.

    Example:
        >>> from shutil import copytree, ignore_patterns
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     run = copytree("checkpoints/sample", f"{folder}/run", ignore=ignore_patterns("stage_02", "stage_03"))
        ...     main([run, "--networks=4"])
        Held-out accuracy % along ...
        1 4 bank ...
        1 4 fresh ...
        ...1 of 3 stages are complete, and these alone are shown
        every number: .../diagnose.json, curves: .../diagnose.png
        0
    """
    options, rest = parser().parse_known_args(args)
    if options.networks < 2:
        raise ConfigError(f"--networks={options.networks}: one network does not say what is chance; give at least 2")
    run = RunFolder(Path(from_home(options.run, "RUN")))
    require_diagnosable(run)
    require_writable(run.directory, "RUN")
    with application("diagnose", [*_recorded(run, rest), *rest, f"--run_dir={run.directory}", "--stage=null"]) as app:
        processes, data, stages = app.trainer_of(logger=False, **ALONE), app.datamodule, app.model.options
        load_data(processes, data, "fit")
        app.rebuild(processes)
        device, held_out = processes.strategy.root_device, len(data.validation)
        phases = phase_curves(stages, data, device, options.networks)
        found = [finding for phase in phases for finding in findings(phase, stages, held_out)]
        write_json(run.diagnosis, diagnosis_json(phases, found, stages, held_out, device))
    # Only here: drawing takes long to import.
    from pdd_lightning.evaluation.curves_picture import draw_curves  # noqa: PLC0415

    drawn = draw_curves(run.diagnosis_picture, phases)
    console = Console()
    console.print(diagnosis_table(phases))
    for line in diagnosis_lines(phases, found, stages):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    print(f"every number: {run.diagnosis}" + (f", curves: {run.diagnosis_picture}" if drawn else ""))
    return 0


def parser() -> PlainParser:
    """Its own options; the others are those of `fit`."""
    made = PlainParser("diagnose", usage="pdd-cli diagnose RUN [--networks N] [--OPTION VALUE ...]")
    made.add_argument("run", metavar="RUN", help="Folder of a run, finished as far as it goes.")
    made.add_argument(
        "--networks", type=int, default=10, metavar="N", help="Members of the bank, and as many fresh networks."
    )
    return made


def _recorded(run: RunFolder, rest: Sequence[str]) -> list[str]:
    """The configuration that the last complete stage has recorded; others that are given add to it.

    Raises:
        ArtifactError: If there is none at all.
    """
    recorded = run.stage(run.completed()).config  # which knows of stages that were added later
    if recorded.is_file():
        return ["--config", str(recorded)]
    if any(arg.partition("=")[0] in ("--config", "-c") for arg in rest):
        return []
    raise ArtifactError(f"{recorded} is missing, which says what the run is made of: give it by --config FILE")
