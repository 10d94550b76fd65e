"""What a stage builds on is looked at once, whatever follows: the files of a large bank take long to hash."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from commandline import fit_into

from pdd_lightning.store import folders
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import Manifest, RunFolder, StageFolder


@pytest.mark.parametrize("continued", [False, True])
def test_a_finished_stage_is_hashed_and_read_once(
    continued: bool, first_stage: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(first_stage, run)
    if continued:
        fit_into(run, "--trainer.max_steps", "4", "--checkpoint_every", "2")
    hashed, read = Counter[Path](), Counter[Path]()
    read_manifest = StageFolder.read_manifest

    def hashing(path: Path) -> str:
        hashed[path] += 1
        return file_digest(path)

    def reading(folder: StageFolder) -> Manifest:
        read[folder.manifest] += 1
        return read_manifest(folder)

    monkeypatch.setattr(folders, "file_digest", hashing)
    monkeypatch.setattr(StageFolder, "read_manifest", reading)
    fit_into(run, "--checkpoint_every", "2")
    first, second = (RunFolder(run).stage(stage) for stage in (1, 2))
    assert hashed == {path: 1 for stage in (first, second) for path in (stage.synthetic, stage.end_states)}
    assert read == {first.manifest: 1, second.manifest: 1}
