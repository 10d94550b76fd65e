"""The command line inside the test's process: importing torch anew would cost seconds for each command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pdd_lightning.cli.main import main

CONFIG = Path(__file__).parent / "conf" / "micro.yaml"

DISCARD = ("--model.discard.epochs", "6", "--model.discard.learning_rate", "0.05", "--model.discard.edges", "[1]")
QUICK = ("--plan.seconds", "0.1")

METHODS: dict[str, dict[str, Any]] = {
    "real": {
        "objective": {"class_path": "GradientMatching", "init_args": {"real_batch_size": 8}},
        "dynamics": {
            "class_path": "RealTraining",
            "init_args": {"start_states": 2, "episode": 5, "examples": 40, "batch_size": 32},
        },
    },
    "synthetic": {
        "objective": {"class_path": "GradientMatching", "init_args": {"real_batch_size": 8}},
        "dynamics": {"class_path": "SyntheticTraining", "init_args": {"start_states": 2, "episode": 5, "epochs": 2}},
    },
    "dynamic": {
        "objective": {"class_path": "FeatureAlignment", "init_args": {"real_batch_size": 8, "discrimination": 0.5}},
        "dynamics": {
            "class_path": "DynamicTraining",
            "init_args": {"start_states": 2, "episode": 5, "epochs": 2, "watch": 2, "query_images": 40},
        },
    },
    "start": {
        "objective": {"class_path": "MeanEmbedding", "init_args": {"real_batch_size": 8}},
        "dynamics": {"class_path": "StartStates", "init_args": {"start_states": 2}},
    },
}
"""Methods other than trajectory matching, small."""

Fit = Callable[..., None]
Refused = Callable[..., str]


def fit_into(run: Path, *args: str) -> None:
    main(["fit", "--config", str(CONFIG), "--run_dir", str(run), *args])


def call(command: str, args: list[str], **environment: str) -> int:
    """Stands for `pdd_lightning.cli.children.call`: the command runs inside this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        main([command, *args])
    return 0


def options(method: str) -> tuple[str, ...]:
    words = ["--model.learning_rate_lr", "0"]
    for name, part in METHODS[method].items():
        # The class comes before its options: those of the configuration file belong to another one.
        words += [f"--model.{name}", part["class_path"]]
        for option, value in part["init_args"].items():
            words += [f"--model.{name}.{option}", str(value)]
    return tuple(words)


def plan(run: Path, *args: str, config: Path = CONFIG) -> dict[str, Any]:
    main(["plan", "--config", str(config), "--run_dir", str(run), *QUICK, *args])
    found: dict[str, Any] = json.loads((run / "plan.json").read_text())
    return found


def make_folder(root: Path, size: tuple[int, int] = (8, 8)) -> Path:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for index in range(3):
                Image.new("RGB", size, (index, 0, 0)).save(root / part / name / f"{index}.png")
    return root
