"""Runs on a CPU that records and plays as a GPU does, beside the same runs as they come."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import CONFIG, METHODS, call, fit_into, options, plan
from pretended import PretendedGPU, pretend
from safetensors.torch import load_file

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.evaluation.module import EvaluationModule
from pdd_lightning.planning.rehearsal import _Rehearsing
from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.folders import RunFolder

METHOD = {
    "trajectories": ("--model.objective.recompute", "null"),
    **{method: options(method) for method in METHODS},
}
OFTEN = ("trajectories",)
"""The method that records most: walks, experts, members of a transition and networks of an evaluation."""

ENDS = [(ExpertTrajectories, "prepare"), (StageModule, "on_train_end"), (EvaluationModule, "on_train_end")]
SEVERAL = ("--model.networks_at_once", "2", "--model.points", "2")


def run_all(run: Path, *args: str) -> dict[str, torch.Tensor]:
    """Both stages and the evaluation, each in what stands for a process; returns what the stages leave."""
    for stage in (1, 2):
        gc.collect()
        fit_into(run, *args)
        assert RunFolder(run).stage(stage).complete
    gc.collect()
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run), *args])
    stages = [RunFolder(run).stage(number) for number in (1, 2)]
    return {
        f"{stage.directory.name} {name}": tensor
        for stage in stages
        for path in (stage.synthetic, stage.end_states)
        for name, tensor in load_file(path).items()
    }


def counted(work: Callable[..., None], gpu: PretendedGPU, left: list[int]) -> Callable[..., None]:
    """The work, which notes how many recordings it leaves."""

    def counting(*args: Any) -> None:
        work(*args)
        left.append(len(gpu.graphs))

    return counting


@pytest.mark.parametrize(
    "method", [each if each in OFTEN else pytest.param(each, marks=pytest.mark.slow) for each in METHOD]
)
def test_a_run_that_is_recorded_is_the_run_as_it_comes(method: str, tmp_path: Path) -> None:
    left: list[int] = []
    args = (*METHOD[method], *SEVERAL)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be recorded")
        gpu = pretend(patch)
        for owner, name in ENDS:
            patch.setattr(owner, name, counted(getattr(owner, name), gpu, left))
        found = run_all(tmp_path / "recorded", *args)
    assert "recorded" in gpu.events
    # Of two stages, their experts, and three trainings of the evaluation: what follows needs the memory.
    assert left == [0] * (7 if method == "trajectories" else 5)
    wanted = run_all(tmp_path / "plain", *args)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_fresh_networks_that_watch_are_recorded_beside_the_steps(tmp_path: Path) -> None:
    left: list[int] = []
    args, watch = (*METHOD["trajectories"], *SEVERAL, "--model.recipe.epochs", "20"), ("--model.watch_every", "4")
    with pytest.MonkeyPatch.context() as patch:
        gpu = pretend(patch)
        patch.setattr(StageModule, "on_train_end", counted(StageModule.on_train_end, gpu, left))
        fit_into(tmp_path / "recorded", *args)
        fit_into(tmp_path / "watched", *args, *watch)
    fit_into(tmp_path / "plain", *args, *watch)
    assert left == [0, 0]
    recorded, watched, plain = (RunFolder(tmp_path / name).stage(1) for name in ("recorded", "watched", "plain"))
    assert watched.fingerprint() == recorded.fingerprint()
    found, wanted = (torch.tensor(stage.read_manifest().summary["watched"]) for stage in (watched, plain))
    assert found.shape == (3, 1 + 3)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)  # an image or two


def test_a_run_that_is_recorded_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(children, "call", call)
    gpu = pretend(monkeypatch)
    monkeypatch.setattr(_Rehearsing, "prepare", counted(_Rehearsing.prepare, gpu, left))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be recorded")
        found = plan(tmp_path / "run", *METHOD["trajectories"], *SEVERAL)
    assert "recorded" in gpu.events
    assert left == [0, 0]  # of experts, for either stage: the memory of steps is measured without them
    assert found["total"]["seconds"] > 0
