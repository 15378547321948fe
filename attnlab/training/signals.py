"""Ctrl-C and SIGTERM: the first asks to stop at the next safe place, the second quits at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attnlab.training.loop import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ASKED = b"\nattnlab: stopping after this step (once more to quit at once, unsaved)\n"


class Stop:
    """Remembers that somebody asked to stop."""

    def __init__(self) -> None:
        self._asked: int | None = None

    def poll(self) -> None:
        """Raise `Interrupted` if somebody asked; call it where the state can be saved."""
        if self._asked is not None:
            raise Interrupted(self._asked)

    def _ask(self, number: int, frame: FrameType | None = None) -> None:
        if self._asked is None:
            self._asked = number


@contextmanager
def graceful() -> Iterator[Stop]:
    """Within it the signals only ask; outside they act as before. To be used in the main thread.

    Python runs a signal's handler when the main thread comes back to Python, which in a long compilation may take a
    minute. So the numbers of the signals also go through a pipe to a thread that answers at once.
    """
    stop = Stop()
    heard, said = os.pipe()
    os.set_blocking(said, False)
    wakeup = signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    before = {number: signal.signal(number, stop._ask) for number in SIGNALS}
    listener = threading.Thread(target=_listen, args=(heard, stop), name="signals", daemon=True)
    listener.start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(said)
        listener.join()
        os.close(heard)


def _listen(heard: int, stop: Stop) -> None:
    """Say that the first signal was heard; quit at the second."""
    count = 0
    while numbers := os.read(heard, 1):
        number = numbers[0]
        if number not in SIGNALS:
            continue
        count += 1
        if count == 2:
            os._exit(128 + number)
        stop._ask(number)
        os.write(2, ASKED)
