"""Every configuration that is shipped can be used, and the published ones hold what their names promise."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdd_lightning.cli.application import application
from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.stage.checks import require_recordable
from pdd_lightning.stage.module import StageModule
from pdd_lightning.training.formation import check_factor
from pdd_lightning.types import ImageShape, Json

ROOT = Path(__file__).parents[2]
SECTION_FOLDERS = ("augmentation", "data", "dynamics", "evaluation", "network", "objective", "recipe")
"""Named for the option whose section their files are."""
SECTIONS = sorted(path for folder in SECTION_FOLDERS for path in ROOT.glob(f"configs/{folder}/**/*.yaml"))
EXPERIMENTS = sorted(ROOT.glob("configs/experiments/*.yaml"))
RUNS = sorted(set(ROOT.glob("configs/**/*.yaml")) - {*SECTIONS, *EXPERIMENTS})
PUBLISHED = sorted(ROOT.glob("configs/*/*_ipc*.yaml"))
OTHERS = sorted({*RUNS, *ROOT.glob("tests/conf/**/*.yaml")} - set(PUBLISHED))

# Another method is one more row here, and its files.
METHODS = {
    "dc": ("GradientMatching", "SyntheticTraining"),
    "dsa": ("GradientMatching", "SyntheticTraining"),
    "dm": ("MeanEmbedding", "StartStates"),
    "mtt": ("TrajectoryMatching", "ExpertTrajectories"),
    "idc": ("GradientMatching", "RealTraining"),
    "cafe": ("FeatureAlignment", "DynamicTraining"),
    "cafe_dsa": ("FeatureAlignment", "DynamicTraining"),
}
LARGE = ("mtt", "idc")
"""Methods that are shipped for 50 images per class as well."""
ALONE = ("cafe_dsa",)
"""Methods that are shipped with one stage only."""

DATA: dict[str, tuple[str, ImageShape, int]] = {
    "cifar10": ("CIFAR10Data", (3, 32, 32), 10),
    "cifar100": ("CIFAR100Data", (3, 32, 32), 100),
    "tiny_imagenet": ("TinyImageNetData", (3, 64, 64), 200),
}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    ("command", "config"), [*(("fit", path) for path in OTHERS), ("evaluate", OTHERS[-1])], ids=str
)
def test_a_configuration_parses(command: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--config", str(config), "--print_config"])
    printed = capsys.readouterr()
    assert exit_.value.code in (0, None), printed.err
    shown = yaml.safe_load(printed.out)
    assert shown["model"]["network"]["class_path"].startswith("pdd_lightning.")
    assert shown["data"]["class_path"].startswith("pdd_lightning.")
    given = yaml.safe_load(config.read_text())
    assert shown["model"]["iterations"] == given["model"].get("iterations", shown["model"]["iterations"])


@dataclass(frozen=True)
class Used:
    """What the command line makes of a configuration before it reads any data."""

    module: StageModule
    data: ImageDataModule
    evaluation: Evaluation


@cache
def use(config: Path) -> Used:
    with application("fit", ["--config", str(config), "--trainer.accelerator", "cpu"]) as app:
        return Used(app.model, app.datamodule, app.evaluation)


@pytest.mark.parametrize("config", PUBLISHED, ids=named)
def test_a_published_setting_is_what_its_name_says(config: Path) -> None:
    found = re.fullmatch(r"(pdd_)?([a-z_]+)_ipc(\d+)", config.stem)
    assert found is not None, config.stem
    progressive, method, ipc = bool(found[1]), found[2], int(found[3])
    used, (data, shape, classes) = use(config), DATA[config.parent.name]
    module, options = used.module, used.module.options
    assert options.stages == (5 if progressive else 1)
    assert sum(options.per_stage) == ipc
    assert (type(options.objective).__name__, type(options.dynamics).__name__) == METHODS[method]
    assert type(used.data).__name__ == data
    assert options.network == ConvNet(width=128, depth=4 if shape[1] == 64 else 3)
    assert str(module.run.directory) == f"checkpoints/{config.parent.name}-{config.stem}".replace("_", "-")

    # What needs the data's shape alone.
    options.objective.check(build_template(options.network, shape, classes))
    check_factor(options.factor, *shape[1:])
    require_recordable(module.settings())

    assert options.optimizer == "sgd"
    assert (options.learning_rate_lr > 0) == (method == "mtt")
    assert used.data.zca <= (method == "mtt" and shape[1] == 32)
    assert (options.factor, options.initial, options.clamp_pixels) == (
        (2, "mixed", True)
        if method == "idc"
        else (1, "noise" if method in ("dc", "cafe", "cafe_dsa") else "real", False)
    )
    assert {"random", "full"} <= set(used.evaluation.baselines)
    # Without a second stage there is no transition to say how networks are trained.
    assert options.transition == progressive
    assert progressive or used.evaluation.recipe is not None


STATED: dict[str, Json] = {
    "idc": {
        "dynamics.examples": 2000,
        "reduction": "nearest",
        "augmentation.operations": ["flip", "color", "crop", "scale", "rotate"],
        "augmentation.one_per_step": False,
        "augmentation.one_of": ["crop", "scale", "rotate"],
    },
    # 2,000 networks of about 20 steps: tests/dynamics/test_adaptive.py
    "cafe": {"iterations": 2000 * 20, "dynamics.query_images": 1280, "dynamics.epochs": 20, "dynamics.watch": 10},
}
"""Numbers of the methods' published codes, by the method's name or the beginning of it."""


@pytest.mark.parametrize("config", PUBLISHED, ids=named)
def test_a_published_setting_holds_the_published_numbers(config: Path) -> None:
    method = config.stem.removeprefix("pdd_")
    stated = {
        option: value for name, table in STATED.items() if method.startswith(name) for option, value in table.items()
    }
    settings = use(config).module.settings()
    found = {}
    for option in stated:
        part: Any = settings
        for key in option.split("."):
            part = part[key]
        found[option] = part
    assert found == stated


def cafe_s_layer_weights(blocks: int) -> list[float]:
    """The outputs that CAFE's code compares, written out: it cuts the list of a network's modules, from the end."""
    modules = [(block, kind) for block in range(blocks) for kind in ("conv", "norm", "activation", "pool")]
    ends = {0.1: [modules[:-9][-1], modules[:-5][-1]], 1.0: [modules[:-1][-1]], 2.0: [modules[-1]]}
    named = [(block, "activation") for block in range(blocks)] + [(blocks - 1, "pool")]
    assert {end for several in ends.values() for end in several} <= set(named)
    return [next((weight for weight, several in ends.items() if layer in several), 0.0) for layer in named]


@pytest.mark.parametrize("config", [path for path in PUBLISHED if "cafe" in path.stem], ids=named)
def test_cafe_weighs_layers_as_its_code_does(config: Path) -> None:
    assert cafe_s_layer_weights(3) == [0.1, 0.1, 1.0, 2.0]
    assert cafe_s_layer_weights(4) == [0.0, 0.1, 0.1, 1.0, 2.0]
    options = use(config).module.options
    assert isinstance(options.network, ConvNet)
    assert options.network.depth is not None
    assert options.objective.describe()["layer_weights"] == cafe_s_layer_weights(options.network.depth)


@pytest.mark.parametrize("config", PUBLISHED, ids=named)
def test_a_published_setting_names_its_source(config: Path) -> None:
    lines = config.read_text().partition("\nrun_dir:")[0].splitlines()
    assert all(line.startswith("# ") for line in lines)
    head = " ".join(line.removeprefix("# ") for line in lines)
    assert "Sources: " in head
    # A setting is published, or the head says which one stands in for it.
    assert "the published settings" in head or "No published" in head or "could not be found" in head


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("prefix", ["", "pdd_"])
def test_every_method_is_there(data: str, prefix: str) -> None:
    methods = [method for method in METHODS if not (prefix and method in ALONE)]
    wanted = {f"{prefix}{method}_ipc10" for method in methods} | {f"{prefix}{method}_ipc50" for method in LARGE}
    assert wanted == {
        path.stem for path in PUBLISHED if path.parent.name == data and path.stem.startswith("pdd_") == bool(prefix)
    }


def test_the_list_of_configurations_is_complete() -> None:
    """A name may stand for several files: `dc_ipc10.yaml`, or `pdd_{dc,dsa}_ipc10.yaml`."""
    page = (ROOT / "configs" / "README.md").read_text()
    listed: set[str] = set()
    for name in re.findall(r"`([\w{},/]+\.yaml)`", page):
        names = [name]
        while any("{" in each for each in names):
            parts = [re.split(r"\{([^}]*)\}", each, maxsplit=1) for each in names]
            names = [f"{a}{choice}{b}" for a, choices, b in parts for choice in choices.split(",")]
        listed.update(names)
    assert listed == {path.relative_to(ROOT / "configs").as_posix() for path in (*RUNS, *EXPERIMENTS)}


def sections_of(path: Path) -> Iterator[tuple[str, Path]]:
    """The sections that a file names, and those that they name: the option's own name and the file."""
    parts = [yaml.safe_load(path.read_text())]
    while parts:
        for option, value in parts.pop().items():
            if isinstance(value, dict):
                parts.append(value)
            elif isinstance(value, str) and value.endswith(".yaml"):
                section = (path.parent / value).resolve()
                yield option, section
                yield from sections_of(section)


def test_every_section_is_used_and_lies_where_its_option_says() -> None:
    used = {pair for path in RUNS for pair in sections_of(path)}
    assert {section for _, section in used} == set(SECTIONS)
    assert all(section.parent.name == option for option, section in used)


def test_what_runs_names_its_folder_and_no_section_does() -> None:
    assert {path for path in (*RUNS, *SECTIONS) if "run_dir" in yaml.safe_load(path.read_text())} == set(RUNS)


def test_what_runs_share_is_written_once() -> None:
    assert sum(len(path.read_text().splitlines()) for path in [*RUNS, *SECTIONS]) < 2000
    contents = [(path.parent, yaml.safe_dump(yaml.safe_load(path.read_text()))) for path in SECTIONS]
    assert len(set(contents)) == len(contents)


def test_sections_are_found_from_every_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ROOT / "configs" / "cifar10" / "compare" / "idc.yaml"
    shown = []
    for folder in (ROOT, config.parent, tmp_path):
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit):
            main(["fit", "--config", os.path.relpath(config), "--evaluation.seeds", "3", "--print_config"])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] == shown[2]
    settings = yaml.safe_load(shown[0])
    assert settings["data"]["init_args"]["max_per_class"] == 1000
    assert settings["model"]["network"]["init_args"]["width"] == 32
    assert settings["evaluation"]["seeds"] == 3


def test_a_part_of_a_section_can_be_overridden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By an option, and by a later file, also where the section names another."""
    config = ROOT / "configs" / "cifar10" / "dc_ipc10.yaml"
    mine = tmp_path / "mine.yaml"
    mine.write_text("evaluation: {recipe: {momentum: 0.5}}\nmodel: {dynamics: {init_args: {episode: 7}}}\n")
    options = ["--data.zca", "true", "--model.network.width", "16"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config), "--config", str(mine), *options, "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    recipe, dynamics = shown["evaluation"]["recipe"], shown["model"]["dynamics"]["init_args"]
    assert (recipe["momentum"], recipe["epochs"], shown["evaluation"]["full"]["epochs"]) == (0.5, 300, 50)
    assert (dynamics["episode"], dynamics["start_states"]) == (7, 500)
    assert (shown["data"]["init_args"]["zca"], shown["data"]["init_args"]["download"]) == (True, True)
    assert shown["model"]["network"]["init_args"] | {"width": 16, "depth": 3} == shown["model"]["network"]["init_args"]
