"""A whole run: one `fit` process for each stage, then the evaluation.

Each stage is a process of its own, for distributed strategies re-run the whole command in every child, where a loop
over stages would repeat earlier work. This process imports no torch: it waits, and holds no memory meanwhile.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pdd_lightning import __version__
from pdd_lightning.process.lock import VARIABLE, BusyError, RunLock
from pdd_lightning.process.ranks import is_first
from pdd_lightning.process.signals import PARENT_VARIABLE, RESUME, Interrupted, deferred

OVERVIEW = """\
usage: pdd-cli COMMAND --config FILE [--OPTION VALUE ...]

Progressive dataset distillation.

commands:
  run        Do everything: every stage in turn, then the evaluation. Run it again to continue.
  fit        Distil the next unfinished stage, or the one given by --stage. Run it again to continue.
  evaluate   Train fresh networks on the finished run and report their test accuracy.
  select     Choose real images in place of distilled ones: --select.method Herding --select.ipc 10.
  plan       Say what a run will take, before it starts: time, memory and disk, from a short measurement.
  compare    One table of several evaluated runs: pdd-cli compare RUN_DIR RUN_DIR ...

Exit status: 0 done, 2 a mistake that the last line names, 75 stopped by a signal and saved: run it again to continue.
`pdd-cli COMMAND --help` describes a command, `pdd-cli --version` names the release. Any option of the file can be given
on the command line too, for example --model.ipc 5 or --model.network ConvNet --model.network.width 64.
"""


VERSION = f"pdd-cli {__version__}\n"


USAGE = """\
usage: pdd-cli run --config FILE [--OPTION VALUE ...]

Do a whole run: `pdd-cli fit` for every stage that is not complete, then `pdd-cli evaluate`. Interrupted, it continues
when it is run again; finished, it only shows the results.

options:
  --config FILE     A configuration; see configs/. Given several times, later files override earlier ones.
  --run_dir DIR     Folder of the run.
  --print_config    Show the whole configuration and stop.
  --OPTION VALUE    Every option of `pdd-cli fit` except --stage; `pdd-cli fit --help` describes them.
"""


PROBE_VARIABLE = "PDD_PROBE_FILE"
"""Environment variable naming the file by which the two processes of a plan hand on what they measured."""


REPEAT = 30.0
"""Seconds after which a child that was asked to stop and did not is asked again."""


def about(args: Sequence[str]) -> str | None:
    """What to print where no command is given, or None."""
    if not args or args[0] in ("-h", "--help"):
        return OVERVIEW
    return VERSION if args[0] == "--version" else None


def main(args: Sequence[str]) -> int:
    """Do all stages and the evaluation; continue if some are done.

    Args:
        args: The options of `pdd-cli fit`.

    Returns:
        Exit status: 0, or that of the first command that failed.
    """
    if any(arg in ("--help", "-h") for arg in args):
        print(USAGE, end="")
        return 0
    if not args:
        print("pdd-cli: error: run needs a configuration: pdd-cli run --config FILE", file=sys.stderr)
        return 2
    if any(arg == "--stage" or arg.startswith("--stage=") for arg in args):
        print(
            "pdd-cli: error: --stage belongs to `pdd-cli fit`; leave it out, for `run` does every stage",
            file=sys.stderr,
        )
        return 2
    if any(arg.partition("=")[0] == "--print_config" for arg in args):
        return _call("fit", args)
    try:
        return _whole(args)
    except BusyError as error:
        print(f"pdd-cli: error: {error}", file=sys.stderr)
        return 2


def _whole(args: Sequence[str]) -> int:
    """Every stage and the evaluation; returns the exit status."""
    code, status = _fit(args)
    if code:
        return code
    # The first stage held the folder itself, for only its process knew which folder it is.
    if not is_first():
        return _rest(args, status, {})
    with RunLock(Path(status["run_dir"])) as lock:
        return _rest(args, status, lock.hand_over())


def _rest(args: Sequence[str], status: dict[str, Any], lock: Mapping[str, str]) -> int:
    """What follows the first stage; returns the exit status."""
    code = 0
    while code == 0 and status["completed"] < status["stages"]:
        before = status["completed"]
        code, status = _fit(args, lock)
        if code == 0 and status["completed"] == before:
            # Stopped early on purpose, by max_steps or max_time.
            return 0
    if code == 0 and "one-stage" in status["baselines"]:
        code, one_stage = _fit([*args, *_one_stage(status)], lock)
        if code == 0 and not one_stage["completed"]:
            return 0
    return code or _call("evaluate", args, **lock)


def plan(args: Sequence[str]) -> int:
    """Measure stages in one process and the evaluation in another, which prints the plan of the run.

    Args:
        args: The options of `pdd-cli fit`.

    Returns:
        Exit status: 0, or that of the process that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.json"
        # A stage named in the file is for `fit`; a plan is of all.
        line, probe = [*args, "--stage=null"], {PROBE_VARIABLE: str(path)}
        code = _call("plan", line, **probe)
        # Asked for help or for the configuration, the first process measures nothing.
        return _call("plan", line, **probe) if code == 0 and path.is_file() else code


def _one_stage(status: dict[str, Any]) -> list[str]:
    """The same images and the same number of iterations in a single stage, beside the run."""
    return [
        f"--run_dir={Path(status['run_dir']) / 'one_stage'}",
        f"--experts_dir={status['experts_dir']}",
        "--model.stages=1",
        f"--model.ipc={status['images_per_class']}",
        f"--model.iterations={status['iterations']}",
        "--model.discard=null",  # one stage is to learn from all real images
    ]


def _fit(args: Sequence[str], lock: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Fit one stage; returns the exit status and what the stage says of the run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "status.json"
        # A stage named in the file is for `fit`; a whole run takes each in turn.
        code = _call("fit", [*args, "--stage=null"], PDD_STATUS_FILE=str(path), **(lock or {}))
        return (code, json.loads(path.read_bytes())) if code == 0 else (code, {})


def _call(command: str, args: Sequence[str], **environment: str) -> int:
    """Run one command in a process of its own; returns its exit status."""
    line = [sys.executable, "-m", "pdd_lightning", command, *args]
    inherited = [int(environment[VARIABLE].split()[0])] if VARIABLE in environment else []
    names = {**os.environ, **_rendezvous(), **environment, PARENT_VARIABLE: str(os.getpid())}
    child = subprocess.Popen(line, env=names, pass_fds=inherited)
    try:
        code = child.wait()
    except Interrupted as stop:
        return _stop(child, signal.Signals[stop.name])
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    hint = {"SIGKILL": " (too little memory?)", "SIGBUS": " (a file or its disk vanished while it was read)"}
    print(
        f"pdd-cli: `{command}` was ended by {name}{hint.get(name, '')}; run the same command again to continue",
        file=sys.stderr,
    )
    return 128 - code  # a child that a signal ended has a negative code, which no shell would show as it is


def _stop(child: "subprocess.Popen[bytes]", number: signal.Signals) -> int:
    """Hand a signal on and wait until the child has saved; returns the exit status."""
    with deferred():
        while child.poll() is None:
            child.send_signal(number)
            try:
                child.wait(REPEAT)
            except subprocess.TimeoutExpired:
                continue
    # A command that the signal came too late for is done, and so may be the run: running it again says so.
    return child.returncode if child.returncode not in (0, -number) else RESUME


_calls = 0


def _rendezvous() -> dict[str, str]:
    """A port of its own for each command, where torchrun or SLURM started one `run` for each rank.

    Each rank calls the same commands in the same order. On one port a rank that is ahead would meet the last command's
    store, whose first rank has not ended yet.
    """
    global _calls  # noqa: PLW0603 (a process has one sequence of commands)
    _calls += 1
    elastic, tasks = "TORCHELASTIC_RUN_ID" in os.environ, os.environ.get("SLURM_NTASKS", "1")
    if not elastic and tasks == "1":
        return {}
    # As Lightning does it for SLURM.
    default = 15000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])
    port = int(os.environ.get("MASTER_PORT", default)) + _calls
    # The agent's store serves the agent's own port only, so the first rank opens one here.
    return {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
