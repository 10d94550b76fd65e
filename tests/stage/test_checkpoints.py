"""What a file says of its own contents is compared with them."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.stage.checkpoints import (
    SealedCheckpointIO,
    StageCheckpoint,
    checkpoint_path,
    checkpoints_in,
    latest_checkpoint,
)
from pdd_lightning.store.digests import seal_of
from pdd_lightning.store.files import FORMAT, read_json, read_tensors, remove_unfinished, write_json, write_tensors

CHECKPOINT = {"state_dict": {"images": torch.arange(6.0)}, "step": 3, "loops": {"done": [1, 2.5, None, "x"]}}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "step=3.ckpt"
    SealedCheckpointIO().save_checkpoint(CHECKPOINT, path)
    read = SealedCheckpointIO().load_checkpoint(path)
    assert torch.equal(read["state_dict"]["images"], CHECKPOINT["state_dict"]["images"])  # type: ignore[index]
    assert [path.name for path in tmp_path.iterdir()] == ["step=3.ckpt"]


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    """torch reads it without a word."""
    path = tmp_path / "step=3.ckpt"
    SealedCheckpointIO().save_checkpoint(CHECKPOINT, path)
    data = bytearray(path.read_bytes())
    at = bytes(data).index(torch.tensor(5.0).numpy().tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["state_dict"]["images"][5] != 5
    with pytest.raises(ArtifactError, match=r"do not match their digest.*delete it to continue from the checkpoint"):
        SealedCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize(
    "other",
    [
        {**CHECKPOINT, "step": 4},
        {**CHECKPOINT, "loops": {"done": [1, 2.5, None, "y"]}},
        {**CHECKPOINT, "state_dict": {"images": torch.arange(6.0).view(2, 3)}},
        {**CHECKPOINT, "state_dict": {"other": torch.arange(6.0)}},
    ],
)
def test_a_seal_depends_on_everything(other: dict[str, object]) -> None:
    assert seal_of(other) != seal_of(CHECKPOINT)


def test_a_flipped_bit_in_tensors_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(4), "b": torch.ones(2, dtype=torch.bfloat16)}, {"who": "me"})
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert load_file(path).keys() == {"a", "b"}  # safetensors reads it without a word
    with pytest.raises(ArtifactError, match=r"do not match their digest.*restore it"):
        read_tensors(path)


def test_metadata_are_sealed_with_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(4)}, {"member": "1"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"member":"1"', b'"member":"2"'))
    with pytest.raises(ArtifactError, match=r"do not match their digest"):
        read_tensors(path)


def test_a_file_from_before_digests_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors", {"format": str(FORMAT)})
    assert read_tensors(tmp_path / "x.safetensors")[1] == {"format": str(FORMAT)}


def test_a_changed_number_in_json_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"accuracy": 0.25})
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        read_json(path)


def test_strange_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step=abc.ckpt", "step=.ckpt", "step=9-v1.ckpt", "step=3.ckpt", "step=12.ckpt"):
        (tmp_path / name).touch()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step=3.ckpt", "step=12.ckpt"]
    assert latest_checkpoint(tmp_path) == str(checkpoint_path(tmp_path, 12))


def test_only_files_that_nobody_finished_are_removed(tmp_path: Path) -> None:
    experts = tmp_path / "experts"
    left = [tmp_path / ".stage.json.0a1b2c3d.tmp", experts / ".expert_0000.safetensors.0a1b2c3d.tmp"]
    kept = [tmp_path / ".mine.tmp", tmp_path / "x.0a1b2c3d.tmp", experts / ".expert_0001.safetensors.0a1b2c3d.tmp"]
    experts.mkdir()
    for path in (*left, *kept):
        path.touch()
    os.utime(left[1], (0, 0))  # another run may be writing the new one
    remove_unfinished(tmp_path, experts)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


class FakeTrainer:
    """Counts steps and writes empty checkpoints."""

    world_size, is_global_zero, global_step = 1, True, 0

    def save_checkpoint(self, path: Path, *, weights_only: bool) -> None:
        assert not weights_only
        path.touch()


def saved(tmp_path: Path, steps: int, minutes: float) -> list[int]:
    """Steps at which 12 steps of 20 seconds each are saved."""
    seconds = [0.0]
    callback = StageCheckpoint(tmp_path, steps, minutes, clock=lambda: seconds[0])
    trainer, found = FakeTrainer(), []
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    for step in range(1, 13):
        trainer.global_step, seconds[0] = step, seconds[0] + 20
        callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
        if (tmp_path / f"step={step}.ckpt").exists():
            found.append(step)
        assert len(list(tmp_path.iterdir())) <= 2  # old ones go
    callback.on_train_end(trainer, None)  # type: ignore[arg-type]
    assert (tmp_path / "step=12.ckpt").exists()
    return found


@pytest.mark.parametrize(
    ("steps", "minutes", "expected"),
    [(5, 100, [5, 10]), (100, 1, [3, 6, 9, 12]), (4, 1.1, [4, 8, 12]), (100, 100, [])],
)
def test_checkpoints_follow_steps_and_time(steps: int, minutes: float, expected: list[int], tmp_path: Path) -> None:
    assert saved(tmp_path, steps, minutes) == expected


@pytest.mark.parametrize(("steps", "minutes"), [(0, 1), (1, 0), (1, float("nan"))])
def test_a_schedule_that_never_comes_is_refused(steps: int, minutes: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--checkpoint_"):
        StageCheckpoint(tmp_path, steps, minutes)
