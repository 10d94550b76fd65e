"""A whole run: one `fit` process for each stage, then the evaluation.

Each stage is a process of its own, for distributed strategies re-run the whole command in every child, where a loop
over stages would repeat earlier work. This process imports no torch: it waits, and holds no memory meanwhile.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(args: Sequence[str]) -> int:
    """Do all stages and the evaluation; continue if some are done.

    Args:
        args: The options of `pdd-cli fit`.

    Returns:
        Exit status: 0, or that of the first command that failed.
    """
    if any(arg == "--stage" or arg.startswith("--stage=") for arg in args):
        print("pdd-cli: error: --stage belongs to `pdd-cli fit`; `run` does every stage", file=sys.stderr)
        return 2
    if any(arg in ("--help", "-h", "--print_config") or arg.startswith("--print_config=") for arg in args):
        return _call("fit", args).returncode
    code, status = _fit(args)
    while code == 0 and status["completed"] < status["stages"]:
        before = status["completed"]
        code, status = _fit(args)
        if code == 0 and status["completed"] == before:
            # Stopped early on purpose, by max_steps or max_time.
            return 0
    if code == 0 and "one-stage" in status["baselines"]:
        code, _ = _fit([*args, *_one_stage(status)])
    return code or _call("evaluate", args).returncode


def _one_stage(status: dict[str, Any]) -> list[str]:
    """The same images and the same number of iterations in a single stage, beside the run."""
    return [
        f"--run_dir={Path(status['run_dir']) / 'one_stage'}",
        f"--experts_dir={status['experts_dir']}",
        "--model.stages=1",
        f"--model.ipc={status['images_per_class']}",
        f"--model.iterations={status['iterations']}",
    ]


def _fit(args: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Fit one stage; returns the exit status and what the stage says of the run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "status.json"
        code = _call("fit", args, PDD_STATUS_FILE=str(path)).returncode
        return (code, json.loads(path.read_bytes())) if code == 0 else (code, {})


def _call(command: str, args: Sequence[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "pdd_lightning", command, *args]
    return subprocess.run(line, env={**os.environ, **environment}, check=False)
