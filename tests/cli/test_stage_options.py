"""Multi-formation, discarding, ablations and images per stage through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import CONFIG, DISCARD, Fit, Refused, fit_into
from safetensors.torch import load_file

from pdd_lightning.cli.main import main
from pdd_lightning.dynamics import ExpertTrajectories, StageContext
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.subsets import read_run
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.formation import decode

FORMATION = ("--model.factor", "2", "--model.initial", "mixed", "--model.clamp_pixels", "true")
CUTMIX = ("--model.recipe.cutmix", "0.5")


def settings(run: Path, stage: int = 1) -> dict[str, Any]:
    found = RunFolder(run).stage(stage).read_manifest().settings
    assert isinstance(found, dict)
    return found


def examples(run: Path, stage: int) -> dict[str, Any]:
    manifest: Any = json.loads(RunFolder(run).stage(stage).manifest.read_bytes())
    found: dict[str, Any] = manifest["summary"]["real_examples"]
    return found


@pytest.fixture(scope="module")
def formed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("formed") / "run"
    for _ in range(2):
        fit_into(run, *FORMATION, *CUTMIX)
    return run


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("parted") / "run"
    for _ in range(2):
        fit_into(run, *DISCARD)
    return run


class TestMultiFormation:
    def test_whoever_reads_the_run_gets_training_images(self, formed: Path) -> None:
        for subset in read_run(RunFolder(formed)):
            assert (subset.factor, len(subset.data), len(subset.decoded)) == (2, 10, 40)
            assert torch.equal(subset.decoded.images, decode(subset.data.images, 2))

    def test_pixels_stay_between_black_and_white(self, formed: Path, tmp_path: Path) -> None:
        preprocessing = load_file(RunFolder(formed).preprocessing)
        images = load_file(RunFolder(formed).stage(2).synthetic)["images"]
        pixels = images * preprocessing["std"] + preprocessing["mean"]
        assert pixels.min() == pytest.approx(0, abs=1e-5)
        assert -1e-5 < pixels.min() < pixels.max() < 1 + 1e-5
        free = tmp_path / "free"
        fit_into(free, *FORMATION[:4])
        images = load_file(RunFolder(free).stage(1).synthetic)["images"]
        assert (images * preprocessing["std"] + preprocessing["mean"]).min() < -1e-3

    def test_an_evaluation_trains_on_what_is_decoded(self, formed: Path) -> None:
        main(["evaluate", "--config", str(CONFIG), "--run_dir", str(formed), *FORMATION, *CUTMIX])
        rows = read_results(formed / "evaluation" / "results.json")
        assert {row.name: row.training_images for row in rows if row.name != "full"} == {"random": 20, "pdd": 80}
        random, _, pdd = rows[:3]
        assert (random.stored_bytes, random.images_per_class) == (pdd.stored_bytes, pdd.images_per_class)

    def test_an_interrupted_stage_goes_on(self, formed: Path, run: Path, fit: Fit) -> None:
        fit(*FORMATION, *CUTMIX, "--trainer.max_steps", "5", "--checkpoint_every", "5")
        fit(*FORMATION, *CUTMIX)
        first, second = (RunFolder(folder).stage(1).synthetic.read_bytes() for folder in (run, formed))
        assert first == second

    def test_cutmix_changes_the_transition(self, formed: Path, run: Path, fit: Fit) -> None:
        fit(*FORMATION)
        with_mix, without = (load_file(RunFolder(folder).stage(1).end_states) for folder in (formed, run))
        assert any(not torch.equal(with_mix[name], without[name]) for name in without)

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--model.factor", "9"], "model.factor=9: an image of 8x8 pixels holds 1x1 to 8x8 tiles"),
            (["--model.factor", "0"], "model.factor must be at least 1, got 0"),
            (["--model.clamp_pixels", "true", "--data.zca", "true"], "set data.zca=false"),
            (["--model.recipe.cutmix", "2"], "model.recipe.cutmix is a probability in [0, 1], got 2.0"),
            (["--model.augmentation.operations", "[color,cutmix]"], "model.recipe.cutmix"),
            (
                ["--model.factor", "6", "--model.initial", "mixed", "--model.ipc", "4"],
                "model.ipc=4 with model.factor=6 takes 144 images of each class: class",
            ),
        ],
        ids=str,
    )
    def test_a_mistake_is_one_line(self, args: list[str], words: str, refused: Refused, run: Path) -> None:
        assert words in refused(*args)
        assert not run.exists()


class TestDiscarding:
    def test_stages_read_their_parts_only(self, parted: Path) -> None:
        first, second = examples(parted, 1), examples(parted, 2)
        assert first["used"] + second["used"] == first["total"] == second["total"]
        assert 0 < second["used"] < first["total"]
        for part in (first, second):
            ratio = (part["total"] - part["used"]) / part["used"]
            assert part["saved_seconds"] == pytest.approx(
                part["preparation_seconds"] * ratio, abs=0.002 * ratio + 0.001
            )

    def test_events_are_counted_once(self, parted: Path) -> None:
        assert len(list((parted / "forgetting").iterdir())) == 1

    def test_nothing_else_of_the_real_data_is_seen(
        self, parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, seen = tmp_path / "run", []
        shutil.copytree(parted, run)
        shutil.rmtree(run / "stage_02")
        prepare = ExpertTrajectories.prepare

        def watch(dynamics: ExpertTrajectories, context: StageContext) -> None:
            seen.append((context.real.images, [module.images.detach().clone() for module in modules]))
            prepare(dynamics, context)

        modules: list[StageModule] = []
        on_fit_start = StageModule.on_fit_start

        def noting(module: StageModule) -> None:
            modules.append(module)
            on_fit_start(module)

        monkeypatch.setattr(StageModule, "on_fit_start", noting)
        monkeypatch.setattr(ExpertTrajectories, "prepare", watch)
        fit_into(run, *DISCARD)
        ((real, (initial,)),) = seen
        assert len(real) == examples(run, 2)["used"]
        assert all(any(torch.equal(image, other) for other in real) for image in initial)

    def test_it_is_said(self, run: Path, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        fit(*DISCARD)
        assert "real examples read, " in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--model.discard.edges", "[1,2]"], "model.discard.edges=[1, 2] make 3 parts for model.stages=2"),
            (["--model.discard.edges", "[0]"], "model.discard.edges=[0]: forgetting counts that divide"),
            (["--model.discard.edges", "[4,90]", "--model.discard.schedule", "[1,2]"], "and below 90 (part 2)"),
            (["--model.discard.schedule", "[1,3]"], "model.discard.schedule=[1, 3]: name one part from 1 to 2"),
            (["--model.discard.edges", "[2,90]", "--model.discard.schedule", "[1,2]"], "has 0 examples of class"),
        ],
        ids=str,
    )
    def test_a_mistake_is_one_line(self, args: list[str], words: str, refused: Refused) -> None:
        assert words in refused(*DISCARD, *args)


class TestAblations:
    @pytest.mark.parametrize("switch", ["conditioning", "transition"])
    def test_a_switch_changes_later_stages_only(
        self, switch: str, first_stage: Path, two_stages: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        for _ in range(2):
            fit_into(run, f"--model.{switch}", "false")
        same, other = (
            [RunFolder(folder).stage(stage).synthetic.read_bytes() for folder in (run, two_stages)] for stage in (1, 2)
        )
        assert same[0] == same[1]
        assert other[0] != other[1]
        assert settings(run, 2)[switch] is False
        assert settings(two_stages, 2)[switch] is True

    def test_without_transition_no_state_is_kept(self, run: Path, fit: Fit) -> None:
        fit("--model.transition", "false")
        assert not RunFolder(run).stage(1).end_states.exists()
        fit("--model.transition", "false")
        assert RunFolder(run).completed() == 2

    def test_a_finished_stage_is_not_mixed_with_another_kind(
        self, first_stage: Path, run: Path, refused: Refused
    ) -> None:
        shutil.copytree(first_stage, run)
        line = refused("--model.conditioning", "false")
        assert "model.conditioning: True then, False now" in line

    def test_every_stage_has_its_own_number_of_images(self, run: Path, fit: Fit) -> None:
        for _ in range(2):
            fit("--model.ipc", "[2,1]")
        assert [len(subset.data) for subset in read_run(RunFolder(run))] == [20, 10]
        assert [settings(run, stage)["ipc"] for stage in (1, 2)] == [2, 1]
