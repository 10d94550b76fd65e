"""One run at a time in a folder. Imports no torch: `run` holds the lock between its commands."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pdd_lightning.errors import PDDError

LOCK_FILE: Final = "run.lock"
"""The file that is locked; it stays, for removing it would let two processes lock two files of one name."""


LOCK_VARIABLE: Final = "PDD_RUN_LOCK"
"""Environment variable in which `run` hands its commands the open file: descriptor, then folder."""


_UNSUPPORTED: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks answer."""


_held: dict[Path, int] = {}
"""Folders that this process works in, with the open file that is locked."""


class BusyError(PDDError):
    """Another process works in the folder."""


class VanishedError(PDDError):
    """The folder is no longer there."""


class RunLock:
    """Holds a run's folder until the process ends, however it ends: the kernel lets go of it even after kill -9.

    Args:
        directory: The run's folder; made if it does not exist.

    Raises:
        BusyError: If another process holds it, naming that process.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise BusyError(
                f"--run_dir={directory}: cannot write {self.path} ({error.strerror}); choose another folder or mend "
                "its permissions"
            ) from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self.path)
            os.close(self.descriptor)
            raise BusyError(
                f"--run_dir={directory}: {holder} works in this folder; wait for it, stop it, or choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return  # a file system without locks: nothing is worse than before
        self._sign()
        _held[directory.absolute()] = self.descriptor

    def _sign(self) -> None:
        """Say who holds it; a disk that is full must not keep a finished run from being read."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now})
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, text.encode(), 0)
        except OSError:
            return

    def close(self) -> None:
        """Let go of the folder."""
        _held.pop(self.path.parent.absolute(), None)
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def hand_over(self) -> dict[str, str]:
        """What a command that this process starts needs in its environment to work under the same lock."""
        return {LOCK_VARIABLE: f"{self.descriptor} {self.path.parent.absolute()}"}


def held_by_parent(directory: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the process that started this one holds the folder for it."""
    descriptor, _, folder = environment.get(LOCK_VARIABLE, "").partition(" ")
    if not descriptor.isdigit() or Path(folder) not in (directory.absolute(), *directory.absolute().parents):
        return False
    try:
        os.fstat(int(descriptor))
    except OSError:
        return False
    _held[Path(folder)] = int(descriptor)
    return True


def require_present(path: Path) -> None:
    """Check before a file is written that the run's folder is still the one that was locked.

    A mount that vanished leaves an empty folder, in which a run would go on writing where nobody looks.

    Args:
        path: What is to be written; of no concern outside the folders that are held.

    Raises:
        VanishedError: If it is not.
    """
    for directory, descriptor in _held.items():
        if directory not in path.absolute().parents:
            continue
        try:
            present = os.path.samestat(os.fstat(descriptor), os.stat(directory / LOCK_FILE))
        except OSError:
            present = False
        if not present:
            raise VanishedError(
                f"--run_dir={directory}: the folder vanished or was replaced while the run worked in it; bring it back "
                "(mount it again) and run the same command again to continue"
            )


def _holder(path: Path) -> str:
    """Who signed a lock."""
    try:
        found = json.loads(path.read_bytes())
        return f"process {found['process']} on {found['host']}, since {found['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
