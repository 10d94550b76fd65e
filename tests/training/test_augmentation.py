"""Augmentation: every operation against a naive transcription, its derivatives, and what is drawn."""

import json
import math
from collections import Counter
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap

from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, AugmentParams, NoAugmentation, Operation
from pdd_lightning.types import ImageShape

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
SHAPES: list[ImageShape] = [(1, 8, 8), (3, 7, 10)]

each_operation = pytest.mark.parametrize("operation", OPERATIONS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def pictures(count: int, shape: ImageShape, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "pictures"), dtype=dtype)


def draw(operation: Operation, count: int, shape: ImageShape, siamese: bool = False) -> AugmentParams:
    return DSA((operation,), siamese=siamese).draw(count, shape, generator(0, operation))


def naive(operation: Operation, image: Tensor, value: list[float]) -> Tensor:
    """One image (C, H, W), written out from the definition."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    if operation == "color":
        brightness, saturation, contrast = value
        out = image + brightness
        mean = sum(out[c] for c in range(channels)) / channels
        out = (out - mean) * saturation + mean
        return (out - out.mean()) * contrast + out.mean()
    if operation == "crop":
        for y in range(height):
            for x in range(width):
                row, column = y + int(value[0]), x + int(value[1])
                if 0 <= row < height and 0 <= column < width:
                    out[:, y, x] = image[:, row, column]
        return out
    if operation == "cutout":
        tall, wide = int(height * 0.5 + 0.5), int(width * 0.5 + 0.5)
        top, left = int(value[0]) - tall // 2, int(value[1]) - wide // 2
        out = image.clone()
        out[:, max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)] = 0
        return out
    if operation == "flip":
        return torch.stack([image[:, :, width - 1 - x] for x in range(width)], -1) if value[0] else image
    if operation == "scale":
        matrix = [[value[1], 0.0, 0.0], [0.0, value[0], 0.0]]
    else:
        cosine, sine = math.cos(value[0]), math.sin(value[0])
        matrix = [[cosine, -sine, 0.0], [sine, cosine, 0.0]]
    grid = F.affine_grid(torch.tensor([matrix], dtype=image.dtype), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False, padding_mode="zeros")[0]


@each_operation
@each_shape
def test_operation_is_its_definition(operation: Operation, shape: ImageShape) -> None:
    images = pictures(12, shape)
    params = draw(operation, 12, shape).to("cpu", torch.float64)
    pairs = zip(images, params.values[operation].tolist(), strict=True)
    expected = torch.stack([naive(operation, image, value) for image, value in pairs])
    actual = DSA((operation,)).apply(images, params)
    if operation in ("crop", "cutout", "flip"):
        assert torch.equal(actual, expected)
    else:
        torch.testing.assert_close(actual, expected)
    assert not torch.equal(actual, images)


def test_flip_and_crop_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    flipped = DSA(("flip",)).apply(image, AugmentParams({"flip": torch.ones(1, 1)}))
    assert flipped.tolist() == [[[[2.0, 1.0], [4.0, 3.0]]]]
    moved = DSA(("crop",)).apply(image, AugmentParams({"crop": torch.tensor([[1.0, 0.0]])}))
    assert moved.tolist() == [[[[3.0, 4.0], [0.0, 0.0]]]]


@each_shape
def test_identity(shape: ImageShape) -> None:
    images = pictures(3, shape)
    still = {
        "color": torch.tensor([[0.0, 1.0, 1.0]]),
        "crop": torch.zeros(1, 2),
        "flip": torch.zeros(1, 1),
        "scale": torch.ones(1, 2),
        "rotate": torch.zeros(1, 1),
        "cutout": torch.zeros(1, 2),
    }
    augmentation = DSA(cutout_ratio=0.0)
    torch.testing.assert_close(augmentation.apply(images, AugmentParams(still)), images)
    del still["color"]
    assert torch.equal(augmentation.apply(images, AugmentParams(still)), images)
    faded = AugmentParams({"color": torch.tensor([[0.0, 0.3, 1.0]])})  # grey images have no saturation
    torch.testing.assert_close(augmentation.apply(images[:, :1], faded), images[:, :1])
    nothing = NoAugmentation()
    assert nothing.apply(images, nothing.draw(3, shape, generator(0))) is images


@each_operation
def test_ranges_of_what_is_drawn(operation: Operation) -> None:
    count = 4000
    values = draw(operation, count, (3, 32, 16)).values[operation]
    lows, highs = values.amin(0).tolist(), values.amax(0).tolist()
    ranges: dict[str, tuple[list[float], list[float]]] = {
        "color": ([-0.5, 0.0, 0.5], [0.5, 2.0, 1.5]),
        "crop": ([-4, -2], [4, 2]),
        "cutout": ([0, 0], [32, 16]),
        "flip": ([0], [1]),
        "scale": ([1 / 1.2] * 2, [1.2] * 2),
        "rotate": ([-math.pi / 12], [math.pi / 12]),
    }
    expected = ranges[operation]
    tolerance = 0.0 if operation in ("crop", "cutout", "flip") else 0.01
    assert lows == pytest.approx(expected[0], abs=tolerance)
    assert highs == pytest.approx(expected[1], abs=tolerance)
    middle = [(low + high) / 2 for low, high in zip(*expected, strict=True)]
    spread = [high - low for low, high in zip(*expected, strict=True)]
    assert values.mean(0).tolist() == pytest.approx(middle, abs=0.03 * max(spread))


def test_whole_numbers_are_equally_likely() -> None:
    values = draw("crop", 9000, (3, 32, 32)).values["crop"]
    for column in values.T:
        counts = Counter(column.tolist())
        assert sorted(counts) == list(range(-4, 5))
        assert min(counts.values()) > 850


@each_operation
@each_shape
@pytest.mark.parametrize("siamese", [False, True])
def test_derivatives(operation: Operation, shape: ImageShape, siamese: bool) -> None:
    augmentation = DSA((operation,))
    params = draw(operation, 2, shape, siamese)
    images = pictures(2, shape).requires_grad_()

    def squared(images: Tensor) -> Tensor:
        return augmentation.apply(images, params).square()  # all operations are affine: square for curvature

    assert gradcheck(squared, images, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(squared, images, check_fwd_over_rev=True, fast_mode=True)


def test_function_transforms() -> None:
    augmentation = DSA(one_per_step=False)
    shape = (3, 8, 8)
    params = augmentation.draw(4, shape, generator(0))
    banks = torch.stack([pictures(4, shape), pictures(4, shape).flip(0)])
    expected = torch.stack([augmentation.apply(images, params) for images in banks])
    torch.testing.assert_close(vmap(lambda images: augmentation.apply(images, params))(banks), expected)

    def loss(images: Tensor) -> Tensor:
        return augmentation.apply(images, params).pow(3).sum()

    direction = torch.ones_like(banks[0])
    forward = jvp(grad(loss), (banks[0],), (direction,))[1]
    reverse = grad(lambda images: (grad(loss)(images) * direction).sum())(banks[0])
    torch.testing.assert_close(forward, reverse)
    # Parameters of their own for every member of a batch of networks.
    values = {name: torch.stack([value, value.flip(0)]) for name, value in params.values.items()}
    mapped = vmap(lambda images, values: augmentation.apply(images, AugmentParams(values)))(banks, values)
    torch.testing.assert_close(mapped[0], expected[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    augmentation = DSA(one_per_step=False)
    params = augmentation.draw(2, (3, 8, 8), generator(0))
    images = pictures(2, (3, 8, 8))
    actual = augmentation.apply(images.to(dtype), params)
    assert actual.dtype == dtype
    expected = augmentation.apply(images, params)
    torch.testing.assert_close(actual.double(), expected, rtol=0.05, atol=0.05)


def test_dtype_is_kept_under_autocast() -> None:
    params = draw("scale", 2, (3, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert DSA(("scale",)).apply(pictures(2, (3, 8, 8), torch.float32), params).dtype == torch.float32


@each_operation
def test_siamese_draws_fit_any_batch(operation: Operation) -> None:
    augmentation = DSA((operation,), siamese=True)
    params = augmentation.draw(5, (3, 8, 8), generator(0))
    assert all(len(value) == 1 for value in params.values.values())
    assert params.values.keys() == augmentation.draw(64, (3, 8, 8), generator(0)).values.keys()
    real, synthetic = pictures(5, (3, 8, 8)), pictures(2, (3, 8, 8))
    both = augmentation.apply(torch.cat([real, synthetic]), params)
    torch.testing.assert_close(augmentation.apply(real, params), both[:5])
    torch.testing.assert_close(augmentation.apply(synthetic, params), both[5:])


@each_operation
def test_draws_per_image_differ(operation: Operation) -> None:
    params = draw(operation, 16, (3, 8, 8))
    copies = pictures(1, (3, 8, 8)).expand(16, -1, -1, -1)
    augmented = DSA((operation,)).apply(copies, params)
    assert any(not torch.equal(augmented[0], other) for other in augmented[1:])
    with pytest.raises(ValueError, match="parameters for 16 images applied to 15"):
        DSA((operation,)).apply(copies[1:], params)


def test_drawing_depends_on_nothing_but_the_generator() -> None:
    augmentation = DSA(one_per_step=False)
    before = torch.get_rng_state()
    sources = (generator(0, "step", step) for step in (1, 1, 2))
    first, again, other = (augmentation.draw(4, (3, 8, 8), source).values for source in sources)
    assert torch.equal(before, torch.get_rng_state())
    assert list(first) == list(OPERATIONS)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in ("color", "scale", "rotate"))


def test_one_operation_per_step() -> None:
    source = generator(0)
    augmentation = DSA(siamese=True)
    drawn = [tuple(augmentation.draw(1, (3, 8, 8), source).values) for _ in range(3000)]
    counts = Counter(drawn)
    assert set(counts) == {(operation,) for operation in OPERATIONS}
    assert all(420 < count < 580 for count in counts.values())
    digits = DSA(("rotate", "crop"))
    assert {tuple(digits.draw(1, (1, 8, 8), source).values) for _ in range(50)} == {("rotate",), ("crop",)}


IDC = DSA(("flip", "color", "crop", "scale", "rotate"), one_per_step=False, one_of=("crop", "scale", "rotate"))


def test_one_of_some_operations_per_step() -> None:
    """As IDC's code has it: flip and colour always, then one of the others, the same for the whole batch."""
    source = generator(0)
    drawn = [IDC.draw(5, (3, 8, 8), source).values for _ in range(1500)]
    counts = Counter(tuple(values) for values in drawn)
    assert set(counts) == {("flip", "color", last) for last in ("crop", "scale", "rotate")}
    assert all(430 < count < 570 for count in counts.values())
    assert all(len(value) == 5 for values in drawn[:9] for value in values.values()), "parameters are of each image"
    middle = DSA(("crop", "flip", "scale"), one_per_step=False, one_of=["scale", "crop"])  # type: ignore[arg-type]
    orders = {tuple(middle.draw(1, (3, 8, 8), source).values) for _ in range(50)}
    assert orders == {("crop", "flip"), ("flip", "scale")}


def test_one_of_some_operations_is_applied_as_published() -> None:
    """A transcription, image by image and operation by operation."""
    images, last = pictures(4, (3, 7, 10)), set()
    for step in range(8):
        params = IDC.draw(4, (3, 7, 10), generator(0, step)).to("cpu", torch.float64)
        expected = []
        (chosen,) = params.values.keys() - {"flip", "color"}
        last.add(chosen)
        for number, image in enumerate(images):
            values = {name: value[number].tolist() for name, value in params.values.items()}
            flipped = naive("flip", image, values["flip"])
            coloured = naive("color", flipped, values["color"])
            expected.append(naive(chosen, coloured, values[chosen]))  # type: ignore[arg-type]
        torch.testing.assert_close(IDC.apply(images, params), torch.stack(expected))
    assert last == {"crop", "scale", "rotate"}


@pytest.mark.parametrize("one_per_step", [True, False])
def test_draws_without_it_are_what_they_were(one_per_step: bool) -> None:
    """One number for the operation where one is drawn, and three for each image and operation; no other."""
    operations = ("flip", "rotate", "color")
    source = generator(0, "written out")
    names: tuple[str, ...] = operations
    if one_per_step:
        names = (operations[int(torch.randint(3, (), generator=source))],)
    uniforms = {name: torch.rand(4, 3, generator=source) for name in names}
    drawn = DSA(operations, one_per_step).draw(4, (3, 8, 8), generator(0, "written out"))
    assert tuple(drawn.values) == names
    for name, u in uniforms.items():
        wanted = {
            "flip": (u[:, :1] < 0.5).float(),
            "rotate": (u[:, :1] - 0.5) * (2 * math.radians(15.0)),
            "color": torch.stack([u[:, 0] - 0.5, 2 * u[:, 1], u[:, 2] + 0.5], 1),
        }[name]
        torch.testing.assert_close(drawn.values[name], wanted, rtol=1e-6, atol=1e-7)


def test_operations_in_order() -> None:
    augmentation = DSA(("rotate", "crop", "color"), one_per_step=False)
    images = pictures(3, (3, 8, 8))
    params = augmentation.draw(3, (3, 8, 8), generator(0))
    expected = images
    for name in ("rotate", "crop", "color"):
        expected = augmentation.apply(expected, AugmentParams({name: params.values[name]}))
    assert torch.equal(augmentation.apply(images, params), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operations": ()}, "operations is empty: name at least one"),
        ({"operations": ("color", "flop")}, "operations has 'flop': choose from color, crop"),
        ({"operations": ["flip", "flip"]}, "name each operation once"),
        ({"one_of": ("crop", "flip")}, "one_of is .'crop', 'flip'., and one_per_step draws one of all"),
        ({"one_per_step": False, "one_of": ("crop", "flop")}, "one_of has 'flop', which operations does not have"),
        ({"one_per_step": False, "one_of": ["flip", "flip"]}, "one_of is .'flip', 'flip'.: name each operation once"),
        ({"flip_probability": 1.5}, "flip_probability is 1.5: set it to a number between 0 and 1"),
        ({"scale_ratio": 0.8}, "scale_ratio is 0.8: set it to a number at least 1"),
        ({"rotate_degrees": -1.0}, "rotate_degrees is -1.0"),
        ({"crop_ratio": -0.1}, "crop_ratio is -0.1"),
        ({"cutout_ratio": 2}, "cutout_ratio is 2"),
        ({"brightness": float("nan")}, "brightness is nan"),
        ({"saturation": float("inf")}, "saturation is inf: set it to a number at least 0"),
        ({"contrast": -0.5}, "contrast is -0.5"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DSA(**options)  # type: ignore[arg-type]


def test_describe() -> None:
    described = DSA(("crop", "rotate"), siamese=True).describe()
    assert described["class_path"] == "pdd_lightning.training.DSA"
    assert described["operations"] == ["crop", "rotate"]
    assert json.loads(json.dumps(described)) == described
    assert NoAugmentation().describe() == {"class_path": "pdd_lightning.training.NoAugmentation"}
    assert IDC.describe()["one_of"] == ["crop", "scale", "rotate"]
    assert DSA() == DSA(list(OPERATIONS)) != DSA(siamese=True)  # type: ignore[arg-type]
    assert len({DSA(), DSA(), NoAugmentation()}) == 2


class Holder:
    """What has an augmentation among its options."""

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--augmentation=NoAugmentation"], NoAugmentation()),
        (["--augmentation=DSA", "--augmentation.operations=[crop, scale]"], DSA(("crop", "scale"))),
        (["--augmentation=pdd_lightning.training.DSA", "--augmentation.siamese=true"], DSA(siamese=True)),
    ],
)
def test_named_on_the_command_line(options: list[str], expected: Augmentation) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Holder, None)
    assert parser.instantiate_classes(parser.parse_args(options))["augmentation"] == expected
