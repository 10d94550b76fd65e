import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.report import Row, markdown_table, read_results, render_table, write_results

ROW = Row(
    name="pdd",
    order="progressive",
    network="ConvNet-3",
    stage=5,
    images_per_class=10,
    accuracies=(0.5, 0.52, 0.57),
    training_images=400,
    steps=12000,
    stored_bytes=1536,
    learning_rate=(0.01, 0.005),
)
ODD = replace(
    ROW,
    name="a|b\n[red]c[/red]",
    accuracies=(0.1,),
    images_per_class=None,
    stored_bytes=None,
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "&#124;").strip().strip("|").split("|")]


def test_mean_and_sample_std() -> None:
    # Deviations -3, -1 and 4 hundredths: 26e-4 over n - 1 = 2.
    assert ROW.mean == pytest.approx(0.53)
    assert ROW.std == pytest.approx(0.0013**0.5)
    assert ODD.std == 0.0


def test_round_trip(tmp_path: Path) -> None:
    rows = [
        ROW,
        ODD,
        replace(ROW, name="full", stage=0, images_per_class=12.5, learning_rate=(), accuracies=(0, 1)),
    ]
    write_results(rows, tmp_path / "new" / "folder")
    assert read_results(tmp_path / "new" / "folder" / "results.json") == rows
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "results.json",
        "results.md",
    ]


def test_json_carries_mean_and_std() -> None:
    value = json.loads(json.dumps(ROW.to_json()))
    assert value["mean"] == ROW.mean
    assert value["std"] == ROW.std
    assert len(value) == 14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracies": [0.5, float("nan")]}, "accuracies"),
        ({"accuracies": [0.5, float("inf")]}, "accuracies"),
        ({"accuracies": [50.0, 52.0, 57.0]}, "accuracies"),
        ({"accuracies": [-0.1]}, "accuracies"),
        ({"accuracies": []}, "accuracies"),
        ({"accuracies": [True]}, "accuracies"),
        ({"accuracies": "0.5"}, "accuracies"),
        ({"accuracies": [0.5, 0.52, 0.58]}, "mean"),
        ({"std": 0.01}, "std"),
        ({"mean": float("nan")}, "mean"),
        ({"stage": 1.0}, "stage"),
        ({"steps": None}, "steps"),
        ({"steps": -1}, "steps"),
        ({"stored_bytes": "1 KiB"}, "stored_bytes"),
        ({"images_per_class": float("inf")}, "images_per_class"),
        ({"learning_rate": [10**400]}, "result 'pdd'"),
        ({"learning_rate": [float("nan")]}, "learning_rate"),
        ({"order": "reverse"}, "order"),
        ({"protocol": "official"}, "protocol"),
        ({"name": 3}, "name"),
        ({"extra": 1}, "extra"),
    ],
)
def test_refuses_bad_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Row.from_json({**ROW.to_json(), **change})


def test_refuses_a_plausible_value_that_was_not_written() -> None:
    with pytest.raises(ArtifactError, match="changed after it was written"):
        Row.from_json({**ROW.to_json(), "training_images": 1})


@pytest.mark.parametrize("key", sorted(ROW.to_json().keys() - {"digest"}))
def test_refuses_a_missing_key(key: str) -> None:
    value = ROW.to_json()
    del value[key]
    with pytest.raises(ArtifactError, match=rf"lacks \['{key}'\] and has unknown \[\]"):
        Row.from_json(value)


@pytest.mark.parametrize("text", [b"", b"[", b"{}", b"[1]", b"\xff\xfe[]", b'[{"name": "pdd"}]'])
def test_refuses_a_malformed_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text)
    with pytest.raises(ArtifactError, match=r"results\.json"):
        read_results(path)


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.json cannot be read"):
        read_results(tmp_path / "absent.json")


def test_a_row_that_could_not_be_read_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="accuracies"):
        replace(ROW, accuracies=(float("nan"),))


def test_markdown_table() -> None:
    header, rule, first, second = markdown_table([ROW, ODD]).splitlines()
    assert {len(cells(line)) for line in (header, rule, first, second)} == {11}
    assert set(rule) <= set("|:- ")
    row = dict(zip(cells(header), cells(first), strict=True))
    assert row == {
        "set": "pdd",
        "order": "progressive",
        "network": "ConvNet-3",
        "stage": "5",
        "images per class": "10",
        "accuracy %": "53.0 ± 3.6",
        "seeds": "3",
        "trained on": "400",
        "steps": "12,000",
        "stored size": "1.5 KiB",
        "protocol": "held-out",
    }
    odd = dict(zip(cells(header), cells(second), strict=True))
    assert odd["set"] == "a&#124;b [red]c[/red]"
    assert odd["accuracy %"] == "10.0"
    assert (odd["images per class"], odd["stored size"]) == ("-", "-")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 1024**2, "3.0 MiB"), (2**50, "1024.0 TiB")],
)
def test_stored_size(size: int, text: str) -> None:
    assert f" {text} " in markdown_table([replace(ROW, stored_bytes=size)])


def test_terminal_table_shows_names_as_they_are() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(render_table([ODD, ROW]))
    text = out.getvalue()
    assert "[red]c[/red]" in text
    assert "53.0 ± 3.6" in text
    assert text.index("[red]") < text.index("pdd")


def test_what_all_rows_share_is_said_once() -> None:
    table = render_table([ROW, replace(ROW, stage=1)])
    assert table.caption == "network: ConvNet-3, seeds: 3, protocol: held-out"
    assert [column.header for column in table.columns][:3] == ["set", "order", "stage"]


def test_a_narrow_terminal_keeps_the_figures() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(render_table([ROW, ODD]))
    text = out.getvalue()
    assert "53.0 ± 3.6" in text
    assert "protocol: held-out" in text
    assert "…" not in text
