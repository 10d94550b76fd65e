"""A distilled set as an object: images, and everything that using them takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.distilled.about import About
from pdd_lightning.errors import DataError
from pdd_lightning.networks import Architecture
from pdd_lightning.rng import generator
from pdd_lightning.stage.subsets import Subset, union_of
from pdd_lightning.training.learner import Learner, accuracy
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import minibatch
from pdd_lightning.types import LabelledImages


class DistilledImages(Dataset[tuple[Tensor, int]]):
    """Training images of a distilled set, as networks read them.

    Attributes:
        images: Shape (N, C, H, W), float32.
        labels: Shape (N,), int64.

    Example:
        >>> images = DistilledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))
        >>> len(images), images[1][1]
        (2, 1)
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


@dataclass(frozen=True, eq=False, repr=False)
class DistilledSet:
    """S_1 ... S_P with their learning rates, preprocessing and recipe; get one with :func:`load`.

    Attributes:
        stages: S_1 ... S_P as they are stored.
        preprocessing: From pixels to what networks read, and back.
        about: How it wants to be used, and where it comes from.

    Example:
        >>> import pdd_lightning as pdd
        >>> pdd.load("checkpoints/sample")
        DistilledSet pdd, 3 stages: 10 + 10 + 10 images of 1x8x8, 10 classes
        normalised (pixel - 0.3058) / 0.3761; learning rates 0.1871, 0.03818, 0.0354; ConvNet, 150 epochs a stage
    """

    stages: tuple[Subset, ...]
    preprocessing: Preprocessing
    about: About

    def __repr__(self) -> str:
        about, (channels, height, width) = self.about, self.about.image_shape
        sizes = " + ".join(str(len(subset.data)) for subset in self.stages)
        count = f"{len(self.stages)} stages" if len(self.stages) > 1 else "1 stage"
        mean, std = (", ".join(f"{value:.4f}" for value in t.tolist()) for t in self._moments())
        white = ", then ZCA-whitened" if self.preprocessing.whitening is not None else ""
        factor = self.stages[-1].factor
        held = f", each holding {factor**2} training images" if factor > 1 else ""
        rates = ", ".join(f"{rate:.4g}" for rate in self.rates)
        return (
            f"DistilledSet {about.name}, {count}: {sizes} images of {channels}x{height}x{width}{held}, "
            f"{len(about.class_names)} classes\n"
            f"normalised (pixel - {mean}) / {std}{white}; learning rates {rates}; {about.network.name}, "
            f"{about.recipe.epochs} epochs a stage"
        )

    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.preprocessing.mean, self.preprocessing.std

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates alpha_1 ... alpha_P for training on the unions."""
        return tuple(subset.rate for subset in self.stages)

    def subset(self, k: int) -> DistilledImages:
        """S_k: the training images that stage k added.

        Args:
            k: From 1.

        Raises:
            DataError: If there is no such stage.
        """
        data = self.stages[self._index(k)].decoded
        return DistilledImages(data.images, data.labels)

    def union(self, k: int | None = None) -> DistilledImages:
        """U_k = S_1 ∪ ... ∪ S_k.

        Args:
            k: From 1; None means all stages.

        Raises:
            DataError: If there is no such stage.
        """
        data = self._union(len(self.stages) if k is None else k)
        return DistilledImages(data.images, data.labels)

    def _union(self, k: int) -> LabelledImages:
        union = union_of(self.stages[: self._index(k) + 1])
        assert union is not None
        return union

    def _index(self, k: int) -> int:
        if not 1 <= k <= len(self.stages):
            raise DataError(f"there is no stage {k}: this set has stages 1 to {len(self.stages)}")
        return k - 1

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Pictures to what networks read.

        Args:
            pixels: Shape (N, C, H, W) or (C, H, W), uint8 in 0..255 or floating point in [0, 1].

        Returns:
            The same shape, floating point.

        Raises:
            DataError: If the range, the size or the number of channels is another.
        """
        pixels = torch.as_tensor(pixels)
        if pixels.ndim == 3:
            return self.preprocess(pixels[None])[0]
        self._require_shape(pixels, "pixels")
        if pixels.is_floating_point():
            low, high = (float(value) for value in (pixels.min(), pixels.max())) if pixels.numel() else (0.0, 0.0)
            if not (low >= 0 and high <= 1):  # not so for NaN either
                raise DataError(
                    f"pixels from {low:.4g} to {high:.4g}: expected floating point in [0, 1] or uint8; divide grey "
                    "levels by 255, and give images before any normalisation"
                )
        elif pixels.dtype != torch.uint8:
            raise DataError(f"pixels are {pixels.dtype}: expected uint8 in 0..255 or floating point in [0, 1]")
        return self.preprocessing.apply(pixels)

    def pixels(self, images: Tensor) -> Tensor:
        """What networks read, back to pictures.

        Args:
            images: Shape (N, C, H, W) or (C, H, W), floating point, such as ``union().images``.

        Returns:
            The same shape. Distilled images may leave [0, 1]: clamp them to show them, not to train on them.

        Raises:
            DataError: If the size or the number of channels is another.
        """
        if images.ndim == 3:
            return self.pixels(images[None])[0]
        self._require_shape(images, "images")
        return self.preprocessing.invert(images)

    def _require_shape(self, images: Tensor, name: str) -> None:
        if images.ndim != 4 or tuple(images.shape[1:]) != self.about.image_shape:
            channels, height, width = self.about.image_shape
            raise DataError(
                f"{name} have shape {tuple(images.shape)}: this set was made of images of shape "
                f"(N, {channels}, {height}, {width}), channels first"
            )

    def problem(self, network: Architecture | None = None, device: torch.device | str = "cpu") -> Problem:
        """What training on the set has in common with its run.

        Args:
            network: Its architecture; None means the one that the images were made with.
            device: Where to compute.
        """
        about = self.about
        return Problem(
            network or about.network,
            about.image_shape,
            len(about.class_names),
            about.augmentation,
            about.seed,
            torch.device(device),
        )

    def train(
        self,
        network: nn.Module | Architecture | None = None,
        seed: int = 0,
        *,
        stages: int | None = None,
        device: torch.device | str = "cpu",
        after_stage: Callable[[int, nn.Module], object] | None = None,
    ) -> nn.Module:
        """Train progressively: on U_1 at alpha_1, then on U_2 at alpha_2, and so on (PDD section 4.1).

        A fresh network of number `seed` is trained as the run's evaluation trains its network of that number.

        Args:
            network: A network to train as it stands, or an architecture of which to train a fresh one; None means the
                architecture that the images were made with.
            seed: Number of the fresh network; minibatches and augmentation depend on it too.
            stages: Stop after this many; None trains on all.
            device: Where to train.
            after_stage: Called with the number of stages so far, and the network.

        Returns:
            The trained network, on the device; the same object if a network was given.

        Raises:
            DataError: If there is no such stage.
            ConfigError: If the architecture does not suit the images.
        """
        about = self.about
        problem = self.problem(network if isinstance(network, Architecture) else None, device)
        last = len(self.stages) if stages is None else self._index(stages) + 1
        learner = Learner(network if isinstance(network, nn.Module) else problem.network(), problem.device)
        if not isinstance(network, nn.Module):
            learner.load(problem.initial_state("fresh", seed))
        for number, subset in enumerate(self.stages[:last]):
            data = self._union(number + 1).to(problem.device)
            learner.load(learner.state())  # momentum starts anew
            learner.network.train()
            # The streams of an evaluation's progressive row: see EvaluationModule.
            batches = about.recipe.batches(len(data), about.seed, about.name, "phase", number, seed)
            for step in range(about.recipe.steps(len(data))):
                draws = generator(about.seed, about.name, "augment", number, seed, step)
                images, labels, mix = minibatch(data, batches, step, about.recipe, about.augmentation, draws)
                rate = about.recipe.rate(subset.rate, step // batches.per_epoch)
                learner.step(images, labels, rate, about.recipe, mix)
            learner.network.eval()
            if after_stage is not None:
                after_stage(number + 1, learner.network)
        for parameter in learner.network.parameters():  # a learner keeps them in one vector, which is its own affair
            parameter.data, parameter.grad = parameter.data.clone(), None
        return learner.network

    def evaluate(self, network: nn.Module, images: Tensor, labels: Tensor) -> float:
        """Accuracy on pictures.

        Args:
            network: As :meth:`train` gives it.
            images: Pixels as :meth:`preprocess` takes them, shape (N, C, H, W).
            labels: Shape (N,), integers in [0, number of classes).

        Returns:
            The fraction that is classified correctly.

        Raises:
            DataError: If images or labels are of another form.
        """
        labels = torch.as_tensor(labels)
        classes = len(self.about.class_names)
        if labels.is_floating_point() or labels.shape != images.shape[:1] or not len(labels):
            raise DataError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}: expected one integer for each of "
                f"{len(images)} images"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"labels run from {int(labels.min())} to {int(labels.max())}: this set knows 0 to {classes - 1} "
                f"({', '.join(self.about.class_names[:5])}{', ...' if classes > 5 else ''})"
            )
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        read = LabelledImages(self.preprocess(images), labels.long()).to(device)
        return accuracy(network, read)

    def export(self, path: str | PathLike[str], format: str, licence: str | None = None) -> Path:
        """Write the set for others; :func:`load` reads every format.

        Args:
            path: The file or folder to make. Nothing is overwritten.
            format: "safetensors", "npz" or "pt", which are lossless, or "imagefolder" or "huggingface", which hold
                PNG pictures: pixels are rounded to 8 bits, and clipped where they lie outside [0, 1].
            licence: Of the real data; None leaves what is known of it.

        Returns:
            The path.

        Raises:
            ConfigError: If there is no such format, it cannot hold the set, or something is at the path.
            ArtifactError: If it cannot be written; nothing is left then.
        """
        # Formats write and read distilled sets.
        from pdd_lightning.distilled.export import export_set  # noqa: PLC0415
        from pdd_lightning.distilled.formats import format_named  # noqa: PLC0415

        form = format_named(format)
        return export_set(replace(self, about=self.about.under(licence)), Path(path), form)
