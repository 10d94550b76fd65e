"""Third-party chatter that would bury what a run has to say."""

import logging
import warnings


def quiet() -> None:
    """Silence hints and deprecation notes of libraries that a user of this one can do nothing about."""
    for name in ("pytorch.utilities.rank_zero", "pytorch.accelerators", "fabric.utilities.distributed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # CUDA's tools without a GPU
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
