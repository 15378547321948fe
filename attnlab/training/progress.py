"""What a person sees of a training or an evaluation: one line that moves on a terminal, plain lines in a pipe."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from attnlab.training import metric_names

PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
REFRESH_EVERY = 0.25
"""Seconds between changes of the line on a terminal."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence; rich's own closes standard output and exits."""
        self.quiet = True


class _Line:
    """A line that says how far something is; lines that stay stand above it.

    A terminal that goes away, or a full disk behind stderr, stops nothing: no more is shown.
    """

    def __init__(self, console: Console | None, clock: Callable[[], float]) -> None:
        self._console = console or _Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._moving = False
        self._clock = clock
        self._shown = clock()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._moving = self._shown_if_possible(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._moving:
            self._shown_if_possible(self._live.stop)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._shown_if_possible(lambda: self._console.print(Text(line), soft_wrap=True))

    def _move(self, line: Callable[[], str], now: float, at_once: bool = False) -> bool:
        """Show what `line` makes if it is time (`at_once`: on a terminal always); tell whether that line stays."""
        every = REFRESH_EVERY if self._console.is_terminal else PLAIN_EVERY
        if now - self._shown < every and not (at_once and self._console.is_terminal):
            return False
        self._shown = now
        if self._console.is_terminal:
            moving = Text(line(), no_wrap=True, overflow="ellipsis")
            self._shown_if_possible(lambda: self._live.update(moving, refresh=True))
            return False
        self.say(line())
        return True

    def _shown_if_possible(self, show: Callable[[], None]) -> bool:
        try:
            show()
        except OSError:
            self._console.quiet = True
        return not self._console.quiet


class Progress(_Line):
    """Shows step, loss, what is trained on per second without padding and compilation, and the time to go.

    Args:
      steps: at which the training ends.
      start: step from which it goes on.
      unit: what is counted, e.g. "tokens".
      console: where to show it; None is stderr.
      clock: seconds that never go back.
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
        self._loss: float | None = None
        self._count, self._measured = 0, 0
        self._training, self._compiling = 0.0, 0.0
        self._evaluations, self._last_evaluation = 0, 0.0
        self._last = self._shown
        self._told = start

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._step > self._told:
            self.say(self._line())

    def compiling(self) -> None:
        """Say, before the first step, why it takes longer than the next ones."""
        if self._step < self._steps:
            self.say("compiling the training step: a few seconds to a few minutes without a sign")

    def step(self, step: int, loss: float | None, count: int, compiling: bool) -> None:
        """Take note of a step that is done.

        Args:
          step: steps done.
          loss: of this step.
          count: tokens or examples in its batch, padding not counted.
          compiling: its batch was the first of its shape, so that its time says nothing of the next ones'.
        """
        spent = self._lap()
        self._step, self._loss = step, loss
        if compiling:
            self._compiling += spent
        else:
            self._training += spent
            self._count += count
            self._measured += 1
        self._show()

    def evaluating(self, poll: Callable[[], None]) -> Callable[..., None]:
        """Return what an evaluation on dev calls between batches: it shows how far it is after calling `poll`."""

        def show(done: int = 0, total: int = 0) -> None:
            poll()
            line = f"step {self._step}/{self._steps}, evaluating on dev: {done:,} of {total:,}"
            self._move(lambda: line, self._clock(), at_once=done == 0)

        return show

    def evaluated(self, step: int, scores: dict[str, float], best: bool) -> None:
        """Tell what an evaluation found; its time does not count as training."""
        self._last_evaluation = self._lap()
        self._evaluations += 1
        told = ", ".join(f"{metric_names.name(key)} {value:.2f}" for key, value in scores.items())
        self.say(f"step {step}: {told}{' (best so far)' if best else ''}")

    def _lap(self) -> float:
        """Seconds since the last call."""
        now = self._clock()
        spent, self._last = now - self._last, now
        return spent

    def _show(self) -> None:
        if self._move(self._line, self._last):
            self._told = self._step

    def _line(self) -> str:
        parts = [f"step {self._step}/{self._steps}"]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3f}")
        if self._training > 0:
            parts.append(f"{self._count / self._training:,.0f} {self._unit}/s")
        if self._measured and self._step < self._steps:
            parts.append(f"{_duration(self._to_go())} to go")
        if self._compiling:
            parts.append(f"{self._compiling:.0f} s compiling")
        return ", ".join(parts)

    def _to_go(self) -> float:
        """Seconds of training, and of evaluations as frequent as so far and as long as the last one."""
        evaluating = self._last_evaluation * self._evaluations / (self._step - self._start)
        return (self._steps - self._step) * (self._training / self._measured + evaluating)


class Evaluating(_Line):
    """Shows how far the evaluation of a split is, and the time to go; it is the `poll` of `Task.scores`.

    Args:
      split: its name.
      examples: how many it has.
      console: where to show it; None is stderr.
      clock: seconds that never go back.
    """

    def __init__(
        self,
        split: str,
        examples: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self._split, self._examples = split, examples
        self._passes, self._done, self._total = 0, 0, 0
        self._measured = (0.0, 0)
        """When the first batch of the pass, whose time is that of compiling, was done, and how many it had."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.say(f"{self._split}: {self._examples:,} examples; compiling first")
        return self

    def __call__(self, done: int = 0, total: int = 0) -> None:
        """Take note of a batch that is done; one with none done begins another pass over the examples."""
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
            return f"{line}, computing the scores"
        begun, first = self._measured
        if 0 < first < self._done:
            return f"{line}, {_duration((now - begun) / (self._done - first) * (self._total - self._done))} to go"
        return line


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
