"""A small run from Python, made once."""

from pathlib import Path

import pytest
import torch

import pdd_lightning as pdd
from distilling.small import small


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages; copy it before use."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("python") / "run"
    pdd.distil(run_dir=run, **small())
    return run
