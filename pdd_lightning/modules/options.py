"""Checks of a stage's options, and what follows from them."""

from pdd_lightning.dynamics import Dynamics
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import Objective


def per_stage(ipc: int | list[int], stages: int) -> list[int]:
    """Images per class of each stage.

    Raises:
        ConfigError: If the numbers are not positive, or not one for each stage.
    """
    if stages < 1:
        raise ConfigError(f"model.stages must be at least 1, got {stages}")
    values = [ipc] * stages if isinstance(ipc, int) else list(ipc)
    if len(values) != stages:
        raise ConfigError(f"model.ipc={values} lists {len(values)} stages, model.stages={stages}: make them agree")
    if any(value < 1 for value in values):
        raise ConfigError(f"model.ipc must be at least 1 in every stage, got {ipc}")
    return values


def at_least_one(**options: int) -> None:
    """Refuse counts below 1.

    Raises:
        ConfigError: Naming the option.
    """
    for name, value in options.items():
        if value < 1:
            raise ConfigError(f"model.{name} must be at least 1, got {value}")


def positive(**options: float) -> None:
    """Refuse rates that are not positive and finite.

    Raises:
        ConfigError: Naming the option.
    """
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise ConfigError(f"model.{name} must be positive and finite, got {value}")


def require_target(objective: Objective, dynamics: Dynamics) -> None:
    """Refuse an objective that compares with a target at a dynamics without one.

    Raises:
        ConfigError: Naming both.
    """
    if objective.needs_target and not dynamics.has_target:
        raise ConfigError(
            f"model.objective={type(objective).__name__} compares with a target, which "
            f"model.dynamics={type(dynamics).__name__} does not have: use ExpertTrajectories"
        )
