"""Under which versions something was made: another release, device or number of threads gives other last digits."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version

import torch

from pdd_lightning import __version__
from pdd_lightning.types import Json


def made_with(device: torch.device) -> Json:
    """What the last digits of a result depend on beside its settings and data.

    Args:
        device: Where it is computed.
    """
    gpu = device.type == "cuda"
    return {
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "lightning": version("lightning"),
        "pdd_lightning": __version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device)
        if gpu
        else f"{device.type} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
    }


def told(made: Iterable[Mapping[str, object]]) -> str:
    """One line that names the versions, with every one that occurs.

    Args:
        made: What :func:`made_with` gave, for each of several results.
    """
    found: dict[str, dict[str, None]] = {}
    for one in made:
        for name, value in one.items():
            found.setdefault(name, {})[str(value)] = None
    return "made with " + ", ".join(f"{name} {' and '.join(values)}" for name, values in found.items())
