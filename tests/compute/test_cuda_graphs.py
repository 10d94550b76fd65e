"""What is recorded on a GPU is what is computed as it comes."""

import gc
import warnings
from collections.abc import Sequence

import pytest
import torch
from pretended import pretend
from torch import Tensor

from pdd_lightning.compute import cuda_graphs as recorded
from pdd_lightning.compute.cuda_graphs import LANES, Function, Recorded
from pdd_lightning.rng import generator
from pdd_lightning.types import sent

gpu = pytest.mark.gpu


def numbers(key: int, size: int = 5, device: str = "cpu") -> Tensor:
    return torch.randn(size, generator=generator(0, "numbers", key)).to(device)


def twice_and_sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((leaf * y).square().sum(), leaf)
    return gradient, (x + y).sum()


def lanes(count: int, device: str = "cpu", first: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [
        (numbers(2 * (first + i), device=device), numbers(2 * (first + i) + 1, device=device)) for i in range(count)
    ]


def check(found: Sequence[Sequence[Tensor]], given: Sequence[tuple[Tensor, Tensor]]) -> None:
    assert len(found) == len(given)
    for mine, (x, y) in zip(found, given, strict=True):
        torch.testing.assert_close(mine[0], 2 * x * y.square())
        torch.testing.assert_close(mine[1], (x + y).sum())


def compute_lanes(count: int, device: str) -> None:
    function = Recorded(twice_and_sum)
    kept = []
    for first in (0, 100, 200):  # later calls do not change what earlier ones gave
        given = lanes(count, device, first)
        kept.append((function(given), given))
    for found, given in kept:
        check(found, given)


@pytest.mark.parametrize("count", [0, 1, 2, LANES, LANES + 1, 2 * LANES + 1])
class TestEveryLaneIsComputed:
    def test_as_it_comes(self, count: int) -> None:
        compute_lanes(count, "cpu")

    def test_by_what_is_recorded(self, count: int, player: str) -> None:
        compute_lanes(count, player)


def test_a_gpu_runs_the_code_once_for_each_shape(player: str) -> None:
    calls = []

    def function(x: Tensor) -> tuple[Tensor]:
        calls.append(len(x))
        return (x + 1,)

    mine = Recorded(function)
    for size in (3, 4, 3, 3, 4):
        x = torch.randn(size, device=player)
        assert torch.equal(mine([(x,)])[0][0], x + 1)
    assert len(calls) == 2 * (recorded._WARM_UP + 2)


def test_what_has_too_many_shapes_is_computed_as_it_comes(player: str) -> None:
    mine = Recorded(lambda x: (x + 1,))
    for size in range(1, recorded._MOST + 4):
        x = torch.randn(size, device=player)
        assert torch.equal(mine([(x,)])[0][0], x + 1)
    assert len(mine._recordings) == recorded._MOST


def test_what_looks_at_values_is_computed_as_it_comes(player: str) -> None:
    mine = Recorded(lambda x: (x * 2 if float(x.sum()) > 0 else x * 3,))
    with pytest.warns(UserWarning, match="cannot be recorded as a CUDA graph .*; going on without"):
        first = mine([(torch.ones(3, device=player),)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = mine([(-torch.ones(3, device=player),)])
    assert first[0][0].tolist() == [2.0] * 3
    assert second[0][0].tolist() == [-3.0] * 3
    torch.rand(1, device=player)  # a recording that fails would leave this one impossible


@pytest.mark.parametrize("count", [1, 3])
def test_for_want_of_memory_it_is_computed_as_it_comes(count: int, player: str) -> None:
    """And what was recorded before lets its memory go."""
    full, here = False, torch.cuda.current_stream()

    def function(x: Tensor) -> tuple[Tensor]:
        if full and torch.cuda.is_current_stream_capturing():
            torch.empty(2**50, device=player)
        return (x + torch.zeros(2**24, device=player).sum(),)

    mine = Recorded(function)
    mine([(torch.ones(3, device=player),)])
    full = True
    with pytest.warns(UserWarning, match="cannot be recorded"):
        found = mine([(torch.ones(4, device=player),)] * count)
    assert [result.tolist() for (result,) in found] == [[1.0] * 4] * count
    assert not mine._recordings
    assert mine([(torch.ones(3, device=player),)])[0][0].tolist() == [1.0] * 3
    assert torch.cuda.current_stream() == here
    full = False
    assert Recorded(function)([(torch.ones(5, device=player),)])[0][0].tolist() == [1.0] * 5


def products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Sums so long that several blocks add them up in a workspace; the gradient is a thread's of its own."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        product = leaf @ y
        (gradient,) = torch.autograd.grad(product.sum(), leaf)
    return product.detach(), gradient


def factors(count: int, key: int) -> list[tuple[Tensor, Tensor]]:
    draws = generator(0, "factors", key)
    shapes = [(10, 8192), (8192, 64)]  # the sums of these are exact in float32
    pairs = [[torch.randint(-1, 2, shape, generator=draws).float().cuda() for shape in shapes] for _ in range(count)]
    return [(x, y) for x, y in pairs]


@gpu
@pytest.mark.parametrize("count", [1, 3])
def test_nobody_else_frees_what_it_works_with(count: int) -> None:
    """Products of matrices have workspaces, which Lightning frees at the end of a fit."""
    mine, other = Recorded(products), Recorded(products)
    mine(factors(count, 0))
    other([(x[:, :4096], y[:4096]) for x, y in factors(count, 0)])
    del other  # with which PyTorch 2.14 frees a workspace
    streams = {stream.cuda_stream for stream in recorded._streams(torch.device("cuda", 0))}
    for segment in torch.cuda.memory_snapshot():  # type: ignore[no-untyped-call]
        if segment["stream"] in streams and segment["segment_pool_id"] == (0, 0):
            held = [block["size"] for block in segment["blocks"] if block["state"] == "active_allocated"]
            assert sum(held) < 2**16  # older PyTorch's state of random numbers; a workspace is a megabyte and more
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    taken = [torch.zeros(2**21, device="cuda") for _ in range(40)]  # among it, what was a workspace
    for key in range(1, 5):
        given = factors(count, key)
        for (product, gradient), (x, y) in zip(mine(given), given, strict=True):
            assert torch.equal(product.double(), x.double() @ y.double())
            assert torch.equal(gradient, y.sum(1).expand_as(x))
    assert not any(tensor.any() for tensor in taken)


def test_no_garbage_is_collected_while_it_records(player: str) -> None:
    found = []

    def function(x: Tensor) -> tuple[Tensor]:
        if torch.cuda.is_current_stream_capturing():
            found.append(gc.isenabled())
        return (x + 1,)

    Recorded(function)([(torch.ones(3, device=player),)])
    assert found == [False]
    assert gc.isenabled()


@pytest.mark.parametrize(
    "function", [lambda x: (x * float(x.sum()),), lambda x: (x[x > 0].sum(),), lambda x: (x.nonzero().sum(),)]
)
def test_nothing_that_looks_at_values_is_recorded(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a recording that fails PyTorch is not quite itself."""
    gpu = pretend(monkeypatch)
    with pytest.warns(UserWarning, match="cannot be recorded"):
        Recorded(function)([(numbers(0),)])
    assert gpu.events == []


def test_many_lanes_are_as_even_as_can_be(player: str) -> None:
    """For each number of lanes is another recording."""
    mine = Recorded(twice_and_sum)
    mine(lanes(2 * LANES + 1, player))
    assert len(mine._recordings) == 1


def test_lanes_lie_beside_each_other(player: str) -> None:
    seen = set()

    def function(x: Tensor) -> tuple[Tensor]:
        if torch.cuda.is_current_stream_capturing():
            seen.add(torch.cuda.current_stream())
        return (x + 1,)

    Recorded(function)([(torch.ones(3, device=player),)] * 3)
    assert len(seen - {torch.cuda.current_stream()}) == 3


def test_products_of_matrices_take_their_workspaces_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a recording, so that they lie in its memory, and after it, so that nobody else gets them."""
    gpu = pretend(monkeypatch)

    def fail(x: Tensor) -> tuple[Tensor]:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("no more memory")
        return (x + 1,)

    Recorded(twice_and_sum)(lanes(1))
    with pytest.warns(UserWarning, match="no more memory"):
        Recorded(fail)([(numbers(0),)])
    ways = ["recorded", "failed"]
    assert gpu.events == [event for way in ways for event in ("workspaces", "record", way, "workspaces")]


@gpu
def test_what_is_released_is_free() -> None:
    mine = Recorded(lambda x: ((x[:, None] * torch.ones(1, 2**22, device="cuda")).cos().sum(1),))
    x = torch.ones(10, device="cuda")  # 160 MB
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    (first,) = mine([(x,)])[0]
    assert torch.cuda.memory_reserved() > before + 2**27
    mine.release()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < before + 2**24
    assert torch.equal(mine([(x,)])[0][0], first)


@gpu
def test_recordings_share_their_memory() -> None:
    def large(x: Tensor) -> tuple[Tensor]:
        return ((x[:, None] * torch.ones(1, 2**22, device="cuda")).cos().sum(1),)  # 16 MB a row

    mine, free = Recorded(large), []
    for size in range(1, 7):
        mine([(torch.ones(10 + size, device="cuda"),)])
        free.append(torch.cuda.memory_allocated())
    assert free[-1] - free[0] < 2**24


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
def test_what_is_sent_may_be_overwritten(device: str) -> None:
    source = torch.zeros(1000)
    copies = []
    for value in range(20):
        source.fill_(value)
        copies.append(sent(source, device, torch.float64))
    assert [copy.mean().item() for copy in copies] == list(range(20))
