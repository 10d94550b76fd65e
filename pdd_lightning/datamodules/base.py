"""What every data set has in common: raw images in, preprocessed splits and a fingerprint out."""

import logging
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.datamodules.raw import RawData, at_most, stratified_split
from pdd_lightning.errors import ConfigError
from pdd_lightning.process.ranks import is_first
from pdd_lightning.store.digests import digest
from pdd_lightning.store.files import cached
from pdd_lightning.types import ImageShape, LabelledImages

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What `ImageDataModule.setup` makes."""

    splits: dict[str, LabelledImages]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    fingerprint: str
    test_fingerprint: str


class ImageDataModule(LightningDataModule, ABC):
    """Images held as tensors, split and preprocessed once.

    The preprocessing is fitted on what remains of the training images after the validation split. Nothing
    is loaded in batches: whoever trains indexes the tensors, on the device it trains on.

    Args:
        validation_fraction: Part of each class's training images held out for validation, in [0, 1).
        split_seed: Decides which images are held out.
        max_per_class: Train on at most this many images of each class, for tries on a small machine; null takes all.
        zca: Whether to whiten the images (ZCA) after normalising each channel.
        zca_eps: Added to the eigenvalues when whitening, in units of a normalised pixel's variance; larger values
            whiten less. Unused without ``zca``.
        cache_dir: Folder that keeps what is slow to compute (decoded image files, whitening matrices) for
            later runs. Null keeps nothing.

    Raises:
        ConfigError: If an option has an impossible value.

    Example:
        >>> class Blank(ImageDataModule):
        ...     def load_raw(self):
        ...         images, labels = torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 2
        ...         return RawData(images, labels, images, labels, class_names=("even", "odd"))
        >>> data = Blank(validation_fraction=0.2)
        >>> data.setup()
        >>> len(data.train), len(data.validation), data.image_shape
        (16, 4, (1, 8, 8))
    """

    def __init__(
        self,
        *,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        max_per_class: int | None = None,
        zca: bool = False,
        zca_eps: float = 0.1,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction={validation_fraction}: must be at least 0 (no validation images) and "
                "below 1; 0.1 is usual"
            )
        if max_per_class is not None and max_per_class < 1:
            raise ConfigError(f"max_per_class={max_per_class}: must be at least 1, or null to take all images")
        if not 0 < zca_eps < math.inf:
            raise ConfigError(f"zca_eps={zca_eps}: must be above 0 and finite; 0.1 is usual")
        self.validation_fraction = validation_fraction
        self.split_seed = split_seed
        self.max_per_class = max_per_class
        self.zca = zca
        self.zca_eps = zca_eps
        self.cache_dir = cache_dir
        self._prepared: _Prepared | None = None
        self._moved: dict[tuple[str, torch.device], LabelledImages] = {}

    @abstractmethod
    def load_raw(self) -> RawData:
        """Read the whole data set.

        Raises:
            DataError: If it is missing or not of the promised form.
        """

    def prepare_data(self) -> None:
        """Fill the cache, if there is one, in one process before all others read it."""
        if self.cache_dir is not None:
            self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read, split and preprocess, the first time it is called.

        Args:
            stage: Lightning's name for what follows. All splits are made for each.
        """
        if self._prepared is None:
            self._prepared = self._prepare(self.load_raw())

    def say(self, line: str) -> None:
        """Tell the user what was decided for them, in one line on the standard error, from the first process."""
        if is_first():
            log.warning("%s: %s", type(self).__name__, line)

    def _prepare(self, raw: RawData) -> _Prepared:
        kept, held = stratified_split(raw.train_labels, self.validation_fraction, self.split_seed, "validation")
        if self.max_per_class is not None:
            kept = at_most(raw.train_labels, kept, self.max_per_class, self.split_seed)
        # The split enters by its outcome and the raw data by its contents, so where the files lie, or which
        # seed happens to give the same split, makes no difference.
        fingerprint = digest(
            *(raw.train_images, raw.train_labels, raw.test_images, raw.test_labels, raw.class_names),
            *(held, self.zca_eps if self.zca else None),
            *(() if self.max_per_class is None else (kept,)),
        )
        test = digest(raw.test_images, raw.test_labels, raw.class_names)
        train_images = raw.train_images[kept]
        preprocessing = self._fit(train_images, fingerprint)
        splits = {
            "train": (train_images, raw.train_labels[kept]),
            "validation": (raw.train_images[held], raw.train_labels[held]),
            "test": (raw.test_images, raw.test_labels),
        }
        return _Prepared(
            {name: LabelledImages(preprocessing.apply(x), y) for name, (x, y) in splits.items()},
            preprocessing,
            raw.class_names,
            fingerprint,
            test,
        )

    def _fit(self, images: Tensor, fingerprint: str) -> Preprocessing:
        if not self.zca:
            return Preprocessing.fit(images)
        tensors = cached(
            self.cache_dir,
            f"zca-{fingerprint}",
            lambda: Preprocessing.fit(images, zca=True, zca_eps=self.zca_eps).tensors(),
        )
        return Preprocessing.from_tensors(tensors)

    def train_dataloader(self) -> object:
        """The steps of the module that is being trained.

        Lightning takes every loader from the data module once there is one; ours holds tensors, and what a step
        reads is the module's affair.
        """
        assert self.trainer is not None, "Lightning asks for the loader after it has attached the trainer"
        return self.trainer.lightning_module.train_dataloader()

    @property
    def _ready(self) -> _Prepared:
        if self._prepared is None:
            raise RuntimeError(f"{type(self).__name__} holds no data yet: call setup() first")
        return self._prepared

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self._ready.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self._ready.class_names

    @property
    def image_shape(self) -> ImageShape:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def preprocessing(self) -> Preprocessing:
        """The map that was applied to the images, fitted on `train`."""
        return self._ready.preprocessing

    @property
    def fingerprint(self) -> str:
        """Digest of the data's contents, the validation split and the preprocessing's settings."""
        return self._ready.fingerprint

    @property
    def test_fingerprint(self) -> str:
        """Digest of the test images as they were read, whatever the split and the preprocessing."""
        return self._ready.test_fingerprint

    @property
    def train(self) -> LabelledImages:
        """Training images, preprocessed, float32, on the CPU."""
        return self._ready.splits["train"]

    @property
    def validation(self) -> LabelledImages:
        """Held-out training images, possibly none, preprocessed, float32, on the CPU."""
        return self._ready.splits["validation"]

    @property
    def test(self) -> LabelledImages:
        """Test images, preprocessed, float32, on the CPU."""
        return self._ready.splits["test"]

    def train_on(self, device: torch.device | str) -> LabelledImages:
        """`train` on a device, copied there once."""
        return self._on("train", device)

    def validation_on(self, device: torch.device | str) -> LabelledImages:
        """`validation` on a device, copied there once."""
        return self._on("validation", device)

    def _on(self, split: str, device: torch.device | str) -> LabelledImages:
        # "cuda" and "cuda:0" are one device: a tensor made there tells its full name.
        where = torch.empty(0, device=device).device
        if (split, where) not in self._moved:
            self._moved[split, where] = self._ready.splits[split].to(where)
        return self._moved[split, where]
