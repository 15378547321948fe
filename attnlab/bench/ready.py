"""A case that a peer has prepared: a function that is ready to be timed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ready:
    """A call with its inputs in place."""

    run: Callable[[], Any]
    """Runs the call and returns when its results are complete."""
    check: Callable[[], dict[str, np.ndarray]]
    """Runs the call with the cotangent of the check: returns "output" [b t h d] and the gradient of each input."""
    peak_bytes: Callable[[], int | None]
    """Returns the peak memory of one call beyond inputs and output; None where it cannot be measured."""
    temp_bytes: int | None = None
    """Memory beyond inputs and output, according to the compiler."""
    note: str = ""
    seconds: Callable[[int], float] | None = None
    """On a GPU: queues a number of calls, waits for the last, and returns the total seconds. None: `run` is timed."""


class Refusal(Exception):
    """Raised when a peer cannot compute a case; the message is the reason."""
