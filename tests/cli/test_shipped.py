"""The shipped configurations are found by name from every folder, and a wheel holds them."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from pdd_lightning.cli import shipped
from pdd_lightning.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["smoke/stage.yaml", "configs/smoke/stage.yaml"])
@pytest.mark.parametrize("joined", [False, True])
def test_a_shipped_configuration_is_used_where_there_is_no_such_file(
    name: str, joined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["fit", *([f"--config={name}"] if joined else ["--config", name]), "--print_config"])
    printed = capsys.readouterr()
    assert f"--config {name}: not here, so the one that is shipped: {ROOT / 'configs/smoke/stage.yaml'}" in printed.err
    assert yaml.safe_load(printed.out)["model"]["iterations"] == 10


def test_a_shipped_section_is_used_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", "smoke/stage.yaml", "--model.network", "network/narrow.yaml"]
    with pytest.raises(SystemExit):
        main(["fit", *words, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["model"]["network"]["init_args"]["width"] == 32


def test_a_file_of_ones_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "smoke" / "stage.yaml"
    own.parent.mkdir()
    own.write_text((ROOT / "tests" / "conf" / "micro.yaml").read_text())
    assert shipped.found(["--config", "smoke/stage.yaml"]) == ["--config", "smoke/stage.yaml"]
    assert capsys.readouterr().err == ""


def test_the_nearest_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", "quikstart/stage.yaml"])
    assert "did you mean quickstart/stage.yaml, which is shipped?" in capsys.readouterr().err


def test_nothing_outside_the_folder_is_shipped() -> None:
    assert [shipped.shipped(name) for name in ("../pyproject.yaml", "/smoke/stage.yaml", "smoke", "README.md", "")] == [
        None
    ] * 5


@pytest.mark.slow
def test_the_wheel_holds_every_configuration(tmp_path: Path) -> None:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    # From a source archive, as for a release: what it lacks the wheel lacks too.
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(line, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in ZipFile(wheel).namelist() if name.startswith("pdd_lightning/configs/")}
    expected = {f"pdd_lightning/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("configs/**/*.*")}
    assert names == expected
    assert "pdd_lightning/configs/quickstart/stage.yaml" in names
