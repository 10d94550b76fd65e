"""What `mkdocs build` makes of the code: tables of options, examples, and pages that lie outside docs/.

MkDocs calls the functions that begin with `on_` (hooks of mkdocs.yml).
"""

import json
import re
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from inspect import isabstract, isclass, signature
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any, Final, Literal, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from pdd_lightning.cli.options import add_run_options
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.described import Described
from pdd_lightning.distilling.trainers import TRAINER_DEFAULTS
from pdd_lightning.dynamics import Dynamics
from pdd_lightning.objectives import Objective
from pdd_lightning.stage.module import StageModule

ROOT: Final = Path(__file__).parents[1]

ELSEWHERE: Final[Mapping[str, str]] = {
    "configs/README.md": "configurations.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
"""Files outside docs/ that are pages of the site."""

SHOWN: Final[Mapping[str, str]] = {"examples": "examples.md", "README.md": "index.md"}
"""Folders and files that a page of the site stands for."""

LAST: Final = "How to"
"""Where the navigation lists what mkdocs.yml does not."""

_LINK: Final = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
_MARK: Final = re.compile(r"^<!-- (\w+)(?: ([\w.]+))? -->$", re.MULTILINE)
_ROLE: Final = re.compile(r":(?:func|class|meth|attr|mod):<code>(?:[\w.]*\.)?(\w+)</code>")
_FENCED: Final = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every page of docs/ in the navigation."""
    config.nav = with_all_pages(config.nav or [], sorted(path.name for path in (ROOT / "docs").glob("*.md")))
    return config


def with_all_pages(nav: Sequence[Any], pages: Sequence[str]) -> list[Any]:
    """The navigation, with the pages that it does not name at the end of `LAST`."""
    named = set(pages_of(nav))
    rest = [page for page in pages if page not in named]
    return [{LAST: [*part[LAST], *rest]} if isinstance(part, dict) and LAST in part else part for part in nav]


def pages_of(nav: object) -> Iterator[str]:
    """Every page that a navigation names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, Mapping):
        yield from pages_of(list(nav.values()))
    elif isinstance(nav, Sequence):
        for part in nav:
            yield from pages_of(part)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in ELSEWHERE.items():
        text = relinked((ROOT / source).read_text(encoding="utf-8"), source)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what a page asks for by a comment such as `<!-- options objectives -->`."""
    made: dict[str, Callable[..., str]] = {
        "options": options_of,
        "run": run_options,
        "trainer": trainer_defaults,
        "examples": examples,
    }
    text = markdown if page.file.src_uri in ELSEWHERE.values() else relinked(markdown, f"docs/{page.file.src_uri}")
    return _MARK.sub(lambda mark: made[mark[1]](*filter(None, [mark[2]])), text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name each other by Sphinx's roles, which Markdown does not know."""
    return _ROLE.sub(r"<code>\1</code>", html)


def relinked(text: str, source: str) -> str:
    """A page whose links lead within the site.

    Args:
        text: With links to files beside it.
        source: The page's path from the repository's root.
    """
    folder = PurePosixPath(source).parent

    def target(link: re.Match[str]) -> str:
        path = normpath(folder / link[1])
        shown = next((page for part, page in SHOWN.items() if path == part or path.startswith(f"{part}/")), None)
        return ELSEWHERE.get(path) or shown or path.removeprefix("docs/")

    parts = _FENCED.split(text)  # what is shown as code is left alone
    return "".join(part if number % 2 else _LINK.sub(target, part) for number, part in enumerate(parts))


def options_of(name: str) -> str:
    """Tables of options.

    Args:
        name: A class by its import path within the package, or a package whose public classes are meant.
    """
    home, _, last = name.rpartition(".")
    if home:
        return table(getattr(import_module(f"pdd_lightning.{home}"), last))
    module = import_module(f"pdd_lightning.{name}")
    every = [getattr(module, each) for each in module.__all__]
    return "\n\n".join(f"### {cls.__name__}\n\n{about(cls)}\n\n{table(cls)}" for cls in every if selectable(cls))


def selectable(cls: object) -> bool:
    """Whether a configuration can name it by `class_path`: a class to be made, of the parts that options are of."""
    return isclass(cls) and issubclass(cls, (Described, ImageDataModule, Objective, Dynamics)) and not isabstract(cls)


def about(cls: type) -> str:
    """The first paragraphs of a class's docstring."""
    return re.split(r"\n\s*(?:Args|Attributes|Raises|Example):\n", cls.__doc__ or "")[0].replace("\n    ", "\n").strip()


def table(cls: type) -> str:
    """The options of a class, as the command line reads them from its signature and docstring."""
    parser = ArgumentParser()
    parser.add_class_arguments(cls)
    return _rows(list(_actions(parser).values()))


def run_options() -> str:
    """The options that belong to no part of a run."""
    parser = LightningArgumentParser()
    parser.add_class_arguments(StageModule, "model")  # which some of them are handed to
    own = set(_actions(parser))
    add_run_options(parser)
    return _rows([action for dest, action in _actions(parser).items() if dest not in own and "." not in dest])


def trainer_defaults() -> str:
    """The options of the trainer whose defaults are not Lightning's, as a list."""
    return "\n".join(f"- `trainer.{name}`: `{_value(value)}`" for name, value in TRAINER_DEFAULTS.items())


def _actions(parser: ArgumentParser) -> dict[str, Any]:
    """A parser's options by name, less those that show a help or stand for a whole section."""
    shown = [action for action in parser._actions if SUPPRESS not in (action.default, action.help)]
    return {action.dest: action for action in shown if hasattr(action, "_typehint") or action.type is not None}


def _rows(actions: Sequence[Any]) -> str:
    cells = [
        (f"`{each.dest}`", _kind(getattr(each, "_typehint", each.type)), _default(each), _cell(each.help))
        for each in actions
    ]
    return _table(cells) if cells else "No options."


def examples() -> str:
    """The programs and configurations of examples/, each under its name."""
    folder = ROOT / "examples"
    return "\n\n".join(f"## {path.relative_to(folder)}\n\n{_shown(path)}" for path in sorted(folder.rglob("*.*")))


def _shown(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return f"````{ {'.py': 'python', '.yaml': 'yaml'}.get(path.suffix, 'text') }\n{text}\n````"
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(source if kind == "markdown" else f"````python\n{source}\n````" for kind, source in cells)


def _table(cells: Sequence[tuple[str, str, str, str]]) -> str:
    lines = [("option", "type", "default", "meaning"), ("---",) * 4, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _kind(hint: Any) -> str:
    """A type as people write it, with the choices of a Literal."""
    return f"`{_written(hint)}`"  # in which a bar starts no new cell


def _written(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(str(value) for value in get_args(hint))
    if hint is None or hint is type(None):
        return "null"
    inner = [_written(part) for part in get_args(hint) if part is not Ellipsis]
    name = getattr(hint, "__name__", str(hint))
    if not inner:
        return str(name)
    return f"{name}[{', '.join(inner)}]" if name in ("list", "dict", "tuple") else " | ".join(inner)


def _default(action: Any) -> str:
    return "required" if action.required else f"`{_value(action.default)}`"


def _value(value: Any) -> str:
    """A default as YAML has it; a part with the options that are not the class's own defaults."""
    if isinstance(value, (Mapping, Namespace)) and "class_path" in value:
        home, _, name = value["class_path"].rpartition(".")
        own = signature(getattr(import_module(home), name)).parameters
        given = {key: v for key, v in dict(value["init_args"]).items() if own[key].default != v}
        return str(name) + (f"({', '.join(f'{key}={_value(v)}' for key, v in given.items())})" if given else "")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, (bool, type(None))) else str(value)
