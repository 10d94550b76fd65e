"""A mistake in a class of the user's own is one line that says what to mend."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Refused

HEAD = """
import torch
from torch import nn
from pdd_lightning.networks import Architecture
from pdd_lightning.objectives import Objective

class Whole(Objective):
    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
    def loss(self, synthetic, work, context):
        return synthetic.images.square().sum()

class Lossless(Objective):
    pass

class Forgetful(Whole):
    def __init__(self, weight: float = 1.0, hidden: int = 3) -> None:
        super().__init__(weight)

class Vector(Whole):
    def loss(self, synthetic, work, context):
        return synthetic.images.square().sum((1, 2, 3))

class Pair(Whole):
    def describe(self):
        return {"class_path": "mistaken.Pair", "sizes": (1, 2)}

class Endless(Whole):
    def describe(self):
        return {"class_path": "mistaken.Endless", "parts": [{"limit": float("inf")}]}

class Unrelated:
    pass

class Narrow(Architecture):
    def build(self, image_shape, num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(image_shape).numel(), 7))

def function():
    raise AssertionError("is never called")
"""
FILES = {
    "mistaken.py": HEAD,
    "needy.py": "import surely_not_installed\n",
    "misspelt.py": "\nfrom pdd_lightning.objectives import Objektive\n",
    "unfinished.py": "\n\nclass Unfinished(\n",
    "failing.py": "limit = 0\nrate = 1 / limit\n",
}
OBJECTIVE = "--model.objective"
MISTAKES = {
    "no such module": (
        [OBJECTIVE, "nowhere.Mine"],
        ["there is no module nowhere", "the current folder", "MeanEmbedding"],
    ),
    "no such submodule": ([OBJECTIVE, "mistaken.sub.Mine"], ["there is no module mistaken.sub"]),
    "no such class": ([OBJECTIVE, "mistaken.Whol"], ["mistaken has no Whol, did you mean Whole?"]),
    "wrong base": ([OBJECTIVE, "mistaken.Unrelated"], ["not a subclass of pdd_lightning.objectives.Objective"]),
    "wrong kind": (["--model.network", "mistaken.Whole"], ["not a subclass of pdd_lightning.networks.Architecture"]),
    "wrong data": (["--data", "mistaken.Unrelated"], ["not a subclass of pdd_lightning.datamodules.ImageDataModule"]),
    "not a class": ([OBJECTIVE, "mistaken.function"], ["not a subclass of pdd_lightning.objectives.Objective"]),
    "abstract": ([OBJECTIVE, "mistaken.Lossless"], ["Lossless cannot be used without loss: define what is missing"]),
    "in a list": (["--evaluation.networks", "[mistaken.Unrelated]"], ["not a subclass of pdd_lightning.networks.Arch"]),
    "not installed": ([OBJECTIVE, "needy.Mine"], ["needy needs the module surely_not_installed", "install it"]),
    "misspelt import": (
        [OBJECTIVE, "misspelt.Mine"],
        ["misspelt.py, line 2", "cannot import name 'Objektive'", "mend"],
    ),
    "syntax": ([OBJECTIVE, "unfinished.Unfinished"], ["unfinished.py, line 3", "SyntaxError", "mend it there"]),
    "fails": ([OBJECTIVE, "failing.Mine"], ["failing.py, line 2", "ZeroDivisionError: division by zero"]),
    "misspelt option": ([OBJECTIVE, "mistaken.Whole", f"{OBJECTIVE}.wait", "2"], ["Whole has no such option"]),
    "value": ([OBJECTIVE, "mistaken.Whole", f"{OBJECTIVE}.weight", "big"], [".weight=big: expected a number"]),
    "tuple": ([OBJECTIVE, "mistaken.Pair"], ["model.objective: its describe() gives (1, 2) for 'sizes'", "lists"]),
    "not kept": (
        [OBJECTIVE, "mistaken.Forgetful"],
        ["mistaken.Forgetful does not keep its option 'hidden'", "self.hidden"],
    ),
    "infinite": ([OBJECTIVE, "mistaken.Endless"], ["model.objective: its describe() gives inf for 'limit'"]),
    "wrong logits": (
        ["--model.network", "mistaken.Narrow"],
        ["model.network builds a Sequential", "(2, 7)", "(2, 10)"],
    ),
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "own"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    yield
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("own")
def test_a_mistake_is_one_line(mistake: str, refused: Refused, run: Path) -> None:
    args, words = MISTAKES[mistake]
    line = refused(*args)
    assert all(word in line for word in words), line
    assert not run.exists()


@pytest.mark.usefixtures("own")
def test_a_mistake_in_a_file_names_its_option(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {objective: {class_path: mistaken.Lossless}}")
    assert "--model.objective=mistaken.Lossless: Lossless cannot be used" in refused("--config", str(path))


@pytest.mark.usefixtures("own")
def test_a_loss_of_many_numbers_is_refused(refused: Refused) -> None:
    line = refused(OBJECTIVE, "mistaken.Vector")
    assert "model.objective=Vector: its loss() has shape (10,)" in line


@pytest.mark.usefixtures("own")
def test_a_whole_class_is_used(run: Path, refused: Refused) -> None:
    """What it forgot to record would be refused; what it records is compared."""
    from commandline import fit_into

    args = (OBJECTIVE, "mistaken.Whole", "--trainer.max_steps", "2", "--checkpoint_every", "1")
    fit_into(run, *args)
    assert "objective.weight: 1.0 then, 2.0 now" in refused(*args, f"{OBJECTIVE}.weight", "2")
