"""Age of the process."""

import subprocess
import sys
import time

from pdd_lightning.process.clock import begin_command, since_start


def test_a_second_command_of_a_process_begins_anew() -> None:
    begin_command()
    begin_command()
    assert since_start() < 0.5
    time.sleep(0.02)
    assert since_start() >= 0.02


CODE = """
import time
time.sleep(0.3)
from pdd_lightning.process.clock import since_start
print(since_start())
"""


def test_a_process_knows_its_age() -> None:
    began = time.perf_counter()
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    assert 0.3 < float(printed) < time.perf_counter() - began + 0.1
