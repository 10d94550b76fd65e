"""Names that a package exports and imports only when they are asked for, so that what is light stays quick."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A module's ``__getattr__`` (PEP 562) for names that lie in other modules.

    Args:
        package: Its ``__name__``.
        homes: The module of each name.

    Example:
        >>> lazily("mine", {"sqrt": "math"})("sqrt")(4)
        2.0
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(import_module(homes[name]), name)
        if package in sys.modules:  # so that the next one finds it without asking
            setattr(sys.modules[package], name, found)
        return found

    return find
