"""The commands in the documentation work: each is run, or is marked `# not run` on its line."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import CONFIG, call

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if page.is_file()]
PROGRAMS = ("pdd-cli", "make", "python", "python3")
NOT_RUN = "# not run"
WITHOUT_CONFIGURATION = ("export",)
REPLACED = ("--config", "-c", "--run_dir", "--experts_dir")


def commands_of(text: str) -> list[str]:
    """Commands that are to be run, with continued lines joined."""
    found = []
    for block in re.findall(r"^ *```(?:bash|console)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        for raw in re.sub(r"\\\n\s*", "", block).splitlines():
            line = raw.strip().removeprefix("$ ")
            words = line.split()
            if words and words[0] in PROGRAMS and NOT_RUN not in line:
                found.append(line)
    return found


def value_of(args: list[str], option: str) -> str:
    """What the arguments give an option, or nothing."""
    pairs = [*itertools.pairwise(args), *(tuple(arg.split("=", 1)) for arg in args if "=" in arg)]
    return next((value for name, value in pairs if name == option), "")


def without_files(args: list[str]) -> list[str]:
    """The arguments without those that name a configuration or a folder."""
    kept, skip = [], False
    for arg in args:
        if not skip and arg.partition("=")[0] not in REPLACED:
            kept.append(arg)
        skip = not skip and arg in REPLACED
    return kept


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the runs of all commands, in the order of the pages: a reader has made what comes to be evaluated."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.skipif(not COMMANDS, reason="there is no page with commands")
@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{p.name}: {c[:60]}" for p, c in COMMANDS] if COMMANDS else None
)
def test_a_command_of_the_documentation(
    page: Path, command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *args = shlex.split(command, comments=True)
    if args[:2] == ["-m", "pdd_lightning"]:
        program, args = "pdd-cli", args[2:]
    if program == "make":
        if shutil.which("make") is None:
            pytest.skip("make is not installed")
        subprocess.run(["make", "-n", *args], cwd=ROOT, check=True, capture_output=True)
    elif program == "pdd-cli":
        named = [arg for arg in args if arg.endswith(".yaml")]
        assert all((ROOT / name.rpartition("=")[2]).is_file() for name in named), f"{named} must exist"
        monkeypatch.setattr(children, "call", call)
        if args[0] in WITHOUT_CONFIGURATION:
            monkeypatch.chdir(runs)
            main([str(ROOT / arg) if (ROOT / arg).exists() else arg for arg in args])
        else:
            run_pdd(args, runs)
    else:
        # The documentation speaks from the root of the repository; what is written goes elsewhere.
        line = [sys.executable, *(str(ROOT / arg) if (ROOT / arg).exists() else arg for arg in args)]
        subprocess.run(line, cwd=tmp_path, check=True, timeout=120)


def run_pdd(args: list[str], runs: Path) -> None:
    """With the micro configuration of the tests in place of the one that is named."""
    shown = not args or args[0].startswith("-") or {"--help", "-h"} & set(args)
    name = value_of(args, "--run_dir") or value_of(args, "--config")
    run_directory = runs / name.replace("/", "-")
    given = args if shown else [args[0], "--config", str(CONFIG), "--run_dir", str(run_directory)]
    try:
        main(given if shown else [*given, *without_files(args[1:])])
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    assert status == 0


def test_commands_are_found() -> None:
    text = "```bash\n$ pdd-cli fit \\\n    --config x.yaml\nmake test  # not run\n```\n```python\nmake no\n```\n"
    assert commands_of(text) == ["pdd-cli fit --config x.yaml"]
    assert without_files(["--config", "a", "--stage", "1", "--run_dir=b"]) == ["--stage", "1"]
