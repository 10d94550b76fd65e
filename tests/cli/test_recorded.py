"""Nothing changes a result without being recorded in it."""

import json
import shutil
from pathlib import Path

import pytest
from commandline import CONFIG, Fit, Refused, fit_into
from lightning.pytorch import Trainer

from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import DigitsData, Preprocessing
from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.errors import ArtifactError
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import TrajectoryMatching
from pdd_lightning.stage.callback import StageCallback
from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.recipe import Recipe


@pytest.mark.parametrize(
    ("option", "value"),
    [("precision", "bf16-mixed"), ("accumulate_grad_batches", "2"), ("gradient_clip_val", "0.1")],
)
@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_trainer_options_that_change_numbers_are_refused(
    command: str, option: str, value: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--config", str(CONFIG), "--run_dir", str(run), f"--trainer.{option}", value])
    assert stop.value.code == 2
    assert f"--trainer.{option}={value}: this would change the result" in capsys.readouterr().err
    assert not run.exists()


def test_max_steps_cannot_lengthen_a_stage(run: Path, fit: Fit, first_stage: Path) -> None:
    fit("--trainer.max_steps", "30")
    assert RunFolder(run).stage(1).fingerprint() == RunFolder(first_stage).stage(1).fingerprint()


def test_a_checkpoint_belongs_to_the_stage_before_it(run: Path, fit: Fit, refused: Refused) -> None:
    two = ("--checkpoint_every", "2", "--trainer.max_steps", "4")
    fit("--model.ipc", "[1, 1]")
    fit("--model.ipc", "[1, 1]", *two)
    shutil.rmtree(run / "stage_01")
    fit("--model.ipc", "[2, 1]")
    assert "previous stage" in refused("--model.ipc", "[2, 1]")


def test_a_stage_made_again_with_other_preprocessing_brings_it_along(run: Path, fit: Fit) -> None:
    fit()
    shutil.rmtree(run / "stage_01")
    fit("--data.zca", "true")
    data = DigitsData(zca=True)
    data.setup()
    stored = Preprocessing.read(RunFolder(run).preprocessing)
    images = data.test.images[:4]
    assert stored.invert(images).equal(data.preprocessing.invert(images))


def test_rows_of_another_augmentation_are_not_taken_from_disk(two_stages: Path, tmp_path: Path) -> None:
    plain = ("--model.augmentation", "NoAugmentation")
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    shutil.copytree(two_stages, run)
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
    for stage in (1, 2):
        shutil.rmtree(run / f"stage_{stage:02d}")
    for folder in (run, fresh):
        fit_into(folder, *plain)
        fit_into(folder, *plain)
        main(["evaluate", "--config", str(CONFIG), "--run_dir", str(folder), *plain])
    results = [json.loads((folder / "evaluation" / "results.json").read_text()) for folder in (run, fresh)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data.validation_fraction", "0", "--evaluation.random_rates", "[0.1, 0.2]"], "validation_fraction=0"),
        (["--model.ipc", "100"], "model.ipc=100 in each of model.stages=2, 200 in all"),
        (["--evaluation.networks", "[{class_path: ConvNet, init_args: {depth: 9}}]"], "depth"),
        (["--evaluation.orders", "[union, union]"], "name each once"),
        (["--model.learning_rate_lr", "-1"], "learning_rate_lr must be at least 0"),
        (["--run_dir", ""], "--run_dir=''"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_the_evaluation_would_refuse_is_refused_before_the_first_stage(
    args: list[str], words: str, refused: Refused, run: Path
) -> None:
    assert words in refused(*args)
    assert not run.exists()


def stage_by_hand(run: Path) -> StageModule:
    return StageModule(
        network=ConvNet(width=4, depth=1),
        objective=TrajectoryMatching(syn_steps=2),
        dynamics=ExpertTrajectories(experts=2, epochs=1, max_start_epoch=1, learning_rate=0.05),
        stages=2,
        ipc=1,
        iterations=5,
        image_lr=0.05,
        optimizer="adam",
        recipe=Recipe(epochs=2),
        run_dir=str(run),
    )


def test_stages_can_be_fitted_without_the_command_line(tmp_path: Path) -> None:
    for stage in (1, 2):
        module = stage_by_hand(tmp_path)
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=[StageCallback()],
        )
        trainer.fit(module, datamodule=DigitsData())
        assert trainer.global_step == module.options.iterations  # though the trainer was given no limit
        assert RunFolder(tmp_path).completed() == stage
    with pytest.raises(ArtifactError, match="nothing to fit"):
        Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit(
            stage_by_hand(tmp_path), datamodule=DigitsData()
        )
