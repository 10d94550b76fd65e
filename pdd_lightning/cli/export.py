"""`pdd-cli export`: a distilled set in a form that others read."""

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from torch import Tensor

from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.distilled import DistilledSet, load
from pdd_lightning.distilled.eight_bits import Loss
from pdd_lightning.distilled.export import export_set, require_free
from pdd_lightning.distilled.formats import FORMATS, format_named
from pdd_lightning.distilled.from_run import require_finished
from pdd_lightning.errors import ConfigError, DataError
from pdd_lightning.progress import size, track
from pdd_lightning.store.files import folder_bytes
from pdd_lightning.store.folders import RunFolder

_SEEDS: Final = 5


def main(args: Sequence[str]) -> int:
    """Write a run, or an export in another format, and say what was written and what it cost.

    Args:
        args: The folder of the run, and options; see ``pdd-cli export --help``.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: If there is no such format, or something is at the output.
        ArtifactError: If the run is missing, unfinished or damaged, or the output cannot be written.
        DataError: If accuracies are to be measured and the run's data is not what it was.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     main(["checkpoints/sample", "--format", "npz", "--output", f"{folder}/set.npz"])
        /.../set.npz: npz, 30 images in 3 stages, ... KiB; lossless
        0
    """
    options = parser().parse_args(args)
    form, output = format_named(options.format, "--format"), Path(from_home(options.output, "--output"))
    if options.seeds < 1:
        raise ConfigError(f"--seeds={options.seeds}: at least one network is needed")
    require_free(output, form, "--output")
    where = Path(from_home(options.run, "RUN"))
    require_finished(RunFolder(where))
    distilled = load(where)
    distilled = replace(distilled, about=distilled.about.under(options.licence))
    test = _test_images(where, distilled) if options.measure and not form.lossless else None
    export_set(distilled, output, form, "--output")
    count, stages = sum(len(subset.data) for subset in distilled.stages), len(distilled.stages)
    held = size(folder_bytes(output) if output.is_dir() else output.stat().st_size)
    told = "lossless" if form.lossless else str(Loss.of(distilled))
    print(f"{output}: {form.name}, {count} images in {stages} stage{'s' * (stages > 1)}, {held}; {told}")
    if test is not None:
        _measure(distilled, load(output), test, options.seeds)
    return 0


def parser() -> PlainParser:
    """Its options."""
    made = PlainParser("export")
    made.add_argument("run", metavar="RUN", help="Folder of a finished run, or an export.")
    names = ", ".join(each.name for each in FORMATS)
    made.add_argument("--format", metavar="NAME", required=True, help=f"One of {names}.")
    made.add_argument("--output", metavar="PATH", required=True, help="File or folder to make; never overwritten.")
    made.add_argument("--licence", metavar="TEXT", help="Of the real images, where it is not the one on record.")
    made.add_argument(
        "--measure",
        type=_truth,
        default=False,
        metavar="true|false",
        help="Train networks on the images before and after they became 8-bit pictures, and compare (default: false).",
    )
    made.add_argument("--seeds", type=int, default=_SEEDS, help=f"Networks of each kind (default: {_SEEDS}).")
    return made


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ArgumentTypeError(f"{text}: expected true or false")
    return text.lower() == "true"


def _test_images(where: Path, distilled: DistilledSet) -> tuple[Tensor, Tensor]:
    """Test images of the run's data, uint8, and their labels.

    Raises:
        ConfigError: If the run does not say what its data is.
        DataError: If it is not what it was.
    """
    recorded = RunFolder(where).stage(1).config
    if not recorded.is_file():
        raise ConfigError(
            f"--measure=true: {where} does not say what its data is; give the folder of a run with its config.yaml, or "
            "leave --measure out"
        )
    # Data modules and their options are Lightning's affair, which takes seconds to import and nothing else needs.
    application = import_module("pdd_lightning.cli.application").application
    with application("evaluate", ["--config", str(recorded), "--stage=null", f"--run_dir={where}"]) as app:
        app.datamodule.prepare_data()
        raw = app.datamodule.load_raw()
    about = distilled.about
    if (raw.class_names, tuple(raw.test_images.shape[1:])) != (about.class_names, about.image_shape):
        raise DataError(f"--measure=true: the data that {recorded} names has other classes or images than the run had")
    return raw.test_images, raw.test_labels


def _measure(before: DistilledSet, after: DistilledSet, test: tuple[Tensor, Tensor], seeds: int) -> None:
    """Print what networks reach that are trained on either set."""
    trained = {"original images": before, "pictures": after}
    found: dict[str, list[float]] = {name: [] for name in trained}
    for seed in track(range(seeds), description="training", enabled=True):
        for name, distilled in trained.items():
            found[name].append(distilled.evaluate(distilled.train(seed=seed), *test))
    parts = [f"{_accuracy(values)} trained on the {name}" for name, values in found.items()]
    print(f"test accuracy of {seeds} network{'s' * (seeds > 1)}: {', '.join(parts)}")


def _accuracy(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread} %"
