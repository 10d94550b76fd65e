"""Tables of results, for the terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pdd_lightning.errors import one_line
from pdd_lightning.evaluation.differences import difference_lines
from pdd_lightning.evaluation.row import Row
from pdd_lightning.evaluation.told_apart import told_apart
from pdd_lightning.progress import size
from pdd_lightning.store.versions import told
from pdd_lightning.types import ONE_STAGES

_NUMERIC: Final = ("stage", "images per class", "accuracy %", "seeds", "trained on", "steps", "stored size")


_COLUMNS: Final = ("set", "order", "network", *_NUMERIC, "protocol")


_OFTEN_COMMON: Final = ("network", "seeds", "protocol")


_ALWAYS: Final = ("set", "stage", "accuracy %")
"""Columns that a terminal shows, even if all rows have the same."""


_SECOND_LINE: Final = (
    "network",
    "order",
    "protocol",
    "seeds",
    "stored size",
    "trained on",
    "steps",
    "images per class",
)
"""Columns that go under the name of the set, one after the other, where a terminal is too narrow."""


def render_table(
    rows: Sequence[Row], width: int = 80, title: str = "Results", against: Sequence[str] = ONE_STAGES
) -> Group:
    """The results for the terminal, in the order given.

    What is the same in every row stands once, below the table, and so do under which versions it was made, and which
    sets are ahead of which. Where the terminal is too narrow for what is left, values go to a second line of their row:
    no word or number is broken.

    Args:
        rows: In the order in which they are to appear.
        width: Of the terminal, in characters.
        title: Above the table.
        against: The sets that distilled ones are compared with, where they are in the table.
    """
    cells = [dict(zip(_COLUMNS, _cells(row), strict=True)) for row in told_apart(rows)]
    foldable = _OFTEN_COMMON if len(rows) == 1 else [column for column in _COLUMNS if column not in _ALWAYS]
    common = {c: cells[0][c] for c in _COLUMNS if c in foldable and len({row[c] for row in cells}) == 1}
    shown = [column for column in _COLUMNS if column not in common]
    broken = _least_width(cells, shown, [], whole=True) > width
    below = _second_line(cells, shown, width)
    lines = [", ".join(f"{column}: {value}" for column, value in common.items()), *_notes(rows, against)]
    table = Table(title=title, box=SIMPLE, padding=0)
    for column in (column for column in shown if column not in below):
        justify: Literal["left", "right"] = "right" if column in _NUMERIC else "left"
        heading = column.replace(" ", "\n") if broken else column
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=column != "set")
    for values in cells:
        # Text, because a name may look like rich's markup.
        texts = {column: Text(values[column]) for column in shown}
        for number, column in enumerate(below):
            texts["set"].append("\n  " if not number else ", ").append_text(_named(column, texts[column]))
        table.add_row(*(texts[column] for column in shown if column not in below))
    # Not a caption, which would be folded to the width of the table.
    return Group(table, *(Text(line, style="italic") for line in lines if line))


def results_page(rows: Sequence[Row]) -> str:
    """The results as a page of Markdown."""
    return "# Results\n\n" + markdown_section(rows)


def markdown_section(rows: Sequence[Row], against: Sequence[str] = ONE_STAGES) -> str:
    """The table of :func:`markdown_table`, and below it what is to be known of it.

    Args:
        rows: See :func:`render_table`.
        against: See :func:`render_table`.
    """
    return markdown_table(rows) + "".join(f"\n{line}\n" for line in _notes(rows, against))


def markdown_table(rows: Sequence[Row]) -> str:
    """The results as a GitHub-flavoured Markdown table, in the order given, ending in a line break."""
    rules = ["---:" if column in _NUMERIC else ":---" for column in _COLUMNS]
    lines = [list(_COLUMNS), rules]
    for row in told_apart(rows):
        # A bar would start a new cell and a line break a new row.
        lines.append([one_line(cell).replace("|", "\\|") for cell in _cells(row)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _notes(rows: Sequence[Row], against: Sequence[str]) -> list[str]:
    """What is said below a table."""
    made = [row.made for row in rows if row.made]
    return [*difference_lines(rows, against), *_recipe_lines(rows), *([told(made)] if made else [])]


def _recipe_lines(rows: Sequence[Row]) -> list[str]:
    """In which options the recipes of distilled sets differ, but for their number of steps, which has a column."""
    recipes = {}
    for row, shown in zip(rows, told_apart(rows), strict=True):
        recipe = row.settings.get("recipe")
        if (row.stage is not None or row.name in ONE_STAGES) and isinstance(recipe, Mapping):
            recipes[f"{shown.name} ({row.order})"] = {name: str(value) for name, value in recipe.items()}
    names = dict.fromkeys(name for recipe in recipes.values() for name in recipe if name != "epochs")
    lines = []
    for name in names:
        by_value: dict[str, list[str]] = {}
        for row_name, recipe in recipes.items():
            by_value.setdefault(recipe.get(name, "-"), []).append(row_name)
        if len(by_value) > 1:
            lines.append(f"{name}: " + ", ".join(f"{value} for {' and '.join(of)}" for value, of in by_value.items()))
    return lines


def _second_line(cells: Sequence[Mapping[str, str]], shown: Sequence[str], width: int) -> list[str]:
    """The columns that must leave the first line of each row, so that no word or number of the others is broken."""
    below: list[str] = []
    for column in (column for column in _SECOND_LINE if column in shown):
        if _least_width(cells, shown, below) <= width:
            break
        below.append(column)
    return [column for column in shown if column in below]


def _least_width(
    cells: Sequence[Mapping[str, str]], shown: Sequence[str], below: Sequence[str], *, whole: bool = False
) -> int:
    """Characters that a table takes at least, where the names of sets alone may go on in another line.

    Args:
        cells: By column.
        shown: Columns.
        below: Those of them that stand under the names of sets.
        whole: Keep names and headings to one line too.
    """
    widths = []
    for column in (column for column in shown if column not in below):
        texts = [
            column,
            *(cell[each] for cell in cells for each in ([column, *below] if column == "set" else [column])),
        ]
        broken = texts if column == "set" else texts[:1]
        words = texts if whole else [word for text in broken for word in text.split()] + texts[len(broken) :]
        widths.append(max(map(len, words)) + (column == "set" and bool(below)))  # a comma may follow
    return sum(widths) + len(widths) + 1


def _named(column: str, text: Text) -> Text:
    """A value on the second line, where it has no heading."""
    before, after = {
        "seeds": ("", " seeds"),
        "stored size": ("", ""),
        "trained on": ("trained on ", ""),
        "steps": ("", " steps"),
        "images per class": ("", " images per class"),
    }.get(column, ("", ""))
    return Text(before).append_text(text).append(after)


def _cells(row: Row) -> list[str]:
    accuracy = f"{100 * row.mean:.1f}"
    if len(row.accuracies) > 1:  # one seed says nothing about the spread, and "± 0.0" would
        accuracy += f" ± {100 * row.std:.1f}"
    per_class = "-" if row.images_per_class is None else f"{row.images_per_class:.12g}"
    counts = [
        str(len(row.accuracies)),
        f"{row.training_images:,}",
        f"{row.steps:,}",
        "-" if row.stored_bytes is None else size(row.stored_bytes),
    ]
    stage = "-" if row.stage is None else str(row.stage)
    return [row.name, row.order, row.network, stage, per_class, accuracy, *counts, row.protocol]
