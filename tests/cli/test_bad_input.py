"""Every mistake gives one line that names the option, the value and the remedy, and leaves nothing behind."""

import json
import os
import shutil
from pathlib import Path

import pytest
from commandline import Fit, Refused, make_folder
from PIL import Image

from pdd_lightning.store.files import read_tensors, write_tensors

TYPING_MISTAKES = {
    "unknown data": (["--data", "nosuch.Module"], ["--data=nosuch.Module", "DigitsData"]),
    "unknown network": (["--model.network", "Nope"], ["--model.network=Nope", "ConvNet or ResNet"]),
    "misspelt network": (["--model.network", "ConvNett"], ["did you mean ConvNet?"]),
    "another kind of class": (["--model.network", "collections.OrderedDict"], ["collections.OrderedDict", "ConvNet"]),
    "network as data": (["--data", "pdd_lightning.networks.ConvNet"], ["--data=pdd_lightning.networks.ConvNet"]),
    "misspelt option": (["--model.ipcc", "3"], ["--model.ipcc", "did you mean --model.ipc?"]),
    "abbreviated option": (["--trainer.max_step", "3"], ["did you mean --trainer.max_steps?"]),
    "misspelt nested option": (
        ["--model.network.widht", "3"],
        ["--model.network.widht", "did you mean --model.network.width?"],
    ),
    "misspelt init_args": (["--model.network.init_args.widht", "3"], ["did you mean --model.network.width?"]),
    "not a number": (["--model.ipc", "many"], ["--model.ipc=many", "an integer"]),
    "nested not a number": (["--model.network.width", "many"], ["--model.network.width=many", "an integer"]),
    "not a choice": (["--model.optimizer", "rmsprop"], ["--model.optimizer=rmsprop", "'sgd', 'adam'"]),
    "no list": (["--evaluation.networks", "ResNet"], ["--evaluation.networks=ResNet: expected a list", "'[ResNet]'"]),
    "no list of numbers": (
        ["--evaluation.random_rates", "0.1"],
        ["expected a list; write it in brackets, as in '[0.1]'"],
    ),
    "no tuple": (["--model.image_lr_decay_at", "0.5"], ["expected a list; write it in brackets, as in '[0.5]'"]),
    "no whole number": (
        ["--model.iterations", "2.5"],
        ["--model.iterations=2.5: expected an integer or a list; correct the value"],
    ),
    "not for every stage": (
        ["--model.iterations", "[5]"],
        ["model.iterations=[5] lists 1 stages, model.stages=2: make them agree"],
    ),
    "no steps in a stage": (["--model.iterations", "[5, 0]"], ["model.iterations must be at least 1 in every stage"]),
    "no rate in a stage": (["--model.image_lr", "[0.1, -1]"], ["model.image_lr must be positive", "got [0.1, -1.0]"]),
    "out of range": (["--model.ipc", "0"], ["model.ipc", "got 0", "at least 1"]),
    "network out of range": (["--model.network.width", "0"], ["model.network.width is 0", "width >= 1"]),
    "recipe out of range": (["--model.recipe.epochs", "0"], ["model.recipe.epochs must be", "got 0"]),
    "evaluation out of range": (["--evaluation.full.epochs", "0"], ["evaluation.full.epochs must be", "got 0"]),
    "data out of range": (["--data.validation_fraction", "2"], ["data.validation_fraction=2", "below 1"]),
    "unknown accelerator": (["--trainer.accelerator", "abacus"], ["trainer", "abacus", "cpu"]),
    "half a device": (["--trainer.devices", "1.5"], ["trainer", "devices", "int > 0"]),
    "checkpoint interval": (["--checkpoint_every", "0"], ["--checkpoint_every", "got 0"]),
    "number for a section": (["--model.recipe", "5"], ["--model.recipe=5", "--model.recipe.NAME VALUE"]),
    "decay of the recipe": (["--model.recipe.decay_at", "[1.5]"], ["model.recipe.decay_at holds", "got [1.5]"]),
    "decay of the full data": (["--evaluation.full.decay_at", "[1.5]"], ["evaluation.full.decay_at holds"]),
    "too many threads": (["--threads", "99999999999"], ["--threads must be from 1 to", "got 99999999999"]),
    "no file": (["--config"], ["--config", "expected one argument"]),
    "left-over word": (["extra"], ["extra", "--help"]),
    "missing file": (["--config", "nosuch.yaml"], ["--config=nosuch.yaml", "existing"]),
    "missing option of the data": (["--data", "ImageFolderData"], ["--data.root", "required"]),
    "missing data": (["--data", "ImageFolderData", "--data.root", "nosuch"], ["data.root='nosuch'", "train/<class>/"]),
    "too few images": (["--model.ipc", "5000"], ["model.ipc=5000", "has only", "lower ipc"]),
    "too few for a baseline": (
        ["--model.ipc", "80"],
        ["model.ipc=80 in each of model.stages=2, 160 in all, for 'random' of evaluation.baselines", "has only 128"],
    ),
    "too few for another": (
        ["--model.ipc", "[1, 130]", "--model.initial", "noise", "--evaluation.baselines", "[full, herding]"],
        ["model.ipc=130: class", "has only 128"],
    ),
    "too few for one stage": (
        ["--model.ipc", "[60, 80]", "--evaluation.baselines", "[one-stage]"],
        ["model.ipc=[60, 80], 140 in all, for 'one-stage' of evaluation.baselines: class", "has only 128"],
    ),
    "too few for one short stage": (
        ["--model.ipc", "[60, 80]", "--evaluation.baselines", "[one-stage-short]"],
        ["model.ipc=[60, 80], 140 in all, for 'one-stage-short' of evaluation.baselines: class", "has only 128"],
    ),
    "too few for tiles": (
        ["--model.ipc", "40", "--model.factor", "2", "--model.initial", "mixed"],
        ["model.ipc=40 with model.factor=2 takes 160 images of each class: class", "has only 128"],
    ),
    "too deep": (["--model.network.depth", "5"], ["model.network.depth is 5", "8x8", "is 3"]),
    "experts too short": (
        ["--model.dynamics.train_epochs", "1"],
        ["model.dynamics.max_start_epoch=1", "train_epochs=1", "raise train_epochs"],
    ),
    "later stage first": (["--stage", "2"], ["--stage=2", "stage 1", "fit it first"]),
    "stage 0": (["--stage", "0"], ["--stage=0", "stages 1 to 2"]),
    "stage 3": (["--stage", "3"], ["--stage=3", "stages 1 to 2", "model.stages"]),
    "twice": (
        ["--model.network", "{class_path: ConvNet, class_path: ResNet}"],
        ["--model.network: class_path stands tw"],
    ),
    "sixtieths": (["--model.ipc", "1:30"], ["--model.ipc=1:30: ", "base of sixty"]),
    "infinite rate": (["--model.dynamics.learning_rate", ".inf"], ["dynamics.learning_rate must be", "got inf"]),
    "infinite zca_eps": (["--data.zca_eps", ".inf"], ["data.zca_eps=inf: must be above 0 and finite"]),
    "experts diverge": (["--model.dynamics.learning_rate", "1e30"], ["learning_rate=1e+30", "diverged", "lower it"]),
}


@pytest.mark.parametrize("mistake", TYPING_MISTAKES)
def test_a_mistake_is_one_line(mistake: str, refused: Refused, run: Path) -> None:
    args, words = TYPING_MISTAKES[mistake]
    line = refused(*args)
    assert all(word in line for word in words), line
    if mistake != "experts diverge":
        assert not run.exists()


def test_a_foreign_callable_is_not_called(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(os, "system", lambda *args, **kwargs: calls.append(args))
    assert "--model.network=os.system" in refused("--model.network", "os.system")
    assert calls == []


FILES = {
    "misspelt option": ("model: {ipcc: 3}", ["--model.ipcc", "did you mean --model.ipc?"]),
    "misspelt section": ("modle: {ipc: 3}", ["--modle.ipc", "did you mean --model.ipc?"]),
    "misspelt nested option": (
        "evaluation: {full: {epoch: 3}}",
        ["--evaluation.full.epoch", "did you mean --evaluation.full.epochs?"],
    ),
    "misspelt option of the run": ("run_dirr: x", ["--run_dirr: there is no such option; did you mean --run_dir?"]),
    "wrong type": ("model: {ipc: many}", ["--model.ipc=many", "an integer"]),
    "malformed": ("model: {ipc: 3\n foo: [\n", ["mistake.yaml", "not valid YAML", "line 2"]),
    "no options": ("hello", ["mistake.yaml", "no options"]),
    "blank section": ("trainer:", ["mistake.yaml: trainer holds nothing", "below it", "remove the line"]),
    "blank part": ("model: {recipe: }", ["mistake.yaml: model.recipe holds nothing"]),
    "number for a section": ("evaluation: 5", ["mistake.yaml: evaluation holds 5"]),
    "list for a section": ("model: [1]", ["mistake.yaml: model holds [1]"]),
    "dotted part": ("model.recipe: 3", ["mistake.yaml: model.recipe holds 3"]),
    "options of a class": ("model: {network: {init_args: 3}}", ["model.network.init_args holds 3"]),
    "no name of a class": ("model: {network: {class_path: 3}}", ["model.network.class_path holds 3", "name a class"]),
    "number in a list of classes": ("evaluation: {networks: [3]}", ["evaluation.networks holds [3]", "name a class"]),
    "no file of a section": ("trainer: hello", ["--trainer=hello", "YAML file"]),
    "number for a class": ("data: 5", ["mistake.yaml: data holds 5", "name a class"]),
    "network": (
        "model: {network: {class_path: ConvNet, init_args: {widht: 3}}}",
        ["did you mean --model.network.width?"],
    ),
    "a section twice": (
        "model: {ipc: 1}\ndata: DigitsData\nmodel: {stages: 1}",
        ["mistake.yaml: model stands twice, in lines 1 and 3; keep one"],
    ),
    "an option twice": ("model:\n  ipc: 1\n  ipc: 2", ["mistake.yaml: model.ipc stands twice, in lines 2 and 3"]),
    "in two ways": ("model: {ipc: 1}\nmodel.ipc: 2", ["mistake.yaml: model.ipc stands twice, in lines 1 and 2"]),
    "twice in a list": (
        "evaluation: {networks: [{class_path: ConvNet, class_path: ResNet}]}",
        ["mistake.yaml: evaluation.networks[0].class_path stands twice, in line 1"],
    ),
    "sixtieths": (
        "trainer: {max_time: 12:30}",
        ["mistake.yaml: trainer.max_time holds 12:30 in line 1", "the number 750", 'quote it ("12:30")'],
    ),
    "sixtieths for a number": ("\nmodel: {ipc: 1:30}", ["model.ipc holds 1:30 in line 2", "the number 90"]),
    "octal": ("model: {ipc: 010}", ["mistake.yaml: model.ipc holds 010 in line 1", "the number 8"]),
    "number for text": ("experts_dir: 20240612", ["mistake.yaml: --experts_dir=20240612: expected text; quote it"]),
    "truth for text": (
        "data: {class_path: DigitsData, init_args: {cache_dir: off}}",
        ["mistake.yaml: --data.cache_dir=False: expected text; quote it", "off and no as false"],
    ),
    "no number for text": ("experts_dir: [a]", ["--experts_dir=['a']: expected text; correct the value"]),
    "half a character": ('run_dir: "caf\\udce9"', ["mistake.yaml: run_dir holds 'caf\\udce9' in line 1", "not text"]),
    "the end of a name": ('data.cache_dir: "a\\0b"', ["mistake.yaml: data.cache_dir holds 'a\\x00b'", "not text"]),
    "a part of itself": ("model: &all {network: *all}", ["mistake.yaml: model.network holds what it is a part of"]),
}


@pytest.mark.parametrize("mistake", FILES)
def test_a_mistake_in_a_file_is_one_line(mistake: str, refused: Refused, tmp_path: Path, run: Path) -> None:
    text, words = FILES[mistake]
    path = tmp_path / "mistake.yaml"
    path.write_text(text)
    line = refused("--config", str(path))
    assert all(word in line for word in words), line
    assert not run.exists()


SECTIONS = {
    "wrong form": ("evaluation", "full: 3", ["part.yaml: evaluation.full holds 3"]),
    "malformed": ("evaluation", "full: [", ["part.yaml: this is not valid YAML at line 1"]),
    "malformed class": ("model.network", "class_path: [", ["part.yaml: this is not valid YAML at line 1"]),
    "empty": ("evaluation", "", ["part.yaml: this holds no options"]),
    "empty class": ("data", "", ["part.yaml: this holds no options"]),
    "misspelt option": ("evaluation", "seedz: 3", ["part.yaml: --evaluation.seedz: ", "mean --evaluation.seeds?"]),
    "misspelt nested": (
        "evaluation",
        "recipe: {epoch: 3}",
        ["part.yaml: --evaluation.recipe.epoch: ", "recipe.epochs?"],
    ),
    "misspelt option of a class": (
        "model.network",
        "class_path: ConvNet\ninit_args: {widht: 3}",
        ["part.yaml: --model.network.widht: ", "did you mean --model.network.width?"],
    ),
    "misspelt class": ("model.network", "class_path: ConvNett", ["part.yaml: --model.network=ConvNett", "ConvNet?"]),
    "wrong type": ("evaluation", "seeds: many", ["part.yaml: --evaluation.seeds=many: ", "an integer"]),
    "wrong type in a class": (
        "data",
        "class_path: DigitsData\ninit_args: {zca_eps: much}",
        ["part.yaml: --data.zca_eps=much: ", "a number"],
    ),
    "of another kind": ("data", "class_path: ConvNet", ["part.yaml: --data=ConvNet: ", "DigitsData"]),
    "missing in a section": (
        "evaluation",
        "recipe: nosuch.yaml",
        ["part.yaml: --evaluation.recipe=nosuch.yaml: there is no such file", "correct the path"],
    ),
    "missing in a class": (
        "model.objective",
        "class_path: GradientMatching\ninit_args: {augmentation: nosuch.yaml}",
        ["part.yaml: --model.objective.augmentation=nosuch.yaml: there is no such file"],
    ),
    "itself": ("model.network", "class_path: ConvNet\ninit_args: {width: part.yaml}", ["part.yaml: ", "names itself"]),
}


@pytest.mark.parametrize("mistake", SECTIONS)
def test_a_mistake_in_a_section_names_its_file(mistake: str, refused: Refused, tmp_path: Path, run: Path) -> None:
    option, text, words = SECTIONS[mistake]
    part = tmp_path / "parts" / "part.yaml"
    part.parent.mkdir()
    part.write_text(text)
    (tmp_path / "mine.yaml").write_text(f"{option}: parts/part.yaml")
    line = refused("--config", str(tmp_path / "mine.yaml"))
    assert f"error: {part.parent}{os.sep}{words[0]}" in line
    assert all(word in line for word in words), line
    assert not run.exists()


@pytest.mark.parametrize("mistake", ["malformed class", "misspelt class", "misspelt option", "wrong type"])
def test_a_mistake_in_a_section_of_the_command_line_names_its_file(
    mistake: str, refused: Refused, tmp_path: Path
) -> None:
    option, text, words = SECTIONS[mistake]
    part = tmp_path / "part.yaml"
    part.write_text(text)
    expected = f"error: {tmp_path}{os.sep}{words[0]}"
    assert expected in refused(f"--{option}", str(part))
    assert expected in refused(f"--{option}={part}", "--print_config")


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("data", "../nosuch.yaml"),
        ("evaluation", "nosuch.yaml"),
        ("evaluation.recipe", "../nosuch.yaml"),
        ("model", "nosuch.yaml"),
        ("model.network", "../no such"),
        ("model.recipe", "nosuch.yaml"),
    ],
)
def test_a_missing_section_is_named_where_it_is_named(
    option: str, path: str, refused: Refused, tmp_path: Path, run: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"{option}: {path}")
    problem = f"--{option}={path}: there is no such file of options; correct the path"
    assert f"error: {mine}: {problem}" in refused("--config", str(mine))
    assert f"error: {problem}" in refused(f"--{option}", path)
    assert not run.exists()


def test_what_is_repeated_on_purpose_is_taken(fit: Fit, run: Path, tmp_path: Path) -> None:
    """Anchors with merges, later files, and text in quotes or where nothing but text is expected."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model: &m {ipc: 1, iterations: 3}\ndata.cache_dir: '010'")
    second.write_text("model: {<<: {ipc: 1, iterations: 3}, iterations: 2}\nexperts_dir: 2024-06-12")
    options = ("--config", str(first), "--config", str(second), "--experts_dir", str(run / "12:30"))
    fit(*options, "--trainer.max_steps", "0")
    text = (run / "stage_01" / "config.yaml").read_text()
    assert all(line in text for line in ("iterations: 2", "cache_dir: '010'", "12:30"))


def test_an_option_beside_the_file_of_its_section_is_refused(refused: Refused, tmp_path: Path) -> None:
    """It would replace the whole section."""
    (tmp_path / "part.yaml").write_text("baselines: []")
    (tmp_path / "mine.yaml").write_text("evaluation: part.yaml\nevaluation.seeds: 3")
    line = refused("--config", str(tmp_path / "mine.yaml"))
    assert "mine.yaml: evaluation names the file part.yaml, beside which evaluation.seeds has no effect" in line


def test_a_mistake_on_the_command_line_is_not_the_files(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("evaluation: {seeds: 3}")
    mine = ["--config", str(tmp_path / "mine.yaml")]
    assert "error: --evaluation.seeds=many" in refused(*mine, "--evaluation.seeds", "many")
    assert "error: --evaluation.seeds=many" in refused(*mine, "--evaluation.seeds=many", "--print_config")


@pytest.mark.parametrize("option", ["--run_dir", "--experts_dir", "--data.cache_dir", "--data.root"])
@pytest.mark.parametrize("joined", [False, True])
def test_names_that_are_no_text_are_refused(option: str, joined: bool, refused: Refused, tmp_path: Path) -> None:
    """Neither the recorded configuration nor TensorBoard or safetensors can hold such a name."""
    value = str(tmp_path / os.fsdecode(b"caf\xe9"))
    data = ("--data", "ImageFolderData") if option == "--data.root" else ()
    line = refused(*data, *([f"{option}={value}"] if joined else [option, value]))
    assert f"{option}={tmp_path}/caf\\xe9: is not UTF-8" in line
    assert not list(tmp_path.iterdir())


def test_a_configuration_may_be_called_as_it_likes(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.yaml")
    path.write_text("model: {ipc: 0}")
    for args in (["--config", str(path)], [f"--config={path}"]):
        assert "model.ipc must be at least 1" in refused(*args)


def test_a_class_whose_name_is_no_text(fit: Fit, run: Path, tmp_path: Path) -> None:
    """The whole stage, its picture and its manifest."""
    root = make_folder(tmp_path / "images")
    for part in ("train", "test"):
        (root / part / "b").rename(root / part / os.fsdecode(b"caf\xe9"))
    fit("--data", "ImageFolderData", "--data.root", str(root), "--data.validation_fraction", "0", "--model.stages", "1")
    names = json.loads((run / "stage_01" / "stage.json").read_text())["summary"]["class_names"]
    assert names == ["a", "caf\\xe9"]
    assert (run / "stage_01" / "synthetic.png").is_file()


def test_a_picture_that_fails_does_not_fail_the_stage(
    fit: Fit, run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("pdd_lightning.stage.pictures.save_grid", fail)
    fit()
    assert (run / "stage_01" / "stage.json").is_file()
    assert "synthetic.png could not be made, and the run goes on without it: no font" in caplog.text


def one_class(root: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(root / part / "b")


def dangling(root: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(root / part / "b")
        (root / part / "b").symlink_to("gone")


def deep(root: Path) -> None:
    Image.new("I;16", (8, 8), 3000).save(root / "train" / "a" / "1.png")


def unreadable(root: Path) -> None:
    (root / "train" / "a" / "1.png").write_bytes(b"no image")


def other_classes(root: Path) -> None:
    (root / "test" / "b").rename(root / "test" / "c")


def mixed_sizes(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "train" / "b" / "2.png")


def not_square(root: Path) -> None:
    shutil.rmtree(root)
    make_folder(root, (8, 10))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unreadable, ["1.png", "cannot be read", "Replace the file or remove it"]),
        (other_classes, ["data.root=", "only in test: c", "same class folders"]),
        (mixed_sizes, ["2.png", "9x9", "image_size"]),
        (not_square, ["8x10", "square", "image_size"]),
        (one_class, ["data.root=", "one class only, a", "at least one other class"]),
        (dangling, ["train/b: is a link to gone, which does not exist", "remove the link"]),
        (deep, ["1.png: has more than 8 bits per value", "convert it"]),
    ],
)
def test_bad_images_are_named(damage: object, words: list[str], refused: Refused, tmp_path: Path, run: Path) -> None:
    root = make_folder(tmp_path / "images")
    assert callable(damage)
    damage(root)
    line = refused("--data", "ImageFolderData", "--data.root", str(root))
    assert all(word in line for word in words), line
    assert not run.exists()


def test_an_unwritable_run_folder(fit: Fit, refused: Refused, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    line = refused("--run_dir", str(blocked / "run"))
    assert "--run_dir" in line
    assert "choose another folder" in line


def test_an_earlier_stage_that_changed(first_stage: Path, run: Path, refused: Refused) -> None:
    shutil.copytree(first_stage, run)
    with (run / "stage_01" / "synthetic.safetensors").open("ab") as file:
        file.write(b" ")
    line = refused()
    assert "synthetic.safetensors was changed after stage 1 was complete" in line
    assert not (run / "stage_02").exists()


@pytest.mark.parametrize("stage", ["1", "2"])
def test_settings_changed_under_a_finished_stage(stage: str, first_stage: Path, run: Path, refused: Refused) -> None:
    shutil.copytree(first_stage, run)
    line = refused("--stage", stage, "--model.image_lr", "0.07")
    assert "model.image_lr: 0.05 then, 0.07 now" in line
    assert "Restore the old options" in line
    assert not (run / "stage_02").exists()


def test_settings_changed_under_a_checkpoint(run: Path, fit: Fit, refused: Refused) -> None:
    fit("--trainer.max_steps", "2", "--checkpoint_every", "2")
    before = (run / "stage_01" / "config.yaml").read_bytes()
    line = refused("--model.image_lr", "0.07")
    assert "model.image_lr: 0.05 then, 0.07 now" in line
    assert "delete" in line
    assert (run / "stage_01" / "config.yaml").read_bytes() == before
    assert "data: " in refused("--data.split_seed", "3")


def test_a_damaged_checkpoint(run: Path, fit: Fit, refused: Refused) -> None:
    fit("--trainer.max_steps", "2", "--checkpoint_every", "2")
    (run / "stage_01" / "checkpoints" / "step=2.ckpt").write_bytes(b"damaged")
    line = refused()
    assert "step=2.ckpt is damaged" in line
    assert "delete it" in line


def test_experts_of_another_network(first_stage: Path, run: Path, refused: Refused) -> None:
    (folder,) = (first_stage / "experts").iterdir()
    copied = run / "experts" / folder.name
    shutil.copytree(folder, copied)
    path = copied / "expert_0000.safetensors"
    tensors, metadata = read_tensors(path)
    settings = json.loads(metadata["settings"])
    settings["network"]["width"] = 5
    write_tensors(path, tensors, {"settings": json.dumps(settings)})
    line = refused()
    assert "network.width: 5 then, 4 now" in line
    assert "--experts_dir" in line


def test_a_rate_that_turns_negative_stops(run: Path, refused: Refused) -> None:
    line = refused("--model.optimizer", "sgd", "--model.learning_rate_lr", "1e6", "--model.image_lr", "1e-3")
    assert "the learned learning rate alpha became" in line
    check_last_good(run, line)


def test_a_loss_that_is_not_a_number_stops(run: Path, refused: Refused) -> None:
    line = refused("--model.optimizer", "adam", "--model.image_lr", "1e38", "--model.learning_rate_lr", "0")
    assert "the matching loss became nan" in line or "no longer finite" in line
    check_last_good(run, line)


def check_last_good(run: Path, line: str) -> None:
    path = run / "stage_01" / "last_good.safetensors"
    assert "stopped at step" in line
    assert str(path) in line
    tensors, metadata = read_tensors(path, ("images", "labels", "learning_rate"))
    assert metadata["step"].isdigit()
    assert f"of step {metadata['step']}" in line
    assert tensors["learning_rate"] > 0
    assert not (run / "stage_01" / "stage.json").exists()
