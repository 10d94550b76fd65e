"""Options that are one number for all stages or a list with one for each."""

from typing import Any

import pytest
import torch

from pdd_lightning.dynamics import StartStates
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.options import StageOptions


def options(**changes: Any) -> StageOptions:
    return StageOptions(ConvNet(), MeanEmbedding(), StartStates(), **{"stages": 2, **changes})


def test_each_stage_has_its_own() -> None:
    found = options(iterations=[10, 20], image_lr=[0.5, 0.25], image_lr_decay_at=(0.5,), image_lr_decay=0.5)
    settings = [found.settings(stage) for stage in (1, 2)]
    assert [(each["iterations"], each["image_lr"]) for each in settings] == [(10, 0.5), (20, 0.25)]
    # The points of a decay are fractions of the stage's own steps.
    rates = [[found.image_rate(stage, step) for step in (4, 5, 9, 10)] for stage in (1, 2)]
    assert rates == [[0.5, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.125]]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_optimiser_begins_at_the_rate_of_the_stage(optimizer: str) -> None:
    found = options(image_lr=[0.5, 0.25], optimizer=optimizer)
    made = [found.make_optimizer(torch.zeros(1), torch.zeros(1), stage) for stage in (1, 2)]
    assert [[group["lr"] for group in each.param_groups] for each in made] == [[0.5, 1e-5], [0.25, 1e-5]]


def test_a_list_of_one_number_is_that_number() -> None:
    one, listed = options(iterations=7, image_lr=0.3), options(iterations=[7, 7], image_lr=[0.3, 0.3])
    assert [one.settings(stage) for stage in (1, 2)] == [listed.settings(stage) for stage in (1, 2)]
    assert one.varying == listed.varying == {"iterations": 7, "image_lr": 0.3}
    assert options(iterations=[7, 8], image_lr=0.3).varying == {"iterations": [7, 8], "image_lr": 0.3}


def test_a_module_has_those_of_its_stage() -> None:
    parts = {"network": ConvNet(), "objective": MeanEmbedding(), "dynamics": StartStates()}
    modules = [
        StageModule(**parts, stages=2, iterations=[3, 5], image_lr=[0.5, 0.25], stage=stage, run_dir="new")
        for stage in (1, 2)
    ]
    assert [(module.iterations, module.image_lr) for module in modules] == [(3, 0.5), (5, 0.25)]
    assert [len(module.train_dataloader()) for module in modules] == [3, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": [1, 2, 3]}, "model.iterations=[1, 2, 3] lists 3 stages, model.stages=2: make them agree"),
        ({"image_lr": []}, "model.image_lr=[] lists 0 stages, model.stages=2: make them agree"),
        ({"ipc": [1]}, "model.ipc=[1] lists 1 stages, model.stages=2: make them agree"),
        ({"iterations": 0}, "model.iterations must be at least 1, got 0"),
        ({"iterations": [3, 0]}, "model.iterations must be at least 1 in every stage, got [3, 0]"),
        ({"image_lr": -1.0}, "model.image_lr must be positive and finite, got -1.0"),
        (
            {"image_lr": [0.1, float("nan")]},
            "model.image_lr must be positive and finite in every stage, got [0.1, nan]",
        ),
        ({"ipc": [2, 0]}, "model.ipc must be at least 1 in every stage, got [2, 0]"),
        ({"stages": 0, "ipc": []}, "model.stages must be at least 1, got 0"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        options(**changes)
    assert str(error.value) == message
