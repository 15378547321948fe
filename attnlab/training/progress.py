"""What a person sees of a training: one line that moves on a terminal, plain lines now and then in a pipe."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """Shows step, loss, target tokens per second without padding and compilation, and the time to go."""

    def __init__(self, steps: int, start: int, console: Console | None = None) -> None:
        self._steps, self._step, self._start = steps, start, start
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if self._console.is_terminal else None
        self._tokens, self._training, self._compiling, self._measured = 0, 0.0, 0.0, 0
        self._last = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        if self._step > self._start:
            self.say(self._line())

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(line))

    def step(self, step: int, loss: float | None, tokens: int, compiling: bool) -> None:
        """Take note of a step that is done."""
        now = time.monotonic()
        self._step, self._loss = step, loss
        if compiling:
            self._compiling += now - self._last
        else:
            self._training += now - self._last
            self._tokens += tokens
            self._measured += 1
        self._last = now
        if self._live:
            self._live.update(Text(self._line()))
        elif now - self._shown >= PLAIN_EVERY:
            self._shown = now
            self.say(self._line())

    def evaluated(self, step: int, scores: dict[str, float], best: bool) -> None:
        """Tell what an evaluation found; its time does not count as training."""
        told = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        self.say(f"step {step}: {told}{' (best so far)' if best else ''}")
        self._last = time.monotonic()

    def _line(self) -> str:
        rate = f"{self._tokens / self._training:,.0f} tokens/s" if self._training else "compiling"
        left = (self._steps - self._step) * self._training / self._measured if self._measured else None
        eta = "" if left is None else f", {_duration(left)} to go"
        compiled = f", {self._compiling:.0f} s compiling" if self._compiling else ""
        return f"step {self._step}/{self._steps}: loss {self._loss:.3f}, {rate}{eta}{compiled}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
