"""Files of a run: whole or not there, and checked when read."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import differing_keys, fingerprint
from pdd_lightning.store.files import (
    FORMAT,
    atomic_write,
    folder_bytes,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from pdd_lightning.store.folders import RunFolder, StageFolder
from pdd_lightning.types import Json

TENSORS = {"weight": torch.randn(3, 4), "count": torch.tensor([1, 2])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.safetensors"


# Writing


def no_space(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("module", "function"), [(os, "replace"), (os, "fsync")], ids=str)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    module: Any, function: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(path, b"old")
    monkeypatch.setattr(module, function, no_space)
    with pytest.raises(ArtifactError, match=f"cannot write {path}: No space left on device.*--run_dir"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"cannot write .*file/below/it"):
        atomic_write(tmp_path / "file" / "below" / "it", b"")


def test_files_have_the_permissions_that_the_user_gives_new_files(path: Path, tmp_path: Path) -> None:
    atomic_write(path, b"")
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


# Tensors


def test_tensors_and_metadata_come_back(path: Path) -> None:
    write_tensors(path, TENSORS, {"who": "me"})
    tensors, metadata = read_tensors(path, TENSORS)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert metadata == {"format": str(FORMAT), "who": "me"}


def test_tensors_of_any_layout_are_written(path: Path) -> None:
    turned, leaf, part = torch.randn(2, 3).T, torch.randn(2).requires_grad_(), torch.randn(4, 2)[1:3]
    write_tensors(path, {"turned": turned, "leaf": leaf, "part": part})
    tensors, _ = read_tensors(path)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in {"turned": turned, "part": part}.items())
    assert torch.equal(tensors["leaf"], leaf.detach())


def test_the_same_content_gives_the_same_bytes(path: Path) -> None:
    """A stage that is made again as it was has the old digest, and the later stages still suit it."""
    files = set()
    for _ in range(10):
        write_tensors(path, TENSORS, {"a": "x", "b": "\u00fc", "c": "z"})
        files.add(path.read_bytes())
    assert len(files) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def truncate_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit_of_the_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] ^= 1  # where the header's JSON opens
    path.write_bytes(data)


def make_newer(path: Path) -> None:
    save_file(TENSORS, path, {"format": str(FORMAT + 1)})


def make_foreign(path: Path) -> None:
    save_file(TENSORS, path)


def remove(path: Path) -> None:
    path.unlink()


def store_others(path: Path) -> None:
    write_tensors(path, {"weight": torch.ones(2)})


def store_nan(path: Path) -> None:
    write_tensors(path, {**TENSORS, "weight": torch.tensor([1.0, float("nan")])})


def store_infinity(path: Path) -> None:
    write_tensors(path, {**TENSORS, "weight": torch.tensor([1.0, float("inf")])})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "is damaged .*restore it"),
        (truncate_to_nothing, "is damaged .*restore it"),
        (flip_a_bit_of_the_header, "is damaged .*restore it"),
        (make_newer, f"has format {FORMAT + 1}, written by another release, and this one reads format {FORMAT}"),
        (make_foreign, "has format None"),
        (remove, "does not exist; restore it"),
        (store_others, r"holds \['weight'\], expected \['count', 'weight'\]; restore it"),
        (store_nan, "weight has values that are not finite; restore it"),
        (store_infinity, "weight has values that are not finite; restore it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_named_with_a_remedy(harm: Any, message: str, path: Path) -> None:
    write_tensors(path, TENSORS)
    harm(path)
    with pytest.raises(ArtifactError, match=f"{path}.*{message}"):
        read_tensors(path, TENSORS)


# JSON


def test_json_comes_back(path: Path) -> None:
    write_json(path, {"a": [1, None, "x"]})
    assert read_json(path) == {"a": [1, None, "x"]}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_bad_json_is_named_with_a_remedy(text: str, path: Path) -> None:
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=f"{path} .*delete it"):
        read_json(path)


def test_json_refuses_what_is_not_a_number(path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"accuracy": float("nan")})


# Sizes


def test_bytes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"1")
    assert folder_bytes(tmp_path) == 6
    assert folder_bytes(tmp_path / "missing") == 0


# Fingerprints


def test_a_fingerprint_is_the_same_for_ever() -> None:
    """Another value would make every stored run look changed."""
    assert fingerprint({"a": 1, "b": [0.1, None, "x"]}) == "2508cba78e338cea5c06fa43deee7d82"


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_differing_keys_are_dotted_with_both_values() -> None:
    old: Json = {"a": {"b": 1, "c": 2}, "d": 3}
    assert differing_keys(old, {"a": {"b": 1, "c": 5}, "e": "x"}) == [
        "a.c: 2 then, 5 now",
        "d: 3 then, None now",
        "e: None then, 'x' now",
    ]


# Stages

SETTINGS: Json = {"network": {"width": 4}, "seed": 0}


@pytest.fixture
def finished(tmp_path: Path) -> StageFolder:
    folder = RunFolder(tmp_path).stage(2)
    write_tensors(folder.synthetic, TENSORS)
    write_tensors(folder.end_states, TENSORS)
    folder.finish(SETTINGS, "the data", "stage one", {"seconds": 1.5})
    return folder


def test_an_untouched_stage_is_accepted(finished: StageFolder) -> None:
    finished.verify(SETTINGS, "the data", "stage one")


def test_settings_and_data_need_not_be_compared(finished: StageFolder) -> None:
    finished.verify(None, None, "stage one")


def test_the_manifest_makes_a_stage_complete(finished: StageFolder) -> None:
    assert finished.complete
    finished.manifest.unlink()
    assert not finished.complete


def test_a_changed_setting_is_named_with_both_values(finished: StageFolder) -> None:
    with pytest.raises(ArtifactError, match=r"stage 2 .*: model.network.width: 4 then, 8 now\. Restore the old"):
        finished.verify({"network": {"width": 8}, "seed": 0}, "the data", "stage one")


def test_changed_data_are_noticed(finished: StageFolder) -> None:
    with pytest.raises(ArtifactError, match=r"other data: fingerprint the data then, new data now.*Restore the old"):
        finished.verify(SETTINGS, "new data", "stage one")


@pytest.mark.parametrize("previous", ["another", None])
def test_a_changed_stage_before_is_noticed(finished: StageFolder, previous: str | None) -> None:
    with pytest.raises(ArtifactError, match=r"stage 1 changed under the finished stage 2.*delete"):
        finished.verify(SETTINGS, "the data", previous)


def test_a_single_flipped_bit_is_noticed(finished: StageFolder) -> None:
    data = bytearray(finished.synthetic.read_bytes())
    data[-1] ^= 1
    finished.synthetic.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{finished.synthetic} was changed after stage 2 was complete.*delete"):
        finished.verify(SETTINGS, "the data", "stage one")


def test_a_missing_file_is_noticed(finished: StageFolder) -> None:
    finished.end_states.unlink()
    with pytest.raises(ArtifactError, match=f"{finished.end_states} is missing though stage 2 is complete.*delete"):
        finished.verify(SETTINGS, "the data", "stage one")


def test_a_manifest_of_a_newer_format_is_refused(finished: StageFolder) -> None:
    write_json(finished.manifest, {**read_json(finished.manifest), "format": FORMAT + 1})
    with pytest.raises(ArtifactError, match=f"{finished.manifest} has format {FORMAT + 1}, written by another release"):
        finished.verify(SETTINGS, "the data", "stage one")


def test_the_manifest_of_another_stage_is_refused(finished: StageFolder) -> None:
    copied = StageFolder(finished.directory, 3)
    with pytest.raises(ArtifactError, match="is not the manifest of stage 3"):
        copied.verify(SETTINGS, "the data", "stage one")


def test_settings_survive_json(finished: StageFolder) -> None:
    """What is compared is what JSON gives back, so settings are made of what JSON can hold."""
    assert json.loads(json.dumps(SETTINGS)) == finished.read_manifest().settings


def test_a_stage_is_identified_by_what_it_was_made_of_and_what_came_out(finished: StageFolder) -> None:
    before = finished.fingerprint()
    finished.finish(SETTINGS, "the data", "stage one", {"seconds": 99.0})
    assert finished.fingerprint() == before
    write_tensors(finished.synthetic, {"weight": torch.zeros(1)})
    finished.finish(SETTINGS, "the data", "stage one", {"seconds": 1.5})
    assert finished.fingerprint() != before


def test_stages_count_as_complete_from_the_first_without_gaps(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.completed(3) == 0
    run.stage(2).finish({}, "", None, {})
    assert run.completed(3) == 0
    run.stage(1).finish({}, "", None, {})
    assert run.completed(3) == 2
    assert run.completed(2) == 2
