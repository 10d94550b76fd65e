"""The command line inside the test's process: importing torch anew would cost seconds for each command."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pdd_lightning.cli.main import main

CONFIG = Path(__file__).parent / "conf" / "micro.yaml"

Fit = Callable[..., None]
Refused = Callable[..., str]


def fit_into(run: Path, *args: str) -> None:
    main(["fit", "--config", str(CONFIG), "--run_dir", str(run), *args])


def call(command: str, args: list[str], **environment: str) -> int:
    """Stands for `pdd_lightning.cli.children.call`: the command runs inside this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        main([command, *args])
    return 0
