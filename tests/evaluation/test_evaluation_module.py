"""Training fresh networks side by side, phase after phase."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from pretended import Playing, recordings
from torch import Tensor
from torch.nn import functional as F
from toys import CLASSES, SHAPE, assert_same, toy_images, toy_module

from pdd_lightning.compute.functional import detached
from pdd_lightning.evaluation.module import EvaluationModule, Phase
from pdd_lightning.evaluation.protocol import distilled_job, progressive_steps, with_steps
from pdd_lightning.networks import ConvNet, initial_state
from pdd_lightning.rng import generator
from pdd_lightning.stage.subsets import Subset
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.gradients import Recordings
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*")

INSTANCE, BATCH = ConvNet(width=4, depth=2), ConvNet(width=4, depth=2, norm="batch")
RECIPE = Recipe(epochs=2, batch_size=4, momentum=0.9, weight_decay=5e-2)
SCORE = toy_images(12, seed=9)
PHASES = [
    Phase([toy_images(6, seed=index) for index in range(3)], [0.05, 0.02, 0.1], RECIPE),
    Phase([toy_images(10, seed=index) for index in range(3)], [0.01, 0.03, 0.05], replace(RECIPE, epochs=3)),
]


class Counted(EvaluationModule):
    """Counts the optimiser's steps, and remembers the states at the end of every phase and what was recorded."""

    steps = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ends: list[list[dict[str, Tensor]]] = []
        self.recorded: set[tuple[str, bool]] = set()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.steps += 1

    def score(self, batch_size: int = 5) -> list[float]:
        self.ends.append([detached(network.state_dict()) for network in self.networks])
        self.recorded |= {*self._recordings}
        return super().score(batch_size)


def fit(
    phases: Sequence[Phase] = PHASES,
    architecture: ConvNet = INSTANCE,
    augmentation: Augmentation = NoAugmentation(),  # noqa: B008 (immutable)
    name: str = "name",
    accelerator: str = "cpu",
    **options: Any,
) -> Counted:
    module = Counted(Problem(architecture, SHAPE, CLASSES, augmentation), phases, SCORE, name, **options)
    Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)
    return module


def alone(index: int, architecture: ConvNet, augmentation: Augmentation) -> list[dict[str, Tensor]]:
    """One network through all phases by torch's SGD, an optimiser for each; its state after each."""
    module = toy_module(initial_state(architecture, SHAPE, CLASSES, 0, "fresh", index), architecture)
    ends = []
    for number, phase in enumerate(PHASES):
        data, recipe = phase.data[index], phase.recipe
        optimizer = torch.optim.SGD(
            module.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        batches = recipe.batches(len(data), 0, "name", "phase", number, index)
        for step in range(recipe.epochs * batches.per_epoch):
            batch = data.take(batches[step])
            draw = augmentation.draw(len(batch), SHAPE, generator(0, "name", "augment", number, index, step))
            optimizer.param_groups[0]["lr"] = recipe.rate(phase.rates[index], step // batches.per_epoch)
            optimizer.zero_grad()
            logits = module(augmentation.apply(batch.images, draw))
            F.cross_entropy(logits, batch.labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        ends.append(detached(module.state_dict()))
    return ends


@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA()], ids=["plain", "dsa"])
@pytest.mark.parametrize("architecture", [INSTANCE, BATCH], ids=["instance", "batch-norm"])
def test_side_by_side_is_as_one_after_the_other(architecture: ConvNet, augmentation: Augmentation) -> None:
    """Every phase has momentum of its own, as a fresh optimiser would."""
    module = fit(PHASES, architecture, augmentation)
    for index in range(3):
        wanted = alone(index, architecture, augmentation)
        for number in range(2):
            assert_same(module.ends[number][index], wanted[number], tolerance=1e-6)


def accuracy(state: dict[str, Tensor], architecture: ConvNet) -> float:
    logits = toy_module(state, architecture).eval()(SCORE.images)
    return float((logits.argmax(1) == SCORE.labels).double().mean())


def recorded(phases: Sequence[Phase], monkeypatch: pytest.MonkeyPatch, **options: Any) -> Counted:
    """A fit whose gradients come from what a GPU would record."""
    monkeypatch.setattr("pdd_lightning.evaluation.module.is_recordable", lambda *_: True)
    module = fit(phases, augmentation=DSA(), **options)
    monkeypatch.undo()
    assert module.recorded
    assert not module._recordings  # whose memory the next training needs, as it does that of the images
    assert all(kept is given for kept, given in zip(module.phases, phases, strict=True))
    assert module.score_images is SCORE
    return module


@pytest.mark.parametrize("cutmix", [0.0, 0.7])
def test_gradients_that_are_recorded_are_the_same(cutmix: float, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = [replace(phase, recipe=replace(phase.recipe, cutmix=cutmix)) for phase in PHASES]
    alone, together = fit(phases, augmentation=DSA()), recorded(phases, monkeypatch)
    assert not alone.recorded
    for one_by_one, at_once in zip(alone.ends, together.ends, strict=True):
        for wanted, found in zip(one_by_one, at_once, strict=True):
            assert_same(found, wanted, 1e-4)
    assert not torch.equal(together.ends[0][0]["head.weight"], together.ends[0][1]["head.weight"])


def test_recordings_have_the_precision_of_their_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = replace(PHASES[1], recipe=replace(PHASES[1].recipe, precision="bfloat16"))
    assert recorded([PHASES[0], rounded], monkeypatch).recorded == {("float32", False), ("bfloat16", False)}


@pytest.mark.parametrize("wanted", [False, True])
def test_phases_say_whether_they_are_compiled(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    phases = [replace(phase, compile=wanted) for phase in PHASES]
    assert recorded(phases, monkeypatch).recorded == {("float32", wanted)}


def test_a_cpu_takes_what_was_compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def noting(function: Any, **_: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", noting)
    phases, recordings = [replace(phase, compile=True) for phase in PHASES], Recordings()
    for _ in range(2):
        found = fit(phases, augmentation=DSA(), recordings=recordings)
        assert found.recorded == {("float32", True)}
    assert len(compiled) == 2  # minibatches of 4, and of 2 where an epoch ends: once for both phases and fits
    wanted = fit(augmentation=DSA())
    assert not wanted.recorded
    for one, other in zip(found.ends, wanted.ends, strict=True):
        for mine, its in zip(one, other, strict=True):
            assert_same(mine, its, 1e-4)
    assert not fit([replace(phase, compile=True) for phase in PHASES], BATCH).recorded  # which keeps statistics


def test_what_is_recorded_trains_and_scores_as_what_comes(playing: Playing) -> None:
    with warnings.catch_warnings(), playing() as device, recordings() as made:
        warnings.filterwarnings("error", message=".*cannot be recorded")
        found = fit(augmentation=DSA(), accelerator={"cuda": "gpu"}.get(device, device))
    assert len(made) == 2  # minibatches of 4, and of 2 where an epoch ends: once for both phases
    wanted = fit(augmentation=DSA())
    assert found.recorded
    for one, other in zip(found.ends, wanted.ends, strict=True):
        for mine, its in zip(one, other, strict=True):
            assert_same({name: tensor.cpu() for name, tensor in mine.items()}, its, 5e-2)
    assert len(found.accuracies) == len(PHASES)


@pytest.mark.parametrize("architecture", [INSTANCE, BATCH], ids=["instance", "batch-norm"])
def test_every_network_is_scored_after_every_phase(architecture: ConvNet) -> None:
    module = fit(PHASES, architecture)
    assert len(module.accuracies) == len(PHASES)
    for found, states in zip(module.accuracies, module.ends, strict=True):
        assert found == pytest.approx([accuracy(state, architecture) for state in states])


def test_scoring_leaves_no_trace_in_later_phases() -> None:
    """Batch norm must not learn from the images that only score."""
    first = fit(PHASES[:1], BATCH)
    both = fit(PHASES, BATCH)
    for a, b in zip(first.ends[0], both.ends[0], strict=True):
        assert_same(a, b)
    assert all(network.training for network in both.networks)


def test_steps_are_counted_to_the_last() -> None:
    module = fit()
    assert module.steps == module.total_steps == 2 * 2 + 3 * 3
    assert [phase.steps for phase in PHASES] == [4, 9]


def initial(name: str = "name", count: int = 3) -> list[dict[str, Tensor]]:
    phases = [Phase(PHASES[0].data[:count], PHASES[0].rates[:count], RECIPE)]
    module = EvaluationModule(Problem(INSTANCE, SHAPE, CLASSES, NoAugmentation(), 0), phases, SCORE, name)
    return [detached(network.state_dict()) for network in module.networks]


def test_every_network_has_an_initialisation_of_its_own() -> None:
    weights = [state["head.weight"] for state in initial()]
    assert not any(torch.equal(weights[a], weights[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_every_set_is_tried_on_the_same_initialisations() -> None:
    for a, b in zip(initial("random", count=2), initial("pdd"), strict=False):
        assert_same(a, b)


def test_networks_see_the_same_set_in_orders_of_their_own() -> None:
    data = toy_images(10)
    module = fit([Phase([data, data], [0.05, 0.05], RECIPE)])
    first, second = ([batches[step].tolist() for step in range(3)] for batches in module._batches)
    assert first != second


def test_repeating_a_fit_repeats_its_numbers() -> None:
    first, second = fit(augmentation=DSA()), fit(augmentation=DSA())
    for a, b in zip(first.ends[-1], second.ends[-1], strict=True):
        assert_same(a, b)


# The claim of PDD about costs: showing the subsets progressively takes no more steps than showing all at once.

STAGES = 5
SUBSETS = [Subset(toy_images(6, seed=stage), 0.01 * stage, stage) for stage in range(1, STAGES + 1)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 6])
def test_progressive_epochs_cost_what_half_as_many_and_a_bit_cost_on_everything(batch_size: int) -> None:
    """E epochs on each of U_1 ... U_P are the steps of E * (P + 1) / 2 epochs on U_P."""
    recipe = Recipe(epochs=10, batch_size=batch_size)
    everything = STAGES * 6
    budget = progressive_steps(SUBSETS, recipe)
    assert budget == replace(recipe, epochs=10 * (STAGES + 1) // 2).steps(everything)
    assert with_steps(recipe, everything, budget).epochs == 10 * (STAGES + 1) // 2


@pytest.mark.parametrize("order", ["progressive", "union"])
def test_the_claim_holds_for_the_steps_that_are_really_made(order: Any) -> None:
    job = distilled_job("pdd", order, INSTANCE, SUBSETS[:3], Recipe(epochs=2, batch_size=3), 2)
    module = fit(job.phases(), name=job.name)
    assert module.steps == (2 * 6 + 2 * 12 + 2 * 18) // 3
    assert len(module.accuracies) == len(job.stages) == {"progressive": 3, "union": 1}[order]


def test_progressive_phases_show_the_unions_at_their_own_rates() -> None:
    job = distilled_job("pdd", "progressive", INSTANCE, SUBSETS, RECIPE, 2)
    assert [len(phase.data[0]) for phase in job.phases()] == [6, 12, 18, 24, 30]
    assert [phase.rates for phase in job.phases()] == [[subset.rate] * 2 for subset in SUBSETS]
    assert_images(job.phases()[1].data[1], SUBSETS[:2])


def test_the_union_is_shown_at_the_rate_of_the_last_stage() -> None:
    (phase,) = distilled_job("pdd", "union", INSTANCE, SUBSETS, RECIPE, 2).phases()
    assert phase.rates == [SUBSETS[-1].rate] * 2
    assert_images(phase.data[0], SUBSETS)


def test_sequential_phases_show_one_subset_each() -> None:
    job = distilled_job("pdd", "sequential", INSTANCE, SUBSETS, RECIPE, 2)
    for phase, subset in zip(job.phases(), SUBSETS, strict=True):
        assert_images(phase.data[0], [subset])


def test_sequential_phases_show_what_is_decoded() -> None:
    """With multi-formation a stored image holds several that networks train on."""
    stored = replace(SUBSETS[0], factor=2)
    job = distilled_job("pdd", "sequential", INSTANCE, [stored], RECIPE, 1)
    (phase,) = job.phases()
    assert job.trainings[0].examples == len(phase.data[0]) == 4 * len(stored.data)
    assert torch.equal(phase.data[0].images, stored.decoded.images)


def assert_images(found: LabelledImages, parts: Sequence[Subset]) -> None:
    assert torch.equal(found.images, torch.cat([part.data.images for part in parts]))
