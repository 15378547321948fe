"""A budget of wall time."""

import time


class Budget:
    """A span of wall time that starts now; a part of it never ends later than the whole.

    >>> whole = Budget(60.0)
    >>> whole.part(100.0).left() <= 60.0 and whole.part(5.0).left() <= 5.0
    True
    """

    def __init__(self, seconds: float, end: float | None = None):
        self.seconds = seconds
        self._start = time.monotonic()
        self._end = self._start + seconds if end is None else min(self._start + seconds, end)

    def left(self) -> float:
        """Return the remaining seconds, at least 0."""
        return max(self._end - time.monotonic(), 0.0)

    def spent(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    def part(self, seconds: float) -> "Budget":
        """Start a part of this budget, of `seconds` or of the remaining time if that is less."""
        return Budget(seconds, self._end)


def unlimited() -> Budget:
    """Start a budget without a limit."""
    return Budget(float("inf"))
