"""The time from a command to where it begins to work, against that of any program that uses Lightning.

python benchmarks/start_up.py --json
"""

import subprocess
import sys

from harness import Settings, Work, compare, parser

COMMAND = ("-m", "pdd_lightning", "fit", "--config", "configs/smoke/stage.yaml", "--print_config")


def ours(settings: Settings) -> Work:
    """A command imports, reads and checks its configuration, and says what it is."""
    return lambda: subprocess.run([sys.executable, *COMMAND], check=True, stdout=subprocess.DEVNULL)


def reference(settings: Settings) -> Work:
    """What importing Lightning and its command line takes alone."""
    line = [sys.executable, "-c", "import lightning.pytorch.cli"]
    return lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    compare(__file__, parser(__doc__ or ""))
