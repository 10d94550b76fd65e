"""The methods that :func:`pdd_lightning.distil` knows by name, with settings for small images and CPU cores.

They are those of `configs/digits`, to which a test holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pdd_lightning.dynamics import Dynamics, DynamicTraining, ExpertTrajectories, RealTraining, StartStates
from pdd_lightning.dynamics import SyntheticTraining as Synthetic
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import FeatureAlignment, GradientMatching, MeanEmbedding, Objective, TrajectoryMatching
from pdd_lightning.training import DSA, NoAugmentation, Recipe
from pdd_lightning.types import Json

PartName = Literal["dynamics", "objective"]

MethodName = Literal["mtt", "dc", "dsa", "idc", "dm", "cafe", "cafe_dsa"]

Part = tuple[type, Mapping[str, Any]]
"""A class and its options."""


@dataclass(frozen=True)
class Method:
    """A base method: what is compared, at which model states, and how the images move.

    Attributes:
        objective: A class of objectives and its options.
        dynamics: A class of dynamics and its options, for several stages.
        model: Options of the stage that differ from those of the other methods.
        one_stage: Options of the dynamics that differ where there is one stage.

    Example:
        >>> METHODS["mtt"].options(stages=3)["iterations"], METHODS["mtt"].options(stages=1)["iterations"]
        (200, 600)
    """

    objective: tuple[type[Objective], Mapping[str, Any]]
    dynamics: tuple[type[Dynamics], Mapping[str, Any]]
    model: Mapping[str, Any]
    one_stage: Mapping[str, Any] = field(default_factory=dict)

    def options(self, stages: int) -> Json:
        """Options of :class:`pdd_lightning.stage.options.StageOptions`, except the objective and the dynamics.

        Args:
            stages: A single one takes as many iterations as three.
        """
        options = {**_COMMON, **self.model, "stages": stages}
        return {**options, "iterations": options["iterations"] * (3 if stages == 1 else 1)}

    def part(self, name: PartName, stages: int) -> Part:
        """The class and the options of a part.

        Args:
            name: Which.
            stages: How many there are.
        """
        if name == "objective":
            return self.objective
        cls, options = self.dynamics
        return cls, {**options, **(self.one_stage if stages == 1 else {})}


# Digits and many other images have a handedness: no flip.
_COMMON: Final[Mapping[str, Any]] = {
    "network": ConvNet(width=32),
    "augmentation": DSA(operations=("color", "crop", "cutout", "scale", "rotate")),
    "recipe": Recipe(epochs=150),
    "ipc": 1,
    "optimizer": "adam",
}

_ALPHA_LEARNED: Final = {
    "iterations": 200,
    "image_lr": 0.1,
    "learning_rate": 0.1,
    "learning_rate_lr": 0.001,
    "recipe": Recipe(epochs=150, momentum=0.0, weight_decay=0.0),  # plain SGD, as the walk
}
_ALPHA_FIXED: Final = {"iterations": 100, "image_lr": 0.1, "learning_rate": 0.03, "learning_rate_lr": 0.0}
_PLAIN: Final = {"augmentation": NoAugmentation()}
_ONE_STEP: Final = {"start_states": 20, "episode": 1, "epochs": 1}
_EPISODES: Final = {"episode": 10, "epochs": 10}
_ADAPTIVE: Final = {"start_states": 20, "episode": 20, "epochs": 20, "query_images": 320}
_EXPERTS: Final = {"experts": 20, "epochs": 6, "max_start_epoch": 2, "learning_rate": 0.1, "batch_size": 128}
_IDC: Final = {
    "distance": "mse",
    "layers": "convolutions",
    "real_batch_size": 64,
    "syn_batch_size": 128,
    "augmentation": DSA(operations=("color", "crop", "cutout"), one_per_step=False),
}

METHODS: Final[Mapping[MethodName, Method]] = {
    "mtt": Method(
        (TrajectoryMatching, {"syn_steps": 20, "recompute": False}),
        (ExpertTrajectories, {**_EXPERTS, "augment": False}),
        _ALPHA_LEARNED,
    ),
    "dc": Method((GradientMatching, _PLAIN), (Synthetic, _ONE_STEP), _ALPHA_FIXED, one_stage=_EPISODES),
    "dsa": Method((GradientMatching, {}), (Synthetic, _ONE_STEP), _ALPHA_FIXED, one_stage=_EPISODES),
    "idc": Method(
        (GradientMatching, _IDC), (RealTraining, {"start_states": 20, "episode": 50, "examples": 256}), _ALPHA_FIXED
    ),
    "dm": Method(
        (MeanEmbedding, {}),
        (StartStates, {"start_states": 20}),
        {"iterations": 200, "image_lr": 0.3, "learning_rate": 0.1, "learning_rate_lr": 0.0},
    ),
    "cafe": Method((FeatureAlignment, _PLAIN), (DynamicTraining, _ADAPTIVE), _ALPHA_FIXED),
    "cafe_dsa": Method((FeatureAlignment, {}), (DynamicTraining, _ADAPTIVE), _ALPHA_FIXED),
}
"""By name."""
