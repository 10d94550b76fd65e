"""Docstrings as mkdocstrings is to read them (an extension of griffe, named by mkdocs.yml)."""

import re
from typing import Any

import griffe


class OneExample(griffe.Extension):
    """Our docstrings head their example `Example:`; the parser knows code by `Examples:` alone."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Head it so."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
