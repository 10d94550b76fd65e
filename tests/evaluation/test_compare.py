"""One table of several runs."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pdd_lightning.cli.entrance import encode_anything
from pdd_lightning.cli.main import main
from pdd_lightning.evaluation.compare import merged_rows
from pdd_lightning.evaluation.results import write_results
from pdd_lightning.evaluation.row import Row
from pdd_lightning.store.folders import RunFolder

RANDOM = Row("random", "union", "ConvNet", None, 3, (0.8, 0.9), 30, 450, 100, (0.1,))
FULL = replace(RANDOM, name="full", images_per_class=None, stored_bytes=None, accuracies=(0.99, 0.98))
FIRST = replace(RANDOM, name="pdd", order="progressive", stage=1, images_per_class=1, accuracies=(0.7, 0.7))
SECOND = replace(FIRST, stage=2, images_per_class=3, accuracies=(0.95, 0.96))


def names(rows: list[Row]) -> list[str]:
    return [row.name for row in rows]


def test_runs_bear_their_labels_and_share_their_baselines() -> None:
    alone = replace(FIRST, name="distilled")
    rows = merged_rows({"a": [RANDOM, FIRST, SECOND, FULL], "b": [RANDOM, alone, FULL]})
    assert names(rows) == ["random", "a", "b", "full"]
    assert rows[1] == replace(SECOND, name="a")
    assert rows[2] == replace(FIRST, name="b")


def test_baselines_that_differ_bear_labels_too() -> None:
    rows = merged_rows({"a": [RANDOM, FIRST], "b": [replace(RANDOM, accuracies=(0.1, 0.2)), FIRST, FULL]})
    assert names(rows) == ["random, a", "random, b", "a", "b", "full"]


def test_every_stage() -> None:
    rows = merged_rows({"a": [RANDOM, FIRST, SECOND]}, every_stage=True)
    assert [(row.name, row.stage) for row in rows] == [("random", None), ("a", 1), ("a", 2)]


def test_the_last_stage_is_that_of_each_order() -> None:
    union = replace(FIRST, order="union")
    assert names(merged_rows({"a": [FIRST, SECOND, union]})) == ["a", "a"]


def test_selected_images_bear_the_label_of_their_run() -> None:
    """Though their name is that of a baseline too."""
    mine = replace(RANDOM, order="progressive", stage=1)
    assert names(merged_rows({"a": [RANDOM, FIRST], "mine": [mine, FULL]})) == ["random", "a", "mine", "full"]


def test_runs_that_differ_in_who_made_them_share_their_baselines() -> None:
    again = replace(RANDOM, run="another", made={"torch": "2.12.0"})
    assert names(merged_rows({"a": [RANDOM, FIRST], "b": [again, FIRST]})) == ["random", "a", "b"]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    for label, own in (("mtt", FIRST), ("pdd_mtt", SECOND)):
        write_results([RANDOM, own, FULL], RunFolder(tmp_path / label).evaluation)
    return [str(tmp_path / "mtt"), str(tmp_path / "pdd_mtt")]


def test_the_command_prints_and_writes(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *runs, "--output", str(tmp_path / "table.md")])
    written = (tmp_path / "table.md").read_text().splitlines()
    table = [line.split("|")[1].strip() for line in written if line[:1] == "|"]
    assert table[2:] == ["random", "mtt", "pdd_mtt", "full"]
    assert written[-1].startswith("pdd_mtt (progressive) is ahead of mtt: +25.5 points")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("random", "pdd_mtt", "95.5 ± 0.7"))


def test_a_terminal_that_lacks_a_character(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    encode_anything()
    main(["compare", *runs])
    sys.stdout.flush()
    assert rb"95.5 \xb1 0.7" in printed.getvalue()


def test_runs_on_two_test_sets_are_not_in_one_table(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_results([replace(row, test="abcdef0123") for row in (RANDOM, FIRST, FULL)], RunFolder(other).evaluation)
    main(["compare", *runs, str(other), "--output", str(tmp_path / "table.md")])
    text = (tmp_path / "table.md").read_text()
    first, second = text.split("## Test set abcdef01: other")
    assert "## Test set unknown: mtt, pdd_mtt" in first
    assert [
        [line.split("|")[1].strip() for line in part.splitlines() if line[:1] == "|"][2:] for part in (first, second)
    ] == [
        ["random", "mtt", "pdd_mtt", "full"],
        ["random", "other", "full"],
    ]
    assert "There are 2 test sets: compare within a table only." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("add", "words"),
    [
        ("--nope", "--nope: there is no such option; `pdd-cli compare --help` lists them"),
        ("--every_stages", "--every_stages: there is no such option; did you mean --every_stage?"),
        ("absent", "results.json cannot be read"),
        ("mtt", "two runs are called mtt: give each folder once"),
    ],
)
def test_a_mistake_is_one_line(
    add: str, words: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["compare", *runs, add if add.startswith("-") else str(tmp_path / add)])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pdd-cli: error: ")
    assert words in line


@pytest.mark.parametrize(("options", "line"), [([], "b (progressive) is"), (["--against", "b"], "a (progressive) is")])
def test_the_others_are_compared_with_one_run(
    options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, row in {"a": FIRST, "b": replace(FIRST, accuracies=(0.6, 0.7))}.items():
        write_results([row], RunFolder(tmp_path / label).evaluation)
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *options])
    assert line in capsys.readouterr().out


def test_only_what_is_in_the_table_is_compared_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results([FIRST], RunFolder(tmp_path / "a").evaluation)
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path / "a"), "--against", "c"])
    assert "--against=c: name one of a, random" in capsys.readouterr().err
