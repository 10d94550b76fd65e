"""A CPU that records and plays as a GPU does, so that what is recorded can be tested without one.

While a graph is recorded, every operation is noted with its tensors. Playing it runs the operations again, on what
those tensors hold by then: no Python code runs, and what that put in as a number stays as it was. Graphs of one pool
share their memory, so playing one spoils what the others left. Streams of a recording must have waited for those whose
tensors they use. Not seen are kernels, streams outside of recordings, memory that is freed while a graph reads it, and
tensors that lie on another device.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pdd_lightning.compute import cuda_graphs as recorded

Playing = Callable[[], AbstractContextManager[str]]
"""Gives a device that plays what it has recorded."""

WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Tags of operations for whose values, or the size of whose results, a program waits."""

NOWHERE = 0
"""Where tensors without elements begin."""


class Disorder(BaseException):
    """Streams that do not wait for each other. Not an Exception, which a recording that fails is known by."""


class Stream:
    """Work on a CPU is done when it is asked for; on a GPU, what another stream does is done when it was waited for.

    Attributes:
        done: How many operations of each stream are done before the next one here.
        graph: Where its operations are recorded; a stream that waits for a recorded one is recorded too.
    """

    def __init__(self, device: object = None) -> None:
        self.device = device
        self.done = Counter[Stream]()
        self.graph: Graph | None = None

    def wait_stream(self, other: "Stream") -> None:
        self.done |= other.done
        if other.graph is not None and self.graph is None:
            self.graph = other.graph
            self.graph.streams.append(self)
            self.done[self] += 1  # to be waited for, whether or not it does anything


class Refusing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, nobody looks at values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indexed = function.overloadpacket is torch.ops.aten.index
        if any(tensor.dtype == torch.bool for tensor in _tensors(args[1])) if indexed else WAITS & {*function.tags}:
            raise RuntimeError("called a synchronizing CUDA operation")
        return function(*args, **(kwargs or {}))


class Pool:
    """Memory that graphs share while they live."""

    def __init__(self) -> None:
        self.graphs = WeakSet[Graph]()


class Graph(Refusing):  # type: ignore[no-untyped-call]
    """What was recorded.

    Attributes:
        notes: Every operation, and those of its results that lie in new memory.
        streams: The one that it is recorded on, and the branches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, list[Tensor | None]]] = []
        self.pool = Pool()
        self.streams: list[Stream] = []
        self._written: dict[int, Counter[Stream]] = defaultdict(Counter)
        self._used: dict[int, Counter[Stream]] = defaultdict(Counter)

    @contextmanager
    def on(self, gpu: "PretendedGPU", stream: Stream) -> Iterator[None]:
        """Record what the stream, and those that wait for it, do."""
        self._gpu, stream.graph = gpu, self
        self.streams = [stream]
        try:
            with self:
                yield
        finally:
            for branch in self.streams:
                branch.graph = None
            if not all(branch.done <= stream.done for branch in self.streams):
                raise Disorder("a branch that nobody waited for")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = super().__torch_dispatch__(function, types, args, kwargs)
        held = {memory(tensor) for tensor in _tensors((args, kwargs))}
        fresh = [tensor if memory(tensor) not in held else None for tensor in _tensors(given)]
        self.notes.append((function, args, kwargs, fresh))
        self._order(function, args, kwargs, [tensor for tensor in fresh if tensor is not None])
        return given

    def _order(self, function: Any, args: Any, kwargs: Any, fresh: list[Tensor]) -> None:
        """See that the present stream has waited for whoever wrote what it reads, and used what it writes."""
        stream = self._gpu.current
        if stream.graph is not self:
            raise Disorder("a stream that is not recorded")
        taken = {argument.name: argument for argument in function._schema.arguments}
        given = {**dict(zip(taken, args, strict=False)), **kwargs}
        writes = {name for name, argument in taken.items() if argument.alias_info and argument.alias_info.is_write}
        written = {memory(tensor) for tensor in (*fresh, *_tensors([given[name] for name in writes & given.keys()]))}
        used = {memory(tensor) for tensor in _tensors(given)} | written
        used, written = used - {NOWHERE}, written - {NOWHERE}
        before = [self._written[key] for key in used] + [self._used[key] for key in written]
        if not all(uses <= stream.done for uses in before):
            raise Disorder(f"{function} before what it needs")
        stream.done[stream] += 1
        for keys, uses in ((used, self._used), (written, self._written)):
            for key in keys:
                uses[key][stream] = stream.done[stream]

    @torch.no_grad()
    def spoil(self) -> None:
        """Something else used the memory, or nothing was computed yet."""
        for _, _, _, fresh in self.notes:
            for tensor in fresh:
                if tensor is not None:
                    tensor.fill_(torch.nan if tensor.is_floating_point() else True)

    @torch.no_grad()
    def replay(self) -> None:
        for graph in self.pool.graphs:
            graph.spoil()
        for function, args, kwargs, fresh in self.notes:
            for tensor, value in zip(fresh, _tensors(function(*args, **kwargs)), strict=True):
                if tensor is not None:
                    tensor.copy_(value)


def memory(tensor: Tensor) -> int:
    """Where it begins."""
    return tensor.untyped_storage().data_ptr()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class PretendedGPU:
    """Stands where :mod:`torch.cuda` does.

    Attributes:
        events: What happened about recordings, in order.
        recording: The graph that is being recorded.
        graphs: Those that nobody has let go.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.recording: Graph | None = None
        self.graphs = WeakSet[Graph]()
        self.current = Stream()
        self._refusing = ExitStack()

    def current_stream(self, device: object = None) -> Stream:
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Graph, pool: Pool, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert self.recording is None
        before, self.current, self.recording = self.current, stream, graph
        graph.pool = pool
        pool.graphs.add(graph)
        self.graphs.add(graph)
        self.events.append("record")
        try:
            with graph.on(self, stream):
                yield
        except Exception:
            self.events.append("failed")
            raise  # PyTorch stays on the stream of a recording that fails
        else:
            self.current = before
            graph.spoil()
            self.events.append("recorded")
        finally:
            self.recording = None

    def set_sync_debug_mode(self, mode: str | int) -> None:
        self._refusing.close()
        if mode == "error":
            self._refusing.enter_context(Refusing())


def pretend(monkeypatch: pytest.MonkeyPatch) -> PretendedGPU:
    """Let the CPU record and play for a test."""
    gpu = PretendedGPU()
    monkeypatch.setattr(recorded, "_DEVICES", {"cpu"})
    stand_ins = {
        "current_stream": gpu.current_stream,
        "Stream": Stream,
        "stream": gpu.stream,
        "device": nullcontext,
        "empty_cache": lambda: None,
        "synchronize": lambda: None,
        "graph_pool_handle": Pool,
        "CUDAGraph": Graph,
        "graph": gpu.graph,
        "is_current_stream_capturing": lambda: gpu.recording is not None,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": gpu.set_sync_debug_mode,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: gpu.events.append("workspaces"), raising=False)
    return gpu


@contextmanager
def recordings() -> Iterator[list[object]]:
    """Within it, what is recorded is counted, by whatever device."""
    made: list[object] = []

    class Counted(recorded._Recording):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded, "_Recording", Counted)
        yield made
