"""`pdd-cli import`: images of others as a finished run."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import CONFIG, fit_into
from PIL import Image
from torch import Tensor

import pdd_lightning as pdd
from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import DigitsData
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.stage.subsets import read_run
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import Learner


def do(command: str, run: Path, *args: str) -> None:
    main([command, "--config", str(CONFIG), "--run_dir", str(run), *args])


Refuse = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refuse:
    """The one line that a mistake gives."""

    def refuse(command: str, run: Path, *args: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            do(command, run, *args)
        assert exit_.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pdd-cli: error: ")
        assert not any(word in line for word in ("Traceback", "Namespace(", "<class '", "--imported"))
        return line

    return refuse


@dataclass(frozen=True)
class Theirs:
    """Digits of others: two of each class, in both spaces."""

    data: DigitsData
    pixels: Tensor  # uint8
    normalised: Tensor
    labels: Tensor


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    data = DigitsData()
    data.setup()
    chosen = [index for label in range(10) for index in (data.train.labels == label).nonzero().flatten()[:2].tolist()]
    images = data.train.images[chosen]
    pixels = (data.preprocessing.invert(images) * 255).round().byte()
    return Theirs(data, pixels, images, data.train.labels[chosen])


def save(folder: Path, images: Tensor, labels: Tensor, rate: float | None = 0.05) -> list[str]:
    """As trajectory matching leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(images, folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    if rate is not None:
        torch.save(torch.tensor(rate), folder / "lr_best.pt")
    return [str(folder / "images_best.pt"), str(folder / "labels_best.pt")]


@pytest.fixture(scope="module")
def imported(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of imported images; copy it before changing it."""
    folder = tmp_path_factory.mktemp("import")
    do("import", folder / "run", *save(folder, theirs.normalised, theirs.labels), "--name", "MTT")
    return folder / "run"


def test_the_result_is_a_finished_run(imported: Path, theirs: Theirs) -> None:
    found = pdd.load(imported)
    assert (found.about.name, found.about.recipe.epochs) == ("MTT", 3)
    assert found.rates == pytest.approx((0.05,))
    assert torch.equal(found.union().images, theirs.normalised)
    assert torch.equal(found.union().labels, theirs.labels)
    settings: Any = RunFolder(imported).stage(1).read_manifest().settings
    assert settings["imported"]["space"] == "normalised"
    assert sorted(settings["imported"]["files"]) == ["images", "labels", "rate"]
    assert "random_rates" not in settings["evaluation"]  # which nothing was tuned among
    assert RunFolder(imported).stage(1).pictures.is_file()


def test_evaluate_and_compare_take_it(
    imported: Path, first_stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "theirs"
    shutil.copytree(imported, run)
    main(["evaluate", "--run_dir", str(run), "--evaluation.baselines", "[random]"])
    rows = read_results(run / "evaluation" / "results.json")
    assert [(row.name, row.order, row.stage, row.images_per_class) for row in rows] == [
        ("random", "union", None, 2),
        ("MTT", "progressive", 1, 2),
    ]
    assert rows[1].learning_rate == pytest.approx((0.05,))
    assert rows[0].steps == rows[1].steps
    capsys.readouterr()
    main(["compare", str(run)])
    assert " theirs " in capsys.readouterr().out
    # Trained as `pdd_lightning.load` trains it.
    found, data = pdd.load(run), DigitsData().load_raw()
    accuracy = found.evaluate(found.train(seed=0), data.test_images, data.test_labels)
    assert rows[1].accuracies[0] == pytest.approx(accuracy)


def test_again_it_has_nothing_to_do(
    imported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Learner, "train", None)
    main(["import", "--config", str(imported / "stage_01" / "config.yaml"), "--run_dir", str(imported)])
    assert capsys.readouterr().err.strip().endswith("imported already in " + str(imported) + ": nothing to do")


def write_npz(folder: Path, theirs: Theirs) -> list[str]:
    labels = theirs.labels.double().numpy()
    np.savez(folder / "set.npz", images=theirs.pixels.numpy(), labels=labels, lr=np.float32(0.07))
    return [str(folder / "set.npz")]


def write_nested(folder: Path, theirs: Theirs) -> list[str]:
    torch.save({"data": [[theirs.pixels / 255, theirs.labels]], "lr": 0.07}, folder / "set.pt")
    return [str(folder / "set.pt")]


def write_safetensors(folder: Path, theirs: Theirs) -> list[str]:
    from safetensors.torch import save_file

    tensors = {"image": theirs.pixels, "label": theirs.labels.int(), "lr": torch.tensor([0.07])}
    save_file(tensors, folder / "set.safetensors")
    return [str(folder / "set.safetensors")]


def write_folder(folder: Path, theirs: Theirs) -> list[str]:
    for index, (image, label) in enumerate(zip(theirs.pixels, theirs.labels.tolist(), strict=True)):
        path = folder / "set" / str(label) / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return [str(folder / "set"), "--rate", "0.07"]


@pytest.mark.parametrize("write", [write_npz, write_nested, write_safetensors, write_folder])
def test_every_form_gives_the_same_run(
    write: Callable[[Path, Theirs], list[str]], theirs: Theirs, tmp_path: Path
) -> None:
    do("import", tmp_path / "run", *write(tmp_path, theirs))
    (subset,) = read_run(RunFolder(tmp_path / "run"))
    assert torch.equal(subset.data.labels, theirs.labels)
    torch.testing.assert_close(subset.data.images, theirs.data.preprocessing.apply(theirs.pixels))
    assert subset.rate == pytest.approx(0.07)


def test_a_rate_that_is_nowhere_is_tuned_on_held_out_images(
    theirs: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = save(tmp_path, theirs.normalised, theirs.labels, rate=None)
    do("import", tmp_path / "run", *files, "--evaluation.random_rates", "[0.000001, 0.1]")
    assert "the best of evaluation.random_rates=[1e-06, 0.1] on held-out real images" in capsys.readouterr().err
    (path,) = (tmp_path / "run" / "evaluation" / "rows").iterdir()
    assert json.loads(path.read_text())["job"]["name"] == "imported-tuning"
    assert read_run(RunFolder(tmp_path / "run"))[0].rate == pytest.approx(0.1)
    do("import", tmp_path / "given", *files, "--rate=0.3")
    assert read_run(RunFolder(tmp_path / "given"))[0].rate == pytest.approx(0.3)


def test_images_may_hold_several(theirs: Theirs, tmp_path: Path) -> None:
    do("import", tmp_path / "run", *save(tmp_path, theirs.normalised, theirs.labels), "--factor", "2")
    assert len(pdd.load(tmp_path / "run").union()) == 4 * len(theirs.labels)


def test_odd_sets_are_imported_with_a_warning(theirs: Theirs, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    files = save(tmp_path, theirs.normalised[:5] * 8, theirs.labels[:5])
    do("import", tmp_path / "run", *files, "--space", "normalised")
    missing, spread = (record.getMessage() for record in caplog.records)
    assert missing.endswith("holds no image of 7 of 10 classes: 3, 4, 5, 6, 7, 8, 9")
    assert "are data and --space those that they were made with?" in spread
    do("evaluate", tmp_path / "run", "--evaluation.baselines", "[random]")
    assert len(read_results(tmp_path / "run" / "evaluation" / "results.json")) == 2


def change(**parts: Callable[[Tensor], object]) -> Callable[[Theirs], tuple[Any, Any]]:
    same: Callable[[Tensor], object] = lambda tensor: tensor  # noqa: E731
    return lambda t: (parts.get("images", same)(t.normalised), parts.get("labels", same)(t.labels))


def last_is_nan(images: Tensor) -> Tensor:
    images = images.clone()
    images[-1, 0, 0, 0] = float("nan")
    return images


MISTAKES: dict[str, tuple[Callable[[Theirs], tuple[Any, Any]], list[str], list[str]]] = {
    "fewer labels": (change(labels=lambda y: y[:-1]), [], ["20 images have 19 labels"]),
    "labels with fractions": (change(labels=lambda y: y + 0.5), [], ["labels are not whole numbers"]),
    "labels out of range": (change(labels=lambda y: y + 1), [], ["labels run from 1 to 10", "classes 0 to 9"]),
    "one-hot labels": (change(labels=lambda y: torch.eye(10)[y]), [], ["not soft or one-hot ones", "argmax(1)"]),
    "a column of labels": (change(labels=lambda y: y[:, None]), [], ["labels.flatten()"]),
    "another size": (change(images=lambda x: x[..., :7]), [], ["have shape (20, 1, 8, 7), the data (N, 1, 8, 8)"]),
    "other channels": (change(images=lambda x: x.expand(-1, 3, -1, -1).clone()), [], ["(20, 3, 8, 8)"]),
    "channels last": (change(images=lambda x: x.permute(0, 2, 3, 1).contiguous()), [], ["images.permute(0, 3, 1, 2)"]),
    "no channel": (change(images=lambda x: x[:, 0].clone()), [], ["images[:, None]"]),
    "no image": (change(images=lambda x: x[:0].clone(), labels=lambda y: y[:0].clone()), [], ["(0, 1, 8, 8)"]),
    "NaN": (change(images=last_is_nan), [], ["1 values of the images are NaN or infinite"]),
    "integers": (change(images=lambda x: x.int()), [], ["images are torch.int32"]),
    "grey levels": (change(images=lambda x: ((x + 1) * 80).round().clamp(0)), [], ["pixels run to", "uint8"]),
    "unclear space": (change(images=lambda x: x + 2), [], ["may be pixels", "--space pixels or --space normalised"]),
    "unknown space": (change(), ["--space", "pixel"], ["--space=pixel: expected one of"]),
    "impossible rate": (change(), ["--rate", "-1"], ["--rate must be positive and finite, got -1"]),
    "impossible factor": (change(), ["--factor", "9"], ["--factor=9: images of 8x8 pixels"]),
    "name of a baseline": (change(), ["--name", "full"], ["--name=full: this is the name of a baseline"]),
    "no tensor": (change(labels=lambda y: "text"), [], ["labels_best.pt: which of its tensors are the labels", "none"]),
    "more than tensors": (change(images=lambda x: torch.nn.ReLU()), [], ["holds more than tensors"]),
    "a third file": (change(), ["more.pt"], ["3 files are given"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, theirs: Theirs, tmp_path: Path, refused: Refuse) -> None:
    make, args, words = MISTAKES[mistake]
    line = refused("import", tmp_path / "run", *save(tmp_path, *make(theirs)), *args)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_mistakes_about_files_are_one_line(theirs: Theirs, tmp_path: Path, refused: Refuse) -> None:
    images, labels = save(tmp_path, theirs.normalised, theirs.labels, rate=float("nan"))
    assert "import needs files: pdd-cli import IMAGES LABELS" in refused("import", tmp_path / "run")
    assert "name the other file too" in refused("import", tmp_path / "run", images)
    assert "there is no such file" in refused("import", tmp_path / "run", images, str(tmp_path / "none.pt"))
    line = refused("import", tmp_path / "run", images, labels)
    assert line.endswith("lr_best.pt: its learning rate is nan, expected one that is positive; give --rate")
    folder = Path(write_folder(tmp_path, theirs)[0])
    (folder / "9").rename(folder / "10")
    assert "set/10: there is no such class, did you mean 1?" in refused("import", tmp_path / "run", str(folder))
    assert not (tmp_path / "run").exists()


def test_folders_of_other_kinds_are_told_apart(
    imported: Path, first_stage: Path, theirs: Theirs, tmp_path: Path, refused: Refuse
) -> None:
    files = save(tmp_path, theirs.normalised, theirs.labels)
    assert "holds distilled images; choose another folder for imported ones" in refused("import", first_stage, *files)
    assert "holds images imported as MTT; choose another folder to distil" in refused("fit", imported)
    assert "holds images imported as MTT; choose another folder for selected ones" in refused("select", imported)
    line = refused("import", imported, *save(tmp_path, -theirs.normalised, theirs.labels), "--name", "MTT")
    assert "holds images imported under other settings: imported.files.images: " in line


def test_an_unfinished_distillation_is_left_alone(theirs: Theirs, tmp_path: Path, refused: Refuse) -> None:
    fit_into(tmp_path / "unfinished", "--trainer.max_steps", "2", "--checkpoint_every", "2")
    files = save(tmp_path, theirs.normalised, theirs.labels)
    assert "holds an unfinished distillation" in refused("import", tmp_path / "unfinished", *files)
