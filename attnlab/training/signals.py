"""Signals that ask a process to stop: a training saves first, an evaluation says what is kept. Imports no jax."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

QUITS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C and `kill`: the second of them quits at once."""
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)
"""What SLURM (`--signal`), a terminal that goes away and a limit of CPU time send. They may come again and again, and
be followed by SIGTERM, while the state is being saved: only asking, however often."""
SIGNALS = (*QUITS, *WARNINGS)


class Interrupted(Exception):
    """Somebody asked to stop (see `SIGNALS`); the state is saved."""

    def __init__(self, signal_number: int):
        super().__init__(signal_number)
        self.signal_number = signal_number


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
    """Within it the signals only ask; outside they act as before. To be used in the main thread."""
    stop, heard = Stop(), list[int]()

    def hear(number: int) -> None:
        heard.append(number)
        if sum(one in QUITS for one in heard) == 2:
            os._exit(128 + number)
        if number in QUITS:
            _say("stopping after this step (once more to quit at once, unsaved)")
        elif len(heard) == 1:
            _say(f"stopping after this step ({signal.Signals(number).name})")
        stop._ask(number)

    with _heard(stop._ask, hear):
        yield stop


@contextmanager
def stopping(told: str) -> Iterator[None]:
    """Within it a signal ends the process at once, with a line; for work that leaves nothing half done.

    Args:
      told: what to say after the signal's name.
    """

    def hear(number: int) -> None:
        _say(f"{signal.Signals(number).name}: {told}")
        os._exit(128 + number)

    with _heard(lambda number, frame: None, hear):
        yield


@contextmanager
def _heard(handler: Callable[[int, FrameType | None], None], hear: Callable[[int], None]) -> Iterator[None]:
    """Within it `hear` is called with every signal at once, from another thread, and `handler` where Python can.

    Python runs a signal's handler when the main thread comes back to Python, which in a long compilation may take a
    minute. So the numbers of the signals also go through a pipe to a thread that answers at once. A warning that is
    ignored (as SIGHUP under nohup), or that is handled outside Python, stays as it is.
    """
    heard, said = os.pipe()
    os.set_blocking(said, False)
    wakeup = signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    left = [number for number in WARNINGS if signal.getsignal(number) in (signal.SIG_IGN, None)]
    taken = [number for number in SIGNALS if number not in left]
    before = {number: signal.signal(number, handler) for number in taken}
    listener = threading.Thread(target=_listen, args=(heard, hear, taken), name="signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
        signal.set_wakeup_fd(wakeup)
        os.close(said)
        listener.join()
        os.close(heard)


def _listen(heard: int, hear: Callable[[int], None], taken: list[signal.Signals]) -> None:
    while numbers := os.read(heard, 1):
        if numbers[0] in taken:
            hear(numbers[0])


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal is gone, or whoever read us
        os.write(2, f"\nattnlab: {line}\n".encode())
