"""`pdd-cli show`: the images of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.distilled import DistilledSet, load
from pdd_lightning.errors import ConfigError, suggest
from pdd_lightning.stage.course import outside
from pdd_lightning.stage.pictures import save_grid
from pdd_lightning.store.files import require_writable


def main(args: Sequence[str]) -> int:
    """Draw the images of a run, or of any other set that `pdd_lightning.load` takes.

    Args:
        args: Where the set lies, and options; see ``pdd-cli show --help``.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If there is no such set, stage or class, or the picture cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     main(["checkpoints/sample", "--stage=1", "--classes=3,5", f"--output={folder}/mine.png"])
        /.../mine.png: 2 images of stage 1, 67.2 % of their values outside [0, 1] (-0.64 to 1.62) and cut off
        0
    """
    options = parser().parse_args(args)
    where = Path(from_home(options.run, "RUN"))
    found = load(where)
    stages = _stages(found, options.stage)
    labels = _labels(found, options.classes)
    raw = options.raw == "true"
    path = _output(options.output, where, stages, raw)
    print(f"{path}: {draw(found, path, stages, labels, raw=raw)}")
    return 0


def parser() -> PlainParser:
    """Its options."""
    made = PlainParser("show")
    made.add_argument("run", metavar="RUN", help="Folder of a run, finished as far as it goes, or an export.")
    made.add_argument("--stage", type=int, metavar="K", help="Show this stage alone; all of them by default.")
    made.add_argument("--classes", metavar="A,B", help="Show these alone: names or numbers, separated by commas.")
    made.add_argument(
        "--raw",
        choices=("true", "false"),
        default="false",
        help="true shows what networks read, whitened where the data are, scaled from its least value to its largest.",
    )
    made.add_argument("--output", metavar="FILE.png", help="The picture; by default in the current folder.")
    return made


def draw(found: DistilledSet, path: Path, stages: Sequence[int], classes: Sequence[int], *, raw: bool = False) -> str:
    """Draw some images of a set, as they are stored: with multi-formation each of them holds several.

    Args:
        found: The set.
        path: The PNG to write.
        stages: Which ones, from 1.
        classes: Labels, in the order of the picture's rows.
        raw: Draw what networks read.

    Returns:
        What the picture shows, in words.

    Raises:
        ConfigError: If those stages have no image of those classes.
        ArtifactError: If the file cannot be written.
    """
    parts = [found.stages[stage - 1].data for stage in stages]
    labels = torch.cat([part.labels for part in parts])
    numbers = torch.tensor(stages).repeat_interleave(torch.tensor([len(part) for part in parts]))
    chosen = torch.isin(labels, torch.tensor(classes)).nonzero().flatten()
    if not len(chosen):
        raise ConfigError("there are no images of these classes in these stages: choose others (--stage, --classes)")
    seen = torch.cat([part.images for part in parts])[chosen]
    pixels, told = _scaled(seen) if raw else _pictures(found.preprocessing.invert(seen))
    rows = torch.tensor([classes.index(label) for label in labels[chosen].tolist()])
    save_grid(path, pixels, rows, numbers[chosen], [_title(found, label) for label in classes])
    which = f"stage {stages[0]}" if len(stages) == 1 else f"stages {stages[0]} to {stages[-1]}"
    return f"{len(chosen)} image{'s' * (len(chosen) > 1)} of {which}, {told}"


def _scaled(images: Tensor) -> tuple[Tensor, str]:
    low, high = float(images.min()), float(images.max())
    return (images - low) / ((high - low) or 1.0), f"as networks read them: black is {low:.2f}, white is {high:.2f}"


def _pictures(pixels: Tensor) -> tuple[Tensor, str]:
    share = outside(pixels)
    if not share:
        return pixels, "all values within [0, 1]"
    span = f"{float(pixels.min()):.2f} to {float(pixels.max()):.2f}"
    return pixels, f"{100 * share:.1f} % of their values outside [0, 1] ({span}) and cut off"


def _title(found: DistilledSet, label: int) -> str:
    """A class by its number too, which --classes takes."""
    name = found.about.class_names[label]
    return name if name == str(label) else f"{label}: {name}"


def _stages(found: DistilledSet, stage: int | None) -> list[int]:
    count = len(found.stages)
    if stage is None:
        return list(range(1, count + 1))
    if not 1 <= stage <= count:
        there = "stage 1 alone" if count == 1 else f"stages 1 to {count}"
        raise ConfigError(f"--stage={stage}: this set has {there}")
    return [stage]


def _labels(found: DistilledSet, classes: str | None) -> list[int]:
    """The labels of classes that are given by name or number, each once."""
    names = found.about.class_names
    if classes is None:
        return list(range(len(names)))
    words = [classes] if classes in names else [word.strip() for word in classes.split(",")]
    return list(dict.fromkeys(_label(word, names) for word in words))


def _label(word: str, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise ConfigError(
        f"--classes: there is no class {word!r}{suggest(word, names)}; give numbers from 0 to "
        f"{len(names) - 1} or names of {shown}"
    )


def _output(given: str | None, where: Path, stages: Sequence[int], raw: bool) -> Path:
    if given is None:
        which = f"stage_{stages[0]}" if len(stages) == 1 else f"stages_{stages[0]}-{stages[-1]}"
        name = where.resolve().name if where.is_dir() else where.stem
        path = Path(f"{name}_{which}{'_raw' * raw}.png")
    else:
        path = Path(from_home(given, "--output"))
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ConfigError(f"--output={path}: name a file that ends in .png")
    require_writable(path.parent, f"--output={path}")
    return path
