"""The options of a stage: typed, checked and described once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.described import Described
from pdd_lightning.dynamics import Dynamics
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import Architecture
from pdd_lightning.objectives import Objective
from pdd_lightning.selection.discard import EasyDiscard
from pdd_lightning.stage.keeping import Keep
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training import Augmentation, NoAugmentation, Recipe
from pdd_lightning.training.formation import Reduction
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import Json

Initial = Literal["real", "mixed", "noise"]
OptimizerName = Literal["sgd", "adam"]

_COUNTS = ("points", "factor", "networks_at_once")
_RATES = ("image_lr_decay", "learning_rate")

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class StageOptions(Described):
    """What a stage is made of.

    Args:
        network: The network whose training is matched.
        objective: What is compared.
        dynamics: At which model states.
        stages: Number of stages P.
        ipc: Images per class of every stage, or one number for each stage.
        iterations: Optimiser steps of every stage, or one number for each stage. The baseline one-stage
            takes as many as all stages together, one-stage-short as many as the longest of them.
        initial: How the images begin: as real ones, as Gaussian noise, or "mixed", which puts a reduced real image
            into every tile (IDC).
        reduction: How "mixed" reduces real images: "bilinear", with averages, or "nearest", by leaving out pixels
            (published).
        factor: Training images along each side of a stored one (multi-formation, IDC), which holds factor x factor of
            them. With 1, images are stored as they are trained on.
        clamp_pixels: Keep pixels within [0, 1] after every step (IDC).
        image_lr: Learning rate of the images, or one number for each stage. The baselines of one stage take the
            first, for they begin where stage 1 does.
        image_lr_decay_at: Fractions of the iterations after which `image_lr_decay` applies.
        image_lr_decay: Factor of `image_lr` at each point of `image_lr_decay_at`.
        learning_rate: Initial value of the learned learning rate alpha.
        learning_rate_lr: Learning rate of alpha; 0 keeps alpha as it is.
        optimizer: What moves the images: SGD with momentum 0.5 as published for trajectory matching, or Adam, which
            needs far fewer iterations where the scale of the gradients changes from stage to stage.
        points: Match points averaged in every step.
        networks_at_once: Networks that are trained at once: experts, members of a transition and, on a CPU, those of
            the evaluation. Null takes four on a GPU, where their steps are recorded side by side, and on a CPU as many
            processes as there are cores for, each with as many threads as the run has; the number changes no digit.
        compile_networks: Let PyTorch compile the steps of experts, transition and evaluation, of networks that are made
            of PyTorch's and this package's modules, where they are so many that it pays, for it takes about 20 seconds
            for each size of a minibatch. Numbers change as rounding does. Null does so on a CPU alone.
        augmentation: The method's augmentation, used wherever networks train on the images.
        recipe: How networks are trained on the cumulative union, in the transition and at evaluation.
        conditioning: Match with the earlier subsets beside the one that is learned. False is the paper's ablation.
        transition: Begin where training on the earlier subsets ended. False, the paper's ablation, begins every stage
            at fresh networks.
        discard: Which real examples each stage gets, by how often training forgets them; null gives it all.
        witnesses: Fresh networks that train on the unions, beside the bank, and are never matched. By their held-out
            accuracy a stage says whether its images serve networks that it has not seen; each costs what a member of
            the transition costs. 0 trains none.
        watch_every: Steps between two scorings of the images on fresh networks; 0 scores none. The `witnesses` are
            trained on the union as it stands, on from where those of the stage before ended, and their held-out
            accuracy goes to the logs. Each time, each of them costs what a member of the transition costs. The last
            step is scored too.
        keep: Images and alpha that a stage ends with: of the last step, of the "best" one by held-out accuracy among
            those that `watch_every` scores, or the "average" over the last fifth of the steps.
        seed: Of everything random in the run.
        run_dir: The run's folder.
        stage: Number of the stage; null takes the first that is not complete.
        experts_dir: Folder of the expert trajectories; null keeps them in the run. Several runs may share one.

    Raises:
        ConfigError: If options are out of range or do not fit each other.

    Example:
        >>> from pdd_lightning.dynamics import StartStates
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.objectives import MeanEmbedding
        >>> options = StageOptions(ConvNet(), MeanEmbedding(), StartStates(), stages=3, ipc=[1, 2, 2], image_lr=1.0)
        >>> options.per_stage, options.total_asked
        ([1, 2, 2], 'model.ipc=[1, 2, 2], 5 in all')
    """

    # How many stages follow changes none of those before; the rest says where and how fast.
    unrecorded = (
        *("stages", "networks_at_once", "compile_networks", "witnesses", "watch_every"),
        *("run_dir", "stage", "experts_dir"),
    )

    network: Architecture
    objective: Objective
    dynamics: Dynamics
    stages: int = 5
    ipc: int | list[int] = 10
    iterations: int | list[int] = 5000
    initial: Initial = "real"
    reduction: Reduction = "bilinear"
    factor: int = 1
    clamp_pixels: bool = False
    image_lr: float | list[float] = 1000.0
    image_lr_decay_at: tuple[float, ...] = ()
    image_lr_decay: float = 0.5
    learning_rate: float = 0.01
    learning_rate_lr: float = 1e-5
    optimizer: OptimizerName = "sgd"
    points: int = 1
    networks_at_once: int | None = None
    compile_networks: bool | None = None
    augmentation: Augmentation = NoAugmentation()  # noqa: RUF009 (immutable)
    recipe: Recipe = Recipe()  # noqa: RUF009 (immutable)
    conditioning: bool = True
    transition: bool = True
    discard: EasyDiscard | None = None
    witnesses: int = 3
    watch_every: int = 0
    keep: Keep = "last"
    seed: int = 0
    run_dir: str = "checkpoints/run"
    stage: int | None = None
    experts_dir: str | None = None

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ConfigError(f"model.stages must be at least 1, got {self.stages}")
        _ = self.per_stage, self.steps_per_stage, self.rates_per_stage  # which check themselves
        for name in _COUNTS:
            if (count := getattr(self, name)) is not None and count < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {count}")
        for name in _RATES:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"model.{name} must be positive and finite, got {getattr(self, name)}")
        if self.witnesses < 0:
            raise ConfigError(f"model.witnesses must be at least 0, got {self.witnesses}")
        self._check_watch()
        if any(not 0 < point < 1 for point in self.image_lr_decay_at):
            points = list(self.image_lr_decay_at)
            raise ConfigError(f"model.image_lr_decay_at holds fractions of the iterations in (0, 1), got {points}")
        if not 0 <= self.learning_rate_lr < float("inf"):
            raise ConfigError(f"model.learning_rate_lr must be at least 0 and finite, got {self.learning_rate_lr}")
        if not self.run_dir.strip():
            raise ConfigError(f"--run_dir={self.run_dir!r}: name a folder, such as checkpoints/mine")
        if self.stage is not None and not 1 <= self.stage <= self.stages:
            raise ConfigError(f"--stage={self.stage}: this run has stages 1 to {self.stages} (model.stages)")
        if self.objective.needs_target and not self.dynamics.has_target:
            raise ConfigError(
                f"model.objective={type(self.objective).__name__} compares with a target, which "
                f"model.dynamics={type(self.dynamics).__name__} does not have: use ExpertTrajectories"
            )
        if self.discard is not None:
            self.discard.check(self.stages)

    def _check_watch(self) -> None:
        if self.watch_every < 0:
            raise ConfigError(f"model.watch_every must be at least 0, got {self.watch_every}")
        if self.watch_every and not self.witnesses:
            raise ConfigError(
                f"model.watch_every={self.watch_every} trains as many fresh networks as model.witnesses, which is 0: "
                "set model.witnesses to 1 or more, or model.watch_every to 0"
            )
        if self.keep not in get_args(Keep):
            raise ConfigError(f"model.keep={self.keep}: choose {', '.join(get_args(Keep))}")
        if self.keep == "best" and not self.watch_every:
            raise ConfigError(
                "model.keep=best chooses among the states that model.watch_every scores, which is 0: set "
                "model.watch_every, such as 100, or model.keep to average or last"
            )

    @property
    def per_stage(self) -> list[int]:
        """Images per class of each stage.

        Raises:
            ConfigError: If the numbers are not positive, or not one for each stage.
        """
        return _each("ipc", self.ipc, self.stages, _is_count, "at least 1")

    @property
    def steps_per_stage(self) -> list[int]:
        """Optimiser steps of each stage.

        Raises:
            ConfigError: If the numbers are not positive, or not one for each stage.
        """
        return _each("iterations", self.iterations, self.stages, _is_count, "at least 1")

    @property
    def rates_per_stage(self) -> list[float]:
        """Learning rate of the images in each stage, before it decays.

        Raises:
            ConfigError: If the rates are not positive and finite, or not one for each stage.
        """
        return _each("image_lr", self.image_lr, self.stages, _is_rate, "positive and finite")

    @property
    def varying(self) -> Json:
        """`iterations` and `image_lr`, each as one number where all stages have the same, else as a list."""
        found = self._of_stages()
        return {
            name: found[name][0] if len({*found[name]}) == 1 else found[name] for name in ("iterations", "image_lr")
        }

    def _of_stages(self) -> dict[str, Sequence[float]]:
        """The options that stages may have each of their own."""
        return {"ipc": self.per_stage, "iterations": self.steps_per_stage, "image_lr": self.rates_per_stage}

    @property
    def total_asked(self) -> str:
        """How the options ask for the images per class of all stages together, for a message."""
        values = self.per_stage
        if len(values) == 1:
            return f"model.ipc={values[0]}"
        if len(set(values)) == 1:
            return f"model.ipc={values[0]} in each of model.stages={len(values)}, {sum(values)} in all"
        return f"model.ipc={values}, {sum(values)} in all"

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(Path(self.run_dir))

    @property
    def experts_folder(self) -> Path:
        """Where the expert trajectories lie."""
        return Path(self.experts_dir) if self.experts_dir else self.run.experts

    def settings(self, stage: int) -> Json:
        """Everything that a stage's result depends on, apart from the data and the earlier stages.

        Args:
            stage: Number of the stage: it has its own number of images and of steps, and its own rate.
        """
        described = {key: value for key, value in self.describe().items() if key != "class_path"}
        if self.keep == "last":  # which every run was before there was a choice; they go on
            del described["keep"]
        if self.keep == "best":
            described |= {"watch_every": self.watch_every, "witnesses": self.witnesses}
        return {**described, **{name: values[stage - 1] for name, values in self._of_stages().items()}}

    def problem(self, data: ImageDataModule, device: torch.device | str = "cpu") -> Problem:
        """What every training of the run has in common.

        Args:
            data: The run's data, set up.
            device: Where to compute.
        """
        where = torch.device(device)
        return Problem(self.network, data.image_shape, data.num_classes, self.augmentation, self.seed, where)

    def image_rate(self, stage: int, step: int) -> float:
        """Learning rate of the images at a step of a stage, counted from 0."""
        steps, rate = self.steps_per_stage[stage - 1], self.rates_per_stage[stage - 1]
        return rate * self.image_lr_decay ** sum(step >= point * steps for point in self.image_lr_decay_at)

    def make_optimizer(self, images: Tensor, alpha: Tensor, stage: int) -> torch.optim.Optimizer:
        """One optimiser with two groups: SGD with momentum 0.5, as published for most methods, or Adam.

        Args:
            images: First group.
            alpha: Second group.
            stage: Number of the stage, which has its own rate.
        """
        rate = self.rates_per_stage[stage - 1]
        groups = [{"params": [images], "lr": rate}, {"params": [alpha], "lr": self.learning_rate_lr}]
        if self.optimizer == "adam":
            # The momentum of the published SGD; the second moment forgets fast, for stages are short.
            return torch.optim.Adam(groups, betas=(0.5, 0.95))
        return torch.optim.SGD(groups, lr=rate, momentum=0.5)


def _each(
    name: str, given: _Number | list[_Number], stages: int, fits: Callable[[_Number], bool], what: str
) -> list[_Number]:
    """The value that an option has in each stage, given as one number or as a list.

    Args:
        name: Of the option.
        given: Its value.
        stages: Number of stages.
        fits: Whether a stage can have a value.
        what: Values that it can have, for the message.

    Raises:
        ConfigError: If there is not one value for each stage, or one does not fit.
    """
    values = list(given) if isinstance(given, (list, tuple)) else [given] * stages
    if len(values) != stages:
        raise ConfigError(f"model.{name}={values} lists {len(values)} stages, model.stages={stages}: make them agree")
    if not all(map(fits, values)):
        where = " in every stage" if isinstance(given, (list, tuple)) else ""
        raise ConfigError(f"model.{name} must be {what}{where}, got {given}")
    return values


def _is_count(value: int) -> bool:
    return value >= 1


def _is_rate(value: float) -> bool:
    return 0 < value < float("inf")
