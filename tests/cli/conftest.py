"""Runs to look at and to copy, made once."""

import shutil
from pathlib import Path

import pytest
import torch
from commandline import Fit, Refused, fit_into


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def fit(run: Path) -> Fit:
    return lambda *args: fit_into(run, *args)


@pytest.fixture
def refused(fit: Fit, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs `fit` with a mistake; returns the one line that it must print."""

    def refuse(*args: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            fit(*args)
        printed = capsys.readouterr()
        assert exit_.value.code == 2
        assert printed.out == ""
        lines = [line for line in printed.err.splitlines() if "pdd-cli: error:" in line]
        assert len(lines) == 1
        assert printed.err.rstrip().endswith(lines[0])
        assert not any(word in printed.err for word in ("Traceback", "usage:", "Namespace(", "<class '"))
        return lines[0]

    return refuse


@pytest.fixture(scope="session")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which stage 1 is complete; copy it before use."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("first") / "run"
    fit_into(run)
    return run


@pytest.fixture(scope="session")
def two_stages(first_stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which both stages are complete; copy it before use."""
    run = tmp_path_factory.mktemp("two") / "run"
    shutil.copytree(first_stage, run)
    fit_into(run)
    return run
