"""`pdd-cli plan`: two processes that measure, one the stages and one the evaluation, which prints the plan.

The process that was asked only starts them, and imports no torch.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pdd_lightning.cli import children

PROBE_VARIABLE: Final = "PDD_PROBE_FILE"
"""Environment variable naming the file by which the two processes of a plan hand on what they measured."""


def main(args: Sequence[str]) -> int:
    """Plan a run.

    Args:
        args: The options of `pdd-cli fit`.

    Returns:
        Exit status: 0, or that of the process that failed.
    """
    if PROBE_VARIABLE in os.environ:
        from pdd_lightning.cli.measure import measure  # noqa: PLC0415 (needs torch, which the waiting process does not)

        measure(args, Path(os.environ[PROBE_VARIABLE]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.json"
        # A stage named in the file is for `fit`; a plan is of all.
        line, probe = [*args, "--stage=null"], {PROBE_VARIABLE: str(path)}
        code = children.call("plan", line, **probe)
        # Asked for help or for the configuration, the first process measures nothing.
        return children.call("plan", line, **probe) if code == 0 and path.is_file() else code
