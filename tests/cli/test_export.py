"""The command that writes a set for others."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, environment

import pdd_lightning as pdd
from pdd_lightning.cli.main import main
from pdd_lightning.distilled.eight_bits import Loss

SAMPLE = str(ROOT / "checkpoints" / "sample")


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["export", *args])
    printed = capsys.readouterr()
    assert (exit_.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    return printed.err.removeprefix("pdd-cli: error: ").rstrip()


def test_it_says_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep" / "set.npz"
    main(["export", SAMPLE, "--format", "npz", "--output", str(path), "--licence", "mine"])
    told = re.fullmatch(r"(.*): npz, 30 images in 3 stages, ([\d.]+) KiB; lossless\n", capsys.readouterr().out)
    assert told is not None
    assert told[1] == str(path)
    assert float(told[2]) == round(path.stat().st_size / 1024, 1)
    assert pdd.load(path).about.source["licence"] == "mine"


def test_it_says_what_pictures_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", SAMPLE, "--format=imagefolder", f"--output={tmp_path / 'set'}"])
    assert capsys.readouterr().out.endswith(f"; {Loss.of(pdd.load(SAMPLE))}\n")


def test_accuracies_are_measured_on_the_data_of_the_run(
    two_stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "set")
    main(["export", str(two_stages), "--format=huggingface", f"--output={path}", "--measure=true", "--seeds=2"])
    line = capsys.readouterr().out.splitlines()[-1]
    told = r"test accuracy of 2 networks: ([\d.]+) ± [\d.]+ % trained on the original images, ([\d.]+) ± [\d.]+ % "
    found = re.fullmatch(told + "trained on the pictures", line)
    assert found is not None
    assert all(0 < float(value) < 100 for value in found.groups())


@pytest.mark.slow
def test_pictures_of_digits_train_networks_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Within the spread of networks that differ in their seeds."""
    main(["export", SAMPLE, "--format=imagefolder", f"--output={tmp_path / 'set'}", "--measure=true"])
    line = capsys.readouterr().out.splitlines()[-1]
    original, _, pictures, spread = map(float, re.findall(r"([\d.]+)(?: %|(?= ±))", line))
    recorded = [row["mean"] for row in pdd.load(SAMPLE).about.results if row["order"] == "progressive"][-1]
    assert abs(original - 100 * float(str(recorded))) < 1
    assert abs(original - pictures) < 2 * spread


def test_an_unfinished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(SAMPLE, run)
    shutil.rmtree(run / "stage_03")
    told = refused(capsys, str(run), "--format=npz", f"--output={tmp_path / 'set.npz'}")
    assert told.startswith(f"{run}: stage 3 of 3 is not finished; continue by `pdd-cli run --config {run}/stage_02/")
    assert len(pdd.load(run).stages) == 2  # whoever asks for it may use what is there
    assert not (tmp_path / "set.npz").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--format=npx", "--output=a.npz"),
            "--format=npx: there is no such format, did you mean npz?; choose ",
        ),
        (("--format=npz", "--output=a"), "--output=a: a file of the format npz is called *.npz; add it"),
        (("--format=pt", "--output=configs"), "--output=configs: exists, and nothing is overwritten; "),
        (("--format=pt", "--output=none/a", "--seeds=0"), "--seeds=0: at least one network is needed"),
        (("--format=pt", "--output=none/a", "--measure=maybe"), "argument --measure: maybe: expected true or false; "),
        (("--format=pt",), "the following arguments are required: --output; `pdd-cli export --help`"),
        (
            ("--format=pt", "--output=none/a", "--license=x"),
            "--license: there is no such option; did you mean --licence?",
        ),
        (("--format=pt", "--output=~nobody-here/a"), "--output=~nobody-here/a: there is no home ~nobody-here here"),
    ],
)
def test_mistakes_are_one_line(args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, SAMPLE, *args).startswith(message)
    assert not Path("none").exists()


def test_a_run_that_does_not_say_its_data_cannot_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pdd.load(SAMPLE).export(tmp_path / "set.npz", "npz")
    told = refused(capsys, str(path), "--format=imagefolder", f"--output={tmp_path / 'set'}", "--measure=true")
    assert told.startswith(f"--measure=true: {path} does not say what its data is; give the folder of a run")
    assert not (tmp_path / "set").exists()


def test_data_of_other_classes_are_refused(
    two_stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_stages, run)
    manifest = run / "stage_02" / "stage.json"
    told = json.loads(manifest.read_text())
    told["summary"]["class_names"][0] = "another"
    del told["digest"]
    manifest.write_text(json.dumps(told))
    line = refused(capsys, str(run), "--format=imagefolder", f"--output={tmp_path / 'set'}", "--measure=true")
    assert "has other classes or images than the run had" in line
    assert not (tmp_path / "set").exists()


def test_lightning_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pdd_lightning.cli.main import main\n"
        f"main(['export', {SAMPLE!r}, '--format=imagefolder', '--output=set'])\n"
        "print(sorted(sys.modules.keys() & {'lightning', 'torchvision', 'pyarrow', 'matplotlib'}))\n"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
