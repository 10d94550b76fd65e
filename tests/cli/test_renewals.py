"""A stage that renews what it is matched with comes out the same, interrupted anywhere and whoever works on it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import CONFIG, Refused, fit_into, options
from processes import together

from pdd_lightning.cli.application import application
from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.process import signals
from pdd_lightning.process.signals import Interrupted
from pdd_lightning.stage.renewal import renewed_states
from pdd_lightning.stage.subsets import read_run, union_of
from pdd_lightning.stage.transition import train_members
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.files import read_tensors
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import Learner

EXPERTS = ("--model.dynamics.start_states", "3", "--model.dynamics.renew_every", "5")
STOPS = (4, 5, 6, 10, 11)


def files(run: Path) -> dict[str, str]:
    """Digests of what stages left, and of what they are."""
    found = {str(path.relative_to(run)): file_digest(path) for path in sorted(run.glob("stage_*/*.safetensors"))}
    return {**found, "settings": RunFolder(run).stage(1).fingerprint()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages without an interruption."""
    run = tmp_path_factory.mktemp("straight") / "run"
    for _ in range(2):
        fit_into(run, *EXPERTS)
    return run


def test_all_start_states_go_on_to_the_next_stage(straight: Path, first_stage: Path) -> None:
    stages = [RunFolder(straight).stage(stage) for stage in (1, 2)]
    for folder in stages:
        states, _ = read_tensors(folder.end_states)
        assert {len(tensor) for tensor in states.values()} == {3}
        assert not folder.renewals.exists()
    assert len(list((straight / "experts").glob("stage_01-*/expert_*"))) == 2
    assert files(straight)["stage_01/synthetic.safetensors"] != file_digest(RunFolder(first_stage).stage(1).synthetic)


def test_stopped_after_every_step_it_ends_the_same(straight: Path, run: Path) -> None:
    shutil.copytree(straight, run)
    shutil.rmtree(run / "stage_02")
    for step in STOPS:
        fit_into(run, *EXPERTS, "--trainer.max_steps", str(step))
    fit_into(run, *EXPERTS)
    assert files(run) == files(straight)


def test_a_process_that_is_killed_goes_back_over_a_renewal(
    straight: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed by the third expert after the first ones, when the last checkpoint is of the round before."""
    train, calls = ExpertTrajectories._train, [0]

    def dies(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2 + 2 + 1 + 1:
            raise KeyboardInterrupt
        return train(*args)

    monkeypatch.setattr(ExpertTrajectories, "_train", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit_into(run, *EXPERTS, "--checkpoint_every", "3")
    fit_into(run, *EXPERTS)
    assert calls[0] == 2 + 2 + 2 + 1
    found = files(run)
    assert {name: value for name, value in files(straight).items() if "stage_02" not in name} == found


@pytest.fixture
def no_signal() -> Iterator[None]:
    yield
    signals._inbox.name = None


def test_a_signal_within_a_renewal_leaves_a_checkpoint_of_the_step_before(
    straight: Path, run: Path, monkeypatch: pytest.MonkeyPatch, no_signal: None
) -> None:
    train, calls = ExpertTrajectories._train, [0]

    def asked(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            signals._inbox.name = "SIGTERM"
        return train(*args)

    monkeypatch.setattr(ExpertTrajectories, "_train", asked)
    with pytest.raises(Interrupted):
        fit_into(run, *EXPERTS)
    assert calls[0] == 3
    assert (RunFolder(run).stage(1).checkpoints / "step=5.ckpt").is_file()
    signals._inbox.name = None
    fit_into(run, *EXPERTS)
    assert calls[0] == 6
    assert files(run)["stage_01/synthetic.safetensors"] == files(straight)["stage_01/synthetic.safetensors"]


@pytest.mark.slow
def test_workers_renew_what_one_process_renews(straight: Path, run: Path) -> None:
    fit_into(run, *EXPERTS, "--threads", "1", "--model.networks_at_once", "2")
    assert files(run)["stage_01/synthetic.safetensors"] == files(straight)["stage_01/synthetic.safetensors"]


@pytest.mark.slow
def test_several_processes_renew_what_one_renews(straight: Path, run: Path) -> None:
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--threads", "1")
    together(2, ["fit", "--config", str(CONFIG), "--run_dir", str(run), *EXPERTS, *devices])
    mine, theirs = (read_tensors(RunFolder(each).stage(1).synthetic)[0]["images"] for each in (run, straight))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--model.dynamics.start_states", "3"), "dynamics.start_states=3 are more than experts=2"),
        (("--model.dynamics.start_states", "1"), "dynamics.start_states=1 are too few for experts=2"),
        (("--model.dynamics.renew_every", "0"), "dynamics.renew_every must be at least 1, got 0"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(args: tuple[str, ...], words: str, refused: Refused, run: Path) -> None:
    assert words in refused(*args)
    assert not run.exists()


def test_a_renewal_that_never_comes_is_told(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit_into(run, *EXPERTS[:2], "--model.dynamics.renew_every", "5000", "--trainer.max_steps", "1")
    assert "model.dynamics.renew_every=5000 renews nothing in any stage" in capfd.readouterr().err


def test_a_stage_is_not_continued_under_another_renewal(straight: Path, run: Path, refused: Refused) -> None:
    shutil.copytree(straight, run)
    shutil.rmtree(run / "stage_02")
    assert "model.dynamics.renew_every: 5 then, 6 now" in refused(*EXPERTS[:2], "--model.dynamics.renew_every", "6")


# Start states that are renewed


def renewing(method: str) -> tuple[str, ...]:
    return *options(method), "--model.dynamics.renew_every", "5"


@pytest.fixture(scope="module", params=[pytest.param("start", marks=pytest.mark.slow), "synthetic"])
def bank_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Two stages without an interruption, and their method."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    for _ in range(2):
        fit_into(run, *renewing(request.param))
    return request.param, run


def test_stopped_after_every_step_renewed_start_states_are_the_same(bank_run: tuple[str, Path], run: Path) -> None:
    method, straight = bank_run
    shutil.copytree(straight, run)
    shutil.rmtree(run / "stage_02")
    for step in STOPS:
        fit_into(run, *renewing(method), "--trainer.max_steps", str(step))
        kept = {path.name for path in (run / "stage_02" / "renewals").glob("*")}
        assert kept == {f"bank_{number:04d}" for number in (1, 2) if step >= 5 * number}
    fit_into(run, *renewing(method))
    assert files(run) == files(straight)
    assert not (run / "stage_02" / "renewals").exists()


def test_renewed_start_states_are_fresh_networks_after_the_earlier_stages(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = dict[tuple[int, int], StateBank]()

    def noting(options: Any, context: Any, previous: Any, number: int) -> StateBank:
        banks[context.stage, number] = renewed_states(options, context, previous, number)
        return banks[context.stage, number]

    monkeypatch.setattr("pdd_lightning.stage.module.renewed_states", noting)
    for _ in range(2):
        fit_into(run, *renewing("start"))
    assert list(banks) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    learned = read_run(RunFolder(run))
    with application("fit", ["--config=tests/conf/micro.yaml", f"--run_dir={run}", *renewing("start")]) as app:
        app.datamodule.setup()
        of = app.model.options
        problem = of.problem(app.datamodule)
    for (stage, number), bank in banks.items():
        for member in range(2):
            learner = Learner(problem.network())
            learner.load(problem.initial_state("bank", "renewal", stage, number, member))
            for k, subset in enumerate(learned[: stage - 1], start=1):
                union, keys = union_of(learned[:k]), ("stage", k, f"start states, renewal {number}", member)
                assert union is not None
                learner.train(union, subset.rate, of.recipe, of.augmentation, of.seed, *keys)
            assert all(torch.equal(tensor, bank[member][name]) for name, tensor in learner.state().items())


@pytest.mark.slow
def test_a_signal_while_start_states_are_renewed_waits_for_one_of_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_signal: None
) -> None:
    straight = tmp_path / "straight"
    for _ in range(2):
        fit_into(straight, *renewing("start"))
    train, calls = train_members, [0]

    def asked(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            signals._inbox.name = "SIGTERM"
        return train(*args)

    monkeypatch.setattr("pdd_lightning.stage.renewal.train_members", asked)
    fit_into(run, *renewing("start"))
    with pytest.raises(Interrupted):
        fit_into(run, *renewing("start"))
    assert calls[0] == 1
    assert (RunFolder(run).stage(2).checkpoints / "step=5.ckpt").is_file()
    signals._inbox.name = None
    fit_into(run, *renewing("start"))
    assert calls[0] == 4
    assert files(run) == files(straight)


@pytest.mark.slow
def test_workers_renew_the_start_states_that_one_process_renews(bank_run: tuple[str, Path], run: Path) -> None:
    method, straight = bank_run
    for _ in range(2):
        fit_into(run, *renewing(method), "--threads", "1", "--model.networks_at_once", "2")
    assert files(run) == files(straight)


@pytest.mark.slow
def test_several_processes_renew_the_start_states_of_one(tmp_path: Path) -> None:
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--threads", "1")
    runs = [tmp_path / name for name in ("one", "two")]
    for _ in range(2):
        fit_into(runs[0], *renewing("start"))
        together(2, ["fit", "--config", str(CONFIG), "--run_dir", str(runs[1]), *renewing("start"), *devices])
    mine, theirs = (read_tensors(RunFolder(each).stage(2).synthetic)[0]["images"] for each in runs)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
