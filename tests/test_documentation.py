"""What the documentation names exists, and what users call shows how."""

import inspect
import re
from dataclasses import replace
from functools import cache
from importlib import import_module
from inspect import get_annotations
from itertools import product
from pathlib import Path
from pkgutil import walk_packages
from pydoc import locate

import pytest
import torch
from torch import nn

import pdd_lightning
from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.distilled import DistilledSet, load

ROOT = Path(__file__).parents[1]
PAGES = [
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs/README.md", *ROOT.glob("docs/*.md"))
]

NAMED = r"(?<![\w./])(?:tests|pdd_lightning|configs|examples|docs|benchmarks)/[\w./*{},-]*[\w}]"
"""A path from the root, `configs/{smoke,digits}/*.yaml` too."""

LINK = r"\]\(([^)#:]+)(?:#[^)]*)?\)"
"""A file beside the page, or a place in it."""

MEMBER = r"`(pdd_lightning(?:\.\w+)+|[A-Z]\w*\.\w+)"
"""Something by its import path, or a class of ours and its member."""

FENCED = r"```.*?```"

PYTHON = r"^```python\n(.*?)^```"

OF_A_ROOM = r"`([a-z_]+/[a-z_]+\.py)`"
OF_CONFIGS = r"`([\w/{},]+/[\w/{},]+\.yaml)`"

WITHOUT_EXAMPLE = {
    "cli": "the commands, whose `main` shows its use",
    "errors": "raised by what shows its use, and explained by their messages",
    "process": "how commands start, meet and end",
    "compute.step_products": "what a walk is made of, which shows its use",
    "evaluation.given_run": "what `pdd-cli select` and `pdd-cli import` do, which show their use",
    "evaluation.imported_run.ImportedRun": "what `pdd-cli import` does, which shows its use",
    "evaluation.selected_run.SelectedRun": "what `pdd-cli select` does, which shows its use",
    "evaluation.sets": "where an `Evaluator`, which shows its use, takes its images from",
    "planning.clock": "what `pdd-cli plan` does, which shows its use",
    "planning.planner.Planner": "what `pdd-cli plan` does, which shows its use",
    "planning.estimate": "what `pdd-cli plan` does, which shows its use",
    "planning.evaluation": "what `pdd-cli plan` does, which shows its use",
    "stage.disk": "what `pdd-cli plan` does, which shows its use",
}
"""Classes, modules and rooms whose classes need none, each with the reason."""


def spelt_out(pattern: str) -> list[str]:
    """Every path that a pattern with braces stands for."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in product(*(p if k % 2 else [",".join(p)] for k, p in enumerate(parts)))]


def missing(paths: list[str], *folders: Path) -> list[str]:
    """The paths of which there is nothing in any of the folders."""
    every = [path for pattern in paths for path in spelt_out(pattern)]
    return [path for path in every if not any((f / path).exists() or any(f.glob(path)) for f in folders)]


@cache
def our_classes() -> dict[str, type]:
    """Every class of the package without an underscore, by the module that defines it."""
    modules = [name for _, name, _ in walk_packages(pdd_lightning.__path__, "pdd_lightning.") if "__" not in name]
    found = [(module, value) for module in modules for value in vars(import_module(module)).values()]
    mine = [(module, value) for module, value in found if inspect.isclass(value) and value.__module__ == module]
    return {f"{module}.{value.__name__}": value for module, value in mine if not value.__name__.startswith("_")}


def resolves(name: str) -> bool:
    """Whether there is what a page calls by this name."""
    if name.startswith("pdd_lightning."):
        return locate(name) is not None
    owner, member = name.split(".")
    classes = [cls for path, cls in our_classes().items() if path.endswith(f".{owner}")]
    return any(hasattr(cls, member) or any(member in get_annotations(b) for b in cls.__mro__) for cls in classes)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    text, beside = (ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent
    assert missing(re.findall(NAMED, text), ROOT) == []
    assert missing(re.findall(OF_A_ROOM, text), ROOT / "pdd_lightning", ROOT) == []
    assert [link for link in re.findall(LINK, text) if not (beside / link).exists()] == []
    assert [name for name in re.findall(MEMBER, re.sub(FENCED, "", text, flags=re.DOTALL)) if not resolves(name)] == []
    if page == "configs/README.md":
        assert missing(re.findall(OF_CONFIGS, text), beside) == []


@pytest.mark.parametrize("page", [page for page in PAGES if "```python\n" in (ROOT / page).read_text(encoding="utf-8")])
def test_the_programs_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_for_a_moment(path: str) -> DistilledSet:
        found = load(ROOT / path if (ROOT / path).exists() else path)
        return replace(found, about=replace(found.about, recipe=replace(found.about.recipe, epochs=2)))

    monkeypatch.setattr(pdd_lightning, "load", load_for_a_moment)
    monkeypatch.chdir(tmp_path)  # what is written goes there
    load(ROOT / "checkpoints/sample").export("sample.safetensors", "safetensors")  # as a reader of sharing.md has
    names: dict[str, object] = {}
    for program in re.findall(PYTHON, (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        with torch.random.fork_rng():
            exec(compile(program, page, "exec"), names)
    assert isinstance(names["network"], nn.Module)
    assert not names["network"].training


def test_a_path_that_does_not_exist_is_found() -> None:
    text = "`tests/cli/test_none.py`, configs/{smoke,none}/stage.yaml, and (examples/*_none.py)."
    assert missing(re.findall(NAMED, text), ROOT) == [
        "tests/cli/test_none.py",
        "configs/none/stage.yaml",
        "examples/*_none.py",
    ]


def test_a_name_that_does_not_exist_is_found() -> None:
    text = "`pdd_lightning.rng.generator(0)`, `Row.key`, `Subset.data`, `pdd_lightning.none`, `Row.none`, `None.key`"
    assert [name for name in re.findall(MEMBER, text) if not resolves(name)] == [
        "pdd_lightning.none",
        "Row.none",
        "None.key",
    ]


def shows_its_use(value: object) -> bool:
    return "Example:\n" in (value.__doc__ or "")


def test_public_classes_have_an_example() -> None:
    lacking = {path.partition(".")[2] for path, cls in our_classes().items() if not shows_its_use(cls)}
    excused = {name: {path for path in lacking if f"{path}.".startswith(f"{name}.")} for name in WITHOUT_EXAMPLE}
    assert lacking - set().union(*excused.values()) == set()
    assert [name for name, classes in excused.items() if not classes] == [], "a reason for what has an example"


def test_commands_have_an_example() -> None:
    assert [name for name, command in COMMANDS.items() if not shows_its_use(import_module(command.module).main)] == []
