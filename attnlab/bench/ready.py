"""What a peer has made of a case: a function ready to be timed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ready:
    """A compiled call with its inputs in place."""

    run: Callable[[], Any]
    """Computes all and returns when it is done."""
    check: Callable[[], dict[str, np.ndarray]]
    """The same call with the checking cotangent: "output" [b t h d] and the gradient of each input."""
    peak_bytes: Callable[[], int | None]
    """Measures the peak of one call beyond inputs and output; None where it cannot be measured."""
    temp_bytes: int | None = None
    """What the compiler says that the program needs beyond inputs and output."""
    note: str = ""
    seconds: Callable[[int], float] | None = None
    """On a GPU: queues so many calls, waits for the last, and returns the seconds of all; None: `run` is timed."""


class Refusal(Exception):
    """A peer cannot do a case; the message is the reason."""
