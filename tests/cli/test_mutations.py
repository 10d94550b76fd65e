"""A file that was damaged, swapped or forged is refused with a remedy or made again: never is there another result."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from commandline import CONFIG
from mutations import MUTATIONS, artifacts, make_states

from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import Preprocessing
from pdd_lightning.errors import PDDError
from pdd_lightning.stage.subsets import read_run
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder

SHORT, LONG = 26, 600
RESULTS = ("synthetic.safetensors", "end_states.safetensors")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_states(tmp_path_factory.mktemp("states"))


def results(run: Path) -> list[str]:
    """Of everything that a run is for."""
    distilled = [file_digest(RunFolder(run).stage(k).directory / name) for k in (1, 2) for name in RESULTS]
    scored = run / "evaluation" / "results.json"
    return [*distilled, *([file_digest(scored)] if scored.is_file() else [])]


def use(state: str, run: Path) -> None:
    """What a user would do with a run in this state."""
    if state != "finished":
        for _ in range(3):  # stage 1 too, if it is no longer complete
            main(["fit", "--config", str(CONFIG), "--run_dir", str(run)])
        return
    main(["compare", str(run)])  # reads what the evaluation wrote
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run)])
    read_run(RunFolder(run))
    Preprocessing.read(RunFolder(run).preprocessing)


def outcome(state: str, run: Path, path: Path, expected: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Refused or the same; anything else fails."""
    capsys.readouterr()
    try:
        use(state, run)
    except PDDError as error:  # from what the library reads, where the command line is not in between
        line = str(error)
    except SystemExit as stop:
        status, lines = stop.code, [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert (status, len(lines)) == (2, 1)
        line = lines[0]
    else:
        assert results(run) == expected
        return "same"
    named = (path.name, str(path.parent), f"stage {path.parent.name[-1]}")
    assert any(name in line for name in named), line
    assert any(word in line.lower() for word in ("delete", "restore", "again", "run ", "choose", "use ")), line
    return "refused"


def fuzz(
    count: int, seed: int, states: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Counter[str]:
    expected = {name: results(states["finished"])[: None if name == "finished" else 4] for name in states}
    tally: Counter[str] = Counter()
    failures: list[str] = []
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        state = draw.choice(sorted(states))
        run = tmp_path / str(number) / "run"
        shutil.copytree(states[state], run)
        path = draw.choice(artifacts(run))
        name = sorted(MUTATIONS)[number % len(MUTATIONS)]
        before = path.read_bytes()
        MUTATIONS[name](path, run, draw)
        changed = not path.is_file() or path.read_bytes() != before
        try:
            tally[outcome(state, run, path, expected[state], capsys)] += changed
        except BaseException as error:
            failures.append(f"{name} of {path.relative_to(run)} ({state}, number {number}): {error!r}")
        tally["tried"] += changed
        shutil.rmtree(run.parent)
    assert not failures, "\n".join(failures)
    return tally


def test_no_damage_goes_unnoticed(states: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = fuzz(SHORT, 0, states, tmp_path, capsys)
    with capsys.disabled():
        print(f"\n{tally['tried']} mutations: {tally['refused']} refused, {tally['same']} with the same result")
    assert tally["refused"] + tally["same"] == tally["tried"]
    assert tally["refused"] > SHORT // 4


@pytest.mark.slow
def test_no_damage_of_many_goes_unnoticed(
    states: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = fuzz(LONG, 1, states, tmp_path, capsys)
    with capsys.disabled():
        print(f"\n{tally['tried']} mutations: {tally['refused']} refused, {tally['same']} with the same result")
    assert tally["refused"] + tally["same"] == tally["tried"] > 500
