"""What progress says in a log, on a terminal, and where the work is short."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from pdd_lightning.progress import Progress, announced, track


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def work(self, count: int, seconds: float) -> Iterator[int]:
        """Items that each take a while to make."""
        for item in range(count):
            self.now += seconds
            yield item


class Log:
    """A console that is a file, as under a batch system."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


def test_short_work_leaves_the_log_empty(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress:
        for _ in range(20):
            assert list(progress.track(clock.work(29, 0.1), description="short")) == list(range(29))
            clock.now += 100  # a pause between two pieces of work is no reason for a line
    assert log.lines == []


def test_work_of_a_few_seconds_leaves_one_line(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress:
        list(progress.track(clock.work(8, 0.5), description="[a] few", total=8))
    assert log.lines == ["[a] few 8/8 in 4.0 s, 2 it/s"]


def test_a_line_every_ten_seconds(clock: Clock, log: Log) -> None:
    description = "a description that makes lines longer than the eighty columns that rich would assume here"
    with Progress(console=log.console, clock=clock) as progress:
        list(progress.track(clock.work(64, 0.5), description=description, total=64))
    assert log.lines == [
        f"{description} 20/64, 2 it/s, 22.0 s left",
        f"{description} 40/64, 2 it/s, 12.0 s left",
        f"{description} 60/64, 2 it/s, 2.0 s left",
        f"{description} 64/64 in 32.0 s, 2 it/s",
    ]


def test_nested_work_shares_the_lines(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress:
        for _ in progress.track(range(3), description="stage"):
            list(progress.track(clock.work(6, 1.0), description="step", total=6))
    assert log.lines == ["stage 1/3 | step 4/6, 1 it/s, 2.0 s left", "stage 3/3 in 18.0 s, 0.167 it/s"]


def test_unknown_total_and_steps_of_several(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress, progress.task("images") as task:
        clock.now += 10
        task.advance(5000)
    assert log.lines == ["images 5000, 500 it/s", "images 5000 in 10.0 s, 500 it/s"]


def test_what_may_take_long_is_announced(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress:
        for _ in progress.track(range(1), description="outer"):
            with announced("the first step"):
                clock.now += 1.0
    assert log.lines == ["outer 0/1 | the first step"]


def test_work_that_fails_or_is_left_is_not_called_finished(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress:
        for item in progress.track(clock.work(9, 1.0), description="left"):
            if item == 5:
                break
        with pytest.raises(ZeroDivisionError):
            list(progress.track((1 // (3 - item) for item in clock.work(9, 2.0)), description="failed"))
        list(progress.track(clock.work(4, 1.0), description="next"))
    assert log.lines == ["next 4 in 4.0 s, 1 it/s"]


def test_disabled_says_nothing_but_yields(clock: Clock, log: Log) -> None:
    with Progress(enabled=False, console=log.console, clock=clock) as progress:
        assert len(list(progress.track(clock.work(50, 1.0), description="quiet"))) == 50
        with progress.task("quiet") as task:
            task.advance(3)
        assert task.done == 3
    with Progress(console=log.console, clock=clock):
        assert len(list(track(clock.work(50, 1.0), description="quiet", enabled=False))) == 50
    assert log.lines == []


def test_track_takes_part_in_the_enclosing_display(clock: Clock, log: Log) -> None:
    with Progress(console=log.console, clock=clock) as progress, progress.task("run", 1):
        list(track(clock.work(10, 1.0), description="steps", total=10))
    assert log.lines == ["run 0/1 | steps 10/10, 1 it/s, 0.0 s left", "run 0/1 in 10.0 s, 0 it/s"]


def test_track_alone_is_quiet_about_quick_work(capfd: pytest.CaptureFixture[str]) -> None:
    assert [x + y for x in track([1, 2], description="x") for y in track([10], description="y")] == [11, 12]
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_terminal_shows_nested_bars_and_keeps_the_outer_one() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True, width=100, legacy_windows=False)
    with Progress(console=console) as progress:
        for _ in progress.track([1, 2], description="outer [x]"):
            for _ in track([1, 2, 3], description="inner"):
                pass
    last = file.getvalue().rsplit("outer [x]", 1)[1]
    assert "2/2" in last
    assert "inner" not in last
    with Progress(console=Log().console):  # the terminal's display was given back
        pass


def test_terminal_shows_what_a_task_says_of_itself_on_the_way() -> None:
    """As the loss of a fit."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True, width=100, legacy_windows=False)
    with Progress(console=console) as progress, progress.task("fit", 2) as task:
        task.advance()
        task.description = "fit, loss 0.125"
        task.advance()
    assert "fit, loss 0.125" in file.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_no_number_of_a_bar_is_cut_off(width: int) -> None:
    """Though the description is longer than half a narrow terminal."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True, width=width, legacy_windows=False)
    description = "rows 13 to 17 of 21: pdd progressive, ConvNet, 5 networks"
    with Progress(console=console) as progress, progress.task(description, 12000) as task:
        for steps in (11000, 900, 99):
            task.advance(steps)
    text = file.getvalue()
    assert "11999/12000" in text
    assert "it/s" in text
    assert "…" not in text
    assert (description in text) == (width == 160)
    assert "networks" in text


def test_a_length_that_raises_is_unknown(clock: Clock, log: Log) -> None:
    class Stream:
        def __len__(self) -> int:
            raise TypeError("iterable data set")

        def __iter__(self) -> Iterator[int]:
            return clock.work(4, 1.0)

    with Progress(console=log.console, clock=clock) as progress:
        assert len(list(progress.track(Stream(), description="stream"))) == 4
    assert log.lines == ["stream 4 in 4.0 s, 1 it/s"]
