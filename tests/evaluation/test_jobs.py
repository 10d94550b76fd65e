"""How long an evaluation trains on what."""

import pytest
from lightning.pytorch import Trainer

from pdd_lightning.datamodules import DigitsData
from pdd_lightning.dynamics import StartStates
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import Evaluation, Job
from pdd_lightning.evaluation.sets import PlannedSets
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.stage.module import StageModule
from pdd_lightning.training import Recipe


def steps(job: Job) -> list[int]:
    """Optimiser steps of a job and of its alternatives."""
    jobs: list[Job] = [job, *job.alternatives]
    return [sum(part.steps for part in each.trainings) for each in jobs]


@pytest.mark.parametrize("factor", [1, 2])
def test_one_stage_may_take_as_many_steps_as_the_stages_by_every_recipe(factor: int) -> None:
    """Also where a set that is stored in one minibatch is trained on in several."""
    recipes = [Recipe(epochs=epochs, batch_size=60) for epochs in (10, 20, 40)]
    parts = {"network": ConvNet(width=4), "objective": MeanEmbedding(), "dynamics": StartStates()}
    module = StageModule(**parts, stages=2, ipc=3, factor=factor, initial="mixed" if factor > 1 else "real")
    data = DigitsData()
    data.setup()
    evaluation = Evaluation(recipe=recipes[0], recipes=recipes[1:], baselines=["one-stage", "one-stage-short"])
    sets = PlannedSets(module, data)
    evaluator = Evaluator(module, data, evaluation, lambda most, _: Trainer(max_steps=most), sets=sets)
    found = {job.name: steps(job) for job in evaluator.jobs()}
    assert found["pdd"] == [20, 40, 80] if factor == 1 else [60, 120, 240]
    assert found["one-stage"] == found["one-stage-short"] == found["pdd"]
