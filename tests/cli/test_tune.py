"""`pdd-cli tune`: tries rates on a short first stage, and names the best."""

from pathlib import Path

import pytest
from commandline import CONFIG, call, options

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.cli.tune import Trial


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "call", call)


def tuned(run: Path, *args: str) -> None:
    main(["tune", "--config", str(CONFIG), "--run_dir", str(run), *args])


def test_rates_around_the_given_one_are_tried(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(run, "--steps", "2", "--model.image_lr", "0.3")
    lines = capsys.readouterr().out.splitlines()
    tried = [line.split()[0] for line in lines if line.strip().startswith("0.") and "±" in line]
    assert tried == ["0.1", "0.3", "0.9"]
    assert sum(line.startswith("best by held-out accuracy: --model.image_lr 0.") for line in lines) == 1
    assert any("After 2 steps" in line for line in lines)


def test_rates_of_later_stages_stay(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--model.iterations", "[2,3]", "--model.image_lr", "[0.3,1e-4]")
    tuned(run, "--rates", "0.3", *given)
    out = capsys.readouterr().out
    assert "After 2 steps" in out
    assert "best by held-out accuracy: --model.image_lr [0.3,0.0001], as it is" in out


def test_experts_are_kept_for_the_run_and_nothing_else(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(run, "--steps", "1", "--rates", "0.1")
    assert [path.name for path in run.iterdir()] == ["experts"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    main(["fit", "--config", str(CONFIG), "--run_dir", str(run)])
    assert before
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_without_a_transition_the_loss_decides(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(run, *options("start"), "--model.transition", "false", "--steps", "1", "--rates", "0.1", "0.2")
    assert "best by matching loss: --model.image_lr 0." in capsys.readouterr().out


def test_a_stage_that_failed_is_never_the_best(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.setattr(children, "call", lambda command, args, **_: 2)
    with pytest.raises(SystemExit) as exit_:
        tuned(run, "--rates", "0.1")
    assert exit_.value.code == 2
    assert max([Trial(1.0), Trial(0.1, loss=5.0)], key=lambda trial: trial.better).rate == 0.1


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--rates", "x"], "argument --rates: invalid float value: 'x'"),
        (["--model.ipcs", "2"], "model.ipc"),
    ],
)
def test_mistakes_are_told(args: list[str], told: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        tuned(run, *args)
    assert exit_.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
