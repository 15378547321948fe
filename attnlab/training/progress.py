"""What a person sees of a training: one line that moves on a terminal, plain lines now and then in a pipe."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from attnlab import metric_names

PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
REFRESH_EVERY = 0.25
"""Seconds between changes of the line on a terminal."""


class Progress:
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
        self._unit = unit
        self._steps, self._step, self._start = steps, start, start
        self._console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._loss: float | None = None
        self._count, self._measured = 0, 0
        self._training, self._compiling = 0.0, 0.0
        self._evaluations, self._last_evaluation = 0, 0.0
        self._clock = clock
        self._last = self._shown = clock()
        self._told = start

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        if self._step > self._told:
            self.say(self._line())

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(line), soft_wrap=True)

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
        every = REFRESH_EVERY if self._console.is_terminal else PLAIN_EVERY
        if self._last - self._shown < every:
            return
        self._shown = self._last
        if self._console.is_terminal:
            self._live.update(Text(self._line(), no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self._told = self._step
            self.say(self._line())

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


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
