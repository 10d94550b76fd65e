"""Help, the printed configuration, and the ways to write an option."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import yaml
from commandline import CONFIG, call

from pdd_lightning.cli import children, commands
from pdd_lightning.cli.catalogue import Catalogue, catalogue
from pdd_lightning.cli.commands import COMMANDS, Command
from pdd_lightning.cli.inventory import inventory
from pdd_lightning.cli.main import main
from pdd_lightning.networks import ConvNet

CONFIGURED = [name for name, command in COMMANDS.items() if command.configured]


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


QUICK = {
    "run --config nope.yaml": "--config=nope.yaml: cannot be read (No such file or directory); name an existing YAML "
    "file\n",
    "plan --config nope.yaml": "--config=nope.yaml: cannot be read",
    f"fit --config {CONFIG} --model.iteration 5": "--model.iteration: there is no such option; did you mean "
    "--model.iterations?\n",
    f"run --config {CONFIG} --model.dynamics.expert 5": "--model.dynamics.expert: ExpertTrajectories has no such "
    "option; did you mean --model.dynamics.experts? It has ",
    "evalute": "evalute: there is no such command; did you mean evaluate?",
    "fit --help modle": "--help modle: there is no part",
    "fit --help": None,
    "run --help trainer": None,
    "plan --help ConvNet": None,
}


@pytest.mark.parametrize("line", QUICK)
def test_what_is_told_without_torch(line: str) -> None:
    code = (
        f"import sys; sys.argv = ['pdd-cli', *{line.split()!r}]\n"
        "from pdd_lightning.__main__ import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'lightning', 'numpy', 'jsonargparse'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    expected = QUICK[line]
    assert (done.returncode, bool(done.stdout)) == ((0, True) if expected is None else (2, False)), done.stderr
    assert done.stderr.startswith(f"pdd-cli: error: {expected}") if expected else not done.stderr


@pytest.mark.parametrize("command", CONFIGURED)
def test_help_is_two_screens(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = printed(capsys, command, "--config", "mine.yaml", "-h")
    lines = shown.splitlines()
    call = "import FILE ..." if command == "import" else command
    assert lines[0] == f"usage: pdd-cli {call} --config FILE [--OPTION VALUE ...]"
    assert lines[2] == COMMANDS[command].help
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100
    assert ("--stage " in shown) == (command != "run")
    assert "  --model.ipc                  Images per class of every stage, or one number for each stage [10]" in lines
    assert "Linked" not in shown


@pytest.mark.parametrize("command", ["fit", "select", "plan", "import"])
def test_help_leaves_out_no_option_of_ours(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is of another command is a line; what is told by another section is one too."""
    monkeypatch.setenv("COLUMNS", "100")
    lines = printed(capsys, command, "--help").splitlines()
    rows = [line.split()[0] for line in lines if line.startswith("  --") and not line.startswith("  --help")]
    own = COMMANDS[command].section
    folded = ["evaluation.full", *({"select", "imported", "plan"} - {own})]
    left_out = ("trainer", "seed_e", "imported.files", *(f"{name}." for name in folded))
    ours = [name for name in catalogue().options if not name.startswith(left_out)]
    expected = [f"--{name}".replace("--imported.", "--") for name in ours] + [f"--{name}.OPTION" for name in folded]
    trainer = [row for row in rows if row.startswith("--trainer.")]
    assert sorted(rows) == sorted(["--config", "--print_config", *trainer, *expected])
    assert {row.removeprefix("--") for row in trainer} <= catalogue().options.keys()
    # Every option is told by words of its own, in one line; names of classes and of baselines may need another.
    assert all(len(line.split()) > 2 for line in lines if line.startswith("  --"))
    assert sum(line.startswith(" " * 20) for line in lines) <= 3


def test_help_fits_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    for args in (("--help", "model"), ("--help", "ConvNet"), ("--help", "trainer")):
        assert max(map(len, printed(capsys, "fit", *args).splitlines())) <= 72


PAGES = {
    "run": (["--run_dir\n", "--rebuild\n"], ["--model.ipc", "--trainer", "--seed_everything"]),
    "model": (["--model.ipc\n", "--model.recipe.epochs\n", "Null does so"], ["--run_dir\n", "--data"]),
    "model.recipe": (["--model.recipe.epochs\n    Passes over the set.\n    integer; default: 300\n"], ["--model.ipc"]),
    "model.objective": (["required", "TrajectoryMatching: Distance between"], ["syn_steps", "--model.dynamics"]),
    "model.optimizer": (["sgd | adam; default: sgd"], ["--model.ipc"]),
    "data": (["--data\n", "DigitsData: 1,797 grey digits"], ["--model"]),
    "evaluation": (["--evaluation.full.epochs\n", "--evaluation.fresh\n"], ["--model", "--plan"]),
    "plan": (["--plan.seconds\n"], ["--select"]),
    "trainer": (["--trainer.max_epochs\n", "--trainer.devices\n"], ["--model"]),
    "TrajectoryMatching": (["--model.objective.syn_steps\n    Synthetic steps N.\n"], ["--model.ipc", "Example"]),
    "model.objective.TrajectoryMatching": (["--model.objective.syn_steps\n"], ["--model.ipc"]),
    "pdd_lightning.networks.ConvNet": (["--model.network.width\n", "Also for --evaluation.networks."], ["--data"]),
    "evaluation.networks.ConvNet": (["--evaluation.networks.width\n"], ["--model.network.width"]),
    "NoAugmentation": (["It has no options"], ["Example"]),
}


@pytest.mark.parametrize("topic", PAGES)
def test_help_of_a_part(topic: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = printed(capsys, "run", "--help", topic)
    there, absent = PAGES[topic]
    assert all(text in shown for text in there), shown
    assert not any(text in shown for text in absent), shown
    assert shown == printed(capsys, "plan", f"--help={topic}", "--config", "x.yaml")


def test_help_of_everything_is_the_parsers(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "select", "--help", "all")
    assert shown.startswith("usage: pdd-cli select ")
    assert not any(option in shown for option in ("--ckpt_path", "--weights_only", "--optimizer", "--model.model"))
    for option in ("--model.ipc", "--run_dir", "--stage", "--evaluation.seeds", "--trainer.devices"):
        assert f"  {option}" in shown


@pytest.mark.parametrize("name", ["CSVLogger", "trainer.logger.CSVLogger", "lightning.pytorch.loggers.CSVLogger"])
def test_help_of_a_class_of_lightnings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--trainer.logger.save_dir" in printed(capsys, "fit", "--help", name)


def test_help_of_a_class_as_the_parser_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "fit", "--model.objective.help", "TrajectoryMatching")
    assert "--model.objective.syn_steps SYN_STEPS" in shown


@pytest.mark.parametrize(
    ("topic", "end"),
    [
        ("modle", "did you mean model?"),
        ("TrajectoryMatchin", "did you mean TrajectoryMatching?"),
        ("ipc", "did you mean model.ipc?"),
        ("data.ConvNett", "did you mean ConvNet?"),
        ("xyzzy", "`pdd-cli fit --help` lists them"),
    ],
)
def test_help_of_nothing_is_a_mistake(topic: str, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--help", topic])
    told = capsys.readouterr()
    assert (exit_.value.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert end in told.err


def test_what_help_tells_is_what_the_parser_knows() -> None:
    """`make options` writes the file anew."""
    live, kept = inventory(), catalogue()
    if not kept.knows_trainer:  # another release of Lightning
        live, kept = (
            replace(each, lightning="", options={k: v for k, v in each.options.items() if not k.startswith("trainer")})
            for each in (live, kept)
        )
    assert kept.to_json() == Catalogue.from_json(live.to_json()).to_json()
    assert kept.current


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
    module, _, name = shown["model"]["network"]["class_path"].rpartition(".")
    assert getattr(import_module(module), name) is ConvNet
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
    assert "fti: there is no such command; did you mean fit? The commands are init, run, fit" in told


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pdd_lightning.stage.module import StageModule

    def fault(self: StageModule, data: str) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(StageModule, "verify_finished", fault)
    with pytest.raises(KeyError, match="a fault"):
        main(["fit", "--config", str(CONFIG), "--run_dir", str(tmp_path / "run")])
