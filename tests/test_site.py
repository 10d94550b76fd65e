"""The site that `make docs` makes of docs/."""

import re
import subprocess
import sys
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from pdd_lightning import objectives
from pdd_lightning.stage.options import StageOptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

FETCHED = r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?://[^\">\s]+)"
"""What a reader's browser would fetch from elsewhere."""


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Commands of other tests have told jsonargparse to spell out the recipe's options; the site is built by itself.
    monkeypatch.setattr("jsonargparse._common.subclasses_disabled_types", set())
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def navigation() -> object:
    # Without its theme's own tags: what is read here has none.
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def test_what_the_navigation_names_exists(generate: ModuleType) -> None:
    pages = list(generate.pages_of(navigation()))
    assert len(pages) == len(set(pages)) > 10
    assert [page for page in pages if not (DOCS / page).is_file() and page not in generate.ELSEWHERE.values()] == []
    assert [source for source in generate.ELSEWHERE if not (ROOT / source).is_file()] == []


def test_every_page_is_in_the_navigation(generate: ModuleType) -> None:
    pages = {page.name for page in DOCS.glob("*.md")} | {"new.md"}
    nav = generate.with_all_pages(navigation(), sorted(pages))
    assert pages <= set(generate.pages_of(nav))
    how_to = next(part["How to"] for part in nav if "How to" in part)
    assert how_to[-1] == "new.md"


def test_links_between_pages_lead_to_pages(generate: ModuleType) -> None:
    known = {
        *generate.pages_of(navigation()),
        *(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*") if p.is_file()),
    }
    for source in [*generate.ELSEWHERE, *(f"docs/{page.name}" for page in DOCS.glob("*.md"))]:
        text = generate.relinked((ROOT / source).read_text(encoding="utf-8"), source)
        assert [link for link in re.findall(r"\]\(([^)#:\s]+)[)#]", text) if link not in known] == [], source


def test_links_are_turned_to_the_site(generate: ModuleType) -> None:
    text = (
        "[a](../configs/README.md#sections) [b](../examples/extending) [c](results.md) `x`\n```\n[d](../configs)\n```\n"
    )
    assert generate.relinked(text, "docs/index.md") == (
        "[a](configurations.md#sections) [b](examples.md) [c](results.md) `x`\n```\n[d](../configs)\n```\n"
    )
    assert generate.relinked("[a](../docs/results.md)", "configs/README.md") == "[a](results.md)"


def test_every_option_has_a_row(generate: ModuleType) -> None:
    table = generate.options_of("stage.options.StageOptions")
    assert [option.name for option in fields(StageOptions) if f"| `{option.name}` |" not in table] == []
    assert "| `learning_rate` | `float` | `0.01` | Initial value of the learned learning rate alpha. |" in table
    assert "==SUPPRESS==" not in table


def test_parts_are_listed_with_the_options_that_they_inherit(generate: ModuleType) -> None:
    text = generate.options_of("objectives")
    classes = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert classes == sorted(set(objectives.__all__) - {"Objective", "SyntheticSide", "Work"})
    assert "| `epochs` |" in generate.options_of("training.Recipe")


def test_marks_of_the_pages_are_known(generate: ModuleType) -> None:
    marks = re.findall(r"^<!-- (\w+)", "\n".join(page.read_text() for page in DOCS.glob("*.md")), re.MULTILINE)
    assert {"options", "run", "trainer", "examples"} == set(marks)
    assert "| `checkpoint_every` | `int` | `100` |" in generate.run_options()
    assert "- `trainer.log_every_n_steps`: `10`" in generate.trainer_defaults()
    assert "## use_distilled_set.py" in generate.examples()


@pytest.mark.parametrize("picture", sorted(path.name for path in (DOCS / "pictures").glob("*.svg")))
def test_a_picture_is_shown_and_has_colours_for_the_dark(picture: str) -> None:
    text = (DOCS / "pictures" / picture).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "<title>" in text
    assert any(f"](pictures/{picture})" in page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))


def test_every_room_is_in_the_picture() -> None:
    text = (DOCS / "pictures" / "rooms.svg").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (ROOT / "pdd_lightning").glob("*/__init__.py")]
    assert [room for room in rooms if f">{room}</text>" not in text] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} <= pages.keys()
    assert {url for text in pages.values() for url in re.findall(FETCHED, text)} == set()
    assert "syn_batch_size" in pages["options"]
    assert 'id="pdd_lightning.distilled.load.load"' in pages["python"]
    assert ":class:" not in pages["python"]
