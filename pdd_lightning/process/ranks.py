"""Which of several processes this one is."""

import os
from collections.abc import Mapping


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first of those that share a run, or alone: it speaks and locks for all."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(environment.get(name, "0") == "0" for name in names)


def started_by_lightning(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started by the first one of the run, for another device."""
    others = any(name in environment for name in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID"))
    return environment.get("LOCAL_RANK", "0") != "0" and not others
