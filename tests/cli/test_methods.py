"""Methods other than trajectory matching through the command line."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import METHODS, Fit, Refused, fit_into, options
from safetensors.torch import load_file
from torch import nn

from pdd_lightning.dynamics import RealTraining, SyntheticTraining
from pdd_lightning.dynamics.evolving import EvolvingNetwork
from pdd_lightning.networks import Architecture
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import ImageShape


class Featureless(Architecture):
    """A network without the division into features and head."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(image_shape).numel(), num_classes))


def digests(run: Path) -> list[str]:
    folder = RunFolder(run).stage(1)
    return [file_digest(folder.synthetic), file_digest(folder.end_states)]


@pytest.fixture(scope="module", params=METHODS)
def straight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    run = tmp_path_factory.mktemp(request.param) / "run"
    fit_into(run, *options(request.param))
    return request.param, run


# Episodes have five steps: the first interruption is within one, the second between two.
@pytest.mark.parametrize("done", [4, 5])
def test_twelve_steps_are_some_and_the_others(straight: tuple[str, Path], done: int, run: Path, fit: Fit) -> None:
    method, wanted = straight
    fit(*options(method), "--trainer.max_steps", str(done), "--checkpoint_every", "2")
    assert not RunFolder(run).stage(1).complete
    fit(*options(method))
    assert digests(run) == digests(wanted)


def test_images_move_and_the_rate_stays(straight: tuple[str, Path], tmp_path: Path) -> None:
    method, run = straight
    fit_into(tmp_path / "still", *options(method), "--model.image_lr", "1e-20")
    moved, still = (load_file(RunFolder(r).stage(1).synthetic) for r in (run, tmp_path / "still"))
    assert ((moved["images"] - still["images"]).abs().flatten(1).max(1).values > 0).all()
    assert moved["learning_rate"] == still["learning_rate"]


@pytest.mark.parametrize("dynamics", [RealTraining, SyntheticTraining])
def test_the_network_is_trained_after_every_step_but_the_last_of_an_episode(
    dynamics: type[EvolvingNetwork], fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    train = dynamics.train

    def noting(self: Any, step: int, *args: Any) -> None:
        steps.append(step)
        train(self, step, *args)

    monkeypatch.setattr(dynamics, "train", noting)
    fit(*options("real" if dynamics is RealTraining else "synthetic"))
    assert steps == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]


def test_a_second_stage_is_conditioned_on_the_first(straight: tuple[str, Path], run: Path, fit: Fit) -> None:
    method, first = straight
    shutil.copytree(first, run)
    fit(*options(method))
    assert RunFolder(run).completed(2) == 2


def test_an_objective_that_needs_a_target_is_refused(refused: Refused, run: Path) -> None:
    line = refused(*options("real"), "--model.objective", "TrajectoryMatching")
    for words in ("model.objective=TrajectoryMatching", "model.dynamics=RealTraining", "use ExpertTrajectories"):
        assert words in line
    assert not run.exists()


def test_a_network_without_features_is_refused(refused: Refused, run: Path) -> None:
    line = refused(*options("start"), "--model.network", f"{__name__}.Featureless")
    assert "model.network builds a Sequential, whose features are unknown" in line
    assert not run.exists()


@pytest.mark.parametrize(
    ("method", "args", "words"),
    [
        ("real", ("--model.dynamics.batch_size", "0"), ("model.dynamics.batch_size must be at least 1", "got 0")),
        ("real", ("--model.dynamics.examples", "0"), ("model.dynamics.examples must be at least 1", "got 0")),
        ("synthetic", ("--model.dynamics.epochs", "0"), ("model.dynamics.epochs must be at least 1", "got 0")),
        ("dynamic", ("--model.dynamics.watch", "1"), ("model.dynamics.watch must be at least 2", "got 1")),
        ("dynamic", ("--model.objective.layer_weights", "[1.0]"), ("model.objective.layer_weights=[1.0]", "give one")),
        ("dynamic", ("--model.image_lr_decay_at", "[1.5]"), ("model.image_lr_decay_at holds fractions", "got [1.5]")),
        ("synthetic", ("--model.dynamics.episode", "0"), ("model.dynamics.episode must be at least 1", "got 0")),
        ("start", ("--model.dynamics.start_states", "0"), ("model.dynamics.start_states must be", "got 0")),
        ("start", ("--model.objective.real_batch_size", "0"), ("model.objective.real_batch_size must", "got 0")),
        ("real", ("--model.objective.distance", "l2"), ("--model.objective.distance=l2", "'layerwise', 'mse'")),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(
    method: str, args: tuple[str, ...], words: tuple[str, ...], refused: Refused, run: Path
) -> None:
    line = refused(*options(method), *args)
    assert all(word in line for word in words), line
    assert not run.exists()


def test_a_network_that_diverges_is_named(refused: Refused) -> None:
    line = refused(*options("real"), "--model.dynamics.learning_rate", "1e30")
    assert "model.dynamics.learning_rate=1e+30: the network diverged" in line
    assert "lower it" in line


def test_the_rate_of_the_images_decays(fit: Fit, tmp_path: Path) -> None:
    """A rate that decays to nothing after six of twelve steps leaves the images of six steps."""
    half, decayed = tmp_path / "half", tmp_path / "decayed"
    args = (*options("start"), "--model.transition", "false")
    fit_into(half, *args, "--model.iterations", "6")
    fit_into(decayed, *args, "--model.image_lr_decay_at", "[0.5]", "--model.image_lr_decay", "1e-30")
    images = [load_file(RunFolder(run).stage(1).synthetic)["images"] for run in (half, decayed)]
    assert torch.equal(*images)
