"""Progress of training and evaluation: one updated line on a terminal, plain lines in a pipe."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from attnlab.training import metric_names

PLAIN_EVERY = 10.0
"""Seconds between lines without a terminal; a loss is the mean over about as long."""
REFRESH_EVERY = 0.25
"""Seconds between updates of the line on a terminal."""


class TerminalConsole(Console):
    """A console on which output ends, and work goes on, when the reader of the output is gone."""

    def on_broken_pipe(self) -> None:
        """Continue without output; the method of rich closes standard output and exits."""
        self.quiet = True


def carried_out(console: Console, show: Callable[[], None]) -> bool:
    """Show something, and return whether that was possible.

    If the terminal is closed, or the disk behind stderr is full, output ends and work goes on. A broken pipe is no
    failure here: rich goes on without output (`on_broken_pipe`).
    """
    try:
        show()
    except OSError:
        console.quiet = True
        return False
    return True


class _Line:
    """A line that is updated in place, below lines that stay."""

    def __init__(self, console: Console | None, clock: Callable[[], float]) -> None:
        self._console = console or TerminalConsole(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._updating = False
        self._clock = clock
        self._shown = clock()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._updating = self._try(self._live.start)  # puts objects of rich in the place of stdout and stderr
        return self

    def __exit__(self, *_: object) -> None:
        if self._updating:
            self._try(self._live.stop)

    def print(self, line: str) -> None:
        """Print a line that stays."""
        self._try(lambda: self._console.print(Text(line), soft_wrap=True))

    def _move(self, line: Callable[[], str], now: float, at_once: bool = False) -> bool:
        """Show `line()` if it is time (`at_once`: on a terminal always); return whether that line stays."""
        every = REFRESH_EVERY if self._console.is_terminal else PLAIN_EVERY
        if now - self._shown < every and not (at_once and self._console.is_terminal):
            return False
        self._shown = now
        if self._console.is_terminal:
            text = Text(line(), no_wrap=True, overflow="ellipsis")
            self._try(lambda: self._live.update(text, refresh=True))
            return False
        self.print(line())
        return True

    def _try(self, show: Callable[[], None]) -> bool:
        return carried_out(self._console, show)


class Progress(_Line):
    """Shows step, mean loss, throughput without padding and compilation, and the remaining time.

    Args:
      steps: number of steps of the training.
      start: step from which it resumes.
      unit: unit of the throughput, e.g. "tokens".
      console: output; None is stderr.
      clock: monotonic seconds.
    """

    def __init__(
        self,
        steps: int,
        start: int,
        unit: str = "tokens",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self._unit = unit
        self._steps, self._step, self._start = steps, start, start
        self._loss = _Mean(self._shown)
        self._count, self._measured = 0, 0
        self._training, self._compiling = 0.0, 0.0
        self._evaluations, self._last_evaluation = 0, 0.0
        self._last = self._shown
        self._printed = start

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._step > self._printed:
            self.print(self._line())

    def compiling(self) -> None:
        """Print, before the first step, that it is being compiled."""
        if self._step < self._steps:
            self.print("compiling the training step: a few seconds to a few minutes without output")

    def step(self, step: int, loss: float, count: int, compiling: bool) -> None:
        """Add a finished step.

        Args:
          step: number of finished steps.
          loss: mean loss of the batch.
          count: tokens or examples in its batch, padding not counted.
          compiling: whether its batch was the first of its shape, so that its time includes compilation.
        """
        spent = self._lap()
        self._step = step
        self._loss.add(loss, count)
        if compiling:
            self._compiling += spent
        else:
            self._training += spent
            self._count += count
            self._measured += 1
        self._show()

    def evaluating(self, poll: Callable[[], None]) -> Callable[..., None]:
        """Return the `poll` of an evaluation on dev: it calls `poll` and shows the progress."""

        def show(done: int = 0, total: int = 0) -> None:
            poll()
            line = f"step {self._step}/{self._steps}, evaluating on dev: {done:,} of {total:,}"
            self._move(lambda: line, self._clock(), at_once=done == 0)

        return show

    def evaluated(self, step: int, scores: dict[str, float], best: bool) -> None:
        """Print the metrics of an evaluation on dev; its time does not count as training."""
        self._last_evaluation = self._lap()
        self._evaluations += 1
        metrics = ", ".join(f"{metric_names.name(key)} {value:.2f}" for key, value in scores.items())
        self.print(f"step {step}: {metrics}{' (best so far)' if best else ''}")

    def _lap(self) -> float:
        """Return the seconds since the last call."""
        now = self._clock()
        spent, self._last = now - self._last, now
        return spent

    def _show(self) -> None:
        if self._move(self._line, self._last):
            self._printed = self._step
        if self._shown == self._last:
            self._loss.reset(self._last)

    def _line(self) -> str:
        parts = [f"step {self._step}/{self._steps}"]
        if self._loss.value is not None:
            parts.append(f"loss {self._loss.value:.3f}")
        if self._training > 0:
            parts.append(f"{self._count / self._training:,.0f} {self._unit}/s")
        if self._measured and self._step < self._steps:
            parts.append(f"{duration(self._to_go())} to go")
        if self._compiling:
            parts.append(f"{self._compiling:.0f} s compiling")
        return ", ".join(parts)

    def _to_go(self) -> float:
        """Estimate the remaining seconds of training and of evaluations, as frequent as so far, as long as the last."""
        evaluating = self._last_evaluation * self._evaluations / (self._step - self._start)
        return (self._steps - self._step) * (self._training / self._measured + evaluating)


class EvaluationProgress(_Line):
    """Shows the progress of an evaluation and the remaining time; it is the `poll` of `Task.scores`.

    Args:
      split: name of the split.
      examples: number of its examples.
      console: output; None is stderr.
      clock: monotonic seconds.
      then: what follows the last batch.
    """

    def __init__(
        self,
        split: str,
        examples: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        then: str = "computing the scores",
    ) -> None:
        super().__init__(console, clock)
        self._split, self._examples, self._then = split, examples, then
        self._passes, self._done, self._total = 0, 0, 0
        self._measured = (0.0, 0)
        """Time and size of the first batch of the pass, whose time includes compilation."""

    def __enter__(self) -> Self:
        self.print(f"{self._split}: {self._examples:,} examples; compiling first")
        return super().__enter__()  # last, since nothing after it may fail

    def __call__(self, done: int = 0, total: int = 0) -> None:
        """Add a finished batch; `done=0` begins another pass over the examples."""
        now, before = self._clock(), self._done
        self._done, self._total = done, total
        if done == 0:
            self._passes += 1
        elif before == 0:
            self._measured = (now, done)
        self._move(lambda: self._line(now), now, at_once=done in (0, total))

    def _line(self, now: float) -> str:
        name = self._split if self._passes < 2 else f"{self._split}, pass {self._passes}"
        line = f"{name}: {self._done:,} of {self._total:,}"
        if self._done >= self._total:
            return f"{line}, {self._then}"
        begun, first = self._measured
        if 0 < first < self._done:
            return f"{line}, {duration((now - begun) / (self._done - first) * (self._total - self._done))} to go"
        return line


class ChunkProgress(_Line):
    """Shows the progress of a computation in chunks, and the remaining time without compilation.

    Each chunk of a new shape is compiled first; its time says nothing about that of the others, and does not count.

    Args:
      name: what is computed, such as a split.
      examples: number of its examples.
      console: output; None is stderr.
      clock: monotonic seconds.
    """

    def __init__(
        self, name: str, examples: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, clock)
        self._name, self._examples = name, examples
        self._done, self._total, self._compiling = 0, examples, True
        self._last, self._since_chunk = self._shown, 0.0
        self._worked, self._finished = 0.0, 0
        """Seconds and examples of the chunks that were not compiled."""

    def __enter__(self) -> Self:
        self.print(f"{self._name}: {self._examples:,} examples; compiling first")
        return super().__enter__()  # last, since nothing after it may fail

    def __call__(self, done: int, total: int, *, compiling: bool = False) -> None:
        """Add a finished chunk, if more examples are done than before.

        Args:
          done: number of finished examples.
          total: number of all of them.
          compiling: whether a chunk begins that is compiled first.
        """
        now, began = self._clock(), compiling and not self._compiling
        self._since_chunk += now - self._last
        if done > self._done:
            if not self._compiling:
                self._worked += self._since_chunk
                self._finished += done - self._done
            self._since_chunk, self._compiling = 0.0, False
        self._done, self._total, self._last = done, total, now
        self._compiling = self._compiling or compiling
        self._move(self._line, now, at_once=began or done in (0, total))

    def _line(self) -> str:
        line = f"{self._name}: {self._done:,} of {self._total:,}"
        if self._done >= self._total:
            return f"{line}, computing the means"
        if self._finished:
            line += f", {duration(self._worked / self._finished * (self._total - self._done))} to go"
        return f"{line}, compiling" if self._compiling or not self._finished else line


class _Mean:
    """Mean loss over the steps since the last line, weighted by the count of each batch.

    A line on a terminal is updated every few steps, so there the mean is over up to `PLAIN_EVERY` seconds.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._total, self._count = 0.0, 0
        self.value: float | None = None

    def add(self, loss: float, count: int) -> None:
        """Add a step."""
        self._total += loss * count
        self._count += count
        self.value = self._total / max(self._count, 1)

    def reset(self, now: float) -> None:
        """Begin again with the next step, unless the last reset was less than `PLAIN_EVERY` ago."""
        if now - self._since >= PLAIN_EVERY:
            self._since = now
            self._total, self._count = 0.0, 0


def duration(seconds: float) -> str:
    """Return a duration as text, such as `2 min 05 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
