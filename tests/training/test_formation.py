"""Multi-formation: stored images hold several training images."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from toys import toy_images

from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import SyntheticSide
from pdd_lightning.rng import generator
from pdd_lightning.stage.subsets import Subset, union_of
from pdd_lightning.training.formation import check_factor, decode, decode_labels, decode_set, encode


def test_a_factor_of_one_stores_images_as_they_are() -> None:
    images = torch.randn(2, 3, 5, 4)
    assert decode(images, 1) is images
    assert encode(images, 1) is images


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 7), (2, 9, 5)], ids=str)
@pytest.mark.parametrize("factor", [2, 3])
def test_every_tile_is_cut_out_and_enlarged(factor: int, shape: tuple[int, int, int]) -> None:
    """A transcription with loops: numpy's way of splitting, one bilinear resize for each tile."""
    images = torch.randn(2, *shape, dtype=torch.float64)
    wanted = []
    for image in images:
        for rows in torch.arange(shape[1]).tensor_split(factor):
            for columns in torch.arange(shape[2]).tensor_split(factor):
                tile = image[:, rows][:, :, columns]
                wanted.append(F.interpolate(tile[None], size=shape[1:], mode="bilinear", align_corners=False)[0])
    found = decode(images, factor)
    assert found.shape == (2 * factor**2, *shape)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "factor"), [(8, 2), (7, 3), (5, 5)])
def test_every_stored_pixel_matters_once(size: int, factor: int) -> None:
    """The sum of a tile's weights is that of an image, wherever the tile is."""
    images = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    parts = decode(images, factor).sum((1, 2, 3))
    touched = torch.stack([torch.autograd.grad(part, images, retain_graph=True)[0] > 0 for part in parts])
    assert torch.equal(touched.sum(0), torch.ones_like(images, dtype=torch.int64))


def test_decoding_has_second_derivatives() -> None:
    images = torch.randn(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: decode(x, 2).square(), images)


def test_labels_follow_their_images() -> None:
    stored = toy_images(3)
    training = decode_set(stored, 2)
    assert len(training) == 12
    assert training.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(training.labels, decode_labels(stored.labels, 2))
    assert torch.equal(training.images[4:8], decode(stored.images[1:2], 2))


@pytest.mark.parametrize(("size", "factor"), [(8, 2), (9, 2), (8, 3)])
def test_mixed_images_hold_each_of_their_images_reduced(size: int, factor: int) -> None:
    ramp = torch.linspace(0, 1, size).expand(size, size)
    images = torch.stack([ramp + shift for shift in range(2 * factor**2)])[:, None]
    stored = encode(images, factor)
    assert stored.shape == (2, 1, size, size)
    # Smooth images come back nearly as they were: reducing and enlarging only flattens the ends of a ramp.
    assert (decode(stored, factor) - images).abs().max() < 0.35
    assert (decode(stored, factor).mean((1, 2, 3)) - images.mean((1, 2, 3))).abs().max() < 0.02


@pytest.mark.parametrize(("height", "width", "factor"), [(8, 8, 2), (32, 32, 2), (9, 7, 2), (8, 10, 3)])
def test_published_tiles_hold_every_so_many_pixels(height: int, width: int, factor: int) -> None:
    """A transcription with loops: IDC's code interpolates by nearest neighbour, the first tiles are the larger ones."""
    images = torch.randn(2 * factor**2, 1, height, width, generator=generator(0, "images"))
    stored = encode(images, factor, "nearest")
    for number, image in enumerate(images):
        row, column = divmod(number % factor**2, factor)
        rows = list(torch.arange(height).tensor_split(factor)[row])
        columns = list(torch.arange(width).tensor_split(factor)[column])
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                source = image[0, i * height // len(rows), j * width // len(columns)]
                assert stored[number // factor**2, 0, y, x] == source


@pytest.mark.parametrize("factor", [0, 9])
def test_a_factor_larger_than_the_image(factor: int) -> None:
    check_factor(8, 8, 10)
    with pytest.raises(ConfigError, match=f"model.factor={factor}: an image of 8x10 pixels holds 1x1 to 8x8 tiles"):
        check_factor(factor, 8, 10)


class TestWhereverTheSubsetIsTrainedOn:
    STORED = toy_images(3, seed=2)
    EARLIER = toy_images(6, seed=1)

    def test_the_union_is_decoded(self) -> None:
        subsets = [Subset(self.EARLIER, 0.1, 1), Subset(self.STORED, 0.1, 2, factor=2)]
        union = union_of(subsets)
        assert union is not None
        assert len(union) == 6 + 12
        assert torch.equal(union.images[6:], decode(self.STORED.images, 2))
        assert torch.equal(union.labels[6:], decode_labels(self.STORED.labels, 2))
        assert subsets[1].stored_bytes == replace(subsets[1], factor=1).stored_bytes

    def test_an_objective_sees_training_images(self) -> None:
        images = self.STORED.images.clone().requires_grad_()
        side = SyntheticSide(images, self.STORED.labels, torch.tensor(0.1), self.EARLIER, factor=2)
        assert len(side) == len(side.all_labels) == len(side.union(side.decoded)) == 6 + 12
        mine = side.of_class(1)
        assert torch.equal(mine, torch.cat([self.EARLIER.images[[1, 4]], decode(images[1:2], 2)]))
        (gradient,) = torch.autograd.grad(mine.square().sum(), images)
        assert [bool(row.any()) for row in gradient] == [False, True, False]
