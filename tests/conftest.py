"""Every test runs on one thread of one process, and leaves torch's global settings as it found them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from pretended import Playing, pretend

from pdd_lightning.stage import context

torch.set_num_threads(1)
# What tests put in the place of a function would be missing in other processes.
context.spare = lambda *_: 1  # type: ignore[attr-defined]
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


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def playing(request: pytest.FixtureRequest) -> Playing:
    """Within it there is a device that plays what it has recorded: a GPU, or a CPU that pretends to be."""

    @contextmanager
    def play() -> Iterator[str]:
        if request.param == "cuda":
            yield "cuda"
            return
        with pytest.MonkeyPatch.context() as patch:
            pretend(patch)
            yield "cpu"

    return play


@pytest.fixture
def player(playing: Playing) -> Iterator[str]:
    """The device, for the whole test."""
    with playing() as device:
        yield device
