"""Rows of results that show themselves as a table."""

import io

from rich.console import Console

from pdd_lightning.evaluation.report import markdown_section, render_table
from pdd_lightning.evaluation.row import Row

_WIDTH = 120


class Results(list[Row]):
    """Rows of results: a list, which prints and shows in a notebook as the table of the command line.

    Example:
        >>> row = Row("mine", "union", "ConvNet", None, 1, (0.8, 0.9), 10, 50, 2640, (0.1,))
        >>> print(Results([row]))
        Results
        ...
        mine union - 1 85.0 ± 7.1 10 50 2.6 KiB
        ...
        >>> round(Results([row])[0].mean, 3)
        0.85
    """

    def __str__(self) -> str:
        if not self:
            return "no results"
        console = Console(file=io.StringIO(), width=_WIDTH, force_jupyter=False, color_system=None)
        with console.capture() as text:
            console.print(render_table(self, _WIDTH))
        return text.get()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return markdown_section(self)
