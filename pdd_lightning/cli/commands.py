"""The commands of `pdd-cli`. A new one is a file with a `main` and a row here.

Imports no torch: `run` waits without it, and the overview is printed at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from pdd_lightning import __version__


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        module: Where its `main` is, which takes the arguments after the command's name and returns the exit status.
        help: What it does, in a line.
        configured: Whether it works with a configuration, so that it has the options of all such commands.
        section: That of the options which are its own, among those of all.
        words: What it takes beside options; the options of its section then go without the section's name too.
    """

    module: str
    help: str
    configured: bool = False
    section: str = ""
    words: str = ""

    def load(self) -> Callable[[Sequence[str]], int]:
        """Its `main`; only now is imported what the command needs."""
        main: Callable[[Sequence[str]], int] = import_module(self.module).main
        return main


COMMANDS: Final[Mapping[str, Command]] = {
    "init": Command(
        "pdd_lightning.cli.init",
        "Write a configuration that fits some data: pdd-cli init DIR --data folder --root PATH",
    ),
    "run": Command(
        "pdd_lightning.cli.run",
        "Do everything: every stage in turn, then the evaluation. Run it again to continue.",
        configured=True,
    ),
    "fit": Command(
        "pdd_lightning.cli.fit",
        "Distil the next unfinished stage, or the one given by --stage. Run it again to continue.",
        configured=True,
    ),
    "evaluate": Command(
        "pdd_lightning.cli.evaluate",
        "Train fresh networks on the finished run and report their test accuracy.",
        configured=True,
    ),
    "select": Command(
        "pdd_lightning.cli.select",
        "Choose real images in place of distilled ones: --select.method Herding --select.ipc 10.",
        configured=True,
        section="select",
    ),
    "import": Command(
        "pdd_lightning.cli.import",
        "Make others' images a finished run: pdd-cli import IMAGES LABELS --config FILE --run_dir RUN.",
        configured=True,
        section="imported",
        words="FILE ...",
    ),
    "plan": Command(
        "pdd_lightning.cli.plan",
        "Say what a run will take, before it starts: time, memory and disk, from a short measurement.",
        configured=True,
        section="plan",
    ),
    "tune": Command(
        "pdd_lightning.cli.tune",
        "Try a few rates of the images on a short first stage: pdd-cli tune --config FILE",
    ),
    "compare": Command(
        "pdd_lightning.cli.compare",
        "One table of several evaluated runs: pdd-cli compare RUN_DIR RUN_DIR ...",
    ),
    "reproduce": Command(
        "pdd_lightning.cli.reproduce",
        "One of the paper's experiments, from its runs to its table: pdd-cli reproduce table1 --scale digits.",
    ),
    "export": Command(
        "pdd_lightning.cli.export",
        "Write a distilled set for others: pdd-cli export RUN --format huggingface --output PATH.",
    ),
    "show": Command(
        "pdd_lightning.cli.show",
        "Draw the images of a run as a picture: pdd-cli show RUN --stage 2 --classes 3,cat.",
    ),
    "diagnose": Command(
        "pdd_lightning.cli.diagnose",
        "Say whether a run's networks overshoot, still rise or suit its bank alone: pdd-cli diagnose RUN.",
    ),
    "doctor": Command(
        "pdd_lightning.cli.doctor",
        "Say what is installed, what there is to compute with, and what would limit a run.",
    ),
    "completion": Command(
        "pdd_lightning.cli.completion",
        "Print a script by which a shell completes options: pdd-cli completion bash",
    ),
}
"""In the order of the overview."""


OVERVIEW: Final = """\
usage: pdd-cli COMMAND --config FILE [--OPTION VALUE ...]

Progressive dataset distillation.

commands:
{commands}

Exit status: 0 done, 2 a mistake that the last line names, 75 stopped by a signal and saved: run it again to continue.
`pdd-cli COMMAND --help` describes a command, `pdd-cli fit --help PART` options in full, as of `model` or `ConvNet`;
`pdd-cli --version` names the release. Any option of the file can be given on the command line too, for example
--model.ipc 5 or --model.network ConvNet --model.network.width 64.
"""


def about(args: Sequence[str]) -> str | None:
    """What to print where no command is given, or None.

    Args:
        args: The arguments of the process.
    """
    if not args or args[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS)) + 2
        return OVERVIEW.format(commands="\n".join(f"  {name:{width}} {row.help}" for name, row in COMMANDS.items()))
    return f"pdd-cli {__version__}\n" if args[0] == "--version" else None
