"""What Lightning refuses, sooner or later, is one line before the first step; what it gets wrong is set right."""

from pathlib import Path

import pytest
from commandline import Fit, Refused
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pdd_lightning.cli.main import main
from pdd_lightning.cli.trainer import make_trainer
from pdd_lightning.stage.module import StageModule

MISTAKES = {
    "a logger that is not installed": (["logger", "CometLogger"], ["--trainer.logger: CometLogger: ", "comet-ml"]),
    "a misspelt logger": (["logger", "CSVLoger"], ["--trainer.logger=CSVLoger: ", "did you mean CSVLogger?"]),
    "a logger from nowhere": (
        ["logger", "nosuch.Logger"],
        ["--trainer.logger=nosuch.Logger: there is no module nosuch"],
    ),
    "a misspelt callback": (["callbacks", "Timmer"], ["--trainer.callbacks=Timmer: ", "mean Timer?", "of lightning"]),
    "an option of a callback": (
        ["callbacks", "ModelCheckpoint", "callbacks.save_top_k", "-5"],
        ["--trainer.callbacks: ModelCheckpoint: Invalid value for save_top_k=-5"],
    ),
    "another option of a callback": (
        ["callbacks", "EarlyStopping", "callbacks.monitor", "loss", "callbacks.mode", "smallest"],
        ["--trainer.callbacks: EarlyStopping: `mode` can be min, max, got smallest"],
    ),
    "one of several callbacks": (
        ["callbacks", "[{class_path: Timer}, {class_path: ModelCheckpoint, init_args: {save_top_k: -5}}]"],
        ["--trainer.callbacks: ModelCheckpoint: Invalid value for save_top_k=-5"],
    ),
    "what is not logged": (
        ["callbacks", "EarlyStopping", "callbacks.monitor", "val_loss"],
        ["--trainer.callbacks: EarlyStopping.monitor=val_loss: ", "choose loss or alpha"],
    ),
    "what is not logged, kept": (
        ["callbacks", "ModelCheckpoint", "callbacks.monitor", "val_loss"],
        ["--trainer.callbacks: ModelCheckpoint.monitor=val_loss: ", "choose loss or alpha"],
    ),
    "another bar": (["callbacks", "RichProgressBar"], ["--trainer.callbacks: RichProgressBar: ", "leave this one out"]),
    "callbacks that do not fit": (
        ["callbacks", "LearningRateMonitor", "logger", "false"],
        ["--trainer.callbacks: LearningRateMonitor: Cannot use", "with `Trainer` that has no logger"],
    ),
    "an option that is looked at late": (
        ["callbacks", "ModelSummary", "callbacks.max_depth", "-7"],
        ["--trainer.callbacks: ModelSummary: `max_depth` can be -1, 0 or > 0, got -7"],
    ),
    "checkpoints in a file": (
        ["callbacks", "ModelCheckpoint", "callbacks.dirpath", "pyproject.toml"],
        ["--trainer.callbacks: ModelCheckpoint.dirpath: cannot write to ", "pyproject.toml is not a folder"],
    ),
    "a profile of the system": (
        ["profiler", "AdvancedProfiler", "profiler.dirpath", "/proc/x", "profiler.filename", "p"],
        ["--trainer.profiler: AdvancedProfiler.dirpath: cannot write to /proc/x"],
    ),
    "a log in a file": (
        ["logger", "TensorBoardLogger", "logger.save_dir", "pyproject.toml"],
        ["--trainer.logger: TensorBoardLogger.save_dir: cannot write to ", "choose another folder"],
    ),
    "a file for all": (
        ["default_root_dir", "pyproject.toml/x"],
        ["--trainer.default_root_dir: cannot write to pyproject.toml/x (", "choose another folder"],
    ),
    "no interval of writing": (
        ["logger", "CSVLogger", "logger.save_dir", ".", "logger.flush_logs_every_n_steps", "0"],
        ["--trainer.logger: CSVLogger.flush_logs_every_n_steps must be at least 1, got 0"],
    ),
    "a plugin": (
        ["plugins", "BitsandbytesPrecision", "plugins.mode", "nf4"],
        ["--trainer.plugins: BitsandbytesPrecision: Requirement 'bitsandbytes' not met"],
    ),
    "an accelerator": (["accelerator", "tpu"], ["--trainer.accelerator=tpu: Requirement 'torch_xla"]),
    "a profiler": (["profiler", "nosuch"], ["--trainer.profiler=nosuch: "]),
    "a time": (["max_time", "12:30"], ["--trainer.max_time=12:30: ", "DD:HH:MM:SS"]),
    "no machine": (["num_nodes", "0"], ["--trainer.num_nodes=0: "]),
    "barebones": (["barebones", "true"], ["--trainer.barebones=true: ", "leave it out"]),
    "no interval of logging": (["log_every_n_steps", "0"], ["--trainer.log_every_n_steps must be at least 1, got 0"]),
    "spawn": (["strategy", "ddp_spawn"], ["--trainer.strategy: ", "ddp_spawn is not; choose --trainer.strategy ddp"]),
    "fork": (["strategy", "ddp_fork", "devices", "2"], ["--trainer.strategy: ", "ddp_fork is not"]),
    "notebook": (["strategy", "ddp_notebook"], ["--trainer.strategy: ", "choose --trainer.strategy ddp"]),
    "spawn by its class": (
        ["strategy", "DDPStrategy", "strategy.start_method", "spawn"],
        ["--trainer.strategy: ", "ddp_spawn is not"],
    ),
    "shards": (["strategy", "fsdp"], ["--trainer.strategy=fsdp: "]),
}


def options(words: list[str]) -> list[str]:
    return [f"--trainer.{word}" if index % 2 == 0 else word for index, word in enumerate(words)]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_trainer_is_one_line(mistake: str, refused: Refused, run: Path) -> None:
    words, expected = MISTAKES[mistake]
    line = refused(*options(words))
    assert all(word in line for word in expected), line
    assert " object at 0x" not in line
    if mistake not in ("callbacks that do not fit", "an option that is looked at late"):
        assert not run.exists()
    assert not list(run.glob("stage_01/checkpoints/*"))


@pytest.mark.parametrize(
    "words",
    [
        ["BackboneFinetuning"],
        ["BatchSizeFinder"],
        ["EMAWeightAveraging"],
        ["GradientAccumulationScheduler", "callbacks.scheduling", "{0: 2}"],
        ["LearningRateFinder"],
        ["ModelPruning", "callbacks.pruning_fn", "l1_unstructured"],
        ["StochasticWeightAveraging", "callbacks.swa_lrs", "0.1"],
        ["WeightAveraging"],
    ],
)
def test_what_would_change_the_training_is_refused(words: list[str], refused: Refused, run: Path) -> None:
    line = refused(*options(["callbacks", *words]))
    assert f"--trainer.callbacks: {words[0]}: this could change the result without being recorded" in line
    assert not run.exists()


@pytest.mark.parametrize("given", [[], ["callbacks.duration", "{hours: 1}", "callbacks.interval", "epoch"]])
def test_a_timer_works_and_is_recorded(given: list[str], fit: Fit, run: Path) -> None:
    """The default of its interval is a member of an enumeration, where the option is text."""
    fit(*options(["callbacks", "Timer", *given]))
    assert (run / "stage_01" / "stage.json").is_file()
    text = (run / "stage_01" / "config.yaml").read_text()
    assert f"interval: {'epoch' if given else 'step'}" in text


class Own(Callback):
    """Logs a number of its own at every step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        pl_module.log("mine", 1.0)


class Broken(Callback):
    def __init__(self) -> None:
        raise ValueError("a fault of the program")


class Late(ModelSummary):
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        raise ValueError("a fault of the program")


def test_a_callback_may_follow_what_another_one_logs(fit: Fit, run: Path) -> None:
    stopping = "{class_path: EarlyStopping, init_args: {monitor: mine}}"
    fit("--trainer.callbacks", f"[{{class_path: {__name__}.Own}}, {stopping}]")
    assert (run / "stage_01" / "stage.json").is_file()


@pytest.mark.parametrize("name", ["Broken", "Late"])
def test_a_fault_of_ones_own_class_keeps_its_traceback(name: str, fit: Fit) -> None:
    with pytest.raises(ValueError, match=r"^a fault of the program$") as raised:
        fit("--trainer.callbacks", f"{__name__}.{name}")
    assert raised.traceback


def test_a_fault_of_ours_within_a_part_keeps_its_traceback(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary counts the parameters of the stage."""

    def fail(self: StageModule) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(StageModule, "named_children", fail)
    with pytest.raises(ValueError, match=r"^a fault of ours$"):
        fit("--trainer.callbacks", "ModelSummary")


class Ours(DDPStrategy):
    pass


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true", Ours()])
def test_strategies_of_one_process_for_each_device(strategy: str | Ours) -> None:
    made = make_trainer({"accelerator": "cpu", "strategy": strategy, "logger": False}, wait_minutes=1).strategy
    assert isinstance(made, SingleDeviceStrategy if strategy == "auto" else DDPStrategy)


def test_a_short_stage_is_logged(
    fit: Fit, run: Path, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a bar that is asked for is the stage's own, not Lightning's, which counts to epoch -2."""
    fit("--model.iterations", "4", "--trainer.enable_progress_bar", "true")
    assert not [each for each in recwarn if "logging interval" in str(each.message)]
    events = EventAccumulator(str(run / "tensorboard" / "stage_01"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [3]
    printed = capsys.readouterr()
    assert "Epoch" not in printed.out + printed.err


JOB = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    "job",
    [
        {"SLURM_JOB_NAME": "train"},
        {"SLURM_JOB_NAME": "bash"},
        {"SLURM_JOB_NAME": "interactive", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"},
    ],
)
def test_one_device_in_an_allocation(job: dict[str, str], fit: Fit, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**JOB, **job}.items():
        monkeypatch.setenv(name, value)
    fit("--trainer.max_steps", "1")
    assert list((run / "stage_01" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"SLURM_PROCID": "2"}, ["--trainer.devices: srun started 4 tasks", "ask for 1", "--ntasks=1"]),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}, ["--trainer.devices: srun started 4 tasks"]),
        ({"SLURM_PROCID": "1", "SLURM_JOB_NAME": "bash"}, ["SLURM_JOB_NAME=bash: the 4 tasks", "srun --job-name"]),
    ],
)
def test_tasks_that_would_not_work_together(
    job: dict[str, str], words: list[str], refused: Refused, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**JOB, **job}.items():
        monkeypatch.setenv(name, value)
    line = refused()
    assert all(word in line for word in words), line
    assert not run.exists()


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({**JOB, "SLURM_NTASKS": "abc", "SLURM_PROCID": "x"}, "SLURM_NTASKS=abc: "),
        ({**JOB, "SLURM_PROCID": "x"}, "SLURM_PROCID=x: "),
        ({"LOCAL_RANK": "zz", "NODE_RANK": "1"}, "LOCAL_RANK=zz: "),
        ({"RANK": ""}, "RANK=: "),
        ({"NODE_RANK": "-1"}, "NODE_RANK=-1: "),
    ],
)
def test_a_rank_that_is_no_number(
    variables: dict[str, str], named: str, refused: Refused, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = refused()
    assert f"error: {named}" in line
    assert f"`unset {named.partition('=')[0]}`" in line
    assert not run.exists()


@pytest.mark.parametrize("port", ["abc", "", "0", "70000", "tcp://10.0.0.1:80"])
def test_a_port_that_is_none(port: str, refused: Refused, fit: Fit, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    for several in (["num_nodes", "2"], ["devices", "2", "strategy", "ddp"]):
        line = refused(*options(several))
        assert f"error: MASTER_PORT={port}: this environment variable must be a port" in line
        assert not run.exists()
    fit("--trainer.max_steps", "0")  # one process looks for none


def test_what_lightning_cannot_start_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes --ntasks-per-node only."""
    for name, value in {**JOB, "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    line = refused("--trainer.devices", "4", "--trainer.strategy", "ddp")
    assert "--trainer: You set `--ntasks=4` in your SLURM bash script" in line


def test_every_command_refuses_alike(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "select", "plan"):
        with pytest.raises(SystemExit, match="2"):
            main(
                [command, "--config", "configs/smoke/stage.yaml", "--run_dir", str(run), "--trainer.strategy=ddp_fork"]
            )
        assert "error: --trainer.strategy: " in capsys.readouterr().err
