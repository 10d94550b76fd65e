"""`pdd-cli plan`, what runs note of themselves, and the room on the disk."""

import json
import re
import shutil
import time
from collections import namedtuple
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from commandline import CONFIG, DISCARD, METHODS, QUICK, Fit, Refused, call, fit_into, options, plan
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from pdd_lightning.cli import children
from pdd_lightning.cli.application import application
from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import DigitsData
from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import TrajectoryMatching
from pdd_lightning.objectives.walk import Walk, walk_ends
from pdd_lightning.planning import planner
from pdd_lightning.planning.clock import StepClock
from pdd_lightning.planning.rehearsal import rehearse_stage
from pdd_lightning.process.signals import Interrupted
from pdd_lightning.progress import size
from pdd_lightning.stage import disk
from pdd_lightning.stage.disk import Disk
from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.files import folder_bytes
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import ONE_STAGES

ROOT = Path(__file__).parents[2]
ZCA = ("--data.zca", "true")
WORKS = ["start", "preparation", "distillation", "transition"]

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "call", call)


def works(found: dict[str, Any], part: str) -> dict[str, float]:
    return {line["work"]: line["seconds"] for line in found["lines"] if line["part"] == part}


class TestPlan:
    def test_the_baseline_is_done_beside_later_stages(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        args = ("--evaluation.baselines", "[one-stage-short,one-stage]", "--model.networks_at_once")
        alone, together = plan(run, *args, "1"), plan(run, *args, "2")
        assert alone["spared"] == 0.0
        # The longer baseline, and the other one after it.
        parts = [sum(works(together, part).values()) for part in ("stage 2", "one-stage")]
        assert together["spared"] == pytest.approx(min(parts), abs=0.01)
        seconds = sum(line["seconds"] for line in together["lines"])
        assert together["total"]["seconds"] == pytest.approx(seconds - together["spared"], abs=0.02)

    def test_says_what_it_measures_before_it_does(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        plan(run, "--evaluation.baselines", "[one-stage]")
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("planning: ")]
        begun = [line.partition(": ")[2].split(": a ")[0] for line in lines if ": a " in line]
        assert begun[:3] == ["stages 0/3 | stage 1", "stages 1/3 | stage 2", "stages 2/3 | the one-stage baseline"]
        assert begun[3].startswith("evaluation 0/")

    @pytest.mark.parametrize("method", ["experts", *METHODS])
    def test_every_dynamics_can_be_planned(self, method: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = plan(run, *(() if method == "experts" else options(method)))
        assert [path.name for path in run.iterdir()] == ["plan.json"]
        assert dict.fromkeys(line["part"] for line in found["lines"]) == dict.fromkeys(
            ["stage 1", "stage 2", "evaluation"]
        )
        for stage in ("stage 1", "stage 2"):
            assert list(works(found, stage)) == WORKS
            assert all(seconds > 0 for work, seconds in works(found, stage).items() if work != "preparation")
        assert works(found, "stage 1")["preparation"] > 0
        jobs = ["random union, ConvNet", "pdd progressive, ConvNet", "full union, ConvNet"]
        assert list(works(found, "evaluation")) == ["start", *jobs]
        assert found["total"]["host_bytes"] > 2**20
        printed = capsys.readouterr().out
        assert all(word in printed for word in ("stage 1", "stage 2", *jobs, "peak memory", "disk"))

    def test_baselines_are_part_of_it(self, run: Path) -> None:
        found = plan(
            run,
            "--evaluation.baselines",
            "[random, herding, one-stage, one-stage-short]",
            "--evaluation.random_rates",
            "[1, 2]",
        )
        for baseline in ONE_STAGES:
            assert list(works(found, baseline)) == WORKS
            assert works(found, baseline)["preparation"] < works(found, "stage 1")["preparation"]  # no experts again
        jobs = ["selection", *(f"{name} union, ConvNet" for name in ("random-tuning", "random"))]
        jobs += [f"{name} union, ConvNet" for name in ("herding-tuning", "herding", *ONE_STAGES)]
        assert set(works(found, "evaluation")) == {"start", *jobs, "pdd progressive, ConvNet"}

    def test_classes_of_ones_own(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(ROOT))
        found = plan(run, "--data.per_class", "9", config=ROOT / "examples" / "extending" / "extending.yaml")
        assert works(found, "stage 2")["distillation"] > 0

    @pytest.mark.parametrize(
        "args",
        [
            ("--model.discard.epochs", "6", "--model.discard.learning_rate", "0.05", "--model.discard.edges", "[1]"),
            ("--model.transition", "false", "--model.conditioning", "false"),
            ("--model.factor", "2", "--model.initial", "mixed", "--model.clamp_pixels", "true"),
            ("--model.stages", "1"),
            ("--model.ipc", "[2,1]"),
            ("--model.image_lr", "[0.05,0.1]", "--evaluation.baselines", "[one-stage]"),
        ],
        ids=lambda args: args[0],
    )
    def test_options_of_stages(self, args: tuple[str, ...], run: Path) -> None:
        found = plan(run, *args)
        assert works(found, "stage 1")["distillation"] > 0
        assert [path.name for path in run.iterdir()] == ["plan.json"]

    def test_stages_take_as_long_as_their_own_steps(self, run: Path) -> None:
        both = ("--evaluation.baselines", "[one-stage,one-stage-short]")
        found = plan(run, "--model.iterations", "1000", *both)
        alone, short = (works(found, baseline)["distillation"] for baseline in ONE_STAGES)
        assert 1.5 * short < alone
        found = plan(run, "--model.iterations", "[1,2000]", *both)
        first, *others = (works(found, part)["distillation"] for part in ("stage 1", "stage 2", *ONE_STAGES))
        assert min(others) > 10 * first

    def test_in_seconds_a_tenth_of_a_walk_stands_for_it(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A walk of the published size takes a CPU longer than the five seconds that somebody wants to wait."""
        walks: list[Walk] = []

        def counted(images: Any, rate: Any, of: Any) -> Any:
            walks.extend(of)
            return walk_ends(images, rate, of)

        monkeypatch.setattr("pdd_lightning.objectives.trajectory.walk_ends", counted)
        monkeypatch.setattr(StepClock, "step", 2.0)
        monkeypatch.setattr(StepClock, "opening", 0.0)
        walk = ("--model.objective.syn_steps", "40", "--model.objective.recompute", "null")
        found = plan(run, *walk, "--model.objective.compile", "true", "--model.iterations", "500")
        assert {walk.steps for walk in walks} == {4}
        assert works(found, "stage 1")["distillation"] >= 500 * 2.0 * 10

    def test_nothing_recorded_is_left_of_a_rehearsal(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """For a GPU's memory would be in the plan of the next one."""
        made: list[StageModule] = []
        asked = Mock(return_value=True)

        def watched(make: Any, *args: Any) -> Any:
            def watching(changes: Any) -> Any:
                made.append(make(changes))
                return made[-1]

            return rehearse_stage(watching, *args)

        # As on a GPU, but for the graphs.
        monkeypatch.setattr("pdd_lightning.training.learner.is_recordable", asked)
        monkeypatch.setattr(planner, "rehearse_stage", watched)
        plan(run)
        assert len(made) == 2
        for module in made:
            assert not module.context.recordings
            assert isinstance(module.options.objective, TrajectoryMatching)
            assert module.options.objective._math is None
        assert asked.called

    def test_more_work_takes_longer(self, run: Path) -> None:
        few = plan(run)
        args = ("--model.iterations", "12000", "--model.dynamics.experts", "200", "--model.recipe.epochs", "300")
        many = plan(run, *args)
        for work in WORKS[1:]:
            assert works(many, "stage 2")[work] > 10 * works(few, "stage 2")[work], work
        assert many["total"]["disk_bytes"] > 10 * few["total"]["disk_bytes"]

    @pytest.mark.parametrize(("every", "rounds"), [("3", 2), ("100", 0)], ids=["renewed", "never"])
    def test_experts_that_are_renewed_take_disk_for_a_while(self, every: str, rounds: int, run: Path) -> None:
        args = ("--model.dynamics.start_states", "4", "--model.dynamics.renew_every", every)
        found = plan(run, *args)
        with application("fit", ["--config", str(CONFIG), "--run_dir", str(run), *args]) as app:
            app.datamodule.setup("fit")
            told = disk.stage_disk(app.model.options, app.datamodule, 2)
        assert told.renewed == rounds * told.experts
        line = f"what is renewed takes up to {size(told.renewed)} more on the disk until its stage is complete"
        assert (line in found["notes"]) == (rounds > 0)

    def test_start_states_that_are_renewed_take_memory_in_every_stage(self) -> None:
        def host(transition: bool, renewals: int) -> int | None:
            of, work = Mock(transition=transition, dynamics=Mock(members=12)), Mock(renewals=renewals, renewed=12)
            return planner.Planner._memory(Mock(), of, Mock(host=0, device=0), work, Mock(state=100))["host"]

        found = [host(transition, renewals) for transition in (False, True) for renewals in (0, 3)]
        assert found == [2 * 1000, 4 * 1000, 5 * 1000, 6 * 1000]

    @pytest.mark.parametrize("method", ["trajectory", "start"])
    def test_what_is_renewed_takes_time(self, method: str, run: Path) -> None:
        args = (*(() if method == "trajectory" else options(method)), "--model.recipe.epochs", "300")
        without, renewed = plan(run, *args), plan(run, *args, "--model.dynamics.renew_every", "1")
        assert works(renewed, "stage 2")["distillation"] > 3 * works(without, "stage 2")["distillation"]

    @pytest.mark.parametrize("transition", ["true", "false"])
    def test_fresh_networks_that_watch_take_time(self, transition: str, run: Path) -> None:
        args = ("--model.recipe.epochs", "300", "--model.transition", transition)
        without, watched = plan(run, *args), plan(run, *args, "--model.watch_every", "1", "--model.keep", "best")
        for stage in ("stage 1", "stage 2"):
            assert works(watched, stage)["distillation"] > 3 * works(without, stage)["distillation"]

    def test_checkpoints_by_the_clock_are_counted(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a slow disk, so that a noisy machine does not hide what they take."""
        save = Trainer.save_checkpoint

        def slowly(trainer: Trainer, *args: Any, **options: Any) -> None:
            time.sleep(0.2)
            save(trainer, *args, **options)

        monkeypatch.setattr(Trainer, "save_checkpoint", slowly)
        steps = ("--model.iterations", "2000", "--checkpoint_every", "2000")
        few, many = (plan(run, *steps, "--checkpoint_minutes", minutes) for minutes in ("10", "1e-6"))
        assert works(many, "stage 2")["distillation"] > works(few, "stage 2")["distillation"] + 0.2 * 1500

    def test_the_run_starts_as_without_a_plan(self, run: Path, first_stage: Path, fit: Fit) -> None:
        plan(run)
        fit()
        first, second = (RunFolder(folder).stage(1).synthetic.read_bytes() for folder in (run, first_stage))
        assert first == second

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("--plan.seconds", "0"), "plan.seconds must be positive and finite, got 0"),
            (("--model.ipc", "5000"), "model.ipc=5000"),
            (("--checkpoint_every", "0"), "--checkpoint_every must be at least 1, got 0"),
            (("--checkpoint_minutes", "0"), "--checkpoint_minutes must be positive, got 0"),
            (("--model.ipcc", "1"), "did you mean --model.ipc?"),
            (("--model.dynamics.learning_rate", "1e30"), "learning_rate=1e+30"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_a_mistake_is_one_line(
        self, args: tuple[str, ...], words: str, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(["plan", "--config", str(CONFIG), "--run_dir", str(run), *QUICK, *args])
        assert exit_.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "pdd-cli: error:" in line]
        assert words in line
        assert not run.exists()


def usage(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "usage.json").read_text())
    return found


class TestUsage:
    def test_a_stage_notes_what_it_took(self, first_stage: Path) -> None:
        found = usage(first_stage / "stage_01")
        assert found["processes"] == 1
        assert list(found["seconds"]) == WORKS
        assert all(seconds > 0 for seconds in found["seconds"].values())
        assert found["bytes"]["experts"] == folder_bytes(first_stage / "experts")
        assert found["peak_memory"]["device"] is None
        assert found["peak_memory"]["host"] > 2**20
        assert "usage.json" not in RunFolder(first_stage).stage(1).read_manifest().files

    def test_a_continued_stage_adds_to_it(self, run: Path, fit: Fit) -> None:
        fit("--trainer.max_steps", "4", "--checkpoint_every", "2")
        before = usage(run / "stage_01")
        assert before["bytes"]["experts"] == folder_bytes(run / "experts")
        fit()
        after = usage(run / "stage_01")
        assert (before["processes"], after["processes"]) == (1, 2)
        assert after["bytes"]["experts"] == before["bytes"]["experts"]
        assert all(after["seconds"][work] > before["seconds"][work] for work in ("start", "distillation", "transition"))

    def test_an_interruption_is_noted(self, run: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(self: ExpertTrajectories, *args: Any) -> None:
            raise Interrupted("SIGINT")

        monkeypatch.setattr(ExpertTrajectories, "_train", interrupt)
        with pytest.raises(Interrupted):
            fit()
        found = usage(run / "stage_01")
        assert found["seconds"]["start"] > 0
        assert found["seconds"]["preparation"] > 0
        assert found["seconds"]["distillation"] == 0

    def test_plan_and_use_stand_side_by_side(
        self, two_stages: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(two_stages, run)
        plan(run)
        assert "plan/used" in capsys.readouterr().out  # of the stages
        main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
        jobs = usage(run / "evaluation")["jobs"]
        assert set(jobs) == {"random union, ConvNet", "pdd progressive, ConvNet", "full union, ConvNet"}
        capsys.readouterr()
        plan(run)
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
        first = next(number for number, words in enumerate(lines) if words[0] == "all")
        totals = lines[first : first + 3]
        assert [words[0] for words in totals] == ["all", "peak", "disk"]
        assert all(float(words[-1]) > 0 for words in totals)

    def test_an_evaluation_ends_with_its_table(
        self, two_stages: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And says in a line before it what the run took, and was planned to take."""
        shutil.copytree(two_stages, run)
        for planned in (False, True):
            if planned:
                (run / "plan.json").unlink(missing_ok=True)
                shutil.move(run / "stage_01", run / "aside")
                plan(run)
                shutil.move(run / "aside", run / "stage_01")
            capsys.readouterr()
            main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
            printed = capsys.readouterr()
            (line,) = [line for line in printed.err.splitlines() if line.startswith("took ")]
            told = r" \(planned [\d.]+ \w+\)" if planned else ""
            amounts = [rf"{what} [\d.]+ \w+{told}" for what in ("took", "peak memory", "disk")]
            assert re.fullmatch(", ".join(amounts) + ("; `pdd-cli plan` shows every part" if planned else ""), line)
            assert "Results" in printed.out
            assert "plan" not in printed.out

    @pytest.mark.gpu
    def test_memory_of_a_gpu_is_planned_and_noted(self, run: Path) -> None:
        gpu = ("--trainer.accelerator", "gpu", "--trainer.devices", "1")
        planned = plan(run, *gpu)
        for _ in range(2):
            fit_into(run, *gpu)
        main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run), *gpu])
        for part, folder in (("stage 1", "stage_01"), ("stage 2", "stage_02"), ("evaluation", "evaluation")):
            used = usage(run / folder)["peak_memory"]["device"]
            assert used > 2**20, part
            assert planned["memory"][part]["device"] > 2**20, part

    def test_a_plan_of_other_settings_is_not_compared(
        self, two_stages: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan(run, "--evaluation.seeds", "2")
        shutil.copytree(two_stages, run, dirs_exist_ok=True)
        capsys.readouterr()
        main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
        assert "planned" not in capsys.readouterr().err

    def test_what_was_planned_before_a_run_stays(
        self, two_stages: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = plan(run)
        shutil.copytree(two_stages, run, dirs_exist_ok=True)
        capsys.readouterr()
        assert plan(run) == before
        assert "plan.json stays as it is" in capsys.readouterr().out
        assert plan(run, "--evaluation.seeds", "2") == before

    @pytest.mark.slow
    def test_what_was_planned_before_a_stage_is_done_stays(self, run: Path, fit: Fit) -> None:
        before = plan(run)
        fit("--trainer.max_steps", "4", "--checkpoint_every", "2")
        assert plan(run) == before

    def test_damaged_notes_stop_nothing(self, two_stages: Path, run: Path) -> None:
        shutil.copytree(two_stages, run)
        for path in (run / "plan.json", run / "stage_01" / "usage.json"):
            path.write_text("{")
        main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
        assert (run / "evaluation" / "results.json").is_file()


class TestSpace:
    def test_a_stage_says_what_it_takes(self, run: Path, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        fit()
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
        network = load_file(RunFolder(run).stage(1).end_states)
        parameters = sum(tensor[0].numel() for tensor in network.values())
        experts = 4 * 2 * 3 * parameters  # bytes, experts, rows
        assert f"KiB + {experts / 1024:.1f} KiB of experts, " in line
        assert line.endswith(" free")
        assert str(run) not in line

    def test_it_is_a_short_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However long the paths are and however large the run is."""
        large = Disk(experts=1000 * 2**30 // 12, found=0, left=1022 * 2**30 // 13, passing=2**30, state=1)
        monkeypatch.setattr(disk, "stage_disk", lambda *_: large)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**50, 0, 1023 * 2**40))
        parts = {"network": ConvNet(), "objective": TrajectoryMatching(), "dynamics": ExpertTrajectories()}
        module = StageModule(**parts, stages=12, run_dir=str(tmp_path / ("long" * 20)))
        line = disk.require_room(module, DigitsData(), whole_run=True, baselines=["one-stage"])
        assert line.startswith("disk: stages 1 to 12 and the one-stage baseline: 1023.0 GiB + 1000.0 GiB of")
        assert len(line) <= 100

    @pytest.mark.parametrize("args", [ZCA, DISCARD, ()], ids=["zca", "discard", "plain"])
    def test_it_is_what_is_planned(self, args: tuple[str, ...], run: Path) -> None:
        """Beside what passes, which a plan leaves out, and the evaluation, which no stage starts."""
        args = (*args, "--evaluation.baselines", "[one-stage, one-stage-short, herding]")
        planned = plan(run, *args)["disk"]
        with application("fit", ["--config", str(CONFIG), "--run_dir", str(run), *args]) as app:
            module, data = app.model, app.datamodule
            data.setup("fit")
            line = disk.require_room(module, data, whole_run=True, baselines=ONE_STAGES)
            parts = disk.run_disk(module.options, data, (1, 2), baselines=ONE_STAGES)
        experts = sum(part.experts for part in parts.values())
        kept = sum(planned[part] for part in ("stage 1", "stage 2", *ONE_STAGES)) - experts
        stages = size(kept + max(part.passing for part in parts.values()))
        assert line.startswith(
            "disk: stages 1 to 2 and the one-stage baseline and the one-stage-short baseline: "
            f"{stages} + {size(experts)} of experts, "
        )

    @pytest.mark.parametrize("args", [ZCA, DISCARD], ids=["zca", "discard"])
    def test_it_counts_what_a_run_has_once(self, args: tuple[str, ...], first_stage: Path, run: Path) -> None:
        fit_into(run, *args)
        told, left = [], []
        for folder, more in ((first_stage, ()), (run, args)):
            with application("fit", ["--config", str(CONFIG), "--run_dir", str(folder), *more]) as app:
                app.datamodule.setup("fit")
                told.append(disk.stage_disk(app.model.options, app.datamodule, 1).left)
            found = RunFolder(folder)
            left.append(found.preprocessing.stat().st_size + folder_bytes(found.forgetting))
        assert told[1] - told[0] == pytest.approx(left[1] - left[0], abs=2000)  # the headers of files
        assert told[1] - told[0] > 5000

    def test_a_whole_run_counts_every_stage(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["run", "--config", str(CONFIG), "--run_dir", str(run)])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
        assert [line.rpartition(": ")[0] for line in lines] == ["disk: stages 1 to 2", "disk: stage 2"]

    def test_a_full_disk_is_refused_before_anything_is_written(
        self, run: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1024, 1024))
        line = refused("--model.dynamics.experts", "100")
        assert "--run_dir and --experts_dir: stage 1 will take" in line
        assert "only 1.0 KiB are free on the disk of" in line
        assert not run.exists()

    def test_experts_that_are_there_need_no_room(
        self, run: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        many = ("--model.dynamics.experts", "30")
        fit(*many, "--trainer.max_steps", "4", "--checkpoint_every", "2")
        stored = folder_bytes(run / "experts")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 2 * stored))
        fit(*many)
        assert "the experts are there" in capsys.readouterr().err

    def test_it_is_what_is_there_while_it_runs(self, run: Path, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        """Two checkpoints and one that is being written, members and the end states that are made of them."""
        fit("--trainer.max_steps", "4", "--checkpoint_every", "2")
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
        (told,) = re.findall(r"stage 1: ([\d.]+) KiB", line)
        folder = RunFolder(run).stage(1)
        checkpoints = folder_bytes(folder.checkpoints)
        fit()
        most = folder_bytes(folder.directory) + 1.5 * checkpoints + folder.end_states.stat().st_size
        assert 0.8 * most < 1024 * float(told) < 2 * most

    @pytest.mark.parametrize(
        ("others", "present"),
        [
            ((), True),
            (("--model.seed", "5"), False),
            (("--model.network.width", "6"), False),
            (("--model.dynamics.batch_size", "7"), False),
            (("--model.dynamics.learning_rate", "0.02"), False),
            (("--model.dynamics.max_start_epoch", "3"), False),  # of which those that are there hold too little
        ],
        ids=str,
    )
    def test_only_this_runs_experts_are_counted_as_present(
        self, others: tuple[str, ...], present: bool, first_stage: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fit_into(run, "--experts_dir", str(first_stage / "experts"), *others)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
        assert ("the experts are there" in line) == present
        assert ("KiB of experts" in line) != present

    def test_experts_of_a_part_of_the_data_are_known_once_the_part_is(
        self, run: Path, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for folder in (run / "experts", tmp_path / "shared"):
            shutil.rmtree(run, ignore_errors=True)
            args = (*DISCARD, "--experts_dir", str(folder))
            fit(*args, "--trainer.max_steps", "4", "--checkpoint_every", "2")
            fit(*args)
            lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
            assert ["the experts are there" in line for line in lines] == [False, True]

    def test_experts_of_a_later_stage_are_known_by_where_they_start(
        self, two_stages: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shared = ("--experts_dir", str(two_stages / "experts"))
        for changed, present in (("12", True), ("3", False)):  # with which stage 1 ends elsewhere
            shutil.rmtree(run, ignore_errors=True)
            for _ in range(2):
                fit_into(run, *shared, "--model.iterations", changed)
            lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
            assert ["the experts are there" in line for line in lines] == [True, present]

    def test_a_whole_run_counts_the_baseline_of_one_stage(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        told = []
        for baselines in ("[random]", "[one-stage]", "[one-stage,one-stage-short]"):
            args = ["--config", str(CONFIG), "--run_dir", str(run), "--evaluation.baselines", baselines]
            main(["run", *args])
            lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: ")]
            told.append([line.rpartition(": ")[0] for line in lines])
            shutil.rmtree(run)
        assert told[0] == ["disk: stages 1 to 2", "disk: stage 2"]
        baseline = "and the one-stage baseline"
        assert told[1] == [
            f"disk: stages 1 to 2 {baseline}",
            f"disk: stage 2 {baseline}",
            "disk: the one-stage baseline",
        ]
        assert told[2] == [
            f"disk: stages 1 to 2 {baseline} and the one-stage-short baseline",
            f"disk: stage 2 {baseline} and the one-stage-short baseline",
            "disk: the one-stage baseline",
            "disk: the one-stage-short baseline",
        ]

    def test_another_disk_is_looked_at_by_itself(self, first_stage: Path, tmp_path: Path) -> None:
        fit_into(tmp_path / "run", "--experts_dir", str(first_stage / "experts"))
        assert usage(tmp_path / "run" / "stage_01")["bytes"]["experts"] == 0
