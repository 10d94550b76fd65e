"""The walk's recursion against what it stands for: an unrolled graph, and an ordinary optimiser."""

import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pretended import Playing
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from toys import SHAPE, toy_images, toy_module, toy_state

from pdd_lightning.compute.functional import FunctionalNetwork, Layout
from pdd_lightning.compute.lowering import MANY_CHANNELS
from pdd_lightning.compute.step_products import CompiledStepMath, StepGraph, StepMath, graph_bytes
from pdd_lightning.networks import Architecture, ConvNet, ResNet
from pdd_lightning.networks.convnet import Activation, Norm, Pooling
from pdd_lightning.objectives.walk import StepData, Walk, walk_ends
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.types import State

STEPS = 4
LEARNED = toy_images(6, dtype=torch.float64)
PREVIOUS = toy_images(3, seed=1, dtype=torch.float64)
SMALL = ConvNet(width=4, depth=2)


@dataclass(frozen=True)
class Case:
    """A walk, in float64."""

    architecture: Architecture = SMALL
    batch_size: int | None = None
    augmentation: Augmentation = NoAugmentation()  # noqa: RUF009 (immutable)
    previous: bool = False
    momentum: float = 0.0
    weight_decay: float = 0.0

    @property
    def state(self) -> State:
        return toy_state(self.architecture, dtype=torch.float64)

    def data(self, images: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The minibatch of a step, with a draw of its own."""
        labels = LEARNED.labels
        if self.previous:
            images, labels = torch.cat([PREVIOUS.images, images]), torch.cat([PREVIOUS.labels, labels])
        if self.batch_size is not None:
            chosen = torch.randperm(len(labels), generator=generator(0, "chosen", step))[: self.batch_size]
            images, labels = images[chosen], labels[chosen]
        draw = self.augmentation.draw(len(labels), SHAPE, generator(0, "draw", step))
        return self.augmentation.apply(images, draw), labels

    def walk(self, steps: int = STEPS, store: bool = False, data: StepData | None = None) -> Walk:
        network = FunctionalNetwork(toy_module(self.state, self.architecture))
        walk = Walk(network, network.layout.flatten(self.state), steps, data or self.data, store)
        return replace(walk, momentum=self.momentum, weight_decay=self.weight_decay)


CASES = {
    "instance": Case(),
    "batch-norm": Case(replace(SMALL, norm="batch")),
    "minibatches": Case(batch_size=2),
    "dsa": Case(augmentation=DSA()),
    "dsa-all": Case(augmentation=DSA(one_per_step=False)),
    "previous": Case(previous=True),
    "tiles": Case(replace(SMALL, width=MANY_CHANNELS)),
    "momentum-and-decay": Case(batch_size=4, previous=True, momentum=0.7, weight_decay=0.1),
    "everything": Case(replace(SMALL, norm="batch"), batch_size=5, augmentation=DSA(), previous=True),
}
ARCHITECTURES: list[Any] = [
    *dict.fromkeys(
        [
            *(replace(SMALL, norm=norm) for norm in get_args(Norm)),
            *(replace(SMALL, pooling=pooling) for pooling in get_args(Pooling)),
            *(replace(SMALL, activation=activation) for activation in get_args(Activation)),
        ]
    ),
    *(pytest.param(ResNet(10, norm), marks=pytest.mark.slow) for norm in ("batch", "instance")),
]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
either_way = pytest.mark.parametrize("store", [False, True], ids=["recompute", "store"])


def unrolled(case: Case, images: Tensor, rate: Tensor) -> Tensor:
    """Algorithm 1 of trajectory matching as one large graph."""
    module = toy_module(case.state, case.architecture)
    names = [name for name, _ in module.named_parameters()]
    theta = [case.state[name].requires_grad_() for name in names]
    buffer = [torch.zeros_like(t) for t in theta]
    for step in range(STEPS):
        x, y = case.data(images, step)
        loss = F.cross_entropy(functional_call(module, dict(zip(names, theta, strict=True)), (x,)), y)
        gradient = torch.autograd.grad(loss, theta, create_graph=True)
        decayed = [g + case.weight_decay * t for t, g in zip(theta, gradient, strict=True)]
        buffer = [case.momentum * m + g for m, g in zip(buffer, decayed, strict=True)]
        theta = [t - rate * m for t, m in zip(theta, buffer, strict=True)]
    return torch.cat([t.flatten() for t in theta])


def meta_gradients(end: Callable[[Tensor, Tensor], Tensor], alpha: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """The end of a walk, and the gradients of a loss there in the images and in the learning rate."""
    images, rate = LEARNED.images.clone().requires_grad_(), torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    arrived = end(images, rate)
    direction = torch.randn(arrived.shape, generator=generator(0, "direction"), dtype=torch.float64)
    (arrived @ direction + arrived.square().sum()).backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert rate.grad is not None
    return arrived.detach(), images.grad, rate.grad


def walk_end(images: Tensor, rate: Tensor, walk: Walk) -> Tensor:
    return walk_ends(images, rate, [walk])[0]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def check_unrolled(case: Case, *walks: Walk, alpha: float = 0.1) -> None:
    wanted = meta_gradients(lambda images, rate: unrolled(case, images, rate), alpha)
    for walk in walks:
        found = meta_gradients(lambda images, rate, walk=walk: walk_end(images, rate, walk), alpha)  # type: ignore[misc]
        for mine, naive in zip(found, wanted, strict=True):
            assert naive.norm() > 0
            assert relative_error(mine, naive) < 1e-8


@every_case
@either_way
def test_the_meta_gradient_is_that_of_the_unrolled_graph(case: Case, store: bool) -> None:
    check_unrolled(case, case.walk(store=store))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_every_architecture_is_walked_exactly(architecture: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each way; the compiler's is what the compiler is given."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    case = Case(architecture, batch_size=4)
    # Short steps: on longer ones, rounding grows to 4e-8 in a deep network with instance norm.
    check_unrolled(case, case.walk(store=True), case.walk(), compiled(case), alpha=0.01)


@either_way
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_walks_side_by_side_are_walks_one_by_one(store: bool, momentum: float) -> None:
    """Of one network, each with a start and data of its own; all gradients reach the same images and learning rate."""
    cases = [CASES["dsa"], CASES["dsa-all"], CASES["instance"]]
    first = replace(cases[0].walk(store=store), momentum=momentum, weight_decay=momentum / 9)
    walks = [replace(first, data=case.data, start=first.start + 0.1 * index) for index, case in enumerate(cases)]
    together = meta_gradients(lambda images, rate: torch.cat(walk_ends(images, rate, walks)))
    alone = meta_gradients(lambda images, rate: torch.cat([walk_end(images, rate, walk) for walk in walks]))
    for mine, wanted in zip(together, alone, strict=True):
        assert relative_error(mine, wanted) < 1e-12


def check_recorded(case: Case, compile: bool, playing: Playing) -> None:
    """One walk, and two side by side."""

    def on(device: str, walk: Walk, shift: float) -> Walk:
        def data(images: Tensor, step: int) -> tuple[Tensor, Tensor]:
            x, y = case.data(images.cpu(), step)  # not what is tested here
            return x.to(device), y.to(device)

        return replace(walk, network=network, start=walk.start.to(device) + shift, data=data, math=math)

    with warnings.catch_warnings(), playing() as device:
        warnings.filterwarnings("error", message=".*cannot be (compiled|recorded)")
        network = FunctionalNetwork(toy_module(case.state, case.architecture), device)
        math = CompiledStepMath(network) if compile else StepMath(network)
        walks = [on(device, case.walk(), shift) for shift in (0.0, 0.1)]
        single = meta_gradients(lambda images, rate: walk_end(images.to(device), rate.to(device), walks[0]).cpu())
        pair = meta_gradients(
            lambda images, rate: torch.cat(walk_ends(images.to(device), rate.to(device), walks)).cpu()
        )
    assert math._gradients._recordings
    assert math._products._recordings
    wanted = meta_gradients(lambda images, rate: unrolled(case, images, rate))
    for mine, naive in zip(single, wanted, strict=True):
        assert relative_error(mine, naive) < 1e-8
    starts = [replace(case.walk(), start=case.walk().start + shift) for shift in (0.0, 0.1)]
    alone = meta_gradients(lambda images, rate: torch.cat([walk_end(images, rate, walk) for walk in starts]))
    for mine, one_by_one in zip(pair, alone, strict=True):
        assert relative_error(mine, one_by_one) < 1e-8


@every_case
def test_recorded_walks_are_the_unrolled_graph(case: Case, playing: Playing) -> None:
    check_recorded(case, False, playing)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dsa", "everything"])
def test_recorded_walks_that_are_compiled_too(name: str) -> None:
    check_recorded(CASES[name], True, lambda: nullcontext("cuda"))


def compiled(case: Case) -> Walk:
    walk = case.walk()
    return replace(walk, math=CompiledStepMath(walk.network))


def check_forward_over_reverse(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="objective.compile")  # it would say that nothing was compiled
        check_unrolled(case, compiled(case))


@every_case
def test_forward_over_reverse_is_the_unrolled_graph(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to the compiler, without it."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    check_forward_over_reverse(case)


@pytest.mark.slow
@every_case
def test_the_compiled_meta_gradient_is_that_of_the_unrolled_graph(case: Case) -> None:
    check_forward_over_reverse(case)


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
def test_keeping_graphs_changes_no_bit(norm: Norm) -> None:
    """In float32, as stages compute: whether graphs are kept may depend on the memory that is free."""
    case = Case(replace(SMALL, norm=norm))
    state = toy_state(case.architecture)
    network = FunctionalNetwork(toy_module(state, case.architecture))
    found = []
    for store in (False, True):
        images = LEARNED.images.float().requires_grad_()
        rate = torch.tensor(0.1, requires_grad=True)
        walk = Walk(network, network.layout.flatten(state), STEPS, lambda x, _: (x, LEARNED.labels), store)
        end = walk_end(images, rate, walk)
        found.append((end.detach(), *torch.autograd.grad(end.square().sum(), (images, rate))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_without_a_compiler_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    case = CASES["everything"]
    walk = compiled(case)
    with pytest.warns(UserWarning, match="cannot be compiled here .RuntimeError: no C.. compiler.; going on") as said:
        found = meta_gradients(lambda images, rate: walk_end(images, rate, walk))
    assert len(said) == 1
    wanted = meta_gradients(lambda images, rate: walk_end(images, rate, case.walk()))
    assert all(torch.equal(mine, plain) for mine, plain in zip(found, wanted, strict=True))


@pytest.mark.parametrize("case", [CASES["instance"], CASES["batch-norm"]], ids=["instance", "batch-norm"])
def test_the_graph_is_as_large_as_what_it_holds(case: Case) -> None:
    """It grows with the images, and is no smaller than the activations that a step differentiates through."""
    walk = case.walk()
    sizes = []
    for count in (3, 6):
        images, labels = LEARNED.images[:count], LEARNED.labels[:count]
        sizes.append(graph_bytes(walk.network, walk.start, images, labels))
    activations = 3 * (4 * 8 * 8 + 4 * 4 * 4) * 8  # three images; the first convolution's and the second's outputs
    assert sizes[1] > 1.5 * sizes[0]
    assert sizes[0] > activations


@either_way
def test_images_that_only_condition_the_walk_get_no_gradient(store: bool) -> None:
    condition = PREVIOUS.images.clone().requires_grad_()

    def data(images: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return torch.cat([condition, images]), torch.cat([PREVIOUS.labels, LEARNED.labels])

    walk = Case().walk(store=store, data=data)
    _, images_gradient, _ = meta_gradients(lambda images, rate: walk_end(images, rate, walk))
    assert images_gradient.shape == LEARNED.images.shape
    assert condition.grad is None


@every_case
def test_the_walk_is_that_of_torchs_sgd(case: Case) -> None:
    module = toy_module(case.state, case.architecture)
    momentum, decay = case.momentum, case.weight_decay
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum, weight_decay=decay)
    for step in range(STEPS):
        images, labels = case.data(LEARNED.images, step)
        optimizer.zero_grad()
        F.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    end = walk_end(LEARNED.images, torch.tensor(0.1, dtype=torch.float64), case.walk())
    wanted = Layout.of(module).flatten(dict(module.named_parameters()))
    torch.testing.assert_close(end, wanted, rtol=1e-12, atol=1e-12)


@either_way
def test_a_walk_of_no_steps_stays_where_it_is(store: bool) -> None:
    walk = Case().walk(steps=0, store=store)
    end, images_gradient, rate_gradient = meta_gradients(lambda images, rate: walk_end(images, rate, walk))
    assert torch.equal(end, walk.start)
    assert end.data_ptr() != walk.start.data_ptr()
    assert not images_gradient.any()
    assert rate_gradient == 0


def test_the_start_is_not_changed() -> None:
    walk = Case().walk()
    before = walk.start.clone()
    meta_gradients(lambda images, rate: walk_end(images, rate, walk))
    assert torch.equal(walk.start, before)


def held(steps: int, store: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Graphs of steps that are alive between forward and backward, and at most in either."""
    alive: weakref.WeakSet[StepGraph] = weakref.WeakSet()
    most, between = 0, []

    class Counted(StepGraph):
        def __init__(self, *args: Any) -> None:
            nonlocal most
            super().__init__(*args)
            alive.add(self)
            most = max(most, len(alive))

    for module in ("objectives.walk", "compute.step_products"):
        monkeypatch.setattr(f"pdd_lightning.{module}.StepGraph", Counted)

    def end(images: Tensor, rate: Tensor) -> Tensor:
        arrived = walk_end(images, rate, Case().walk(steps, store))
        between.append(len(alive))
        return arrived

    meta_gradients(end)
    return between[0], most


def test_recomputing_holds_one_graph_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert held(8, False, monkeypatch) == (0, 1)
    assert held(8, True, monkeypatch) == (8, 8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of a process from /proc")
@pytest.mark.slow
def test_the_memory_of_recomputing_grows_by_vectors_only(tmp_path: Path) -> None:
    """Peaks of fresh processes: forty more steps add less than a tenth of what their graphs would."""
    peaks = []
    for steps in (2, 42):
        line = [sys.executable, "-c", PEAK, str(steps)]
        peaks.append(int(subprocess.run(line, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < 40 * 14e6 / 10


PEAK = """
import sys
from pathlib import Path
import torch
from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.compute.memory import keep_freed_memory
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.compute.step_products import graph_bytes
from pdd_lightning.objectives.walk import Walk, walk_ends

keep_freed_memory()
torch.set_num_threads(1)
network = FunctionalNetwork(build_template(ConvNet(width=32), (3, 32, 32), 10))
start = network.layout.flatten(build_template(ConvNet(width=32), (3, 32, 32), 10).state_dict())
images, labels = torch.randn(20, 3, 32, 32).requires_grad_(), torch.arange(20) % 10
assert graph_bytes(network, start, images.detach(), labels) > 14e6
rate = torch.tensor(0.01, requires_grad=True)
(end,) = walk_ends(images, rate, [Walk(network, start, int(sys.argv[1]), lambda x, _: (x, labels))])
end.square().sum().backward()
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


def test_recomputing_keeps_one_parameter_vector_for_each_step() -> None:
    images, rate = LEARNED.images.clone().requires_grad_(), torch.tensor(0.1, dtype=torch.float64)
    walk = Case().walk()
    kept = walk_end(images, rate, walk).grad_fn
    assert kept is not None
    assert [tuple(theta.shape) for theta in kept.thetas] == [(1, walk.network.layout.size)] * STEPS  # type: ignore[attr-defined]
    assert kept.graphs == []  # type: ignore[attr-defined]
