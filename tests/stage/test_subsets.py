"""Distilled subsets on disk, and their union."""

from pathlib import Path

import pytest
import torch
from toys import toy_images

from pdd_lightning.errors import ArtifactError
from pdd_lightning.stage.subsets import Subset, read_subset, union_of, write_subset
from pdd_lightning.store.files import write_tensors
from pdd_lightning.store.folders import StageFolder


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "stage_02", 2)


SUBSET = Subset(toy_images(6), 0.0123, 2)


def test_a_subset_comes_back_as_it_was_written(folder: StageFolder) -> None:
    write_subset(folder, SUBSET)
    read = read_subset(folder)
    assert torch.equal(read.data.images, SUBSET.data.images)
    assert torch.equal(read.data.labels, SUBSET.data.labels)
    assert read.rate == pytest.approx(SUBSET.rate, rel=1e-7)
    assert read.stage == 2


def test_what_was_read_is_written_bit_for_bit(folder: StageFolder, tmp_path: Path) -> None:
    other = StageFolder(tmp_path / "copy", 2)
    write_subset(folder, SUBSET)
    write_subset(other, read_subset(folder))
    assert folder.synthetic.read_bytes() == other.synthetic.read_bytes()


def test_a_subset_of_another_stage_is_refused(folder: StageFolder) -> None:
    write_subset(folder, SUBSET)
    with pytest.raises(ArtifactError, match=r"is not the subset of stage 3.*stage 2, factor '1'; restore it"):
        read_subset(StageFolder(folder.directory, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": torch.zeros(6, 8, 8)},
        {"labels": torch.zeros(5, dtype=torch.int64)},
        {"labels": torch.zeros(6)},
        {"learning_rate": torch.tensor(0.0)},
        {"learning_rate": torch.tensor(-0.1)},
    ],
    ids=["flat images", "too few labels", "soft labels", "no rate", "negative rate"],
)
def test_a_malformed_subset_is_refused(folder: StageFolder, wrong: dict[str, torch.Tensor]) -> None:
    tensors = {
        "images": SUBSET.data.images,
        "labels": SUBSET.data.labels,
        "learning_rate": torch.tensor(0.1),
    }
    write_tensors(folder.synthetic, {**tensors, **wrong}, {"stage": "2"})
    with pytest.raises(ArtifactError, match=f"{folder.synthetic} is not the subset of stage 2"):
        read_subset(folder)


def test_stored_bytes_count_images_labels_and_rate() -> None:
    assert SUBSET.stored_bytes == 6 * 64 * 4 + 6 * 8 + 4


def test_the_union_keeps_the_order_of_the_stages() -> None:
    parts = [Subset(toy_images(count, seed=count), 0.1, stage) for stage, count in enumerate((2, 3, 4), start=1)]
    union = union_of(parts)
    assert union is not None
    assert torch.equal(union.images, torch.cat([part.data.images for part in parts]))
    assert torch.equal(union.labels, torch.cat([part.data.labels for part in parts]))


def test_the_union_of_nothing_is_none() -> None:
    assert union_of([]) is None
