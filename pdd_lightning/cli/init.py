"""`pdd-cli init`: a configuration of one's own, with settings that fit the data."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch

from pdd_lightning.cli.application import application
from pdd_lightning.cli.init_yaml import TITLES, Written, configuration
from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser, require_one_of
from pdd_lightning.cli.plan import planner_of
from pdd_lightning.datamodules import DigitsData, ImageDataModule, ImageFolderData
from pdd_lightning.distilling.new_data import METHODS, Facts, Settings, choose, fitted
from pdd_lightning.errors import ConfigError, PDDError
from pdd_lightning.progress import duration
from pdd_lightning.store.files import require_writable, write_text

DATA: Final = ("digits", "cifar10", "cifar100", "tiny_imagenet", "folder")

_KNOWN: Final = {
    "cifar10": ("CIFAR10Data", "data", Facts((3, 32, 32), classes=10, images=50_000, fewest=5000)),
    "cifar100": ("CIFAR100Data", "data", Facts((3, 32, 32), classes=100, images=50_000, fewest=500)),
    "tiny_imagenet": ("TinyImageNetData", "data/tiny-imagenet-200", Facts((3, 64, 64), 200, 100_000, fewest=500)),
}
"""Class, usual folder and facts of data that need not be there yet."""

FEW: Final = 5000
"""Image files that are read anew for every stage, rather than kept decoded."""

LARGE: Final = 64
"""Pixels of a side from which on CPU cores take long."""

_SECONDS: Final = 6.0
"""How long to measure for --minutes."""


def main(args: Sequence[str]) -> int:
    """Look at the data and write a configuration.

    Args:
        args: A folder, and options; see ``pdd-cli init --help``.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: If an option is wrong, or there is a configuration already.
        DataError: If the data cannot be used.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     main([f"{folder}/mine", "--data", "digits", "--stages", "2"])
        data: digits, 10 classes of at least 139 training images, 1x8x8
        made for CPU cores: 2 stages of 3 images per class by trajectory matching (MTT), 200 iterations each
        written: .../mine/stage.yaml
        what it takes: pdd-cli plan --config .../mine/stage.yaml
        the whole run: pdd-cli run --config .../mine/stage.yaml
        0
    """
    options = parser().parse_args(args)
    require_one_of("--data", options.data, DATA)
    require_one_of("--method", options.method, METHODS)
    require_one_of("--accelerator", options.accelerator, ("auto", "cpu", "gpu"))
    if options.minutes is not None and not 0 < options.minutes < float("inf"):
        raise ConfigError(f"--minutes must be positive and finite, got {options.minutes:g}")
    folder = Path(from_home(options.folder, "DIR"))
    path = folder / "stage.yaml"
    if path.exists():
        raise ConfigError(f"{path}: there is a configuration already, which stays as it is; name another folder")
    require_writable(folder, "DIR")
    data = _look(options.data, options.root, options.image_size)
    gpu = options.accelerator == "gpu" or (options.accelerator == "auto" and torch.cuda.is_available())
    settings = choose(data.facts, options.method, stages=options.stages, ipc=options.ipc, gpu=gpu)
    cache = str(folder / "cache") if data.files > FEW else None
    written = Written(str(folder / "run"), data.name, data.options, cache, data.about, gpu)
    print(f"data: {data.about}")
    notes = _notes(data.facts, settings, gpu)
    if options.minutes is not None:
        settings, note = _within(settings, written, options.minutes)
        notes.append(note)
    write_text(path, configuration(settings, written))
    _say(path, settings, notes, gpu)
    return 0


def parser() -> PlainParser:
    """Its options."""
    made = PlainParser("init")
    made.add_argument("folder", metavar="DIR", help="Folder for stage.yaml, which must not be there yet.")
    made.add_argument("--data", required=True, metavar="NAME", help=f"One of {', '.join(DATA)}.")
    made.add_argument("--root", metavar="PATH", help="Folder of the data; of --data folder it holds <class>/<file>.")
    made.add_argument("--image_size", type=int, metavar="N", help="Resize a folder's images to N pixels square.")
    made.add_argument("--method", default="mtt", metavar="NAME", help=f"One of {', '.join(METHODS)}; mtt by default.")
    made.add_argument("--stages", type=int, default=3, metavar="N", help="Number of stages; 3 by default.")
    made.add_argument("--ipc", type=int, default=3, metavar="N", help="Images per class of each; 3 by default.")
    made.add_argument("--minutes", type=float, metavar="M", help="How long the run may take; measures for it.")
    made.add_argument(
        "--accelerator", default="auto", metavar="NAME", help="cpu, gpu, or auto, a GPU where there is one."
    )
    return made


@dataclass(frozen=True)
class _Data:
    """What was found: the class and its options, what decides about settings, how many files, and a line."""

    name: str
    options: dict[str, Any]
    facts: Facts
    files: int
    about: str


def _look(data: str, root: str | None, image_size: int | None) -> _Data:
    """Find out about the data, reading those that decide by their contents.

    Raises:
        ConfigError: If options do not belong to them.
        DataError: If they cannot be used.
    """
    if data != "folder" and image_size is not None:
        raise ConfigError(f"--image_size={image_size}: belongs to --data folder; leave it out")
    if data in _KNOWN:
        name, usual, facts = _KNOWN[data]
        options: dict[str, Any] = {"root": root or usual}
        if data != "tiny_imagenet":
            options["download"] = True
        return _Data(name, options, facts, 0 if "download" in options else facts.images, _line(data, facts))
    if data == "digits":
        if root is not None:
            raise ConfigError(f"--root={root}: the digits come with scikit-learn; leave it out")
        facts = _facts(DigitsData())
        return _Data("DigitsData", {}, facts, 0, _line("digits", facts))
    if root is None:
        raise ConfigError(
            "--root: required with --data folder: a folder that holds <class>/<file>, or the same in train/ and test/"
        )
    try:
        facts = _facts(ImageFolderData(root, image_size=image_size))
    except PDDError as error:
        text = str(error)
        more = "; here that is --image_size N" if "`image_size`" in text else ""
        ours = text.startswith(("root=", "image_size="))
        raise type(error)(f"{'--' if ours else ''}{text.rstrip('.')}{more}") from error
    found = {"root": root, "image_size": image_size, "grey": facts.grey, "test_fraction": 0.2}
    return _Data("ImageFolderData", found, facts, facts.images, _line(root, facts))


def _facts(data: ImageDataModule) -> Facts:
    """Read the data and count."""
    raw = data.load_raw()
    channels, height, width = raw.train_images.shape[1:]
    counts = raw.train_labels.bincount()
    return Facts((channels, height, width), len(counts), len(raw.train_labels), int(counts.min()))


def _line(name: str, facts: Facts) -> str:
    shape = "x".join(map(str, facts.shape))
    return f"{name}, {facts.classes} classes of at least {facts.fewest} training images, {shape}"


def _notes(facts: Facts, settings: Settings, gpu: bool) -> list[str]:
    """What the user should know before the run."""
    notes = []
    if settings.max_per_class is not None:
        notes.append(f"learns from {settings.max_per_class} images of each class, to save time on CPU cores")
    if not gpu and max(facts.shape[1:]) > LARGE:
        notes.append(f"images of {max(facts.shape[1:])} pixels take long on CPU cores: --image_size {LARGE} takes less")
    if settings.validation_fraction == 0:
        notes.append("a class has a single training image: none is held out, so baselines that tune a rate cannot run")
    return notes


def _within(settings: Settings, written: Written, minutes: float) -> tuple[Settings, str]:
    """Settings that bring the run to so many minutes, after a measurement, and what to say of them."""
    with TemporaryDirectory(prefix="pdd-init-") as aside:
        trial = Path(aside) / "stage.yaml"
        write_text(trial, configuration(settings, written))
        words = ["--config", str(trial), "--run_dir", f"{aside}/run", f"--plan.seconds={_SECONDS}"]
        with application("plan", words) as app:
            plan = planner_of(app).measured()
    found, seconds = fitted(settings, plan.lines, minutes)
    if seconds <= 60 * minutes * 1.05:
        return found, f"takes about {duration(seconds)} by a short measurement"
    return found, (
        f"takes about {duration(seconds)}, longer than --minutes={minutes:g}: give fewer --stages, a smaller --ipc or "
        "--image_size, or more time"
    )


def _say(path: Path, settings: Settings, notes: Sequence[str], gpu: bool) -> None:
    s, file = settings, shlex.quote(str(path))
    images = f"{s.ipc} image{'s' if s.ipc > 1 else ''}"
    each = f"{s.stages} stages of {images}" if s.stages > 1 else f"one stage of {images}"
    steps = f"{s.iterations} iterations{' each' if s.stages > 1 else ''}"
    print(f"made for {'a GPU' if gpu else 'CPU cores'}: {each} per class by {TITLES[s.method]}, {steps}")
    for note in notes:
        print(f"note: {note}")
    print(f"written: {path}")
    print(f"what it takes: pdd-cli plan --config {file}")
    print(f"the whole run: pdd-cli run --config {file}")
