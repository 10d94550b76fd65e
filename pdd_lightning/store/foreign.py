"""Tensors in files that others wrote: PyTorch's, NumPy's and safetensors, none of which may run code."""

import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from pdd_lightning.errors import DataError, one_line

_REMEDY: Final = "save images and labels with torch.save(tensor)"


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Every tensor that a file holds.

    Args:
        path: A `.pt` or `.pth` with a tensor, or with lists and dicts of them; a `.npz` or `.npy`; a `.safetensors`.

    Returns:
        Dense tensors on the CPU by their names: keys and positions, dotted where they are nested, empty for a file
        that is one tensor. Numbers in lists and dicts are tensors too.

    Raises:
        DataError: If there is no such file, it is of another kind or damaged, or holds what only code could make.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     torch.save([torch.zeros(2, 1, 8, 8), torch.arange(2)], Path(folder, "data.pt"))
        ...     {name: tuple(tensor.shape) for name, tensor in read_foreign(Path(folder, "data.pt")).items()}
        {'0': (2, 1, 8, 8), '1': (2,)}
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: give {', '.join(READERS)}, or a folder with an image folder for each class")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; correct the path")
    try:
        found = read(path)
    except DataError:
        raise
    except Exception as error:  # what readers raise for damaged contents has no common type
        raise DataError(f"{path}: cannot be read ({_reason(error)}); get the file again") from error
    for name, tensor in found.items():
        _require_plain(path, name, tensor)
    return found


def _reason(error: Exception) -> str:
    return one_line(error)[:160] or type(error).__name__


def _require_plain(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse what is no array of numbers, or says that it is larger than what was read."""
    what = f"{path}: {name or 'the tensor'}"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu" or tensor.is_complex():
        raise DataError(f"{what} is no plain array of numbers; {_REMEDY}")
    # Steps of no length make a small file claim any size.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(f"{what} repeats its numbers (torch.Tensor.expand); save a copy: tensor.clone()")


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of files that are refused anyway
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: holds more than tensors; {_REMEDY}") from error
    return {name: tensor.detach() for name, tensor in _tensors(loaded)}


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif type(value) in (int, float):
        yield name, torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in items:
            yield from _tensors(part, f"{name}.{key}" if name else str(key))


def _read_numpy(path: Path) -> dict[str, Tensor]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except ValueError as error:
        if "pickle" in str(error):
            raise DataError(f"{path}: holds more than arrays of numbers; save them with numpy.savez") from error
        raise
    kept = {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}  # texts are notes
    return {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in kept.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


READERS: Final[Mapping[str, Callable[[Path], dict[str, Tensor]]]] = {
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".npz": _read_numpy,
    ".npy": _read_numpy,
    ".safetensors": _read_safetensors,
}
"""How files are read, by the ends of their names."""
