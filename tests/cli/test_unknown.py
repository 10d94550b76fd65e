"""Options that there are not: each is named with the one that was meant, in one line, whoever finds it."""

from dataclasses import replace
from pathlib import Path

import pytest
from commandline import CONFIG, Refused

from pdd_lightning.cli import catalogue, unknown
from pdd_lightning.cli.suggestions import nearest
from pdd_lightning.cli.unknown import refuse_unknown
from pdd_lightning.errors import ConfigError

MISTYPED = {
    "--model.iteration": "did you mean --model.iterations?",
    "--ipc": "did you mean --model.ipc?",
    "--iteration": "did you mean --model.iterations?",
    "--epochs": "did you mean --model.recipe.epochs?",
    "--rundir": "did you mean --run_dir?",
    "--modle.ipc": "did you mean --model.ipc?",
    "--model.recip.epochs": "did you mean --model.recipe.epochs?",
    "--model.syn_steps": "did you mean --model.objective.syn_steps?",
    "--evaluation.seed": "did you mean --evaluation.seeds?",
    "--trainer.device": "did you mean --trainer.devices?",
    "--model.objective.syn_step": "TrajectoryMatching has no such option; did you mean --model.objective.syn_steps?",
    "--model.objective.init_args.syn_step": "did you mean --model.objective.syn_steps?",
    "--data.zca_ep": "DigitsData has no such option; did you mean --data.zca_eps?",
    "--evaluation.recipe.epoch": "Recipe has no such option; did you mean --evaluation.recipe.epochs?",
    "--model.augmentation.rotat": "DSA has no such option; did you mean --model.augmentation.rotate_degrees?",
    "--model.iter": "did you mean --model.iterations?",
    "--xyzzy": "`pdd-cli fit --help` lists them",
    "--prnt_config": "did you mean --print_config?",
}


def told(*args: str, command: str = "fit") -> str:
    """What is said before anything slow is imported; empty if nothing is."""
    try:
        refuse_unknown(args, command)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("option", MISTYPED)
@pytest.mark.parametrize("joined", [True, False])
def test_a_mistyped_option_names_the_one_that_was_meant(option: str, joined: bool, refused: Refused, run: Path) -> None:
    line = refused(f"{option}=3") if joined else refused(option, "3")
    assert line.startswith(f"pdd-cli: error: {option.replace('.init_args', '')}: ")
    assert MISTYPED[option] in line
    assert not run.exists()


@pytest.mark.parametrize("option", MISTYPED)
def test_the_parser_says_the_same(option: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it must where options were changed after the catalogue was made."""
    quick = refused(option, "3")
    monkeypatch.setattr(catalogue.Catalogue, "current", False)
    slow = refused(option, "3")
    assert slow == quick or (option in ("--model.syn_steps", "--prnt_config") and slow.startswith(quick.split(";")[0]))


FILES = {
    "model: {iteration: 5}": "--model.iteration: there is no such option; did you mean --model.iterations?",
    "evaluation: {full: {epoch: 5}}": "--evaluation.full.epoch: there is no such option; did you mean",
    "data: {class_path: ImageFolderData, init_args: {rot: x}}": "--data.rot: ImageFolderData has no such option; did",
    "model.iteration: 5": "--model.iteration: there is no such option; did you mean --model.iterations?",
    "trainer: {device: 2}": "--trainer.device: there is no such option; did you mean --trainer.devices?",
}


@pytest.mark.parametrize("text", FILES)
def test_a_key_of_a_file_names_file_and_key(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert told("--config", str(path)).startswith(f"{path}: {FILES[text]}")


def test_a_key_of_a_section_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("epoch: 4")
    (tmp_path / "mine.yaml").write_text("model: {recipe: recipe.yaml}")
    found = told(f"--config={tmp_path / 'mine.yaml'}")
    assert found == (
        f"{tmp_path / 'recipe.yaml'}: --model.recipe.epoch: there is no such option; did you mean "
        "--model.recipe.epochs?"
    )


def test_options_of_a_class_that_is_not_chosen(tmp_path: Path) -> None:
    assert told("--data.rot", "x") == "--data.rot: there is no such option; did you mean --data.root?"
    assert told("--data.root", "x") == ""
    assert "DigitsData has no such option" in told("--data", "DigitsData", "--data.root", "x")
    # Those of an earlier choice are the parser's affair.
    assert told("--data", "ImageFolderData", "--data.root", "x", "--data", "DigitsData") == ""
    # What a finished run was made with, and so what class it has, stands in its folder.
    assert told("--run_dir", "x", "--data.rot", "x", command="evaluate") == ""


def test_import_takes_its_own_options_by_their_names() -> None:
    assert told("images.pt", "labels.pt", "--rate=0.1", "--name", "theirs", command="import") == ""
    assert told("x.pt", "--rat=0.1", command="import") == "--rat: there is no such option; did you mean --rate?"
    assert told("--rate=0.1") == "--rate: there is no such option; did you mean --imported.rate?"


ONLY_THE_PARSER_KNOWS = [
    ("--model.objective", "mine.Objective", "--model.objective.depth", "3"),
    ("--model.augmentation.anything", "3"),
    ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "x"),
    ("--trainer.callbacks", "[{class_path: EarlyStopping, init_args: {monitor: loss}}]"),
    ("--trainer.max_time", "{minutes: 3}"),
    ("--evaluation.networks+", "ConvNet", "--evaluation.networks.width", "8"),
    ("--model.network", "{class_path: ConvNet, init_args: {width: 8}}"),
    ("--model.network", "{class_path"),
    ("--model.objective.help", "TrajectoryMatching"),
    ("--print_config=skip_default", "--stage", "-1", "word"),
    ("--config", str(CONFIG), "-c", str(CONFIG)),
]


@pytest.mark.parametrize("args", ONLY_THE_PARSER_KNOWS)
def test_nothing_is_refused_that_somebody_may_have(args: tuple[str, ...]) -> None:
    assert told(*args) == ""


def test_configurations_of_the_repository_pass() -> None:
    files = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
    whole = [file for file in files if "run_dir:" in file.read_text()]
    assert len(whole) > 20
    assert [(file, message) for file in whole[::5] if (message := told("--config", str(file)))] == []


def test_an_option_of_another_release_of_lightning_is_left_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(catalogue.catalogue(), lightning="0.0.0")
    monkeypatch.setattr(unknown, "catalogue", lambda: other)
    assert told("--trainer.device", "2") == ""
    assert told("--model.iteration", "2") != ""


def test_a_changed_signature_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "FILE", tmp_path / "cli" / "options.json")
    source = tmp_path / "part.py"
    texts = {
        "class A:\n    width: int = 3\n": "class A:\n    width: int = 3\n    depth: int = 1\n",
        "class A:\n    def __init__(self, a: int): ...\n": "class A:\n    def __init__(self, a: int, *, b: int): ...\n",
        "parser.add_argument('--a')\n": "parser.add_argument('--b')\n",
    }
    for before, after in texts.items():
        source.write_text(before)
        first = catalogue.digest(["part.py"])
        source.write_text(f"# Another text.\n{before}")
        assert catalogue.digest(["part.py"]) == first
        source.write_text(after)
        assert catalogue.digest(["part.py"]) != first


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("evaluation.seed", "evaluation.seeds"),  # not model.seed
        ("seeds", "evaluation.seeds"),
        ("epochs", "model.recipe.epochs"),
        ("epoch", "model.recipe.epochs"),
        ("unlike.anything", None),
    ],
)
def test_the_nearest_name(name: str, meant: str | None) -> None:
    assert nearest(name, ["model.seed", "model.recipe.epochs", "evaluation.seeds", "evaluation.full.epochs"]) == meant
