"""Fresh networks watch a stage, and choose its state where that is asked for; neither changes a step of it."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
import torch
from commandline import CONFIG, Refused, fit_into
from processes import together
from torch import Tensor

from pdd_lightning.cli.application import application
from pdd_lightning.process import signals
from pdd_lightning.process.signals import Interrupted
from pdd_lightning.stage import transition
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.subsets import Subset, read_run, union_of
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.files import read_tensors
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import Learner

# Under these neither stage is at its best after its last step.
LEARNING = ("--model.recipe.epochs", "20", "--model.image_lr", "0.5")
EVERY = ("--model.watch_every", "2")
BEST, AVERAGE = (*EVERY, "--model.keep", "best"), ("--model.keep", "average")
WATCHED = [2, 4, 6, 8, 10, 12]

Steps = dict[int, list[Subset]]


def summary(run: Path, stage: int = 1) -> dict[str, Any]:
    return dict(RunFolder(run).stage(stage).read_manifest().summary)


def subset_digest(run: Path, stage: int = 1) -> str:
    return file_digest(RunFolder(run).stage(stage).synthetic)


def files(run: Path) -> dict[str, str]:
    """Digests of what stages left, and of what they are."""
    found = {path.name: file_digest(path) for path in sorted(run.glob("stage_*/*.safetensors"))}
    return {**found, "settings": RunFolder(run).stage(1).fingerprint()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("plain") / "run"
    fit_into(run, *LEARNING)
    return run


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Steps]:
    """Two stages with the best state of each, and the states after each of their steps."""
    run, seen = tmp_path_factory.mktemp("best") / "run", Steps()
    step = StageModule.optimizer_step

    def noting(module: StageModule, *args: Any, **options: Any) -> None:
        step(module, *args, **options)
        seen.setdefault(module.stage, []).append(module.subset())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageModule, "optimizer_step", noting)
        for _ in range(2):
            fit_into(run, *LEARNING, *BEST)
    return run, seen


def same(found: Subset, images: Tensor, rate: float) -> None:
    torch.testing.assert_close(found.data.images, images, rtol=0, atol=1e-6)
    assert found.rate == pytest.approx(rate, rel=1e-6)


def test_scores_are_those_of_progressive_training(best: tuple[Path, Steps]) -> None:
    run, seen = best
    learned = read_run(RunFolder(run))
    with application("evaluate", ["--config=tests/conf/micro.yaml", f"--run_dir={run}", *LEARNING, *BEST]) as app:
        app.datamodule.setup()
        options, validation = app.model.options, app.datamodule.validation
        problem = options.problem(app.datamodule)
    for stage in (1, 2):
        for done, *accuracies in summary(run, stage)["watched"]:
            subsets = [*learned[: stage - 1], seen[stage][done - 1]]
            for member, accuracy in enumerate(accuracies):
                learner = Learner(problem.network())
                learner.load(problem.initial_state("witness", member))
                for k, subset in enumerate(subsets, start=1):
                    union, keys = union_of(subsets[:k]), ("stage", k, "fresh networks", member)
                    assert union is not None
                    learner.train(union, subset.rate, options.recipe, options.augmentation, options.seed, *keys)
                assert round(learner.accuracy(validation), 6) == accuracy


def test_the_best_state_is_kept(best: tuple[Path, Steps]) -> None:
    run, seen = best
    for stage, subset in enumerate(read_run(RunFolder(run)), start=1):
        found = summary(run, stage)
        means = {done: sum(accuracies) for done, *accuracies in found["watched"]}
        assert list(means) == WATCHED
        step = max(done for done, mean in means.items() if mean == max(means.values()))
        assert found["kept"]["step"] == step < 12
        kept = seen[stage][step - 1]
        assert torch.equal(subset.data.images, kept.data.images)
        assert found["learning_rate"] == subset.rate == kept.rate
        # Fresh networks are trained once more when a stage ends, on what it kept.
        assert found["fresh_accuracies"] == dict((d, a) for d, *a in found["watched"])[step]


def test_the_mean_of_the_last_steps_is_kept(
    best: tuple[Path, Steps], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_into(run, *LEARNING, *AVERAGE)
    last = best[1][1][-3:]
    images = torch.stack([subset.data.images for subset in last]).double().mean(0).float()
    same(read_run(RunFolder(run))[0], images, sum(subset.rate for subset in last) / 3)
    assert capsys.readouterr().err.splitlines()[-1].endswith(", kept the mean of the last 3 of 12 steps")


def test_watching_changes_nothing_else(plain: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_into(run, *LEARNING, "--model.watch_every", "5")
    assert files(run) == files(plain)
    found, before = summary(run), summary(plain)
    assert [done for done, *_ in found["watched"]] == [5, 10, 12]
    assert found["watched"][-1][1:] == found["fresh_accuracies"] == before["fresh_accuracies"]
    assert found.keys() - before.keys() == {"watched"}
    assert "kept" not in capsys.readouterr().err


def test_every_logger_is_told(tmp_path: Path) -> None:
    logger = ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "logs"))
    fit_into(tmp_path / "run", *LEARNING, *EVERY, *logger)
    path = tmp_path / "logs" / "lightning_logs" / "version_0" / "metrics.csv"
    with path.open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["watched accuracy/mean"]]
    assert [int(row["step"]) for row in found] == WATCHED
    for row, (_, *accuracies) in zip(found, summary(tmp_path / "run")["watched"], strict=True):
        assert float(row["watched accuracy/mean"]) == pytest.approx(fmean(accuracies), abs=1e-5)
        assert float(row["watched accuracy/std"]) == pytest.approx(pstdev(accuracies), abs=1e-5)


@pytest.mark.parametrize("keep", [BEST, (*EVERY, *AVERAGE)], ids=["best", "average"])
def test_stopped_after_every_step_it_ends_the_same(keep: tuple[str, ...], run: Path, tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    fit_into(straight, *LEARNING, *keep)
    for step in range(1, 12):
        fit_into(run, *LEARNING, *keep, "--trainer.max_steps", str(step))
    fit_into(run, *LEARNING, *keep)
    assert files(run) == files(straight)
    changing = {"real_examples"}  # which has seconds
    assert {k: v for k, v in summary(run).items() if k not in changing} == {
        k: v for k, v in summary(straight).items() if k not in changing
    }


@pytest.fixture
def no_signal() -> Iterator[None]:
    yield
    signals._inbox.name = None


@pytest.mark.parametrize("step", [4, 12])
def test_a_signal_while_networks_are_scored_waits_for_one_of_them(
    step: int, best: tuple[Path, Steps], run: Path, monkeypatch: pytest.MonkeyPatch, no_signal: None
) -> None:
    """And those of this step are scored when the stage goes on."""
    train, trained = transition.train_members, list[int]()

    def asked(*args: Any) -> Any:
        trained.append(1)
        if len(trained) == 3 * (step // 2 - 1) + 1:
            signals._inbox.name = "SIGTERM"
        return train(*args)

    monkeypatch.setattr("pdd_lightning.stage.witnesses.train_members", asked)
    with pytest.raises(Interrupted):
        fit_into(run, *LEARNING, *BEST)
    assert len(trained) == 3 * (step // 2 - 1) + 1
    assert (RunFolder(run).stage(1).checkpoints / f"step={step}.ckpt").is_file()
    signals._inbox.name = None
    fit_into(run, *LEARNING, *BEST)
    assert len(trained) == 3 * 6 + 1
    assert subset_digest(run) == subset_digest(best[0])
    assert summary(run)["watched"] == summary(best[0])["watched"]


def test_without_a_transition_too(tmp_path: Path) -> None:
    """No stage leaves its witnesses then, and each trains them from the beginning."""
    run, ablation = tmp_path / "run", ("--model.transition", "false")
    for _ in range(2):
        fit_into(run, *LEARNING, *BEST, *ablation)
    assert [done for done, *_ in summary(run, 2)["watched"]] == WATCHED
    assert not (run / "stage_02" / "transition").exists()
    assert summary(run, 2)["fresh_accuracies"] == []


def test_several_processes_choose_what_one_chooses(best: tuple[Path, Steps], run: Path) -> None:
    one, _ = best
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--threads", "1")
    together(2, ["fit", "--config", str(CONFIG), "--run_dir", str(run), *LEARNING, *BEST, *devices])
    assert summary(run)["watched"] == summary(one)["watched"]
    mine, theirs = (read_tensors(RunFolder(each).stage(1).synthetic)[0]["images"] for each in (run, one))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_best_state_is_not_continued_under_another_choice(
    best: tuple[Path, Steps], run: Path, refused: Refused
) -> None:
    shutil.copytree(best[0], run)
    shutil.rmtree(run / "stage_02")
    assert "model.keep: 'best' then, None now" in refused(*LEARNING, *EVERY)
    assert "model.watch_every: 2 then, 3 now" in refused(*LEARNING, *BEST, "--model.watch_every", "3")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ("--model.keep", "best"),
            "model.keep=best chooses among the states that model.watch_every scores, which is 0",
        ),
        (("--model.keep", "worst"), "model.keep"),
        ((*EVERY, "--model.witnesses", "0"), "model.watch_every=2 trains as many fresh networks as model.witnesses"),
        ((*BEST, "--data.validation_fraction", "0"), "model.watch_every=2 with model.keep=best scores networks on"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(args: tuple[str, ...], words: str, refused: Refused, run: Path) -> None:
    assert words in refused(*args)
    assert not run.exists()
