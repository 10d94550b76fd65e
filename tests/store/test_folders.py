"""Finished stages: known by what they were made of, and unchanged."""

import json
from pathlib import Path

import pytest
import torch

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.files import FORMAT, read_json, write_json, write_tensors
from pdd_lightning.store.folders import RunFolder, StageFolder
from pdd_lightning.types import Json

TENSORS = {"weight": torch.randn(3, 4), "count": torch.tensor([1, 2])}
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
