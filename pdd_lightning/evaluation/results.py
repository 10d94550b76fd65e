"""The results of a run on disk: a row for each network and set that was scored, by one evaluation or several."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.report import results_page
from pdd_lightning.evaluation.row import BASELINES, ORDERS, Row
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import FORMAT, read_json, require_format, write_json, write_text
from pdd_lightning.store.folders import EvaluationFolder

_SETS: Final = (*(name for name in BASELINES if name != "full"), None, "full")
"""Names of sets in the order of a table, where None stands for the run's own."""


def write_results(rows: Sequence[Row], folder: EvaluationFolder) -> None:
    """Write `results.json` and `results.md`, each of them whole or not at all.

    Args:
        rows: In the order in which they are to appear.
        folder: Made if it does not exist.
    """
    # Both are rendered before either is written: a fault in the rendering must leave the old pair.
    page = results_page(rows)
    write_json(folder.results, {"format": FORMAT, "rows": [row.to_json() for row in rows]})
    write_text(folder.page, page)


def read_results(path: Path) -> list[Row]:
    """The rows of a `results.json`.

    Raises:
        ArtifactError: If the file is missing or anything in it is not as `write_results` left it.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} cannot be read, for there is no such file; score the run first")
    try:
        value = read_json(path)
        require_format(path, value.get("format"))
    except ArtifactError as error:
        raise ArtifactError(f"{error}; score the run again") from error
    rows = value.get("rows")
    if not isinstance(rows, list):
        raise ArtifactError(f"{path} holds no list of rows; score the run again")
    try:
        return [Row.from_json(item) for item in rows]
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def with_earlier(rows: Sequence[Row], earlier: Sequence[Row], origin: Callable[[str], str | None]) -> list[Row]:
    """The rows of an evaluation among those of earlier ones that still hold, in the order of the table.

    Args:
        rows: Of the present evaluation; each takes the place of an earlier one of the same key.
        earlier: What was found.
        origin: The name of a set -> what `Row.run` says of it now; None where that cannot be told.
    """
    kept = [row for row in earlier if origin(row.name) in (row.run, None)]
    found = {row.key: row for row in [*kept, *rows]}
    networks = list(dict.fromkeys(_network(row) for row in found.values()))

    def place(row: Row) -> tuple[int, int, int]:
        of = _SETS.index(row.name if row.name in BASELINES else None)
        return networks.index(_network(row)), of, ORDERS.index(row.order)

    return sorted(found.values(), key=place)  # stable: stages stay in their order


def _network(row: Row) -> str:
    return fingerprint([row.network, row.settings.get("network")])
