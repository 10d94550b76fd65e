"""Peaks of memory."""

import subprocess
import sys

CODE = """
from pdd_lightning.compute.peaks import host_peak
before = host_peak()
block = b"x" * (100 * 2**20)
del block
print(before, host_peak())
"""


def test_a_process_knows_its_peak() -> None:
    """After what made it has gone."""
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    before, after = map(int, printed.split())
    assert 95 * 2**20 < after - before < 120 * 2**20
