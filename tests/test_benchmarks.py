"""Both sides of a benchmark do the same work, and what it prints is what it promises."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMON: dict[str, Any] = {"device": "cpu", "threads": 1, "repeats": 1}
WALK = {**COMMON, "images": 6, "previous": 0, "batch_size": 0, "syn_steps": 3, "walks": 1, "size": 16, "width": 4}


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


def assert_near(found: Any, wanted: Any) -> None:
    for mine, given in zip(found, wanted, strict=True):
        assert isinstance(mine, Tensor)
        assert given.abs().max() > 0
        assert (mine - given).norm() < 2e-3 * given.norm()  # a ReLU may flip


@pytest.mark.parametrize("way", ["recompute", "store"])  # compiling takes a minute
@pytest.mark.parametrize(("previous", "batch_size"), [(0, 0), (4, 0), (4, 2)])
def test_both_walks_find_one_gradient(
    way: str, previous: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectory = benchmark("trajectory", monkeypatch)
    settings = {**WALK, "way": way, "previous": previous, "batch_size": batch_size, "walks": 2}
    images, rate = trajectory.ours(settings)()
    each = trajectory.reference(settings)()
    assert len(each) == 2
    assert images.shape == (6 - previous, 3, 16, 16)
    assert_near((images, rate), [sum(parts) for parts in zip(*each, strict=True)])


def test_both_sides_match_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    matching = benchmark("gradient_matching", monkeypatch)
    settings = {**COMMON, "ipc": 2, "real_batch_size": 5, "size": 16, "width": 4, "compile": False}
    assert_near(matching.ours(settings)(), matching.reference(settings)())


def test_what_augmentation_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flip moves nothing out and blurs nothing; half an image of zeros is half from outside."""
    augmentation = benchmark("augmentation", monkeypatch)
    images = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    flip, cut = (augmentation.DSA((name,), cutout_ratio=1.0) for name in ("flip", "cutout"))
    found = augmentation.left_of(images, flip, 2)
    assert found["pixels from outside"] == 0.0
    assert found["high frequencies left"] == pytest.approx(1.0, abs=1e-4)
    assert 0.4 < augmentation.left_of(images, cut, 4)["pixels from outside"] < 0.7
    one, every = (augmentation.left_of(images, way, 12) for way in augmentation.WAYS.values())
    assert one["pixels from outside"] < 0.6 * every["pixels from outside"]
    assert one["high frequencies left"] > 1.5 * every["high frequencies left"]
    fine, coarse = (torch.cos(torch.arange(16) * 2 * torch.pi * rate).expand(1, 1, 16, 16) for rate in (0.5, 0.125))
    assert augmentation.high_frequencies(coarse) < 0.01 * augmentation.high_frequencies(fine)


@pytest.mark.parametrize("channels", [3, 64])  # one product of matrices; tiles
def test_both_convolutions_are_one(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = benchmark("convolution", monkeypatch)
    # What the compiler is given, and not what it makes of it: that takes a minute.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    settings = {**COMMON, "images": 2, "inputs": channels, "outputs": 64, "size": 8}
    assert_near(convolution.ours(settings)(), convolution.reference(settings)())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("experts", {"images": 6, "epochs": 2, "batch_size": 4, "networks": 2, "precision": "float32", "width": 4}),
        ("evaluation", {"images": 6, "epochs": 2, "networks": 2, "width": 4}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_both_sides_train_as_much(name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**COMMON, "size": 16, "workers": 0, "compile": False, "processes": 1, **settings}
    counts = []
    for side in ("ours", "reference"):
        work = getattr(benchmark(name, monkeypatch), side)(given)
        for _ in range(2):  # as often as it is timed
            with FlopCounterMode(display=False) as counter:
                work()
            counts.append(counter.get_total_flops())
    assert counts[0] > 0
    assert counts == [counts[0]] * 4


@pytest.mark.parametrize("side", ["ours", "reference"])
def test_an_epoch_of_data_is_every_image(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**COMMON, "images": 6, "batch_size": 4, "size": 16, "workers": 0}
    work = getattr(benchmark("data", monkeypatch), side)(settings)
    assert [work(), work()] == [6, 6]


@pytest.mark.parametrize("side", ["ours", "reference"])
def test_every_image_is_augmented(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = benchmark("data", monkeypatch)
    owner, name = {"ours": (data.DSA, "apply"), "reference": (data.v2.Compose, "forward")}[side]
    augment, moved = getattr(owner, name), []

    def look(self: object, images: Tensor, *draws: object) -> Tensor:
        found: Tensor = augment(self, images, *draws)
        assert found.shape == images.shape
        moved.extend((found != images).reshape(-1, *images.shape[-3:]).flatten(1).any(1).tolist())
        return found

    monkeypatch.setattr(owner, name, look)
    getattr(data, side)({**COMMON, "images": 40, "batch_size": 16, "size": 16, "workers": 0})()
    assert len(moved) == 40
    assert sum(moved) > 30  # of crops of padded images, one in 25 is where it was; then half are flipped


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


DATA = ("--images", "40", "--size", "8", "--workers", "0", "--repeats", "1", "--threads", "1")


@pytest.mark.slow
def test_one_line_of_json_tells_what_both_sides_took() -> None:
    done = run("data", *DATA, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    for side in ("ours", "reference"):
        assert set(found[side]) == {"seconds", "peak_mb"}
        assert found[side]["seconds"] > 0
        assert found[side]["peak_mb"] >= 0
    assert found["time_ratio"] == pytest.approx(found["ours"]["seconds"] / found["reference"]["seconds"], rel=0.1)
    assert {"images": 40, "size": 8, "workers": 0, "repeats": 1, "threads": 1, "device": "cpu"}.items() <= found.items()


@pytest.mark.slow
def test_our_side_alone_tells_its_memory_in_all() -> None:
    done = run("data", *DATA, "--alone")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["ours"]["in_all_mb"] > 50  # Python and PyTorch
    assert "reference" not in found


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--repeats", "0", "must be a whole number of at least 1, got '0'"),
        ("--repeats", "many", "must be a whole number of at least 1, got 'many'"),
        ("--workers", "-1", "must be a whole number of at least 0, got '-1'"),
        ("--device", "tpu", "must be cpu, cuda or cuda:N, got 'tpu'"),
    ],
)
def test_an_option_refuses_what_it_is_not_for(
    option: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = benchmark("harness", monkeypatch)
    options = harness.parser("")
    options.add_argument("--workers", type=harness.natural)
    assert options.parse_args([]).device == "cpu"
    with pytest.raises(SystemExit, match="2"):
        options.parse_args([option, value])
    assert f"argument {option}: {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("trajectory", "--images", "4", "--previous", "4"), "--previous=4 leaves none of --images=4 to learn"),
        (("data", "--device", "cuda:99"), "--device=cuda:99: PyTorch sees"),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_told_without_a_traceback(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_growth_gives_its_benchmarks_all_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    growth, common = benchmark("growth", monkeypatch), {**COMMON}
    for _, name, values, changes in growth.series():
        module = benchmark(name.removesuffix(".py"), monkeypatch)
        base = growth.WALK if name == "trajectory.py" else growth.EXPERTS
        assert len(values) == len(changes)
        assert all({*change} <= {*base} for change in changes)
        little = {"images": 4, "size": 16, "width": 4, "syn_steps": 1, "batch_size": 4}
        module.ours({**base, **common, **{key: value for key, value in little.items() if key in base}})()


LITTLE: dict[str, Any] = {
    "images": 6,
    "size": 16,
    "width": 4,
    "syn_steps": 1,
    "batch_size": 4,
    "epochs": 1,
    "networks": 2,
    "steps": 2,
}
LITTLE |= {"ipc": 1, "real_batch_size": 2, "workers": 0, "way": "store", "compile": False}


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_every_row_of_the_table_has_all_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    table = benchmark("all", monkeypatch)
    for name, (file, settings, less) in table.ROWS.items():
        module, whole = benchmark(file.removesuffix(".py"), monkeypatch), {**table.PEER, **settings, **COMMON}
        assert {*less} <= {*settings}
        little = {key: value for key, value in LITTLE.items() if key in whole}
        for side in ("ours", "reference") if name != "start_up" else ():  # which is whole commands
            getattr(module, side)({**whole, **little})()


def test_the_table_has_a_line_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table = benchmark("all", monkeypatch)
    side = {"seconds": 1.5, "peak_mb": 20.0}
    found = {"ours": side, "reference": {**side, "seconds": 3.0}, "time_ratio": 0.5, "memory_ratio": 1.0}
    monkeypatch.setattr(table, "ratios", lambda *_: found)
    monkeypatch.setattr(table, "measure", lambda _, settings: {"seconds": 2.0 + (settings["previous"] > 0)})
    table.main(["--quick", "--json"])
    *_, line = capsys.readouterr().out.splitlines()
    values = json.loads(line)
    assert values.pop("stage5_over_stage1") == 1.5
    assert {"walk_20x50", "walk_100x20", "experts", "transition", "evaluation", "gradient_matching"} < values.keys()
    assert {"augmentation", "data", "start_up"} < values.keys()
    assert values["data"] == {"ours": 1.5, "reference": 3.0, "ratio": 0.5, "memory_ratio": 1.0}


BROKEN = """
import os, signal

def ours(settings):
    return lambda: None

def reference(settings):
    return lambda: os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    from harness import compare, parser
    compare(__file__, parser(""))
"""


def run_own(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A benchmark that is not one of ours."""
    (folder / "own.py").write_text(code)
    command = [sys.executable, str(folder / "own.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


@pytest.mark.slow
def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    done = run_own(tmp_path, BROKEN)
    assert done.returncode == 1
    assert done.stderr == "the process of reference ended with status -9\n"


KNOWN = """
import time
import torch

def ours(settings):
    prepared, slow = b"x" * 200_000_000, [True]

    def work():
        assert torch.get_num_threads() == 2 and len(prepared)
        time.sleep(3.0 if slow else 0.1)  # the first time
        slow.clear()
        b"x" * 40_000_000

    return work

def reference(settings):
    def work():
        time.sleep(0.2)
        b"x" * 160_000_000

    return work

if __name__ == "__main__":
    from harness import compare, parser
    compare(__file__, parser(""))
"""


@pytest.mark.slow
def test_each_side_is_told_by_what_it_takes_itself(tmp_path: Path) -> None:
    """Not by its first time, nor by what it holds before."""
    done = run_own(tmp_path, KNOWN, "--threads", "2", "--repeats", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0.1 <= found["ours"]["seconds"] < 1.5
    assert 0.2 <= found["reference"]["seconds"] < 1.5
    assert 35 < found["ours"]["peak_mb"] < 120
    assert 150 < found["reference"]["peak_mb"] < 240
    assert found["memory_ratio"] < 0.8
    alone = json.loads(run_own(tmp_path, KNOWN, "--threads", "2", "--repeats", "1", "--alone").stdout)
    assert 0.1 <= alone["ours"]["seconds"] < 1.5
