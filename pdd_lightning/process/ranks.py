"""Which of several processes this one is."""

import os
from collections.abc import Mapping
from typing import Final

SHARED_VARIABLE: Final = "PDD_SHARED"
"""Environment variable with the number of commands of a run that are at work at once."""


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first of those that share a run, or alone: it speaks and locks for all."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(environment.get(name, "0") == "0" for name in names)


def started_by_lightning(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started by the first one of the run, for another device."""
    others = any(name in environment for name in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID"))
    return environment.get("LOCAL_RANK", "0") != "0" and not others


def sharing(environment: Mapping[str, str] = os.environ) -> int:
    """Commands of the run, this one included, that are at work at once."""
    found = environment.get(SHARED_VARIABLE, "1")
    return int(found) if found.isdigit() and int(found) > 0 else 1
