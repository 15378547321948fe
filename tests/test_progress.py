"""Progress of a training: rates without compilation and evaluation, the remaining time, one updated line."""

import errno
import io
import sys

import pytest
from rich.console import Console

from attnlab.training.progress import PLAIN_EVERY, ChunkProgress, EvaluationProgress, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def shown(steps: int = 1000, start: int = 0, **console) -> tuple[Progress, Clock, Screen]:
    clock, screen = Clock(), Screen()
    return Progress(steps, start, "tokens", Console(file=screen, **{"width": 200, **console}), clock), clock, screen


def take_steps(progress: Progress, clock: Clock, steps: range, seconds: float, compiling: bool = False) -> None:
    for step in steps:
        clock.now += seconds
        progress.step(step, 2.5, 300, compiling)


def test_plain_lines_come_at_intervals_and_at_the_end():
    progress, clock, screen = shown()
    with progress:
        take_steps(progress, clock, range(1, 101), 0.5)
    assert len(screen.lines()) == 50 / PLAIN_EVERY, "the last of them is not said again"
    assert screen.lines()[0] == "step 20/1000, loss 2.500, 600 tokens/s, 8 min 10 s to go"
    assert "\x1b" not in screen.getvalue()
    assert "\r" not in screen.getvalue()


def test_the_last_line_is_printed_at_the_end():
    progress, clock, screen = shown()
    with progress:
        take_steps(progress, clock, range(1, 102), 0.5)
    assert len(screen.lines()) == 50 / PLAIN_EVERY + 1
    assert screen.lines()[-1].startswith("step 101/1000")


def test_the_loss_is_the_mean_since_the_last_line_weighted_by_count():
    progress, clock, screen = shown()
    with progress:
        for step, (loss, count) in enumerate([(1.0, 1), (3.0, 3), (8.0, 4), (2.0, 2), (4.0, 2)], start=1):
            clock.now += PLAIN_EVERY / 2
            progress.step(step, loss, count, compiling=False)
    assert [line.split(", ")[1] for line in screen.lines()] == ["loss 2.500", "loss 6.000", "loss 4.000"]


def test_compilation_is_shown_separately_and_excluded_from_the_rate():
    progress, clock, screen = shown()
    with progress:
        take_steps(progress, clock, range(1, 3), 7.0, compiling=True)
        take_steps(progress, clock, range(3, 101), 0.5)
    assert screen.lines()[-1] == "step 100/1000, loss 2.500, 600 tokens/s, 7 min 30 s to go, 14 s compiling"


def test_evaluations_slow_no_rate_but_count_in_the_time_to_go():
    progress, clock, screen = shown()
    with progress:
        for hundred in range(2):
            take_steps(progress, clock, range(100 * hundred + 1, 100 * hundred + 101), 0.1)
            clock.now += 40 if hundred == 0 else 10  # the first compiles the search
            progress.evaluated(100 * hundred + 100, {"dev_bleu": 31.25}, best=hundred == 0)
    assert "step 100: dev BLEU 31.25 (best so far)" in screen.lines()
    assert "step 200: dev BLEU 31.25" in screen.lines()
    assert screen.lines()[-1] == "step 200/1000, loss 2.500, 3,000 tokens/s, 2 min 40 s to go"  # 800 × 0.1 s + 8 × 10 s


def test_a_resumed_run_counts_its_own_steps():
    progress, clock, screen = shown(start=900)
    with progress:
        clock.now += 10
        progress.evaluated(900, {"dev_bleu": 1.0}, best=False)
        take_steps(progress, clock, range(901, 951), 0.1)
    assert screen.lines()[-1] == "step 950/1000, loss 2.500, 3,000 tokens/s, 15 s to go"
    progress, _, screen = shown(start=1000)
    with progress:
        pass
    assert screen.lines() == []


def test_only_compiling_steps_promise_nothing():
    progress, clock, screen = shown()
    with progress:
        take_steps(progress, clock, range(1, 2), 12.0, compiling=True)
    assert screen.lines()[-1] == "step 1/1000, loss 2.500, 12 s compiling"


def test_the_last_line_has_no_time_to_go():
    progress, clock, screen = shown(steps=5)
    with progress:
        take_steps(progress, clock, range(1, 6), 0.1)
    assert screen.lines() == ["step 5/5, loss 2.500, 3,000 tokens/s"]


@pytest.mark.parametrize("width", [200, 30])
def test_a_terminal_has_one_line_that_moves(width):
    progress, clock, screen = shown(force_terminal=True, width=width, legacy_windows=False)
    with progress:
        take_steps(progress, clock, range(1, 101), 0.1)
        during = screen.getvalue()
    assert "\n" not in during, "a line that is too long is cut, not broken"
    assert during.count("step ") == 33, "shown every quarter of a second of steps of a tenth"
    after = screen.getvalue()[len(during) :]
    assert "\x1b[?25h" in after, "the cursor is back"
    assert "loss 2.500, 3,000 tokens/s" in after, "the last line stays, whole"


def test_a_printed_line_is_neither_wrapped_nor_parsed_as_markup():
    progress, _, screen = shown(width=20)
    line = "checkpoint [bold]300[/bold] is damaged (params.encoder.kernel/0: sha256 differs); going on from 200"
    with progress:
        progress.print(line)
    assert screen.lines() == [line]


class Gone(io.StringIO):
    """A closed terminal or pipe, or a full disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_training_continues_after_the_terminal_is_closed(number, terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr", Gone(OSError(number, "gone")))
    clock = Clock()
    progress = Progress(100, 0, clock=clock)
    monkeypatch.setattr(progress._console, "_force_terminal", terminal)
    with progress:
        take_steps(progress, clock, range(1, 51), 1.0)
        progress.evaluated(50, {"dev_bleu": 1.0}, best=True)
        progress.print("a line")
    assert progress._console.quiet


def test_compilation_is_announced_before_the_first_step():
    progress, clock, screen = shown()
    with progress:
        progress.compiling()
        clock.now += 40
        assert len(screen.lines()) == 1
        assert "compiling" in screen.lines()[0]
        take_steps(progress, clock, range(1, 2), 0.1, compiling=True)
    finished, _, screen = shown(steps=900, start=900)
    with finished:
        finished.compiling()
    assert screen.lines() == [], "where no step is left nothing is compiled"


def test_evaluations_on_dev_show_how_far_they_are():
    polls = []
    progress, clock, screen = shown()
    with progress:
        take_steps(progress, clock, range(1, 3), 1.0)
        poll = progress.evaluating(lambda: polls.append(clock.now))
        for done in (0, 100, 200, 300):
            poll(done, 300)
            clock.now += 6
        poll()
        progress.evaluated(2, {"dev_bleu": 1.0}, best=False)
        take_steps(progress, clock, range(3, 30), 1.0)
    assert "step 2/1000, evaluating on dev: 200 of 300" in screen.lines()
    assert len(polls) == 5, "the poll that may stop is called each time"
    assert "300 tokens/s" in screen.lines()[-1], "its time slows no rate"


def evaluating(**console) -> tuple[EvaluationProgress, Clock, Screen]:
    clock, screen = Clock(), Screen()
    return EvaluationProgress("test", 1000, Console(file=screen, **{"width": 200, **console}), clock), clock, screen


def test_an_evaluation_prints_a_first_line_and_the_remaining_time_without_compilation():
    progress, clock, screen = evaluating()
    with progress:
        assert screen.lines() == ["test: 1,000 examples; compiling first"]
        progress(0, 1000)
        clock.now += 60  # compiles
        for done in range(100, 1001, 100):
            progress(done, 1000)
            clock.now += 5
    assert screen.lines()[1:] == [
        "test: 100 of 1,000",
        "test: 300 of 1,000, 35 s to go",
        "test: 500 of 1,000, 25 s to go",
        "test: 700 of 1,000, 15 s to go",
        "test: 900 of 1,000, 5 s to go",
    ]


def test_a_second_pass_is_numbered_and_timed_again():
    progress, clock, screen = evaluating()
    with progress:
        for seconds in (1, 10):
            for done in (0, 250, 500, 750, 1000):
                progress(done, 1000)
                clock.now += seconds
    assert screen.lines()[-3:] == [
        "test, pass 2: 500 of 1,000, 20 s to go",
        "test, pass 2: 750 of 1,000, 10 s to go",
        "test, pass 2: 1,000 of 1,000, computing the scores",
    ]


def test_an_evaluation_on_a_terminal_is_one_line_that_moves():
    progress, clock, screen = evaluating(force_terminal=True, legacy_windows=False)
    with progress:
        first = len(screen.getvalue())
        for done in range(0, 1001, 10):
            progress(done, 1000)
            clock.now += 0.1
        during = screen.getvalue()[first:]
    assert "\n" not in during
    assert "computing the scores" in during
    assert during.count("test: ") == 35


def chunks(progress: ChunkProgress, clock: Clock, *chunks: tuple[int, int, bool, float]) -> None:
    """Go through chunks: done before, done after, whether it is compiled, seconds; a prediction takes one second."""
    for before, after, compiling, seconds in chunks:
        for _ in range(after - before):
            progress(before, 40)
            clock.now += 1
        progress(before, 40, compiling=compiling)
        clock.now += seconds
        progress(after, 40)


def test_compiling_a_chunk_says_nothing_of_the_others():
    clock, screen = Clock(), Screen()
    with ChunkProgress("test", 40, Console(file=screen, width=200), clock) as progress:
        chunks(progress, clock, (0, 4, True, 60.0), (4, 8, True, 30.0), (8, 12, False, 16.0), (12, 16, True, 40.0))
        lines = screen.lines()
        assert lines[0] == "test: 40 examples; compiling first"
        begun = [line for line in lines[1:] if "12 of" not in line and "16 of" not in line]
        assert begun
        assert all(line.endswith(", compiling") and "to go" not in line for line in begun)
        assert "test: 12 of 40, 2 min 20 s to go" in lines, lines
        assert lines[-1] == "test: 16 of 40, 2 min 00 s to go"
        chunks(progress, clock, (16, 40, False, 96.0))
    assert screen.lines()[-1] == "test: 40 of 40, computing the means"


def test_a_terminal_says_at_once_that_a_chunk_is_compiled():
    clock, screen = Clock(), Screen()
    with ChunkProgress("test", 40, Console(file=screen, width=200, force_terminal=True), clock) as progress:
        chunks(progress, clock, (0, 4, True, 60.0), (4, 8, False, 16.0))
        screen.truncate(0)
        progress(8, 40, compiling=True)
        assert "8 of 40, 2 min 40 s to go, compiling" in screen.getvalue()


class Fails(io.StringIO):
    """A terminal with a fault in the program, from the call that writes a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def write(self, text: str) -> int:
        if self.text in text:
            raise ValueError(text)
        return super().write(text)


@pytest.mark.parametrize("kind", [Progress, EvaluationProgress, ChunkProgress])
@pytest.mark.parametrize("failing", ["compiling", "done"])
def test_stdout_and_stderr_are_given_back_after_an_exception(kind, failing, monkeypatch):
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    console = Console(file=Fails(failing), force_terminal=True)
    make = (lambda: Progress(3, 0, console=console)) if kind is Progress else lambda: kind("test", 3, console)

    def work() -> None:
        with make() as progress:
            if kind is Progress and failing == "compiling":
                progress.compiling()
            progress.print("done")

    with pytest.raises(ValueError, match=failing):
        work()
    assert (sys.stdout, sys.stderr) == streams


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_stdout_and_stderr_are_given_back_if_the_terminal_is_closed_before_the_first_line(number, monkeypatch):
    streams = io.StringIO(), Gone(OSError(number, "gone"))
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    progress = Progress(100, 0)
    monkeypatch.setattr(progress._console, "_force_terminal", True)
    with progress:
        pass
    assert (sys.stdout, sys.stderr) == streams
