"""Ctrl-C and SIGTERM: the first asks to stop at the next safe place, the second quits at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attnlab.training.loop import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Remembers that somebody asked to stop."""

    def __init__(self) -> None:
        self._asked: int | None = None

    def poll(self) -> None:
        """Raise `Interrupted` if somebody asked; call it where the state can be saved."""
        if self._asked is not None:
            raise Interrupted(self._asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            os._exit(128 + number)
        self._asked = number
        os.write(2, b"\nattnlab: stopping after this step (once more to quit at once, unsaved)\n")


@contextmanager
def graceful() -> Iterator[Stop]:
    """Within it the signals only ask; outside they act as before. To be used in the main thread."""
    stop = Stop()
    before = {number: signal.signal(number, stop._ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
