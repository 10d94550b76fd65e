"""Distilling from Python: the numbers of the command line, in a process that is left as it was."""

import os
import random
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import fit_into
from lightning.pytorch import Callback, LightningModule, Trainer

import pdd_lightning as pdd
from distilling.small import QUIET, artifacts, small
from pdd_lightning.errors import ArtifactError, ConfigError, DataError, PDDError
from pdd_lightning.process.lock import BusyError, RunLock
from pdd_lightning.store.folders import RunFolder

TINY: dict[str, Any] = {
    "method": "dm",
    "network": pdd.ConvNet(width=4, depth=1),
    "recipe": pdd.Recipe(epochs=2),
    "trainer": QUIET,
    "stages": 1,
    "iterations": 1,
    "start_states": 2,
}


class Watch(Callback):
    """Does something after each of some steps, and counts them."""

    def __init__(self, at: int = -1, act: Any = None) -> None:
        self.at, self.act, self.steps = at, act, 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.steps += 1
        if trainer.global_step == self.at:
            self.act()


def watched(watch: Watch) -> dict[str, Any]:
    return {**QUIET, "callbacks": [watch]}


def test_numbers_are_those_of_the_command_line(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit_into(run)
    fit_into(run)
    mine, theirs = artifacts(finished), artifacts(run)
    assert len(mine) == 6
    assert mine == theirs
    for stage in (1, 2):
        manifests = [RunFolder(each).stage(stage).read_manifest() for each in (finished, run)]
        assert manifests[0].fingerprint == manifests[1].fingerprint


def test_the_command_line_goes_on_with_a_run_from_python(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "stage_02")
    fit_config = run / "stage_01" / "config.yaml"
    from pdd_lightning.cli.main import main

    main(["fit", "--config", str(fit_config), "--run_dir", str(run)])
    assert artifacts(run) == artifacts(finished)
    main(["fit", "--config", str(fit_config), "--run_dir", str(run)])
    assert "all stages are complete" in capfd.readouterr().err


def test_what_is_returned_is_the_set_of_all_stages(finished: Path) -> None:
    watch = Watch()
    before = artifacts(finished)
    distilled = pdd.distil(run_dir=finished, **small(trainer=watched(watch)))
    assert watch.steps == 0, "finished stages are verified, not made again"
    assert artifacts(finished) == before
    assert [len(distilled.subset(k)) for k in (1, 2)] == [10, 10]
    assert distilled.about.source["data"] == "DigitsData"
    assert distilled.about.recipe == pdd.Recipe(epochs=3)


def test_an_interruption_saves_and_the_same_call_continues(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "stage_02")
    stop = Watch(at=5, act=lambda: os.kill(os.getpid(), signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests that run in the background are without
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT; call distil again with the same arguments"):
        pdd.distil(run_dir=run, **small(trainer=watched(stop)))
    assert signal.getsignal(signal.SIGINT) is before
    assert (RunFolder(run).stage(2).checkpoints / "step=5.ckpt").is_file()
    rest = Watch()
    pdd.distil(run_dir=run, **small(trainer=watched(rest)))
    assert rest.steps == 7
    assert artifacts(run) == artifacts(finished)


def test_a_handler_of_the_program_has_its_say(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        stop = Watch(at=2, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            pdd.distil(run_dir=tmp_path, **{**TINY, "iterations": 3, "trainer": watched(stop)})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_another_thread_can_distil(tmp_path: Path) -> None:
    """Python hands signals to the main thread alone, and lets only that one say what to do with them."""
    thread = threading.Thread(target=lambda: pdd.distil(run_dir=tmp_path, **TINY))
    thread.start()
    thread.join()
    assert RunFolder(tmp_path).completed() == 1


@pytest.fixture
def global_state() -> Iterator[None]:
    """What belongs to the program that calls."""

    def state() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            torch.get_num_threads(),
            list(warnings.filters),
            {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        ]

    torch.manual_seed(17)
    before = state()
    yield
    assert state() == before


@pytest.mark.usefixtures("global_state")
def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    seen = list[int]()
    watch = Watch(at=1, act=lambda: seen.append(torch.get_num_threads()))
    pdd.distil(run_dir=tmp_path, **{**TINY, "trainer": watched(watch)}, threads=2)
    assert seen == [2]
    pdd.evaluate(tmp_path, trainer=QUIET, seeds=1, baselines=[])
    with pytest.raises(PDDError):
        pdd.distil(run_dir=tmp_path, **TINY, seed=1, threads=2)


def test_own_parts_are_not_used_up(tmp_path: Path) -> None:
    """The same objects make the same run again."""
    options = small(stages=1, iterations=2)
    for name in ("one", "two"):
        pdd.distil(run_dir=tmp_path / name, **options)
    assert artifacts(tmp_path / "one") == artifacts(tmp_path / "two")


def test_options_of_the_parts_are_options_of_the_call(tmp_path: Path) -> None:
    pdd.distil(run_dir=tmp_path, **{**TINY, "start_states": 3}, real_batch_size=9)
    settings = RunFolder(tmp_path).stage(1).read_manifest().settings
    dynamics = {"class_path": "pdd_lightning.dynamics.StartStates", "start_states": 3, "renew_every": None}
    assert settings["dynamics"] == dynamics
    assert settings["objective"] == {"class_path": "pdd_lightning.objectives.MeanEmbedding", "real_batch_size": 9}


def test_changed_settings_are_named_as_python_names_them(finished: Path) -> None:
    with pytest.raises(ArtifactError, match=r"other settings: iterations: 12 then, 13 now") as caught:
        pdd.distil(run_dir=finished, **small(iterations=13))
    assert "--run_dir" not in str(caught.value)
    assert "another run_dir" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "mmt"}, "method='mmt': choose from mtt, dc, dsa, idc, dm, cafe, cafe_dsa"),
        ({"iteration": 3}, "iteration: a distillation by 'mtt' has no such option, did you mean iterations\\?"),
        ({"experts": 3}, "experts: a distillation by 'mtt' has no such option"),  # the dynamics is an object here
        ({"stage": 1}, "stage: a distillation by 'mtt' has no such option"),
        ({"ipc": 0}, "^ipc must be at least 1"),
        ({"iterations": "many"}, "wrong type"),
        ({"threads": 0}, "^threads must be from 1"),
        ({"trainer": {"devices": 2}}, "trainer.devices=2: a call is one process"),
        ({"trainer": {"precision": "16-mixed"}}, "^trainer.precision=16-mixed: this would change the result"),
        ({"trainer": {"acelerator": "cpu"}}, "trainer: .*acelerator"),
        ({"network": pdd.ConvNet(width=4, depth=9)}, "depth"),
        ({"data": 3}, "data is a int: give a data module"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=words) as caught:
        pdd.distil(run_dir=run, **small(**changes))
    assert "\n" not in str(caught.value)
    assert not run.exists()


def test_a_folder_of_images_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        pdd.distil(run_dir=tmp_path / "run", **small(data=tmp_path / "none"))


def test_two_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(BusyError, match=r"^run_dir=.* works in this folder"):
        pdd.distil(run_dir=tmp_path, **small())


def test_damaged_end_states_are_made_again_when_asked(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "stage_01" / "end_states.safetensors").unlink()
    with pytest.raises(ArtifactError, match="rebuild=True"):
        pdd.distil(run_dir=run, **small())
    pdd.distil(run_dir=run, rebuild=True, **small())
    assert artifacts(run) == artifacts(finished)


def test_a_stage_that_stops_early_is_continued(tmp_path: Path) -> None:
    options = {**TINY, "iterations": 3}
    with pytest.raises(ArtifactError, match="no complete stage"):
        pdd.distil(run_dir=tmp_path, **{**options, "trainer": {**QUIET, "max_steps": 2}})
    assert (RunFolder(tmp_path).stage(1).checkpoints / "step=2.ckpt").is_file()
    rest = Watch()
    pdd.distil(run_dir=tmp_path, **{**options, "trainer": watched(rest)})
    assert rest.steps == 1
