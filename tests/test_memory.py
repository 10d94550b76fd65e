"""The allocator's settings."""

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource, torch
from pdd_lightning.memory import keep_freed_memory
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
