"""Seconds that may be spent, and what is left of them."""

import time


class Budget:
    """A span of wall time that has begun; a part of it ends with the whole at the latest.

    >>> whole = Budget(60.0)
    >>> whole.part(100.0).left() <= 60.0 and whole.part(5.0).left() <= 5.0
    True
    """

    def __init__(self, seconds: float, end: float | None = None):
        self.seconds = seconds
        self._begun = time.monotonic()
        self._end = self._begun + seconds if end is None else min(self._begun + seconds, end)

    def left(self) -> float:
        """Return the seconds that are left, not less than 0."""
        return max(self._end - time.monotonic(), 0.0)

    def spent(self) -> float:
        """Return the seconds since it began."""
        return time.monotonic() - self._begun

    def part(self, seconds: float) -> "Budget":
        """Begin a part of so many seconds, or of what is left."""
        return Budget(seconds, self._end)


def unlimited() -> Budget:
    """Begin a budget that nothing uses up."""
    return Budget(float("inf"))
