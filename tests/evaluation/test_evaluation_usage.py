"""What evaluations note of themselves."""

import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pdd_lightning.evaluation import usage
from pdd_lightning.evaluation.usage import EvaluationUsage


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process needs ten to begin, and each job one."""
    clock = count()
    monkeypatch.setattr(usage, "since_start", lambda: 10.0)
    monkeypatch.setattr(usage, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))


def evaluate(folder: Path, identity: str, *jobs: str) -> Any:
    noted = EvaluationUsage(folder / "usage.json", identity, torch.device("cpu"))
    for job in jobs:
        with noted.job(job):
            pass
    return json.loads((folder / "usage.json").read_text())


def test_an_evaluation_that_is_continued_adds_up(tmp_path: Path) -> None:
    evaluate(tmp_path, "mine", "selection", "random")
    found = evaluate(tmp_path, "mine", "selection", "full")
    assert found["start"] == 20
    assert found["jobs"] == {"selection": 2, "random": 1, "full": 1}


def test_under_other_settings_it_begins_anew(tmp_path: Path) -> None:
    """And keeps what it does not do again."""
    evaluate(tmp_path, "mine", "selection", "random", "random", "full")
    found = evaluate(tmp_path, "other", "selection", "random", "random", "random")
    assert found["start"] == 10
    assert found["jobs"] == {"selection": 2, "random": 3, "full": 1}  # a selection is read again, not made


def test_a_job_that_fails_is_not_noted(tmp_path: Path) -> None:
    noted = EvaluationUsage(tmp_path / "usage.json", "mine", torch.device("cpu"))
    with pytest.raises(RuntimeError), noted.job("random"):
        raise RuntimeError
    assert not (tmp_path / "usage.json").exists()
