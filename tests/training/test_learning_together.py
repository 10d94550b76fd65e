"""Networks trained step by step beside each other become what each becomes alone."""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended import Playing, recordings
from torch import Tensor, nn
from torchvision.ops import StochasticDepth  # type: ignore[import-untyped]
from torchvision.transforms.v2 import RandomHorizontalFlip  # type: ignore[import-untyped]
from toys import CLASSES, NETWORK, SHAPE, toy_context, toy_images, toy_state

from pdd_lightning.compute.compiling import COMPILED_FROM, WORTH, pays_to_compile, training_operations
from pdd_lightning.networks import Architecture, ConvNet, ResNet, build_template
from pdd_lightning.training import learner as learning
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.gradients import LossGradients, is_recordable
from pdd_lightning.training.learner import Learner, groups, train_together
from pdd_lightning.training.recipe import Precision, Recipe

DATA = toy_images(11, dtype=torch.float64)
KEYS = [("member", member) for member in range(3)]
BATCH_NORM = ConvNet(width=4, depth=2, norm="batch")
CUDA, CPU = torch.device("cuda"), torch.device("cpu")

CASES: dict[str, tuple[Architecture, dict[str, Any], Any]] = {
    "plain": (NETWORK, {"epochs": 4, "momentum": 0.0, "weight_decay": 0.0}, NoAugmentation()),
    "minibatches": (NETWORK, {"epochs": 4, "batch_size": 4}, DSA()),
    "cutmix": (NETWORK, {"epochs": 4, "batch_size": 4, "cutmix": 0.7, "decay_at": (0.5,)}, DSA(one_per_step=False)),
    "ResNet": (ResNet(10, norm="instance"), {"epochs": 1, "batch_size": 6}, NoAugmentation()),
    "batch norm": (BATCH_NORM, {"epochs": 2, "batch_size": 4}, DSA()),
}

LONG = {"ResNet": pytest.mark.slow}
"""Cases that take seconds each."""


def learners(architecture: Architecture, device: str = "cpu", dtype: torch.dtype = torch.float64) -> list[Learner]:
    made = [Learner(build_template(architecture, SHAPE, CLASSES).to(dtype), device) for _ in KEYS]
    for member, learner in enumerate(made):
        learner.load(toy_state(architecture, key=member, dtype=dtype))
    return made


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        pytest.param(name, recorded, marks=LONG.get(name, ()))
        for name in CASES
        for recorded in ((False,) if name == "batch norm" else (False, True))
    ],
)
def test_each_network_becomes_what_it_becomes_alone(name: str, recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded on a GPU is, without one, the same function computed each time."""
    architecture, options, augmentation = CASES[name]
    recipe, together = Recipe(**options), learners(architecture)
    seen: list[int] = []
    monkeypatch.setattr(learning, "is_recordable", lambda *_: recorded)
    train_together(together, DATA, 0.05, recipe, augmentation, 0, KEYS, after_epoch=seen.append)
    assert seen == list(range(1, recipe.epochs + 1))
    monkeypatch.setattr(learning, "is_recordable", lambda *_: False)
    for member, (found, alone) in enumerate(zip(together, learners(architecture), strict=True)):
        alone.train(DATA, 0.05, recipe, augmentation, 0, *KEYS[member])
        start = toy_state(architecture, key=member, dtype=torch.float64)
        for key, wanted in alone.state().items():
            # A deep network amplifies rounding.
            torch.testing.assert_close(found.state()[key], wanted, rtol=1e-6, atol=1e-8)
            if key.endswith("weight"):
                assert not torch.equal(wanted, start[key])


def test_momentum_starts_anew() -> None:
    recipe, made, ends = Recipe(epochs=2, batch_size=4), learners(NETWORK), []
    for _ in range(2):
        for member, learner in enumerate(made):
            learner.network.load_state_dict(toy_state(NETWORK, key=member, dtype=torch.float64))
        train_together(made, DATA, 0.05, recipe, NoAugmentation(), 0, KEYS)
        ends.append(made[2].parameters())
    assert torch.equal(*ends)


def test_groups_do_not_depend_on_what_is_finished() -> None:
    assert groups(range(1, 6), 2, lambda _: False) == [range(1, 3), range(3, 5), range(5, 6)]
    assert groups(range(1, 6), 2, lambda member: member in (1, 2, 4)) == [range(3, 5), range(5, 6)]


class Own(nn.Sequential):
    """A class that nobody here knows."""


class Promised(nn.Sequential):
    """A class that says of itself that it does the same every time."""

    recordable = True


def test_only_networks_that_are_known_to_do_the_same_every_time_are_recorded() -> None:
    def network(architecture: Architecture = NETWORK) -> nn.Module:
        return build_template(architecture, SHAPE, CLASSES)

    hooked, frozen = network(), network()
    hooked.get_submodule("head").register_forward_hook(lambda *_: None)
    frozen.get_submodule("head").requires_grad_(False)
    assert is_recordable(network(), CUDA)
    assert is_recordable(network(ResNet(10, norm="instance")), CUDA)
    assert not is_recordable(network(), torch.device("cpu"))
    assert not is_recordable(network(BATCH_NORM), CUDA)
    assert not is_recordable(Own(network()), CUDA)
    assert is_recordable(Promised(network()), CUDA)
    assert is_recordable(nn.Sequential(StochasticDepth(0.1, "row"), network()), CUDA)
    assert not is_recordable(nn.Sequential(RandomHorizontalFlip(), network()), CUDA)  # draws on the CPU
    assert not is_recordable(frozen, CUDA)
    assert not is_recordable(hooked, CUDA)


@pytest.mark.parametrize(
    ("wanted", "device", "steps", "operations", "compiled"),
    [
        (True, CUDA, COMPILED_FROM, 0.0, True),
        (True, CUDA, COMPILED_FROM - 1, 1e30, False),
        (None, CUDA, COMPILED_FROM, 1e30, False),
        (None, CPU, 1, WORTH, True),
        (True, CPU, 1, WORTH, True),
        (None, CPU, 10**9, 0.99 * WORTH, False),
        (False, CPU, 1, 1e30, False),
    ],
)
def test_little_work_is_not_compiled(
    wanted: bool | None, device: torch.device, steps: int, operations: float, compiled: bool
) -> None:
    assert pays_to_compile(wanted, device, steps, operations) == compiled


def test_operations_are_those_of_convolutions_and_products() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    each = 2 * (9 * 2 * 3 * 8 * 8) + 2 * (3 * 8 * 8 * 5)
    assert training_operations(network, (2, 8, 8), images=7) == 3 * 7 * each


@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA()], ids=["plain", "dsa"])
def test_compiled_once_for_all_minibatches_and_learners(
    augmentation: Augmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, sizes = list[object](), list[int]()

    def noting(function: Any, **_: Any) -> Any:
        compiled.append(function)

        def compute(*tensors: Tensor) -> Any:
            sizes.append(len(tensors[1]))
            return function(*tensors)

        return compute

    monkeypatch.setattr(torch, "compile", noting)
    monkeypatch.setattr("pdd_lightning.compute.compiling.WORTH", 1.0)
    context, data, recipe = toy_context(tmp_path, compile_networks=None), toy_images(11), Recipe(epochs=2, batch_size=4)
    context.compile(recipe, len(data), networks=2)
    assert (len(compiled), sizes) == (2, [3, 4])  # the short minibatch that ends an epoch too
    ends = []
    for count in (2, 1):
        several = context.learners(count, recipe, len(data), networks=2)
        for learner in several:
            learner.load(toy_state(NETWORK, key=0))
        train_together(several, data, 0.05, recipe, augmentation, 0, KEYS[:count])
        ends.append(several[0].parameters())
    assert len(compiled) == 2
    assert torch.equal(*ends)
    plain = Learner(build_template(NETWORK, SHAPE, CLASSES))
    plain.load(toy_state(NETWORK, key=0))
    plain.train(data, 0.05, recipe, augmentation, 0, *KEYS[0])
    torch.testing.assert_close(ends[0], plain.parameters(), rtol=1e-4, atol=1e-6)
    assert not context.learners(1)[0]._compile  # for a few steps


def gradients_of(precision: Any, compile: bool) -> tuple[Tensor, Tensor]:
    (learner, *_) = learners(NETWORK, dtype=torch.float32)
    data = toy_images(6)
    return LossGradients(learner.network, precision, compile)([(learner.parameters(), data.images, data.labels, None)])[
        0
    ]


def test_bfloat16_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    (loss, gradient), (rounded_loss, rounded) = (gradients_of(p, False) for p in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - gradient).norm() < 0.1 * gradient.norm()
    assert loss != rounded_loss


@pytest.mark.slow
def test_compiled_gradients_are_the_same() -> None:
    (loss, gradient), (found_loss, found) = (gradients_of("float32", compile) for compile in (False, True))
    torch.testing.assert_close(found_loss, loss)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_without_a_compiler_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    wanted = gradients_of("float32", False)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.warns(UserWarning, match=r"compile_networks: .* cannot be compiled here .RuntimeError: no C.. comp"):
        found = gradients_of("float32", True)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


def test_want_of_memory_is_not_taken_for_a_compilers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(torch.OutOfMemoryError):
        gradients_of("float32", True)


def check_recorded(name: str, playing: Playing, compile: bool = False, precision: Any = "float32") -> None:
    architecture, options, augmentation = CASES[name]
    exact = precision == "float32" and not compile
    dtype = torch.float64 if exact else torch.float32
    recipe = replace(Recipe(**options), precision=precision)
    with warnings.catch_warnings(), playing() as device, recordings() as made:
        warnings.filterwarnings("error", message=".*cannot be recorded")
        data, together = toy_images(11, dtype=dtype).to(device), learners(architecture, device, dtype)
        together[0]._compile = compile
        train_together(together, data, 0.05, recipe, augmentation, 0, KEYS)
    batches = recipe.batches(11, 0, "sizes")
    sizes = {len(batches[step]) for step in range(batches.per_epoch)}
    assert len(made) == (0 if architecture is BATCH_NORM else len(sizes))
    alone = learners(architecture, device, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "is_recordable", lambda *_: False)
        train_together(alone, data, 0.05, recipe, augmentation, 0, KEYS)
    for found, wanted in zip(together, alone, strict=True):
        moved = wanted.parameters() - wanted.layout.flatten(toy_state(architecture, dtype=dtype)).to(device)
        error = (found.parameters() - wanted.parameters()).norm() / moved.norm()
        assert error < (1e-8 if exact else 0.05 if precision == "bfloat16" else 5e-3)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in CASES])
def test_recorded_networks_become_what_they_become_as_they_come(name: str, playing: Playing) -> None:
    check_recorded(name, playing)


def test_each_precision_has_recordings_of_its_own(player: str) -> None:
    """Learners of a stage share them: experts may be trained in another precision than a transition."""
    data, (learner, *_) = toy_images(6).to(player), learners(NETWORK, player, torch.float32)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16", "float32")
    ends = []
    for precision in precisions:
        learner.load(toy_state(NETWORK))
        train_together([learner], data, 0.05, Recipe(epochs=2, precision=precision), NoAugmentation(), 0, KEYS[:1])
        ends.append(learner.parameters())
    first, rounded, again = ends
    assert (again - first).norm() < 0.01 * (rounded - first).norm()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "compile", "precision"), [("cutmix", True, "float32"), ("minibatches", False, "bfloat16")]
)
def test_recorded_networks_that_a_compiler_or_rounding_changes(name: str, compile: bool, precision: Any) -> None:
    check_recorded(name, lambda: nullcontext("cuda"), compile, precision)
