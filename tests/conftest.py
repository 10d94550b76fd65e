"""Every test runs on one thread, and leaves torch's global settings as it found them."""

import os
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


def settings() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    before = settings()
    yield
    after = settings()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    assert after == before, "the test changed a global setting of torch"
