"""Interrupted anywhere and continued, a run comes out bit for bit as without the interruption."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CONFIG, Fit, call, fit_into

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.process.signals import RESUME
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder

SGD = ("--model.optimizer", "sgd", "--model.image_lr", "10", "--model.learning_rate_lr", "1e-4")
INTERRUPT = ("--trainer.max_steps", "4", "--checkpoint_every", "2")


def subset_digest(run: Path, stage: int) -> str:
    """Of the file that holds images, labels and learning rate."""
    return file_digest(RunFolder(run).stage(stage).synthetic)


@pytest.fixture
def straight(first_stage: Path) -> Path:
    return first_stage


def test_twelve_steps_are_four_and_eight_with_adam(
    straight: Path, run: Path, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(*INTERRUPT)
    assert "stopped at step 4 of 12: run the same command to continue" in capsys.readouterr().err
    assert not RunFolder(run).stage(1).complete
    fit("--checkpoint_every", "2")
    assert "continuing from" in capsys.readouterr().err
    assert subset_digest(run, 1) == subset_digest(straight, 1)


def test_twelve_steps_are_four_and_eight_with_sgd(run: Path, tmp_path: Path, fit: Fit, straight: Path) -> None:
    fit_into(tmp_path / "sgd", *SGD)
    fit(*SGD, *INTERRUPT)
    fit(*SGD)
    assert subset_digest(run, 1) == subset_digest(tmp_path / "sgd", 1)
    assert subset_digest(run, 1) != subset_digest(straight, 1)


def test_a_later_stage_leaves_the_earlier_one_alone(first_stage: Path, two_stages: Path) -> None:
    for path in sorted((first_stage / "stage_01").iterdir()):
        if path.is_file():
            assert file_digest(path) == file_digest(two_stages / "stage_01" / path.name), path.name
    assert RunFolder(two_stages).completed(2) == 2


@pytest.mark.parametrize("args", [(), ("--stage", "1"), ("--stage", "2")])
def test_a_finished_stage_is_left_alone(
    args: tuple[str, ...], two_stages: Path, run: Path, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two_stages, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    fit(*args)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("nothing to do")


def test_an_interrupted_transition_continues(first_stage: Path, two_stages: Path, run: Path, fit: Fit) -> None:
    shutil.copytree(two_stages, run)
    folder = RunFolder(run).stage(2)
    folder.manifest.unlink()
    folder.end_states.unlink()
    fit()
    assert folder.complete
    for name in ("synthetic.safetensors", "end_states.safetensors"):
        assert file_digest(folder.directory / name) == file_digest(two_stages / "stage_02" / name)


def test_finished_members_of_a_transition_are_kept(first_stage: Path, run: Path, fit: Fit) -> None:
    """Stops between two members; the first is not trained again."""
    from pdd_lightning.training.learner import Learner

    class Killed(BaseException):
        pass

    trained: list[int] = []
    accuracy = Learner.accuracy

    def dies_at_the_second(self: Learner, data: object, batch_size: int = 1000) -> float:
        trained.append(1)
        if len(trained) == 2:
            raise Killed
        return accuracy(self, data, batch_size)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "accuracy", dies_at_the_second)
        with pytest.raises(Killed):
            fit()
        waiting = list((run / "stage_01" / "transition").glob("member_*.safetensors"))
        assert len(waiting) == 1
        assert not RunFolder(run).stage(1).complete
        fit()
    assert len(trained) == 6  # two members, of which one twice, and three fresh networks beside them
    assert not (run / "stage_01" / "transition").exists()
    for name in ("synthetic.safetensors", "end_states.safetensors"):
        assert file_digest(run / "stage_01" / name) == file_digest(first_stage / "stage_01" / name)


def test_a_run_goes_on_after_its_first_stage(
    first_stage: Path, two_stages: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` finds one of two stages complete; its child commands run inside this process."""
    commands: list[str] = []

    def noted(command: str, args: list[str], **environment: str) -> int:
        commands.append(command)
        return call(command, args, **environment)

    shutil.copytree(first_stage, run)
    monkeypatch.setattr(children, "call", noted)
    main(["run", "--config", str(CONFIG), "--run_dir", str(run)])
    assert commands == ["fit", "evaluate"]
    assert subset_digest(run, 2) == subset_digest(two_stages, 2)
    assert (run / "evaluation" / "results.json").is_file()


def test_a_run_stops_with_the_status_of_its_child(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.setattr(children, "call", lambda *args, **environment: 2)
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--config", str(CONFIG), "--run_dir", str(run)])
    assert exit_.value.code == 2


def obey_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(run: Path, command: str = "fit", *args: str) -> "subprocess.Popen[str]":
    """A process of its own, with steps enough to be met in the middle."""
    line = [sys.executable, "-m", "pdd_lightning", command, "--config", str(CONFIG), "--run_dir", str(run)]
    return subprocess.Popen(
        [*line, "--checkpoint_every", "1", *args],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, a shell has told them to ignore Ctrl-C, and children inherit that.
        preexec_fn=obey_interrupts,  # noqa: PLW1509 (one system call, safe beside threads)
    )


def wait_for_a_checkpoint(run: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not list((run / "stage_01" / "checkpoints").glob("step=*.ckpt")):
        assert process.poll() is None, "it ended before it was met in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.005)


LONG = ("--model.iterations", "60")


@pytest.fixture(scope="module")
def long_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("long") / "run"
    fit_into(run, *LONG)
    return subset_digest(run, 1)


def test_a_killed_fit_continues(run: Path, fit: Fit, long_digest: str) -> None:
    process = start(run, "fit", *LONG)
    wait_for_a_checkpoint(run, process)
    process.kill()
    process.communicate()
    assert not RunFolder(run).stage(1).complete
    fit(*LONG)
    assert subset_digest(run, 1) == long_digest


@pytest.mark.slow
def test_control_c_ends_the_run_and_its_child(run: Path, fit: Fit, long_digest: str) -> None:
    process = start(run, "run", *LONG)
    wait_for_a_checkpoint(run, process)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == RESUME
    assert "Traceback" not in printed
    assert "run the same command again to continue" in printed
    assert not RunFolder(run).stage(1).complete
    fit(*LONG)
    assert subset_digest(run, 1) == long_digest
