"""Work that is the same every time: recorded once on a GPU, and played back.

A step of a small network is hundreds of kernels, each of which takes less time than its launch. A CUDA graph launches
all of them at once, and those of several networks lie beside each other on branches of one graph, which fills a GPU
that a single one leaves idle. The kernels are those that would run anyway. On other devices everything is computed as
it comes.
"""

import gc
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

LANES = 4
"""Most branches of a graph; eight were no faster than four (docs/performance.md)."""


_MOST = 32
"""Recordings of a function; what has yet another shape is computed as it comes."""


_WARM_UP = 2
"""Calls before recording, in which libraries choose their kernels and compilers compile; one more looks for trouble."""


_DEVICES = {"cuda"}
"""Types of devices that can play what they recorded."""


_KNOWN = ("torch", "torchvision.models", "torchvision.ops", "pdd_lightning")  # torchvision.transforms draw numbers


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


Function = Callable[..., Sequence[Tensor]]


def synchronise(device: torch.device) -> None:
    """Wait for an accelerator, which works on while Python is ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def records(device: torch.device) -> bool:
    """Whether work on a device is recorded."""
    return device.type in _DEVICES


def is_known(network: nn.Module) -> bool:
    """Whether a network's Python code is known to do the same every time.

    That is so for modules of PyTorch, torchvision's networks and this package without hooks. A module of the user's own
    might draw numbers in Python, or keep a tensor from one call for the next; one that does not says so by an attribute
    ``recordable = True`` of its class.
    """
    return all(
        (_is_within(type(module).__module__, _KNOWN) or getattr(type(module), "recordable", False))
        and not any(getattr(module, hooks) for hooks in _HOOKS)
        for module in network.modules()
    )


def _is_within(name: str, packages: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


class Recorded:
    """A function of tensors, for several arguments side by side.

    It must compute the same from the same tensors and do nothing else, since later calls do not run its Python code.
    Where it cannot be recorded, because it looks at values or for want of memory, a warning says so and it is computed
    as it comes.

    Args:
        function: Takes tensors and returns tensors.
        usable: Whether to record it at all; see :func:`is_known`.

    Example:
        >>> squares = Recorded(lambda x: [x.square()])
        >>> [found for (found,) in squares([(torch.tensor(2.0),), (torch.tensor(3.0),)])]
        [tensor(4.), tensor(9.)]
    """

    def __init__(self, function: Function, usable: bool = True) -> None:
        self.function = function
        self._usable = usable
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        self._pool: Any = None

    def __call__(self, lanes: Sequence[Sequence[Tensor]]) -> list[tuple[Tensor, ...]]:
        """Compute the function for each lane.

        Args:
            lanes: The arguments of each.

        Returns:
            What the function returns for each, owned by the caller.
        """
        if not lanes:
            return []
        found: list[tuple[Tensor, ...]] = []
        parts = math.ceil(len(lanes) / LANES)
        for part in range(parts):
            # As even as can be: graphs are recorded for one number of lanes each.
            few = lanes[part * len(lanes) // parts : (part + 1) * len(lanes) // parts]
            found += self._play(few) or [tuple(self.function(*lane)) for lane in few]
        return found

    def release(self) -> None:
        """Let go of the recordings and of their memory."""
        if self._recordings:
            torch.cuda.synchronize()  # expandable segments are unmapped even while they are played
        self._recordings.clear()
        self._pool = None

    def _play(self, lanes: Sequence[Sequence[Tensor]]) -> list[tuple[Tensor, ...]] | None:
        device = lanes[0][0].device
        if not (self._usable and records(device)):
            return None
        key = (device, *((tensor.shape, tensor.dtype) for lane in lanes for tensor in lane))
        if key not in self._recordings:
            if len(self._recordings) == _MOST:
                return None
            try:
                # One for all recordings: they are played one after the other, and what one leaves is copied at once.
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                self._recordings[key] = _Recording(self.function, lanes, self._pool)
            except Exception as error:  # whatever a network of the user's own may do
                # An error that has nothing to do with recording comes again when the same is computed as it comes.
                self._usable = False
                self.release()  # for what they hold may be what is missing
                first = str(error).strip().partition("\n")[0]
                warnings.warn(
                    f"this network's steps cannot be recorded as a CUDA graph ({type(error).__name__}: {first}); going "
                    "on without, which is slower",
                    stacklevel=4,
                )
                return None
        return self._recordings[key].play(lanes)


class _Recording:
    """A graph, with memory of its own for what goes in."""

    def __init__(self, function: Function, lanes: Sequence[Sequence[Tensor]], pool: Any) -> None:
        self._inputs = [[tensor.detach().clone() for tensor in lane] for lane in lanes]
        device = self._inputs[0][0].device
        here, (main, *branches) = torch.cuda.current_stream(device), _streams(device)
        with torch.cuda.device(device), torch.cuda.stream(here):  # to which a recording that fails might not return
            torch.cuda.empty_cache()  # memory of recordings that are gone serves nothing else
            main.wait_stream(here)
            try:
                with torch.cuda.stream(main):
                    for _ in range(_WARM_UP):
                        _side_by_side(function, self._inputs, branches)
                    with _looking_refused():  # rather than in the recording, after which PyTorch is not quite itself
                        _side_by_side(function, self._inputs, branches)
            finally:
                for stream in (main, *branches):  # what failed may still be reading the inputs
                    here.wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with (
                _own_workspaces(),
                _nothing_collected(),
                # Other threads, such as those that watch over several processes, may go on with what they do.
                torch.cuda.graph(self._graph, pool=pool, stream=main, capture_error_mode="thread_local"),
            ):
                self._outputs = _side_by_side(function, self._inputs, branches)

    def play(self, lanes: Sequence[Sequence[Tensor]]) -> list[tuple[Tensor, ...]]:
        for own, given in zip(self._inputs, lanes, strict=True):
            for mine, tensor in zip(own, given, strict=True):
                mine.copy_(tensor)
        self._graph.replay()
        return [tuple(tensor.clone() for tensor in lane) for lane in self._outputs]


def _side_by_side(
    function: Function, lanes: Sequence[Sequence[Tensor]], streams: Sequence[torch.cuda.Stream]
) -> list[tuple[Tensor, ...]]:
    """The function for each lane, on a stream of its own that begins and ends at the present one."""
    if len(lanes) == 1:
        return [tuple(function(*lanes[0]))]
    main, streams = torch.cuda.current_stream(), streams[: len(lanes)]
    found = []
    for stream in streams:
        stream.wait_stream(main)
    try:
        for lane, stream in zip(lanes, streams, strict=True):
            with torch.cuda.stream(stream):
                found.append(tuple(function(*lane)))
    finally:
        for stream in streams:  # a recording that fails could not even be ended with branches that do not
            main.wait_stream(stream)
    return found


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    """One to record on, and one for each lane."""
    return [torch.cuda.Stream(device) for _ in range(1 + LANES)]  # type: ignore[no-untyped-call]


@contextmanager
def _own_workspaces() -> Iterator[None]:
    """Within it, products of matrices take their workspaces from the memory of the graph that is recorded.

    PyTorch before 2.15 keeps one for each stream, outside of the graphs that use it. Lightning frees them at the end of
    a fit, and PyTorch 2.14 that of a stream with any graph that was recorded on it (pytorch/pytorch#193402).
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Within it, Python collects no garbage: a graph that is freed would end the recording of another."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _looking_refused() -> Iterator[None]:
    """Within it, waiting for the GPU's values is an error."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)
