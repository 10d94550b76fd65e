"""Age and memory of the process."""

import subprocess
import sys
import time
from pathlib import Path

from pdd_lightning.process.readings import begin_command, folder_bytes, since_start


def test_a_second_command_of_a_process_begins_anew() -> None:
    begin_command()
    begin_command()
    assert since_start() < 0.5
    time.sleep(0.02)
    assert since_start() >= 0.02


CODE = """
import time
time.sleep(0.3)
from pdd_lightning.process.readings import host_peak, since_start
before = host_peak()
block = b"x" * (100 * 2**20)
del block
print(since_start(), before, host_peak())
"""


def test_a_process_knows_its_age_and_its_peak() -> None:
    began = time.perf_counter()
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    age, before, after = map(float, printed.split())
    assert 0.3 < age < time.perf_counter() - began + 0.1
    assert 95 * 2**20 < after - before < 120 * 2**20  # it stays after the block has gone


def test_bytes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"1")
    assert folder_bytes(tmp_path) == 6
    assert folder_bytes(tmp_path / "missing") == 0
