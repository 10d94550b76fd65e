"""What SLURM started: the tasks of `srun`, or a process by itself in the middle of an allocation. Imports no torch."""

import os
from collections.abc import MutableMapping
from typing import Final

from pdd_lightning.errors import ConfigError

_TASK: Final = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Variables of a task. Those of the job stay, by which it is put back into the queue."""


def settle(world: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Take this process for a task of `srun` where it is one, and else for a process by itself.

    Lightning takes everything in an allocation for a task, other than a job that is called bash or interactive, and
    would wait for tasks that nobody starts. For a process by itself the variables of a task are taken away: then it
    starts those of the other devices itself.

    Args:
        world: Number of processes that the trainer's options ask for.
        environment: SLURM's variables; changed.

    Raises:
        ConfigError: If there are tasks that would not work together.
    """
    if "TORCHELASTIC_RUN_ID" in environment or not any(name in environment for name in _TASK):
        return
    job, rank = environment.get("SLURM_JOB_NAME", ""), environment.get("SLURM_PROCID")
    # A script of sbatch is task 0 too, but of no step.
    by_srun = "SLURM_STEP_NUM_TASKS" in environment or rank not in (None, "0")
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1"))
    interactive = job in ("bash", "interactive")
    if by_srun and tasks != "1" and interactive:
        raise ConfigError(
            f"SLURM_JOB_NAME={job}: the {tasks} tasks of a job of this name would not find each other; give it "
            "another name by srun --job-name=NAME, or leave srun out"
        )
    if by_srun and tasks not in ("1", str(world)):
        raise ConfigError(
            f"--trainer.devices: srun started {tasks} tasks, and the options ask for {world}; give srun "
            f"--ntasks={world}, or --trainer.devices and --trainer.num_nodes for {tasks} processes and "
            "--trainer.strategy ddp"
        )
    together = rank is not None and world > 1 and tasks == str(world)
    if interactive or not together:
        for name in _TASK:
            environment.pop(name, None)
