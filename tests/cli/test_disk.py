"""A disk that is full, read-only or gone: one line that says so, and what was finished is intact."""

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Fit, Refused, fit_into

from pdd_lightning.process.lock import RunLock, VanishedError
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.files import atomic_write
from pdd_lightning.store.folders import RunFolder


def same_stage(run: Path, expected: Path, stage: int = 1) -> None:
    for name in ("synthetic.safetensors", "end_states.safetensors"):
        assert file_digest(RunFolder(run).stage(stage).directory / name) == file_digest(
            RunFolder(expected).stage(stage).directory / name
        )


@pytest.fixture
def limited() -> Iterator[None]:
    """No file of more than a few kilobytes can be written, as under a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_is_one_line(
    limited: None, first_stage: Path, run: Path, refused: Refused, fit: Fit
) -> None:
    line = refused()
    assert "cannot write" in line
    assert "File too large" in line
    assert not list(run.rglob("*.tmp"))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    fit()
    same_stage(run, first_stage)


class Small:
    """A disk in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, options: str, *more: str) -> None:
        line = ["mount", "-t", "tmpfs", "-o", options, *more, "tmpfs", str(self.path)]
        subprocess.run(line, check=True, capture_output=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    disk = Small(tmp_path / "disk")
    disk.path.mkdir()
    try:
        disk.mount("size=512k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk takes rights that this user does not have")
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=False, capture_output=True)


def test_a_full_disk_leaves_the_last_good_state(
    small: Small,
    two_stages: Path,
    first_stage: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As if somebody else filled the disk after the command had looked for room.
    monkeypatch.setattr("pdd_lightning.distilling.fitting.require_room", lambda *_, **__: "")
    run = small.path / "run"
    shutil.copytree(first_stage, run)
    with (small.path / "filler").open("wb") as filler:
        free = shutil.disk_usage(small.path).free
        filler.write(bytes(max(free - 16 * 1024, 0)))
    line = refused("--run_dir", str(run))
    assert "No space left on device" in line
    assert "again" in line or "Free space" in line
    same_stage(run, first_stage)
    (small.path / "filler").unlink()
    fit_into(run)
    same_stage(run, two_stages, 2)


def test_a_read_only_disk_is_named(small: Small, first_stage: Path, refused: Refused) -> None:
    run = small.path / "run"
    shutil.copytree(first_stage, run)
    small.mount("remount,ro")
    line = refused("--run_dir", str(run))
    assert "--run_dir" in line
    assert str(run) in line


def test_a_folder_that_vanished_is_not_made_again(tmp_path: Path) -> None:
    """As a mount point is empty when its disk is gone."""
    run = tmp_path / "run"
    with RunLock(run):
        atomic_write(run / "before", b"")
        run.rename(tmp_path / "gone")
        with pytest.raises(VanishedError, match=f"--run_dir={run}: the folder vanished .* run the same command again"):
            atomic_write(run / "after", b"")
        assert not run.exists()
        atomic_write(tmp_path / "elsewhere", b"")
