"""The result does not depend on the number of processes: images, experts, start states and accuracies."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import CONFIG
from processes import together

from pdd_lightning.cli.main import main
from pdd_lightning.store.files import read_tensors
from pdd_lightning.store.folders import RunFolder

# Two match points, so that there is work to share; evaluated with batch norm, which must be synchronised.
OPTIONS = [
    *("--config", str(CONFIG), "--model.points", "2", "--model.iterations", "20", "--threads", "1"),
    *("--model.dynamics.experts", "3", "--evaluation.seeds", "3", "--evaluation.random_rates", "[0.05, 0.1]"),
    "--evaluation.networks=[{class_path: ConvNet, init_args: {width: 4, depth: 1, norm: batch}}]",
]


def commands(run: Path, *more: str) -> list[list[str]]:
    options = [*OPTIONS, "--run_dir", str(run), *more]
    return [["fit", *options], ["fit", *options], ["evaluate", *options]]


def on_devices(world: int) -> tuple[str, ...]:
    return ("--trainer.devices", str(world), "--trainer.strategy", "ddp")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    for command in commands(run):
        main(command)
    return run


def accuracies(run: Path) -> dict[str, Any]:
    rows = json.loads((run / "evaluation" / "results.json").read_text())["rows"]
    return {f"{row['name']} {row['stage']} {number}": row["accuracies"] for number, row in enumerate(rows)}


def close(one: Path, other: Path) -> None:
    mine, theirs = read_tensors(one)[0], read_tensors(other)[0]
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)


def same_experts(one: Path, other: Path, stage: int) -> None:
    mine, theirs = (sorted((run / "experts").glob(f"stage_{stage:02d}-*/expert_*")) for run in (one, other))
    assert [path.name for path in mine] == [path.name for path in theirs]
    assert len(mine) == 3
    for a, b in zip(mine, theirs, strict=True):
        close(a, b)


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_make_what_one_makes(world: int, alone: Path, tmp_path: Path) -> None:
    run, spread = tmp_path / "run", tmp_path / "spread"
    shutil.copytree(alone, spread)
    shutil.rmtree(spread / "evaluation")
    evaluate = commands(spread, *on_devices(world), "--evaluation.spread", "true")[2]
    together(world, *commands(run, *on_devices(world)), evaluate)
    for stage in (1, 2):
        for name in ("synthetic.safetensors", "end_states.safetensors"):
            close(alone / f"stage_{stage:02d}" / name, run / f"stage_{stage:02d}" / name)
        same_experts(alone, run, stage)
    assert RunFolder(run).completed(2) == 2
    assert accuracies(run) == accuracies(alone)
    assert accuracies(spread) == accuracies(alone)
