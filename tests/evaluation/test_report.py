"""Rows and tables of results: what is written is read back, and anything else is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pdd_lightning import __version__
from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.protocol import SELECTIONS
from pdd_lightning.evaluation.report import markdown_table, render_table
from pdd_lightning.evaluation.results import read_results, with_earlier, write_results
from pdd_lightning.evaluation.row import BASELINES, Row
from pdd_lightning.selection import RandomSelection
from pdd_lightning.store.folders import EvaluationFolder
from pdd_lightning.store.versions import made_with
from pdd_lightning.types import ONE_STAGES

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
    settings={"network": {"width": 32}, "recipe": {"epochs": 30}},
    test="0123",
    run="4567",
    made={"torch": "2.11.0", "threads": 1},
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
        replace(ROW, name="full", stage=None, images_per_class=12.5, learning_rate=(), accuracies=(0, 1)),
    ]
    write_results(rows, EvaluationFolder(tmp_path / "new" / "folder"))
    assert read_results(tmp_path / "new" / "folder" / "results.json") == rows
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "results.json",
        "results.md",
    ]


def test_json_carries_mean_and_std() -> None:
    value = json.loads(json.dumps(ROW.to_json()))
    assert value["mean"] == ROW.mean
    assert value["std"] == ROW.std
    assert len(value) == 18


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
        ({"test": None}, "test"),
        ({"settings": []}, "settings"),
        ({"made": "torch 2.11.0"}, "made"),
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


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"[",
            b"{}",
            b"[1]",
            b"\xff\xfe[]",
            b'[{"name": "pdd"}]',
            b'{"format": 2}',
            b'{"format": 2, "rows": [1]}',
        ),
        b'{"format": 1, "rows": []}',
    ],
)
def test_refuses_a_malformed_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text)
    with pytest.raises(ArtifactError, match=r"results\.json.*score the run again"):
        read_results(path)


def test_refuses_a_file_that_lacks_a_row(tmp_path: Path) -> None:
    write_results([ROW, ODD], EvaluationFolder(tmp_path))
    path = tmp_path / "results.json"
    value = json.loads(path.read_text())
    del value["rows"][1]
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
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
    Console(file=out, width=200).print(render_table([ODD, ROW], 200))
    text = out.getvalue()
    assert "[red]c[/red]" in text
    assert "53.0 ± 3.6" in text
    assert text.index("[red]") < text.index("pdd")


def test_what_all_rows_share_is_said_once() -> None:
    *lines, shown, _ = printed([ROW, replace(ROW, stage=1)], 200).splitlines()
    assert (lines[2].split(), shown) == (
        ["set", "stage", "accuracy", "%"],
        "order: progressive, network: ConvNet-3, images per class: 10, seeds: 3, trained on: 400, steps: 12,000, "
        "stored size: 1.5 KiB, protocol: held-out",
    )
    lines = printed([ROW, replace(ROW, stage=1, training_images=80, steps=2400)], 200).splitlines()
    assert lines[2].split() == ["set", "stage", "accuracy", "%", "trained", "on", "steps"]


def printed(rows: list[Row], width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render_table(rows, width))
    return out.getvalue()


def test_a_narrow_terminal_keeps_the_figures() -> None:
    text = printed([ROW, ODD], 80)
    assert "53.0 ± 3.6" in text
    assert "protocol: held-out" in text
    assert "…" not in text


WIDE = [
    replace(ROW, name=name, order=order, network=network, images_per_class=ipc, stage=stage)
    for name, order, network, ipc, stage in [
        ("random, pdd_trajectories", "union", "ConvNet", 10, None),
        ("pdd_trajectories", "progressive", "ResNet18-of-mine", 50, 5),
        ("another_run_of_mine", "sequential", "ConvNet", 50.5, 12),
    ]
]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("more", [{}, {"accuracies": (0.9,), "steps": 1234567}])
def test_no_word_or_number_is_broken(width: int, more: dict[str, Any]) -> None:
    rows = [*WIDE, replace(WIDE[1], stage=4, training_images=12345, stored_bytes=10**9, **more)]
    text = printed(rows, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = {word for row in rows for word in (*row.name.split(), row.order, row.network, row.protocol)}
    words |= {"53.0 ± 3.6", "12,345", "400", "953.7 MiB", "1.5 KiB", "12,000", "50.5"}
    missing = [word for word in words if word not in " ".join(text.split())]
    assert not missing


def test_a_set_without_stages_has_none() -> None:
    """Neither the baselines nor the full data are a stage."""
    header, _, row = map(cells, markdown_table([replace(ROW, name="full", stage=None)]).splitlines())
    assert dict(zip(header, row, strict=True))["stage"] == "-"


def test_two_rows_that_look_alike_bear_what_tells_them_apart() -> None:
    wider = replace(ROW, settings={**ROW.settings, "network": {"width": 64}})
    longer = replace(ROW, stage=4, settings={**ROW.settings, "recipe": {"epochs": 90}})
    lines = markdown_table([ROW, wider, longer]).splitlines()[2:]
    assert [cells(line)[0] for line in lines] == ["pdd, width 32", "pdd, width 64", "pdd"]


def test_the_versions_stand_below_the_table(tmp_path: Path) -> None:
    write_results([ROW, replace(ROW, stage=4, made={"torch": "2.12.0", "threads": 1})], EvaluationFolder(tmp_path))
    assert (tmp_path / "results.md").read_text().splitlines()[-1] == "made with torch 2.11.0 and 2.12.0, threads 1"
    assert printed([ROW], 80).splitlines()[-1] == "made with torch 2.11.0, threads 1"
    assert json.loads((tmp_path / "results.json").read_text())["rows"][1]["made"]["torch"] == "2.12.0"


def test_what_is_noted_of_the_versions() -> None:
    made = made_with(torch.device("cpu"))
    assert list(made) == ["torch", "torchvision", "lightning", "pdd_lightning", "python", "device", "threads"]
    assert (made["torch"], made["pdd_lightning"], made["threads"]) == (torch.__version__, __version__, 1)
    assert str(made["device"]).startswith("cpu ")


RESNET = replace(ROW, network="ResNet", settings={**ROW.settings, "network": {"depth": 10}})
RANDOM = replace(ROW, name="random", order="union", stage=None)
FULL = replace(RANDOM, name="full")


class TestWithEarlier:
    """What an evaluation adds to the rows of those before."""

    def test_other_rows_stay_in_the_order_of_the_table(self) -> None:
        first, last = replace(ROW, stage=1), replace(ROW, order="union")
        herding, one = replace(RANDOM, name="herding"), replace(RANDOM, name="one-stage")
        earlier = [RANDOM, first, ROW, FULL]
        found = with_earlier([one, RESNET, herding, last], earlier, lambda name: "4567")
        assert found == [RANDOM, herding, one, first, ROW, last, FULL, RESNET]

    def test_the_same_row_made_anew_replaces_the_old_one(self) -> None:
        anew = replace(ROW, accuracies=(0.1, 0.2), made={"torch": "2.12.0"})
        (_, found, _) = with_earlier([anew], [RANDOM, ROW, FULL], lambda name: "4567")
        assert (found, found.made) == (anew, anew.made)

    def test_rows_of_other_options_stay_beside_each_other(self) -> None:
        longer = replace(ROW, settings={**ROW.settings, "recipe": {"epochs": 90}})
        assert with_earlier([longer], [ROW], lambda name: "4567") == [ROW, longer]

    def test_rows_of_a_set_that_changed_go(self) -> None:
        """And those of one that cannot be looked at stay."""
        now = {"pdd": "new", "random": "4567", "full": None}
        assert with_earlier([RESNET], [RANDOM, ROW, FULL], now.__getitem__) == [RANDOM, FULL, RESNET]


def test_sets_are_called_as_the_baselines_that_they_are() -> None:
    assert {*SELECTIONS, RandomSelection.name, *ONE_STAGES} < set(BASELINES)
