"""`pdd-cli evaluate` again: with other options, with none, and of a run that was changed."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from commandline import CONFIG, fit_into

from pdd_lightning.cli.evaluate import with_recorded
from pdd_lightning.cli.main import main
from pdd_lightning.evaluation import evaluator
from pdd_lightning.evaluation.module import EvaluationModule
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.evaluation.row import Row
from pdd_lightning.progress import Progress, Task
from pdd_lightning.store.folders import RunFolder

OTHER = ("--evaluation.networks", "[{class_path: ConvNet, init_args: {width: 2, depth: 1}}]")


def evaluate(run: Path, *args: str, config: bool = True) -> list[tuple[str, int | None, object]]:
    """Name, stage and network's width of the rows afterwards."""
    main(["evaluate", *(("--config", str(CONFIG)) if config else ()), "--run_dir", str(run), *args])
    return [(row.name, row.stage, network(row)["width"]) for row in read_results(run / "evaluation" / "results.json")]


def network(row: Row) -> dict[str, object]:
    found = row.settings["network"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def evaluated(two_stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(two_stages, run)
    torch.set_num_threads(1)
    evaluate(run)
    return run


@pytest.fixture
def again(evaluated: Path, run: Path) -> Path:
    shutil.copytree(evaluated, run)
    return run


FIRST = [("random", None, 4), ("pdd", 1, 4), ("pdd", 2, 4), ("full", None, 4)]
SECOND = [(name, stage, 2) for name, stage, _ in FIRST]


def test_other_options_add_rows(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate(again, *OTHER) == FIRST + SECOND
    page = (again / "evaluation" / "results.md").read_text()
    assert page.count("| random") == page.count("| full") == 2
    monkeypatch.setattr(EvaluationModule, "training_step", None)  # nothing is trained again
    assert evaluate(again) == FIRST + SECOND
    assert evaluate(again, "--evaluation.baselines", "[]") == FIRST + SECOND


def test_the_same_row_made_anew_replaces_the_old_one(again: Path) -> None:
    assert evaluate(again, "--evaluation.seeds", "2", "--evaluation.baselines", "[random]") == FIRST
    rows = read_results(again / "evaluation" / "results.json")
    assert [len(row.accuracies) for row in rows] == [2, 2, 2, 1]


def test_fresh_starts_over(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[str] = []
    start = EvaluationModule.on_fit_start

    def noting(self: EvaluationModule) -> None:
        fits.append(self.name)
        start(self)

    monkeypatch.setattr(EvaluationModule, "on_fit_start", noting)
    assert evaluate(again, "--evaluation.baselines", "[full]", "--evaluation.fresh", "true") == FIRST[1:]
    assert fits == ["pdd", "full"]


def test_rows_of_a_run_that_was_changed_go(again: Path) -> None:
    for stage in (1, 2):
        shutil.rmtree(again / f"stage_{stage:02d}")
    for _ in range(2):
        fit_into(again, "--model.iterations", "3")
    assert evaluate(again, *OTHER, "--model.iterations", "3") == SECOND


def test_rows_that_cannot_be_read_are_left_out(again: Path, caplog: pytest.LogCaptureFixture) -> None:
    (again / "evaluation" / "results.json").write_text("[]")
    assert evaluate(again, *OTHER) == SECOND
    assert "results.json holds list, expected a JSON object" in caplog.text
    assert "what it holds is left out" in caplog.text


def test_a_file_says_who_made_it(again: Path) -> None:
    value = json.loads((again / "evaluation" / "results.json").read_text())
    made = {row["made"]["torch"] for row in value["rows"]}
    assert made == {str(torch.__version__)}
    kept = next((again / "evaluation" / "rows").glob("full-*.json"))
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "made": {"torch": "1.0"}, "digest": None}))
    evaluate(again)
    value = json.loads((again / "evaluation" / "results.json").read_text())
    # What is read from disk was made when it was made.
    assert [row["made"]["torch"] for row in value["rows"]] == [str(torch.__version__)] * 3 + ["1.0"]


def test_a_run_knows_its_configuration(two_stages: Path, run: Path) -> None:
    shutil.copytree(two_stages, run)
    assert evaluate(run, "--evaluation.baselines", "[random]", config=False) == FIRST[:3]
    kept = yaml.safe_load((run / "evaluation" / "config.yaml").read_text())
    assert kept["run_dir"] == str(run)
    assert kept["evaluation"]["baselines"] == ["random"]
    assert kept["evaluation"]["random_rates"] == [0.05]


def test_where_a_configuration_is_looked_for(two_stages: Path, tmp_path: Path) -> None:
    recorded = ["--config", str(RunFolder(two_stages).stage(1).config), "--stage=null"]
    for args in (["--run_dir", str(two_stages)], [f"--run_dir={two_stages}", "--evaluation.seeds", "2"]):
        assert with_recorded(args) == [*recorded, *args]
    for args in (
        ["--run_dir", str(two_stages), "--config", "mine.yaml"],
        [f"--run_dir={two_stages}", "--config=mine.yaml"],
        ["--run_dir", str(tmp_path)],
        ["--help"],
    ):
        assert with_recorded(args) == args


def test_a_bar_says_which_rows_it_makes(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    class Noting(Progress):
        @contextmanager
        def task(self, description: str, total: int | None = None, *, announce: bool = False) -> Iterator[Task]:
            titles.append(description)
            with super().task(description, total, announce=announce) as task:
                yield task

    monkeypatch.setattr(evaluator, "Progress", Noting)
    evaluate(again, "--evaluation.seeds", "2", "--evaluation.random_rates", "[0.05, 0.1]")
    assert titles == [
        "row 1 of 4: random-tuning union, ConvNet, 6 networks",
        "row 1 of 4: random union, ConvNet, 2 networks",
        "rows 2 to 3 of 4: pdd progressive, ConvNet, 2 networks",
        "row 4 of 4: full union, ConvNet, 2 networks",
    ]


RECIPES = (
    "--evaluation.recipes=[{epochs: 3, momentum: 0.0, weight_decay: 0.0}, {epochs: 3, momentum: 0.5, cutmix: 1.0}]"
)


def test_every_set_is_trained_on_by_the_recipe_that_is_best_on_held_out_images(
    run: Path, two_stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(two_stages, run)
    seen: list[tuple[str, float, int]] = []
    score = EvaluationModule.score

    def scored(module: EvaluationModule, *args: int) -> list[float]:
        score(module, *args)
        momentum = module.phases[-1].recipe.momentum
        seen.append((module.name, momentum, len(module.score_images)))
        return [0.9 if momentum == 0.5 else 0.8] * len(module.networks)

    monkeypatch.setattr(EvaluationModule, "score", scored)
    evaluate(run, RECIPES, "--evaluation.baselines=[]", "--evaluation.seeds=2")
    tried = {name: momentum for name, momentum, _ in seen if name != "pdd"}
    assert tried == {"pdd-recipe-1": 0.9, "pdd-recipe-2": 0.0, "pdd-recipe-3": 0.5}
    held_out = {images for name, _, images in seen if name != "pdd"}
    assert len(held_out) == 1
    assert held_out.isdisjoint({images for name, _, images in seen if name == "pdd"})  # the test set
    rows = read_results(run / "evaluation" / "results.json")
    recipes = [row.settings["recipe"] for row in rows]
    assert all(isinstance(recipe, dict) and recipe["momentum"] == 0.5 and recipe["cutmix"] == 1.0 for recipe in recipes)
    seen.clear()
    evaluate(run, RECIPES, "--evaluation.baselines=[]", "--evaluation.seeds=2")
    assert seen == []  # every trial is kept too


def test_equal_steps_and_each_at_its_best_stand_in_one_table(
    run: Path, two_stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(two_stages, run)
    options = ("--evaluation.baselines=[one-stage,one-stage-short]", "--evaluation.seeds=2")
    main(["run", "--config", str(CONFIG), "--run_dir", str(run), *options])
    given = read_results(run / "evaluation" / "results.json")
    score = EvaluationModule.score

    def scored(module: EvaluationModule, *args: int) -> list[float]:
        score(module, *args)
        many = sum(phase.steps for phase in module.phases) > given[0].steps
        return [0.9 if many == module.name.startswith("one-stage") else 0.8] * len(module.networks)

    monkeypatch.setattr(EvaluationModule, "score", scored)
    for _ in range(2):  # the second time all rows are known
        evaluate(run, *options, "--evaluation.recipes=[{epochs: 9}]")
        rows = read_results(run / "evaluation" / "results.json")
        assert [row for row in rows if "steps" not in row.settings] == given
        chosen = {(row.name, row.stage): row.steps for row in rows if row.settings.get("steps") == "chosen"}
        equal = {(row.name, row.stage): row.steps for row in given}
        assert chosen.keys() == equal.keys()
        assert all(steps > equal[key] if key[1] is None else steps == equal[key] for key, steps in chosen.items())
    page = (run / "evaluation" / "results.md").read_text()
    for name in ("one-stage", "one-stage-short"):
        assert re.search(rf"^pdd \(progressive\) is [a-z ]+ {name}, epochs [0-9]+: ", page, re.M)
        assert re.search(
            rf"^pdd, steps chosen \(progressive\) is [a-z ]+ {name}, steps chosen, epochs [0-9]+: ", page, re.M
        )


def test_recipes_are_not_compared_without_held_out_images(
    run: Path, two_stages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(CONFIG), "--run_dir", str(run), RECIPES, "--data.validation_fraction=0"])
    assert "evaluation.recipes: 3 recipes are compared on held-out training images" in capsys.readouterr().err
