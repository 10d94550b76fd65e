"""Help, the printed configuration, and the ways to write an option."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import yaml
from commandline import CONFIG, call

from pdd_lightning.cli import children, commands
from pdd_lightning.cli.commands import COMMANDS, Command
from pdd_lightning.cli.main import main


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    try:
        main(args)
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    assert status == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_the_overview_lists_every_command(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, *args).splitlines()
    for name, command in COMMANDS.items():
        assert sum(line.split() == [name, *command.help.split()] for line in lines) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_file_and_a_row(name: str) -> None:
    assert COMMANDS[name].module == f"pdd_lightning.cli.{name}"
    assert callable(COMMANDS[name].load())


def test_no_command_lacks_its_row() -> None:
    files = [path.stem for path in Path(commands.__file__).parent.glob("*.py") if "\ndef main(" in path.read_text()]
    assert sorted(files) == sorted([*COMMANDS, "main"])


def test_a_new_command_is_found_by_its_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[Sequence[str]] = []

    def echo(args: Sequence[str]) -> int:
        given.append(args)
        return 3

    monkeypatch.setitem(sys.modules, "echo", cast(ModuleType, SimpleNamespace(main=echo)))
    monkeypatch.setitem(COMMANDS, "echo", Command("echo", "Say it again."))
    assert ["echo", "Say", "it", "again."] in [line.split() for line in printed(capsys, "--help").splitlines()]
    with pytest.raises(SystemExit) as exit_:
        main(["echo", "a", "--b"])
    assert (exit_.value.code, given) == (3, [["a", "--b"]])


@pytest.mark.parametrize("args", [("--config", str(CONFIG), "fit"), ("--run_dir=x",)])
def test_the_command_comes_first(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert exit_.value.code == 2
    assert (
        capsys.readouterr().err
        == f"pdd-cli: error: {args[0]}: the command comes first, as in `pdd-cli fit --config FILE`\n"
    )


def test_no_option_at_all_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit"])
    assert exit_.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("pdd-cli: error: --model.network, --model.objective, --model.dynamics, --data: required")


@pytest.mark.parametrize("command", ["fit", "evaluate", "select", "import", "plan"])
def test_one_file_serves_every_command(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sections of other commands are accepted, and kept."""
    path = tmp_path / "all.yaml"
    path.write_text("select: {ipc: 3}\nplan: {seconds: 7.0}\nevaluation: {seeds: 4}\ncheckpoint_minutes: 2.5\n")
    monkeypatch.setattr(children, "call", call)
    shown = yaml.safe_load(printed(capsys, command, "--config", str(CONFIG), "--config", str(path), "--print_config"))
    found = (
        shown["select"]["ipc"],
        shown["plan"]["seconds"],
        shown["evaluation"]["seeds"],
        shown["checkpoint_minutes"],
    )
    assert found == (3, 7.0, 4, 2.5)


def test_the_release_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == f"pdd-cli {version('pdd_lightning')}\n"


def test_a_run_of_nothing_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run"])
    assert exit_.value.code == 2
    assert "run needs a configuration" in capsys.readouterr().err


def test_the_overview_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['pdd-cli']; from pdd_lightning.__main__ import main; main(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", ["fit", "run", "plan"])
def test_a_file_that_is_missing_is_told_without_torch(command: str) -> None:
    code = (
        f"import sys; sys.argv = ['pdd-cli', '{command}', '--config', 'nope.yaml']\n"
        "from pdd_lightning.__main__ import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pdd-cli: error: --config=nope.yaml: cannot be read (No such file or directory); name an existing YAML file\n"
    )


def test_each_command_has_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "call", call)
    assert "every stage that is not complete" in " ".join(printed(capsys, "run", "--help").split())
    for command in ("fit", "evaluate", "select", "import", "plan"):
        shown = printed(capsys, command, "--help")
        assert ("Distil the next unfinished stage" in shown) == (command == "fit")
        assert "rehearsal" not in shown  # of a plan, which nobody chooses
        assert shown.startswith(f"usage: pdd-cli {command} ")
        assert not any(option in shown for option in ("--ckpt_path", "--weights_only", "--optimizer", "--model.model"))
        for option in ("--model.ipc", "--run_dir", "--stage", "--evaluation.seeds", "--trainer.devices"):
            assert option in shown


@pytest.mark.parametrize(
    "args",
    [
        ("--model.network", "ConvNet", "--model.network.init_args.width", "8"),
        ("--model.network", "ConvNet", "--model.network.width", "8"),
        ("--model.network.width", "8"),
        ("--model.network.width=8",),
        ("--model.network", "{class_path: pdd_lightning.networks.ConvNet, init_args: {width: 8}}"),
    ],
)
def test_ways_to_write_an_option(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    shown = yaml.safe_load(printed(capsys, "fit", "--config", str(CONFIG), *args, "--print_config"))
    assert shown["model"]["network"]["class_path"] == "pdd_lightning.networks.ConvNet"
    assert shown["model"]["network"]["init_args"]["width"] == 8


def test_a_section_may_lie_in_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named from where the file lies that names it."""
    (tmp_path / "recipe.yaml").write_text("epochs: 4")
    (tmp_path / "mine.yaml").write_text("model: {recipe: recipe.yaml}")
    files = ("--config", str(CONFIG), "--config", str(tmp_path / "mine.yaml"))
    assert yaml.safe_load(printed(capsys, "fit", *files, "--print_config"))["model"]["recipe"]["epochs"] == 4


def test_a_printed_configuration_can_be_used(
    tmp_path: Path, first_stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both what --print_config shows and the config.yaml that a stage keeps."""
    path = tmp_path / "printed.yaml"
    path.write_text(printed(capsys, "fit", "--config", str(CONFIG), "--print_config"))
    for config in (path, first_stage / "stage_01" / "config.yaml"):
        main(["fit", "--config", str(config), "--run_dir", str(first_stage), "--stage", "1"])
        assert "nothing to do" in capsys.readouterr().err


def test_a_stage_does_not_belong_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--config", str(CONFIG), "--stage=1"])
    assert exit_.value.code == 2
    assert "--stage belongs to `pdd-cli fit`" in capsys.readouterr().err


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fti"])
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    *most, last = COMMANDS
    assert f"fti: there is no such command; the commands are {', '.join(most)} and {last}" in told


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pdd_lightning.stage.module import StageModule

    def fault(self: StageModule, data: str) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(StageModule, "verify_finished", fault)
    with pytest.raises(KeyError, match="a fault"):
        main(["fit", "--config", str(CONFIG), "--run_dir", str(tmp_path / "run")])
