"""Batch norm over minibatches that several processes share, on any device."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_HALF = (torch.bfloat16, torch.float16)
"""Types whose sums over a minibatch would lose the digits that matter."""


def synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    """A network whose batch norms take their statistics over the processes; itself if it has none.

    Args:
        network: Changed in place below its top.
        device: Where it will run: torch's own class works on accelerators only.
    """
    if device.type != "cpu":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    if isinstance(network, _BatchNorm):
        return SynchronisedBatchNorm(network)
    for name, child in network.named_children():
        setattr(network, name, synchronised(child, device))
    return network


class _SumOverProcesses(torch.autograd.Function):
    """The sum, whose gradient is the sum of the gradients: every process uses it."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        total = outer[0].clone()
        torch.distributed.all_reduce(total)
        return total


def _sum(mine: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(mine)
    return total


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm as if one process had the whole minibatch, shares of unequal size included.

    Args:
        plain: Whose options, parameters and statistics it takes over, under the same names.

    Example:
        >>> network = synchronised(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), torch.device("cpu"))
        >>> type(network[1]).__name__, list(network.state_dict())[2:4]
        ('SynchronisedBatchNorm', ['1.weight', '1.bias'])
    """

    def __init__(self, plain: _BatchNorm) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        self._parameters, self._buffers = plain._parameters, plain._buffers

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes any number of dimensions."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise.

        Args:
            images: Shape (B, C, ...), this process's share of the minibatch, possibly empty.
        """
        if not self.training:
            return super().forward(images)
        given, images = images.dtype, images.float() if images.dtype in _HALF else images
        over = [0, *range(2, images.ndim)]
        shape = [1, -1, *[1] * (images.ndim - 2)]
        count = images.new_tensor([images.numel() / images.shape[1]])
        sums = _sum(torch.cat([images.sum(over), count]))
        count, mean = sums[-1:].detach(), sums[:-1] / sums[-1:].detach()
        # In a second round: the difference of large sums would lose the digits that matter.
        centred = images - mean.view(shape)
        variance = _sum(centred.square().sum(over)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scaled: Tensor = centred * torch.rsqrt(variance + self.eps).view(shape)
        normalised = scaled * self.weight.view(shape) + self.bias.view(shape) if self.affine else scaled
        return normalised.to(given)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)
