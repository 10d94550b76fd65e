"""The bank of start states."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import CLASSES, NETWORK, SHAPE, assert_same

from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.errors import ArtifactError
from pdd_lightning.networks import ConvNet
from pdd_lightning.training.problem import Problem

BATCH_NORM = ConvNet(width=4, depth=2, norm="batch")


def bank(architecture: ConvNet = NETWORK, members: int = 3, seed: int = 0) -> StateBank:
    return StateBank.random(Problem(architecture, SHAPE, CLASSES, seed=seed), members)


@pytest.mark.parametrize("architecture", [NETWORK, BATCH_NORM], ids=["instance", "batch-norm"])
def test_a_bank_comes_back_as_it_was_written(architecture: ConvNet, tmp_path: Path) -> None:
    written = bank(architecture)
    written.write(tmp_path / "bank.safetensors")
    read = StateBank.read(tmp_path / "bank.safetensors", written[0])
    assert len(read) == 3
    assert read.identity == written.identity
    for member in range(3):
        assert_same(read[member], written[member])


def test_every_member_is_another_network() -> None:
    first, second = bank()[0], bank()[1]
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_a_member_is_the_same_in_a_small_and_in_a_large_bank() -> None:
    small, large = bank(members=1), bank(members=3)
    assert_same(small[0], large[0])
    assert small.identity == large.identity


@pytest.mark.parametrize("other", [bank(seed=1), bank(replace(NETWORK, activation="tanh"))], ids=["seed", "network"])
def test_banks_made_differently_have_other_identities(other: StateBank) -> None:
    assert other.identity != bank().identity


def test_a_member_is_a_copy() -> None:
    states = bank()
    states[0]["head.weight"].zero_()
    assert states[0]["head.weight"].any()


@pytest.mark.parametrize("member", [-1, 3])
def test_there_is_no_member_beyond_the_last(member: int) -> None:
    with pytest.raises(IndexError, match=f"the bank has 3 members, asked for {member}"):
        bank()[member]


@pytest.mark.parametrize(
    ("present", "named"),
    [(replace(NETWORK, width=8), "head.weight"), (BATCH_NORM, "running_mean")],
    ids=["width", "norm"],
)
def test_a_bank_of_another_network_is_refused(present: ConvNet, named: str, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    bank().write(path)
    with pytest.raises(ArtifactError, match=f"{path}.*another network: .*{named}.*use the network that made them"):
        StateBank.read(path, bank(present)[0])
