"""Randomness derived by counter: the same keys give the same stream, on any number of workers or devices.

Nothing in the package draws from the global generators. Every draw names what it is for,
``generator(seed, "stage", 2, "step", 17, "augment")``, so a resumed run, which asks for step 17 again, gets
step 17's numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

Key = int | str


def derive_seed(seed: int, *keys: Key) -> int:
    """Hash a seed and a path of keys to 63 bits, the same on every platform and in every process.

    Args:
        seed: The run's seed.
        keys: What the stream is for. Integers and strings are told apart: ``1`` and ``"1"`` differ.

    Returns:
        An integer in [0, 2**63).
    """
    text = repr((int(seed), *keys)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: Key) -> torch.Generator:
    """A CPU generator for one purpose.

    Draws are made on the CPU and moved, so that results do not depend on the device.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


@contextmanager
def scoped_seed(seed: int, *keys: Key) -> Iterator[None]:
    """Run third-party code that only knows the global CPU generator, and put that generator back afterwards.

    This is the one place that touches it: layers' own initialisers take no generator.
    """
    # Not torch.manual_seed, which would reseed every device as well.
    kept = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(derive_seed(seed, *keys))
        yield
    finally:
        torch.default_generator.set_state(kept)
