"""Third-party chatter that would bury what a run has to say."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOGGERS: Final = {
    "lightning.pytorch.utilities.rank_zero": logging.WARNING,
    "lightning.pytorch.accelerators": logging.WARNING,
    "lightning.fabric.utilities.distributed": logging.WARNING,
    "torch.utils.cpp_extension": logging.ERROR,  # CUDA's tools without a GPU
}


def quiet() -> None:
    """Silence hints and deprecation notes of libraries that a user of this one can do nothing about."""
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    for pattern, category in (
        (r".*isinstance\(treespec, LeafSpec\).*", FutureWarning),
        (r".*isinstance\(treespec, LeafSpec\).*", DeprecationWarning),
        (r".*does not have many workers.*", UserWarning),  # the loader holds numbers of steps
        (r".*`IterableDataset` has `__len__` defined.*", UserWarning),  # and no workers
        (r".*Checkpoint directory .* exists and is not empty.*", UserWarning),  # that is how a stage continues
        (r".*callbacks used to create the checkpoint need to be provided.*", UserWarning),  # other checkpoint_every
        (r".*dataloader is not resumable.*", UserWarning),  # a step reads its own number from the trainer
        (r".*GPU available but not used.*", UserWarning),
        (r"Glyph .* missing from font.*", UserWarning),  # in a class name, which a picture shows as a box
        (r".*`torch.jit.script` is deprecated.*", FutureWarning),  # what PyTorch's own compiler imports
    ):
        warnings.filterwarnings("ignore", message=pattern, category=category)


@contextmanager
def quietly() -> Iterator[None]:
    """As :func:`quiet` while the block lasts, in a program of somebody else's."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        quiet()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
