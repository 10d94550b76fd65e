"""The paper's experiments as one command."""

import json
from pathlib import Path

import pytest
import yaml
from commandline import CONFIG

import pdd_lightning.cli.reproduce as command
from pdd_lightning.cli.main import main
from pdd_lightning.evaluation.row import Row
from pdd_lightning.reproduction.experiment import Experiment
from pdd_lightning.reproduction.report import experiment_page

FILES = sorted(command.EXPERIMENTS.glob("*.yaml"))
EVERY = [(path, scale) for path in FILES for scale in yaml.safe_load(path.read_text())["scales"]]


def read(path: Path, scale: str) -> Experiment:
    return Experiment.parse(path, yaml.safe_load(path.read_text()), scale)


@pytest.mark.parametrize(("path", "scale"), EVERY, ids=[f"{path.stem}-{scale}" for path, scale in EVERY])
def test_shipped_experiments_name_what_there_is(path: Path, scale: str) -> None:
    experiment = read(path, scale)
    assert all(run.config.is_file() for run in experiment.runs)
    names = {run.name for run in experiment.runs}
    assert names & {*experiment.against, *experiment.against.values()} or not experiment.against


def test_the_experiments_are_those_of_the_paper() -> None:
    assert [path.stem for path in FILES] == ["table1", "table3", "table5a", "table5b", "tablea8"]
    assert {(path.stem, scale) for path, scale in EVERY} == {
        (path.stem, scale) for path in FILES for scale in ("digits", "small", "paper")
    }


def test_a_number_for_each_stage_is_a_list_of_the_command_line() -> None:
    scale = {"note": "", "options": {"model.iterations": [2, 3], "model.image_lr": [0.5, 1e-05]}}
    content = {"title": "", "source": "", "scales": {"micro": {**scale, "runs": {"one": {"config": "one.yaml"}}}}}
    (run,) = Experiment.parse(Path("mine.yaml"), content, "micro").runs
    assert run.options == ("--model.iterations=[2,3]", "--model.image_lr=[0.5,1e-05]")


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    few = {"evaluation.seeds": 2, "evaluation.baselines": [], "model.iterations": 2}
    runs = {
        "one": {"config": str(CONFIG), "options": {"model.stages": 1, "model.ipc": 2}},
        "two": {"config": str(CONFIG)},
    }
    content = {
        "title": "A table",
        "source": "somewhere",
        "published": {"two": 66.9, "two union": 12},
        "against": {"two": "one"},
        "scales": {
            "micro": {"note": "tiny", "options": few, "runs": runs},
            "needy": {"note": "give a folder", "needs": ["data.root"], "runs": runs},
        },
    }
    path = tmp_path / "experiments" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setattr(command, "EXPERIMENTS", path.parent)
    return path


def test_it_does_what_is_missing_and_prints_the_table(
    experiment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "mine", "--scale=micro", "--run_dir", str(tmp_path / "runs")]
    main([*arguments, "--only=one"])
    assert not (tmp_path / "runs/two").exists()
    told = json.loads((tmp_path / "runs/table.json").read_text())
    assert ([row["name"] for row in told["rows"]], told["missing"]) == (["one"], ["two"])
    assert "not run yet: two" in capfd.readouterr().out
    begun = (tmp_path / "runs/one/stage_01/stage.json").stat().st_mtime_ns
    capfd.readouterr()
    main([*arguments, "--output", str(tmp_path / "rows.json"), "--model.seed=0"])
    assert (tmp_path / "runs/one/stage_01/stage.json").stat().st_mtime_ns == begun
    assert len(list((tmp_path / "runs/experts").iterdir())) == 2  # of stage 1, which both share, and of stage 2
    told = json.loads((tmp_path / "rows.json").read_text())
    assert told["missing"] == []
    assert [(row["name"], row["stage"], len(row["accuracies"])) for row in told["rows"]] == [
        ("one", 1, 2),
        ("two", 2, 2),
    ]
    page = (tmp_path / "rows.md").read_text()
    assert "| two | progressive | 2 | 2 |" in page
    assert "| 66.9 |" in page
    shown = capfd.readouterr().out
    assert "mine, micro: two, run 2 of 2" in shown
    assert "two (progressive) is" in shown
    assert "published: somewhere" in shown


def test_figures_stand_beside_what_they_are_of(experiment: Path) -> None:
    row = Row("two", "progressive", "ConvNet", 2, 2, (0.5, 0.6), 20, 6, 100, (0.1, 0.1))
    union = Row("two", "union", "ConvNet", 2, 2, (0.5, 0.6), 20, 6, 100, (0.1,))
    lines = experiment_page(read(experiment, "micro"), [row, union]).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[4:6]] == ["66.9", "12"]
    assert "two: progressive is not to be told from union: +0.0 points" in "\n".join(lines)


def test_rows_that_would_look_alike_bear_their_options(experiment: Path) -> None:
    rows = [
        Row("random", "union", "ConvNet", None, 2, (0.5,), 20, 6, 100, (0.1,), settings={"recipe": {"momentum": m}})
        for m in (0.0, 0.9)
    ]
    page = experiment_page(read(experiment, "micro"), rows)
    assert "| random, momentum 0.0 | union |" in page
    assert "| random, momentum 0.9 | union |" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mime"], "mime: there is no such experiment, did you mean mine? They are mine"),
        (["mine", "--scale=huge"], "--scale=huge: mine has the scales micro, needy"),
        (["mine", "--scale=needy"], "--data.root is missing: --scale=needy of mine needs it; give a folder"),
        (["mine", "--scale=micro", "--only=three"], "--only=three: there is no run three; the runs are one, two"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", *arguments])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"titel": "x"}, "mine.yaml.titel: there is no such option; known are"),
        ({"scales": {"micro": {"note": "", "runs": {"one": {"confg": "x"}}}}}, "scales.micro.runs.one.confg"),
        ({"scales": "micro"}, "mine.yaml: scales: expected options, found 'micro'"),
    ],
)
def test_a_file_that_was_changed_by_hand(
    change: dict[str, object], words: str, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(yaml.safe_dump({**yaml.safe_load(experiment.read_text()), **change}))
    with pytest.raises(SystemExit):
        main(["reproduce", "mine", "--scale=micro"])
    assert words in capsys.readouterr().err


def test_a_run_under_other_options_is_refused(
    experiment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "mine", "--scale=micro", "--run_dir", str(tmp_path / "runs"), "--only=one"]
    main(arguments)
    with pytest.raises(SystemExit):
        main([*arguments, "--model.image_lr=0.5"])
    assert "model.image_lr" in capfd.readouterr().err
