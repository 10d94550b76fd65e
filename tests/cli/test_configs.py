"""Every configuration that is shipped can be used, and the published ones hold what their names promise."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pdd_lightning.cli.application import application
from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.options import require_recordable
from pdd_lightning.training.formation import check_factor
from pdd_lightning.types import ImageShape

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(ROOT.glob("configs/*/*_ipc*.yaml"))
OTHERS = sorted({*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("tests/conf/**/*.yaml")} - set(PUBLISHED))

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


@pytest.mark.parametrize("config", OTHERS, ids=named)
@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_a_configuration_parses(config: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--config", str(config), "--print_config"])
    printed = capsys.readouterr()
    assert exit_.value.code in (0, None), printed.err
    shown = yaml.safe_load(printed.out)
    assert shown["model"]["network"]["class_path"].startswith("pdd_lightning.networks.")
    assert shown["data"]["class_path"].startswith("pdd_lightning.datamodules.")
    given = yaml.safe_load(config.read_text())
    assert shown["model"]["iterations"] == given["model"].get("iterations", shown["model"]["iterations"])


@dataclass(frozen=True)
class Used:
    """What the command line makes of a configuration before it reads any data."""

    module: StageModule
    data: ImageDataModule
    evaluation: Evaluation


def use(config: Path) -> Used:
    with application("fit", ["--config", str(config), "--trainer.accelerator", "cpu"]) as app:
        return Used(app.model, app.datamodule, app.evaluation)


@pytest.mark.parametrize("config", PUBLISHED, ids=named)
def test_a_published_setting_is_what_its_name_says(config: Path) -> None:
    found = re.fullmatch(r"(pdd_)?([a-z_]+)_ipc(\d+)", config.stem)
    assert found is not None, config.stem
    progressive, method, ipc = bool(found[1]), found[2], int(found[3])
    used, (data, shape, classes) = use(config), DATA[config.parent.name]
    module = used.module
    assert module.stages == (5 if progressive else 1)
    assert sum(module.per_stage) == ipc
    assert (type(module.objective).__name__, type(module.dynamics).__name__) == METHODS[method]
    assert type(used.data).__name__ == data
    assert module.architecture == ConvNet(width=128, depth=4 if shape[1] == 64 else 3)
    assert str(module.run.directory) == f"checkpoints/{config.parent.name}-{config.stem}".replace("_", "-")

    # What needs the data's shape alone.
    module.objective.check(build_template(module.architecture, shape, classes))
    check_factor(module.factor, *shape[1:])
    require_recordable(module.settings())

    assert module.optimizer_name == "sgd"
    assert (module.learning_rate_lr > 0) == (method == "mtt")
    assert used.data.zca <= (method == "mtt" and shape[1] == 32)
    assert (module.factor, module.initial, module.clamp_pixels) == (
        (2, "mixed", True)
        if method == "idc"
        else (1, "noise" if method in ("dc", "cafe", "cafe_dsa") else "real", False)
    )
    assert {"random", "full"} <= set(used.evaluation.baselines)
    # Without a second stage there is no transition to say how networks are trained.
    assert module.transition == progressive
    assert progressive or used.evaluation.recipe is not None


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
    assert listed == {path.relative_to(ROOT / "configs").as_posix() for path in ROOT.glob("configs/**/*.yaml")}
