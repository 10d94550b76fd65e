"""Batch norm over processes, here over one."""

import pytest
import torch
from torch import nn

from pdd_lightning.networks import batch_norm as module
from pdd_lightning.networks.batch_norm import synchronised
from pdd_lightning.rng import generator


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_torchs_batch_norm_in_any_precision(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics are those of float32, and the answer has the type of the input."""
    monkeypatch.setattr(module, "_sum", lambda mine: mine)  # the sum over one process
    plain, ours = nn.BatchNorm2d(3), synchronised(nn.BatchNorm2d(3), torch.device("cpu"))
    images = (5 + torch.randn(8, 3, 4, 4, generator=generator(0, "images"))).to(dtype)
    found, wanted = ours(images), plain(images.float())
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    torch.testing.assert_close(ours.running_var, plain.running_var)
