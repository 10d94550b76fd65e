"""A step of training as a graph of plain operations, in which convolutions are what the device computes fastest.

What nobody reads and what is nothing is left out: a convolution's gradients are taken one by one, and those of tangents
that are zero not at all. Kernels for convolutions on a CPU run near its peak, so that only fewer operations help: 3x3
convolutions between many channels become :mod:`pdd_lightning.compute.winograd` there, and the gradient in images of
few channels, for which kernels are poor, one product of matrices. All of this takes the convolutions' place in the
graph of the derivatives, not in the network, so that every derivative gets the same treatment.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.func import functionalize
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass
from torch.nn import functional as F

from pdd_lightning.compute import winograd

_aten = torch.ops.aten


MANY_CHANNELS = 64
"""From so many on, convolutions are done in tiles: the whole step is 1.4 times faster at 64 and 1.1 times at 32, where
compiling, which takes twice as long, would not pay."""


FEW_CHANNELS = 4
"""Up to so many, the gradient in the images is a product of matrices."""


def lowered(function: Callable[..., Any], *arguments: Tensor) -> GraphModule:
    """The graph of a function for arguments of these shapes, every derivative within it written out.

    Args:
        function: Takes and returns tensors. It is run once on tensors without values: what it keeps of them would spoil
            it for other uses, so give it a network of its own.
        arguments: Of the shapes, types and device that the graph is for; their values do not matter.

    Returns:
        A module that computes the same but for rounding.

    Raises:
        RuntimeError: If there is no such graph: what is computed depends on the values, is drawn at random, or cannot
            be followed.
    """

    def plain(*tensors: Tensor) -> Any:  # of a bound method, make_fx would count one argument more
        return function(*tensors)

    trace = make_fx(
        functionalize(plain, remove="mutations"),
        decomposition_table=_RULES,
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )
    try:
        graph: GraphModule = trace(*arguments)
    except Exception as error:  # whatever a network of the user's own can do to a trace
        raise RuntimeError(f"it cannot be traced: {type(error).__name__}: {error}") from error
    _check(graph)
    for node in graph.graph.nodes:
        # A view was traced for strides that are no longer those of its input.
        if node.target in (_aten.view.default, _aten._unsafe_view.default):
            node.target = _aten.reshape.default
    _leave_out_zeros(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    # Images are cut into tiles once, for the outputs and for the gradient in the weights.
    merged: Any = CSEPass()(graph)
    module: GraphModule = merged.graph_module
    return module


def pays_to_lower(network: nn.Module) -> bool:
    """Whether a network's own gradients, without those of its gradients, are faster for it: from 128 channels on.

    At 64 channels tiles compute them no faster than PyTorch's kernels, and take twice as long to compile.
    """
    return any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (3, 3)
        and min(layer.in_channels, layer.out_channels) >= 2 * MANY_CHANNELS
        for layer in network.modules()
    )


def _check(graph: GraphModule) -> None:
    """Refuse a graph that is not a function of its inputs, for equal nodes are merged."""
    for node in graph.graph.nodes:
        if isinstance(node.target, OpOverload) and (
            node.target._schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
        ):
            raise RuntimeError(f"{node.target} changes its input or draws at random")
        if node.op == "get_attr" and isinstance(getattr(graph, node.target), FakeTensor):
            raise RuntimeError("it keeps tensors from one call for the next")


def _leave_out_zeros(graph: GraphModule) -> None:
    """Put zeros in the place of convolutions of zeros, which stand for tangents that there are not."""
    for node in graph.graph.nodes:
        if node.target is _aten.convolution.default:
            operands, read = node.args[:2], [node] if node.args[2] is None else []
        elif node.target is _aten.convolution_backward.default:
            # One gradient each: in the images it is made of the weights, in the weights of the images.
            operands, read = (node.args[0], node.args[2 if node.args[-1][0] else 1]), list(node.users)
        else:
            continue
        if any(operand.target in _ZEROS for operand in operands):
            for result in read:
                if "val" not in result.meta:  # of a gradient that was not asked for
                    continue
                with graph.graph.inserting_before(result):
                    like = result.meta["val"]
                    zeros = graph.graph.call_function(
                        _aten.zeros.default, (list(like.shape),), {"dtype": like.dtype, "device": like.device}
                    )
                    zeros.meta["val"] = like
                result.replace_all_uses_with(zeros)


def _is_plain(x: Tensor, weight: Tensor, options: Sequence[Any]) -> bool:
    """Whether a convolution is 3x3 with one pixel of padding and nothing else."""
    stride, padding, dilation, transposed, _, groups = options
    return (
        tuple(weight.shape[2:]) == (3, 3)
        and x.ndim == 4
        and all(tuple(pair) == (1, 1) for pair in (stride, padding, dilation))
        and not transposed
        and groups == 1
    )


def _in_tiles(x: Tensor, weight: Tensor) -> bool:
    """Whether tiles cover the images, and pay."""
    covered = all(side % winograd.TILE == 0 for side in x.shape[2:])
    exact = x.dtype in (torch.float32, torch.float64)  # their sums would not survive the rounding of bfloat16
    return x.device.type == "cpu" and exact and covered and min(weight.shape[:2]) >= MANY_CHANNELS


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Any:
    if not (_is_plain(x, weight, options) and _in_tiles(x, weight)):
        return NotImplemented
    y = winograd.convolution(x, weight)
    return y if bias is None else y + bias[:, None, None]


def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, bias_sizes: list[int] | None, *rest: Any) -> Any:
    *options, wanted = rest
    if sum(wanted) > 1 or wanted[2]:
        # One by one, so that those that nobody reads can be left out.
        return tuple(_only(part, gradient, x, weight, options) if wanted[part] else None for part in range(3))
    if not _is_plain(x, weight, options):
        return NotImplemented
    of_x = wanted[0]
    if _in_tiles(x, weight):
        found = winograd.image_gradient(gradient, weight) if of_x else winograd.weight_gradient(gradient, x)
    elif of_x and x.device.type == "cpu" and x.shape[1] <= FEW_CHANNELS:
        found = _image_gradient(gradient, weight)
    else:
        return NotImplemented
    return (found, None, None) if of_x else (None, found, None)


def _only(part: int, gradient: Tensor, x: Tensor, weight: Tensor, options: Sequence[Any]) -> Tensor:
    """One of the gradients in the images, the weights and the bias."""
    if part == 2:
        return gradient.sum([axis for axis in range(gradient.ndim) if axis != 1])
    wanted = [part == 0, part == 1, False]
    found: Tensor = _aten.convolution_backward(gradient, x, weight, None, *options, wanted)[part]
    return found


def _image_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """What each pixel of the output gives its nine neighbours, added up where it lands."""
    outputs, channels = weight.shape[:2]
    count, _, height, width = gradient.shape
    given = gradient.permute(0, 2, 3, 1).reshape(-1, outputs) @ weight.permute(0, 2, 3, 1).reshape(outputs, -1)
    padded = F.pad(given.reshape(count, height, width, 3, 3, channels), (0, 0, 0, 0, 0, 0, 1, 1, 1, 1))
    landed = [
        padded[:, 2 - row : 2 - row + height, 2 - column : 2 - column + width, row, column]
        for row in range(3)
        for column in range(3)
    ]
    return torch.stack(landed).sum(0).permute(0, 3, 1, 2)


_RULES: dict[Any, Callable[..., Any]] = {
    _aten.convolution.default: _convolution,
    _aten.convolution_backward.default: _convolution_backward,
}


_ZEROS = {_aten.zeros.default, _aten.zeros_like.default, _aten.new_zeros.default}
