"""The disk use that is announced is not exceeded, and not absurd."""

import shutil
from pathlib import Path

import pytest
from commandline import CONFIG, fit_into

from pdd_lightning.main import main
from pdd_lightning.modules.footprint import readable


def used(run: Path) -> int:
    return sum(path.stat().st_size for path in run.rglob("*") if path.is_file())


def test_a_run_takes_no_more_than_it_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fit_into(run)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("disk: "))
    assert "for the whole run (experts" in line
    assert line.endswith("free")
    fit_into(run)
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
    number, unit = line.removeprefix("disk: at most ").split()[:2]
    said = float(number) * {"KiB": 2**10, "MiB": 2**20}[unit]
    assert used(run) < said
    assert used(run) > said / 100


def test_too_little_space_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
        fit_into(tmp_path / "run", "--trainer.max_steps", "1")
    assert "1 B free - there may be too little" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "text"), [(12, "12 B"), (2048, "2.0 KiB"), (3 * 2**40, "3.0 TiB")])
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable(size) == text
