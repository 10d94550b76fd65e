"""What every selection has in common: the classes' positions, and the result on disk."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pdd_lightning.described import Described
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.store.digests import differing_keys, fingerprint
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import Json, LabelledImages


@dataclass(frozen=True)
class SelectionContext:
    """What a selection has to choose from and to train with.

    Attributes:
        problem: Network whose training or features decide, how its images are augmented, seed and device.
        real: The N real training images, on the device.
        class_names: In the order of the labels.
        data: Fingerprint of the data.
        folder: The run's folder: results are kept in it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.selection import RandomSelection
        >>> images = LabelledImages(torch.zeros(6, 1, 8, 8), torch.arange(6) % 2)
        >>> with TemporaryDirectory() as run:
        ...     problem = Problem(ConvNet(), (1, 8, 8), num_classes=2)
        ...     context = SelectionContext(problem, images, ("even", "odd"), "fingerprint", Path(run))
        ...     chosen = RandomSelection().select(context, ipc=2)
        >>> images.labels[chosen]
        tensor([0, 0, 1, 1])
    """

    problem: Problem
    real: LabelledImages
    class_names: tuple[str, ...]
    data: str
    folder: Path

    def settings(self) -> Json:
        """What a choice or a training depends on, apart from its own options."""
        return {"data": self.data, **self.problem.describe()}


class Selection(Described, ABC):
    """A way to choose some of the real images; in a configuration it is named by ``class_path``.

    Subclasses are best frozen dataclasses of their options. This class itself must not become one, or the command
    line would stop accepting subclasses in its place.

    Example:
        >>> class First(Selection):
        ...     name = "first"
        ...
        ...     def choose(self, context, classes, ipc):
        ...         return [positions[:ipc] for positions in classes]
        >>> real = LabelledImages(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> First().choose(None, class_positions(real, ("even", "odd"), ipc=1), ipc=1)
        [tensor([0]), tensor([1])]
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for tables and files."""

    @abstractmethod
    def choose(self, context: SelectionContext, classes: Sequence[Tensor], ipc: int) -> list[Tensor]:
        """Choose within each class.

        Args:
            context: The images, and what to train with.
            classes: Positions of each class's images, ascending, on the CPU, at least ``ipc`` of them.
            ipc: Images per class.

        Returns:
            For each class ``ipc`` of its positions, best first, on the CPU.
        """

    def select(self, context: SelectionContext, ipc: int, asked: str | None = None) -> Tensor:
        """Choose, or read what was chosen before under the same settings.

        Stored as ``selection/<name>-<fingerprint>.safetensors`` in the run's folder, so that an evaluation that is
        run again trains nothing.

        Args:
            context: The images, and what to train with.
            ipc: Images per class.
            asked: What the user gave to have so many, for the message; ``model.ipc=<ipc>`` by default.

        Returns:
            Positions in ``context.real``, shape (C * ipc,), int64, class by class, on the CPU.

        Raises:
            ConfigError: If a class has fewer images, or the network does not suit the method.
            ArtifactError: If the stored choice is damaged or was made under other settings.
        """
        classes = class_positions(context.real, context.class_names, ipc, asked)
        settings: Json = {**context.settings(), "selection": self.describe(), "ipc": ipc}
        path = RunFolder(context.folder).selection / f"{self.name}-{fingerprint(settings)[:12]}.safetensors"
        if path.is_file():
            positions = read_checked(path, settings)["positions"]
            if positions.shape == (len(classes) * ipc,) and int(positions.max()) < len(context.real):
                return positions
            raise ArtifactError(f"{path} does not hold {ipc} positions per class; delete it to have it made again")
        positions = torch.cat(self.choose(context, classes, ipc))
        write_tensors(path, {"positions": positions}, {"settings": json.dumps(settings)})
        return positions


def class_positions(
    real: LabelledImages, class_names: Sequence[str], ipc: int, asked: str | None = None
) -> tuple[Tensor, ...]:
    """Where the images of each class are.

    Args:
        real: The images.
        class_names: In the order of the labels.
        ipc: Images needed of each class.
        asked: What the user gave to have so many, for the message; ``model.ipc=<ipc>`` by default.

    Returns:
        Ascending positions for each class, on the CPU.

    Raises:
        ConfigError: If a class has fewer images than needed.
    """
    found = real.by_class(len(class_names))
    for name, positions in zip(class_names, found, strict=True):
        if len(positions) < ipc:
            raise ConfigError(
                f"{asked or f'model.ipc={ipc}'}: class {name!r} has only {len(positions)} training images (after the "
                "validation split); lower ipc or data.validation_fraction"
            )
    return found


def read_checked(path: Path, settings: Json) -> dict[str, Tensor]:
    """Read a file of ours whose name says its settings, and whose metadata must say the same.

    Raises:
        ArtifactError: If it is damaged or was made under other settings, naming them.
    """
    tensors, metadata = read_tensors(path)
    try:
        found = json.loads(metadata["settings"])
    except (KeyError, ValueError):
        found = {}
    # As JSON would read them back, so that tuples compare equal to lists.
    if changed := differing_keys(found, json.loads(json.dumps(settings))):
        raise ArtifactError(
            f"{path} was made under other settings: {'; '.join(changed)}. Delete it to have it made again"
        )
    return tensors
