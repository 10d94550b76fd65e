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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

`pdd-cli COMMAND --help` describes a command. Any option of the file can be given on the command line too, for
example --model.ipc 5 or --model.network ConvNet --model.network.width 64.
"""

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

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C, as shells report it."""

GRACE = 2.0
"""Seconds in which a child that got the terminal's Ctrl-C itself may begin to end."""


def main(args: Sequence[str]) -> int:
    """Do all stages and the evaluation; continue if some are done.

    Args:
        args: The options of `pdd-cli fit`.

    Returns:
        Exit status: 0, or that of the first command that failed.
    """
    if any(arg in ("--help", "-h") for arg in args) or not args:
        print(USAGE, end="")
        return 0
    if any(arg == "--stage" or arg.startswith("--stage=") for arg in args):
        print(
            "pdd-cli: error: --stage belongs to `pdd-cli fit`; leave it out, for `run` does every stage",
            file=sys.stderr,
        )
        return 2
    if any(arg.partition("=")[0] == "--print_config" for arg in args):
        return _call("fit", args)
    code, status = _fit(args)
    while code == 0 and status["completed"] < status["stages"]:
        before = status["completed"]
        code, status = _fit(args)
        if code == 0 and status["completed"] == before:
            # Stopped early on purpose, by max_steps or max_time.
            return 0
    if code == 0 and "one-stage" in status["baselines"]:
        code, one_stage = _fit([*args, *_one_stage(status)])
        if code == 0 and not one_stage["completed"]:
            return 0
    return code or _call("evaluate", args)


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


def _fit(args: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Fit one stage; returns the exit status and what the stage says of the run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "status.json"
        # A stage named in the file is for `fit`; a whole run takes each in turn.
        code = _call("fit", [*args, "--stage=null"], PDD_STATUS_FILE=str(path))
        return (code, json.loads(path.read_bytes())) if code == 0 else (code, {})


def _call(command: str, args: Sequence[str], **environment: str) -> int:
    """Run one command in a process of its own; returns its exit status."""
    line = [sys.executable, "-m", "pdd_lightning", command, *args]
    child = subprocess.Popen(line, env={**os.environ, **environment})
    try:
        code = child.wait()
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to both processes; `kill` sends it to this one alone. subprocess.run would kill the
        # child at once, while it is closing its files.
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
            child.wait()
        return INTERRUPTED
    # A child that a signal ended has a negative code, which no shell would show as it is.
    return code if code >= 0 else 128 - code
