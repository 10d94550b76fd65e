"""What our commands need of Lightning's trainer beyond its options: signals, child processes, data read once."""

import inspect
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers.launcher import _Launcher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from torch.nn.parallel import DistributedDataParallel

from pdd_lightning.errors import ConfigError
from pdd_lightning.process.meeting import meeting
from pdd_lightning.process.ranks import meeting_port, started_by_lightning

_PATIENCE: Final = 60.0
"""Seconds that the processes of the other devices may take to end after the first one."""


_launchers: list[_Launcher] = []
"""Of all trainers. Not the trainers: they hold on to their modules, and to memory of a GPU."""


class _NoSignals(_SignalConnector):
    """Leaves signals to `pdd_lightning.process.signals`.

    Lightning's own handlers wait for the other processes inside the handler, and on SLURM save where a later stage
    would take the file for its own.
    """

    def register_signal_handlers(self) -> None:
        """Register none."""
        self.received_sigterm = False


def adopt(trainer: Trainer, wait_minutes: float) -> Trainer:
    """Make a trainer behave as part of a command; returns it.

    Args:
        trainer: Any.
        wait_minutes: How long its process may wait for the others to come.
    """
    trainer._signal_connector = _NoSignals(trainer)
    if isinstance(trainer.strategy, DDPStrategy):
        # Every process updates its buffers alike, or on purpose not: nothing is to be copied over them.
        newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # since torch 2.14
        trainer.strategy._ddp_kwargs.setdefault("forward_sync_buffers" if newer else "broadcast_buffers", False)
        _watch_meeting(trainer.strategy, trainer.world_size - 1, wait_minutes)
    if trainer.strategy.launcher is not None:
        _launchers.append(trainer.strategy.launcher)
    return trainer


def _watch_meeting(strategy: DDPStrategy, others: int, minutes: float) -> None:
    """Let a strategy wait for its other processes under :func:`pdd_lightning.process.meeting.meeting`."""
    set_up, cluster = strategy.setup_environment, strategy.cluster_environment
    # PyTorch's own limit comes later, and would be a traceback.
    strategy._timeout = max(strategy._timeout or timedelta(), timedelta(minutes=minutes + 1))

    def meet() -> None:
        if not others or cluster is None or torch.distributed.is_initialized():
            set_up()
            return
        with meeting(others, f"{cluster.main_address}:{cluster.main_port}", minutes):
            set_up()

    strategy.setup_environment = meet  # type: ignore[method-assign]


def require_meeting_point(trainer: Trainer) -> None:
    """Refuse to wait for other processes that could not find this one.

    Raises:
        ConfigError: If there are several machines, and neither a launcher nor the environment brings them together; or
            if the environment names no port where several processes look for one.
    """
    strategy = trainer.strategy
    if isinstance(strategy, ParallelStrategy) and trainer.world_size > 1:
        meeting_port()
    alone = isinstance(strategy, ParallelStrategy) and isinstance(strategy.cluster_environment, LightningEnvironment)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if alone and trainer.num_nodes > 1 and missing:
        raise ConfigError(
            f"--trainer.num_nodes={trainer.num_nodes}: {', '.join(missing)} not set, so the machines cannot find each "
            "other. Start the command on each of them by torchrun or by srun of SLURM, or with these "
            "and NODE_RANK set"
        )


def join_children() -> None:
    """Wait for the processes that Lightning started for the other devices."""
    for launcher in _launchers:
        children: list[subprocess.Popen[bytes]] = getattr(launcher, "procs", [])
        for child in children:
            try:
                child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
    _launchers.clear()


def load_data(trainer: Trainer, data: LightningDataModule, stage: str) -> None:
    """Fetch and decode the data in one process of each machine, and read them in the others afterwards.

    Args:
        trainer: Knows the processes.
        data: The data module.
        stage: For its `setup`.
    """
    strategy = trainer.strategy
    together = isinstance(strategy, ParallelStrategy) and not isinstance(
        strategy.cluster_environment, LightningEnvironment
    )
    if not together:
        # Lightning starts the other processes later, when everything is there.
        if not started_by_lightning():
            data.prepare_data()
        data.setup(stage)
        return
    strategy.setup_environment()
    first = trainer.local_rank == 0
    if first:
        data.prepare_data()
        data.setup(stage)
    strategy.barrier("data")
    if not first:
        data.setup(stage)


@contextmanager
def first_process_first(strategy: Strategy) -> Iterator[None]:
    """Let the first process do something whose result is stored, and the others find it there.

    Args:
        strategy: Knows the processes; they must all come here.
    """
    if not strategy.is_global_zero:
        strategy.barrier("first")
    yield
    if strategy.is_global_zero:
        strategy.barrier("first")
