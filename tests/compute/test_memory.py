"""The allocator's settings, and memory beside its heap."""

import mmap
import platform
import subprocess
import sys

import pytest
import torch

from pdd_lightning.compute.memory import block

CHURN = """
import resource, torch
from pdd_lightning.compute.memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): torch.ones(16_000_000)
before = faults()
for _ in range(10): torch.ones(16_000_000)
print(faults() - before)
"""


def page_faults(*, keep: bool) -> int:
    done = subprocess.run([sys.executable, "-c", CHURN.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc knows mallopt")
def test_large_blocks_are_used_again() -> None:
    # Ten blocks of 64 MB, which glibc never keeps by itself: mapped anew, each faults in all of its pages.
    assert page_faults(keep=True) * 10 < page_faults(keep=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_block_holds_copies_of_a_vector(dtype: torch.dtype) -> None:
    vector = torch.arange(5, dtype=dtype)
    held = block(3, vector)
    for row in range(3):
        held[row] = row * vector
    assert torch.equal(held, torch.arange(3, dtype=dtype)[:, None] * vector)
    assert held.data_ptr() % mmap.PAGESIZE == 0  # not from the heap
    assert block(0, vector).shape == (0, 5)
