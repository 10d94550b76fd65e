"""`pdd-cli import`: images of others as a finished run of one stage, which `evaluate`, `compare` and `show` take."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pdd_lightning.cli.application import application
from pdd_lightning.cli.given import make_given
from pdd_lightning.distilling.fitting import say
from pdd_lightning.errors import ConfigError, PDDError
from pdd_lightning.evaluation.imported_files import read_files
from pdd_lightning.evaluation.imported_run import ImportedRun, Importing
from pdd_lightning.process.launch import load_data

_OWN: Final = ("space", "rate", "factor", "name")
"""Options of the section `imported`, which this command takes without its name."""

_ALONE: Final = ("--print_config", "--help", "-h")
"""Options without a value after them."""


def main(args: Sequence[str]) -> int:
    """Read images, labels and a learning rate, and write them as a finished run.

    Args:
        args: One or two files or a folder, and the options.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If the user can mend what is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pdd_lightning as pdd
        >>> theirs = "checkpoints/sample/stage_01/synthetic.safetensors"
        >>> with TemporaryDirectory() as run:
        ...     main([theirs, "--config=configs/smoke/stage.yaml", f"--run_dir={run}", "--name=theirs"])
        ...     pdd.load(run)
        0
        DistilledSet theirs, 1 stage: 10 images of 1x8x8, 10 classes
        normalised (pixel - 0.3058) / 0.3761; learning rates 0.1871; ConvNet, 50 epochs a stage
    """
    try:
        return _import(as_options(args))
    except PDDError as error:
        raise type(error)(re.sub(r"^(--)?imported\.(?=\w)", "--", str(error))) from error


def _import(args: Sequence[str]) -> int:
    with application("import", args) as app:
        importing: Importing = app.option("imported")
        if not importing.files:
            raise ConfigError("import needs files: pdd-cli import IMAGES LABELS --config FILE --run_dir RUN")
        processes, found = app.processes(), read_files([Path(file) for file in importing.files])
        load_data(processes, app.datamodule, "fit")
        imported = ImportedRun(app.evaluator(), importing, found)
        subset = make_given(app, imported, processes.is_global_zero)
        if subset is not None:
            say(
                f"{len(subset.data)} images imported as {imported.name}, read as {imported.space}; learning rate "
                f"{subset.rate:.4g}, {imported.rate_origin}: {app.model.run.stage(1).synthetic}"
            )
    return 0


def as_options(args: Sequence[str]) -> list[str]:
    """The arguments with files and own options as those of the section `imported`.

    Args:
        args: Of the command; what follows an option without "=" is its value, and all else is a file.

    Example:
        >>> as_options(["images.pt", "--config", "mine.yaml", "labels.pt", "--rate=0.1"])
        ['--config', 'mine.yaml', '--imported.rate=0.1', '--imported.files=["images.pt", "labels.pt"]']
    """
    files: list[str] = []
    options: list[str] = []
    awaited = False
    for arg in args:
        if awaited or not arg.startswith("-"):
            (options if awaited else files).append(arg)
            awaited = False
            continue
        name, equals, value = arg.partition("=")
        own = name.removeprefix("--") in _OWN
        options.append(f"--imported.{name[2:]}{equals}{value}" if own else arg)
        awaited = not equals and name not in _ALONE
    return [*options, f"--imported.files={json.dumps(files)}"] if files else options
