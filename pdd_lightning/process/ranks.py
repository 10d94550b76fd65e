"""Which of several processes this one is, and where they meet. Imports no torch."""

import os
from collections.abc import Mapping
from typing import Final

from pdd_lightning.errors import ConfigError

SHARED_VARIABLE: Final = "PDD_SHARED"
"""Environment variable with the number of commands of a run that are at work at once."""


_NUMBERS: Final = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "JSM_NAMESPACE_RANK"),
    *("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID"),
)
"""Variables that launchers set, and that Lightning reads as numbers, some of them while it is imported."""


HIGHEST_PORT: Final = 65535
"""Of TCP."""


def check_numbers(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables of a launcher that are no numbers, before anything reads them.

    Args:
        environment: Of the process.

    Raises:
        ConfigError: Naming variable and value.
    """
    for name in _NUMBERS:
        value = environment.get(name, "0")
        if not (value.isascii() and value.isdigit()):
            raise ConfigError(
                f"{name}={value}: this environment variable must be a whole number of at least 0, as a launcher sets "
                f"it; correct it, or take it away by `unset {name}`"
            )


def meeting_port(environment: Mapping[str, str] = os.environ) -> int | None:
    """Where the processes meet, if the environment says so.

    Only those who need it ask: a service that is called "master" has another variable of this name in Kubernetes.

    Args:
        environment: Of the process.

    Raises:
        ConfigError: If it is no port.
    """
    value = environment.get("MASTER_PORT")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= HIGHEST_PORT):
        raise ConfigError(
            f"MASTER_PORT={value}: this environment variable must be a port, a number from 1 to {HIGHEST_PORT}; give "
            "all processes the same one, or none to those of a single machine"
        )
    return int(value)


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
