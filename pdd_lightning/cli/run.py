"""`pdd-cli run`: one `fit` process for each stage, then the evaluation.

Each stage is a process of its own, for distributed strategies re-run the whole command in every child, where a loop
over stages would repeat earlier work. Where there are cores for both, the first baseline of one stage is fitted while
the stages after the first are.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pdd_lightning.cli import children
from pdd_lightning.errors import ConfigError
from pdd_lightning.process.lock import RunLock
from pdd_lightning.process.ranks import SHARED_VARIABLE, is_first

STATUS_VARIABLE: Final = "PDD_STATUS_FILE"
"""Environment variable naming the file in which `fit` tells `run` how far the run is."""


def main(args: Sequence[str]) -> int:
    """Do all stages and the evaluation; continue if some are done.

    Args:
        args: The options of `pdd-cli fit`.

    Returns:
        Exit status: 0, or that of the first command that failed.

    Raises:
        ConfigError: If there is no configuration, or a stage is named.
        BusyError: If another process works in the run's folder.

    Example:
        >>> main(["--config", "configs/smoke/stage.yaml", "--stage=2"])
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: --stage belongs to `pdd-cli fit`; leave it out, for `run` does every stage
    """
    if not args:
        raise ConfigError("run needs a configuration: pdd-cli run --config FILE; `pdd-cli init DIR` writes one")
    if any(arg == "--stage" or arg.startswith("--stage=") for arg in args):
        raise ConfigError("--stage belongs to `pdd-cli fit`; leave it out, for `run` does every stage")
    if any(arg.partition("=")[0] == "--print_config" for arg in args):
        return children.call("fit", args)
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
    baselines = [[*args, *more] for more in status["one_stage"]]
    # They take the experts of the first stage, which may have been stopped early.
    if baselines and status["beside"] and 0 < status["completed"] < status["stages"]:
        code, ended = _side_by_side(args, baselines.pop(0), status, lock)
    else:
        code, ended = _stages(args, status, lock)
    for baseline in baselines:
        if code or not ended:
            break
        code, fitted = _fit(baseline, lock)
        ended = code == 0 and fitted["completed"] > 0
    return children.call("evaluate", args, **lock) if code == 0 and ended else code


def _side_by_side(
    args: Sequence[str], baseline: Sequence[str], status: dict[str, Any], lock: Mapping[str, str]
) -> tuple[int, bool]:
    """As :func:`_stages`, with a baseline of one stage beside them."""
    environment = {SHARED_VARIABLE: "2", **lock}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "status.json"
        alone, fitting = [*baseline, "--stage=null"], {STATUS_VARIABLE: str(path), **environment}
        # Two bars would not share a terminal: this one says a line now and then.
        with children.beside("fit", alone, **fitting, TTY_INTERACTIVE="0") as child:
            code, ended = _stages(args, status, environment)
            if code or not ended:
                return code, ended
            code = children.result("fit", child)
        return code, code == 0 and json.loads(path.read_bytes())["completed"] > 0


def _stages(args: Sequence[str], status: dict[str, Any], environment: Mapping[str, str]) -> tuple[int, bool]:
    """The stages after the first; returns the exit status, and whether all are complete."""
    while status["completed"] < status["stages"]:
        before = status["completed"]
        code, status = _fit(args, environment)
        if code or status["completed"] == before:  # stopped early on purpose, by max_steps or max_time
            return code, False
    return 0, True


def _fit(args: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Fit one stage; returns the exit status and what the stage says of the run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "status.json"
        # A stage named in the file is for `fit`; a whole run takes each in turn.
        code = children.call("fit", [*args, "--stage=null"], **{STATUS_VARIABLE: str(path)}, **(environment or {}))
        return (code, json.loads(path.read_bytes())) if code == 0 else (code, {})
