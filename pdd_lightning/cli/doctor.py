"""`pdd-cli doctor`: what is installed and what there is to compute with, and what would limit a run."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil
import torch

from pdd_lightning import __version__
from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.compute.memory import free_memory
from pdd_lightning.process.workers import cores
from pdd_lightning.progress import size
from pdd_lightning.stage.options import StageOptions

FEW_CORES: Final = 4
LITTLE_MEMORY: Final = 4 * 2**30
LITTLE_DISK: Final = 5 * 2**30

_CPU: Final = torch.device("cpu")


def main(args: Sequence[str]) -> int:
    """Print what there is, then a line for each thing that would limit a run.

    Args:
        args: Options; see ``pdd-cli doctor --help``.

    Returns:
        Exit status 0, whatever is found.

    Raises:
        ConfigError: If an option is wrong.

    Example:
        >>> main(["--run_dir", "checkpoints/mine"])
        pdd_lightning ...
        python ...
        torch ...
        0
    """
    options = parser().parse_args(args)
    run = Path(from_home(options.run_dir, "--run_dir"))
    found, limits = _found(run), _limits(run)
    width = max(map(len, found)) + 2
    for name, value in found.items():
        print(f"{name:{width}}{value}")
    for limit in limits:
        print(f"limit: {limit}")
    if not limits:
        print("nothing here limits a run")
    return 0


def parser() -> PlainParser:
    """Its options."""
    made = PlainParser("doctor")
    made.add_argument("--run_dir", default=StageOptions.run_dir, metavar="DIR", help="Where runs are to be written.")
    return made


def compiler() -> str | None:
    """The C++ compiler that PyTorch would call, if there is one."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def _found(run: Path) -> dict[str, str]:
    """What there is, by its name."""
    total = psutil.virtual_memory().total
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "pdd_lightning": f"{__version__} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
        "torch": str(torch.__version__),
        **{name: version(name) for name in ("torchvision", "lightning")},
        "cpu": f"{cores()} cores, {torch.get_num_threads()} threads, {capability}",
        "memory": f"{size(free_memory(_CPU))} free of {size(total)}",
        "gpu": ", ".join(_gpus()) or "none",
        "disk": f"{size(shutil.disk_usage(_existing(run)).free)} free for {run}{_refusal(run)}",
        "compiler": compiler() or "none",
        "compiled code": f"{_compiled()}{_refusal(_compiled())}",
    }


def _limits(run: Path) -> list[str]:
    """What would limit a run, each with what to do."""
    found = []
    if not torch.cuda.is_available():
        found.append(
            "no CUDA GPU: the published settings take days; `pdd-cli plan --config FILE` says how long yours take"
        )
    if cores() < FEW_CORES:
        found.append(f"{cores()} CPU cores: experts and networks are trained by so few processes at once")
    if compiler() is None:
        found.append("no C++ compiler: long trainings and walks are slower; install g++, or name one by CXX")
    if _refusal(_compiled()):
        found.append(f"{_compiled()} cannot be written: compiled code has no place; set TORCHINDUCTOR_CACHE_DIR")
    if free_memory(_CPU) < LITTLE_MEMORY:
        found.append(
            "little memory: a process takes about 1 GiB before its data; end others, or give fewer networks_at_once"
        )
    if _refusal(run):
        found.append(f"{run} cannot be written: name another folder with --run_dir")
    elif shutil.disk_usage(_existing(run)).free < LITTLE_DISK:
        found.append(f"little disk for {run}: experts take most; dynamics.storage bfloat16 halves them")
    return found


def _gpus() -> list[str]:
    """Name and memory of each."""
    if not torch.cuda.is_available():
        return ["mps (not tested)"] if torch.backends.mps.is_available() else []
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{each.name}, {size(each.total_memory)}" for each in properties]


def _compiled() -> Path:
    """Where PyTorch keeps compiled code: unless told otherwise, in a folder for temporary files."""
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir())


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _refusal(path: Path) -> str:
    """What to say of a folder that cannot be written or made; else nothing."""
    existing = _existing(path)
    return "" if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK) else ", which cannot be written"
