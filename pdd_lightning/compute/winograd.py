"""3x3 convolutions in tiles of 4x4 outputs: a quarter of the multiplications, and the same result.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
2016, equation 8 and section 4.3): with B, G and A as below, a tile of the output is A^T [(G w G^T) * (B^T x B)] A, so
that a convolution becomes 36 products of matrices between channels. The gradient in the weights is the transpose of
the same, G^T [(B^T x B) * (A y A^T)] G, and the gradient in the images a convolution with turned weights.

It is written for a compiler, which makes one kernel of each transform; run eagerly, it is slow. Rounding is about ten
times that of a direct convolution: 2e-6 of the result in float32, 4e-15 in float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 4
"""Height and width of a tile of the output."""


Matrix = tuple[tuple[float, ...], ...]


_B_T: Matrix = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)


_G: Matrix = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


_A_T: Matrix = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


_A: Matrix = tuple(zip(*_A_T, strict=True))


_G_T: Matrix = tuple(zip(*_G, strict=True))


_POINTS = len(_B_T)


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution with one pixel of padding.

    Args:
        x: Images, shape (N, C, H, W), whose height and width tiles cover.
        weight: Shape (K, C, 3, 3).

    Returns:
        Shape (N, K, H, W).
    """
    count, _, height, width = x.shape
    product = torch.bmm(_tiles(x), _filters(weight))
    tiles = product.reshape(_POINTS, _POINTS, count, height // TILE, width // TILE, -1)
    rows = _times(_A_T, tiles, 0).permute(2, 3, 0, 4, 1, 5)
    y = _times(_A_T, rows, 4).reshape(count, height, width, -1).permute(0, 3, 1, 2)
    # In the order of other convolutions, older PyTorch can trace the group norm after it; at 100 images that costs 5 %.
    return y if torch.__version__ >= "2.14" else y.contiguous()


def image_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in the images.

    Args:
        gradient: That in the outputs, shape (N, K, H, W).
        weight: Shape (K, C, 3, 3).

    Returns:
        Shape (N, C, H, W).
    """
    return convolution(gradient, weight.flip(2, 3).transpose(0, 1))


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient in the weights.

    Args:
        gradient: That in the outputs, shape (N, K, H, W).
        x: Images, shape (N, C, H, W).

    Returns:
        Shape (K, C, 3, 3).
    """
    count, outputs, height, width = gradient.shape
    pixels = _written(gradient.permute(0, 2, 3, 1))
    tiles = pixels.view(count, height // TILE, TILE, width // TILE, TILE, outputs).permute(2, 4, 0, 1, 3, 5)
    points = _times(_A, _times(_A, tiles, 0), 1).reshape(_POINTS**2, -1, outputs)
    product = torch.bmm(_tiles(x).transpose(1, 2), points).view(_POINTS, _POINTS, -1, outputs)
    return _times(_G_T, _times(_G_T, product, 0), 1).permute(3, 2, 0, 1)


def _tiles(x: Tensor) -> Tensor:
    """B^T x B of every tile, shape (36, tiles, C); tiles overlap by two pixels."""
    pixels = _written(F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)))
    rows = _times(_B_T, pixels.unfold(1, _POINTS, TILE).movedim(-1, 0), 0)
    points = _times(_B_T, rows.unfold(3, _POINTS, TILE).movedim(-1, 1), 1)
    return points.reshape(_POINTS**2, -1, x.shape[1])


def _filters(weight: Tensor) -> Tensor:
    """G w G^T, shape (36, C, K)."""
    outputs, channels = weight.shape[:2]
    return _times(_G, _times(_G, weight.permute(2, 3, 1, 0), 0), 1).reshape(_POINTS**2, channels, outputs)


def _times(matrix: Matrix, x: Tensor, dim: int) -> Tensor:
    """The matrix times each vector along a dimension."""
    parts = x.unbind(dim)
    return torch.stack([_combination(row, parts) for row in matrix], dim)


def _combination(row: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    terms = [part if factor == 1 else part * factor for factor, part in zip(row, parts, strict=True) if factor]
    total, *others = terms
    for term in others:
        total = total + term
    return total


def _written(x: Tensor) -> Tensor:
    """A copy in order, whose as_strided keeps the compiler from computing x again for each of its readers."""
    x = x.clone(memory_format=torch.contiguous_format)
    return x.as_strided(x.shape, x.stride())
