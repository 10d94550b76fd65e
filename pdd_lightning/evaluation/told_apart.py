"""Names for rows that a table would otherwise show alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pdd_lightning.evaluation.row import Row


def told_apart(rows: Sequence[Row]) -> list[Row]:
    """The rows; where a table would show two alike, the options in which they differ stand beside the set's name."""
    alike: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(_shown_as(row), []).append(row)
    named = []
    for row in rows:
        others = [dict(_options(other.settings)) for other in alike[_shown_as(row)]]
        mine = dict(_options(row.settings))
        options = [name for name in mine if any(other.get(name) != mine[name] for other in others)]
        named.append(replace(row, name=", ".join([row.name, *(f"{name} {mine[name]}" for name in options)])))
    return named


def _shown_as(row: Row) -> tuple[object, ...]:
    return row.name, row.order, row.network, row.stage


def _options(settings: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The options of network and recipe by their own names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _options(value)
        else:
            yield name, value
