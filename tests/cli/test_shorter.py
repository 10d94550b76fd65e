"""Which options bring a run to the time that there is."""

from dataclasses import replace

import pytest

from pdd_lightning.cli.plan import shorter
from pdd_lightning.dynamics import ExpertTrajectories, StartStates
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.planning.estimate import Amounts, Line
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training import Recipe

PLAN = Amounts([Line("stage 1", "start", 20.0), Line("stage 1", "distillation", 400.0)], {}, {})
OPTIONS = StageOptions(ConvNet(), MeanEmbedding(), StartStates(40), iterations=1000, recipe=Recipe(epochs=200))


def test_a_run_that_fits_needs_nothing() -> None:
    assert shorter(PLAN, OPTIONS, Evaluation(), 7) == "--plan.minutes=7: the run fits into it as it is"


def test_every_work_shrinks_alike() -> None:
    line = shorter(PLAN, OPTIONS, Evaluation(full=Recipe(epochs=50)), 2)
    assert line.startswith("--plan.minutes=2: 25 % of all work")
    wanted = (
        "--model.iterations 250 --model.dynamics.start_states 10 --model.recipe.epochs 50 --evaluation.full.epochs 12"
    )
    assert line.endswith(f"with {wanted}")


def test_stages_of_their_own_lengths_stay_so() -> None:
    options = replace(OPTIONS, stages=3, iterations=[1000, 400, 2])
    assert "--model.iterations [250,100,1] --model.dynamics" in shorter(PLAN, options, Evaluation(), 2)
    alike = replace(OPTIONS, stages=2, iterations=[1000, 1000])
    assert "--model.iterations 250 --model.dynamics" in shorter(PLAN, alike, Evaluation(), 2)


@pytest.mark.parametrize(("transition", "named"), [(True, True), (False, False)])
def test_recipes_are_named_where_they_are_used(transition: bool, named: bool) -> None:
    options = StageOptions(ConvNet(), MeanEmbedding(), ExpertTrajectories(experts=8), transition=transition)
    line = shorter(PLAN, options, Evaluation(recipe=Recipe(epochs=400)), 2)
    assert "--model.dynamics.experts 2" in line
    assert "--evaluation.recipe.epochs 100" in line
    assert ("--model.recipe.epochs" in line) == named


def test_an_option_that_does_not_exist_is_not_named() -> None:
    class OneNetwork(StartStates):
        members_option = None

        def __init__(self) -> None:
            super().__init__(1)

    line = shorter(PLAN, replace(OPTIONS, dynamics=OneNetwork()), Evaluation(), 2)
    assert "model.iterations" in line
    assert "model.dynamics" not in line


def test_too_little_time_is_told() -> None:
    assert "its processes alone take 20.0 s to start" in shorter(PLAN, OPTIONS, Evaluation(), 0.2)
