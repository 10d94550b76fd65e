"""Fresh networks beside the bank: they change nothing, and are what training from the beginning makes of them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import fit_into
from toys import assert_same

from pdd_lightning.cli.application import application
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.stage.course import course_line, overfit_warning
from pdd_lightning.stage.subsets import read_run, union_of
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import Learner


def test_they_are_trained_progressively_on_the_unions(two_stages: Path) -> None:
    run = RunFolder(two_stages)
    subsets = read_run(run)
    with application("evaluate", ["--config=tests/conf/micro.yaml", f"--run_dir={two_stages}"]) as app:
        app.datamodule.setup()
        options, validation = app.model.options, app.datamodule.validation
        problem = options.problem(app.datamodule)
        for stage in (1, 2):
            accuracies = []
            for member in range(3):
                learner = Learner(problem.network())
                learner.load(problem.initial_state("witness", member))
                for k in range(1, stage + 1):
                    union, rate, keys = (
                        union_of(subsets[:k]),
                        subsets[k - 1].rate,
                        ("stage", k, "fresh networks", member),
                    )
                    assert union is not None
                    learner.train(union, rate, options.recipe, options.augmentation, options.seed, *keys)
                left, _ = read_tensors(run.stage(stage).witnesses)
                assert_same({name: tensor[member] for name, tensor in left.items()}, learner.state())
                accuracies.append(round(learner.accuracy(validation), 6))
            assert run.stage(stage).read_manifest().summary["fresh_accuracies"] == accuracies


@pytest.mark.parametrize("change", ["missing", "damaged", "fewer"])
def test_a_stage_does_without_what_the_stage_before_left(
    change: str, first_stage: Path, two_stages: Path, run: Path
) -> None:
    shutil.copytree(first_stage, run)
    path = RunFolder(run).stage(1).witnesses
    tensors, metadata = read_tensors(path)
    if change == "missing":
        path.unlink()
    if change == "damaged":
        path.write_bytes(b"\0" * 100)
    if change == "fewer":
        write_tensors(path, {name: tensor[:2] for name, tensor in tensors.items()}, {"identity": metadata["identity"]})
    fit_into(run)
    straight, found = (file_digest(RunFolder(each).stage(2).witnesses) for each in (two_stages, run))
    assert found == straight


def test_they_change_no_other_file(first_stage: Path, run: Path) -> None:
    fit_into(run, "--model.witnesses=0")
    none, some = RunFolder(run).stage(1), RunFolder(first_stage).stage(1)
    assert none.fingerprint() == some.fingerprint()
    assert not none.witnesses.exists()
    assert none.read_manifest().summary["fresh_accuracies"] == []


def test_the_line_tells_both() -> None:
    summary = {"validation_accuracies": [0.9, 0.95], "fresh_accuracies": [0.8, 0.85]}
    assert "held-out accuracy 92.5 % on the bank, 82.5 % on fresh networks" in course_line(summary, MeanEmbedding())


@pytest.mark.parametrize(
    ("bank", "fresh", "warned"),
    [
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], True),
        ([0.90, 0.91, 0.92], [0.895, 0.90, 0.91], False),  # too little to care
        ([0.90, 0.80, 0.99], [0.60, 0.95, 0.85], False),  # noise
        ([0.80, 0.81, 0.82], [0.90, 0.91, 0.92], False),
        ([0.90, 0.91, 0.92], [], False),
    ],
)
def test_a_gap_beyond_its_noise_is_a_warning(bank: list[float], fresh: list[float], warned: bool) -> None:
    summary: dict[str, Any] = {"validation_accuracies": bank, "fresh_accuracies": fresh}
    text = overfit_warning(summary)
    assert (text is not None) is warned
    if text is not None:
        assert "10.0 points lower on 3 fresh networks than on the 3" in text
