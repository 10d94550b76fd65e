"""One process at a time in a folder."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pdd_lightning.process.lock import BusyError, RunLock, held_by_parent
from pdd_lightning.process.ranks import is_first

HOLD = (
    "import sys; from pathlib import Path; from pdd_lightning.process.lock import RunLock; "
    "l = RunLock(Path(sys.argv[1])); "
)


def test_the_second_is_told_who_is_there(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path / "run"),
        pytest.raises(BusyError, match=f"run: process {os.getpid()} on .*, since .*, works in this folder"),
    ):
        RunLock(tmp_path / "run")
    RunLock(tmp_path / "run").close()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = HOLD + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert "process" in json.loads((tmp_path / "run.lock").read_text())
    RunLock(tmp_path).close()


def test_a_command_works_under_the_lock_of_its_run(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        handed = lock.hand_over()
        assert held_by_parent(tmp_path, handed)
        assert held_by_parent(tmp_path / "one_stage", handed)
        assert not held_by_parent(tmp_path.parent / "another", handed)
    assert not held_by_parent(tmp_path, handed)  # the file is closed
    assert not held_by_parent(tmp_path, {})


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BusyError, match=r"--run_dir=.*file/run: cannot write"):
        RunLock(tmp_path / "file" / "run")


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    RunLock(tmp_path).close()


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"RANK": "0", "LOCAL_RANK": "0"}, True), ({"RANK": "1"}, False), ({"SLURM_PROCID": "3"}, False)],
)
def test_one_process_locks_for_all(environment: dict[str, str], first: bool) -> None:
    assert is_first(environment) == first
