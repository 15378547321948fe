"""Signals that stop a process: training saves its state first, evaluation ends at once. Imports no jax."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

QUITS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C and `kill`: the second one quits at once."""
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)
"""Sent by SLURM (`--signal`), a closed terminal, and a limit of CPU time. They may repeat, and be followed by SIGTERM,
while the state is being saved, so they never quit at once."""
SIGNALS = (*QUITS, *WARNINGS)


class Interrupted(Exception):
    """A signal (see `SIGNALS`) stopped training; the state is saved."""

    def __init__(self, signal_number: int):
        super().__init__(signal_number)
        self.signal_number = signal_number


class StopRequest:
    """Records the first signal to stop."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def poll(self) -> None:
        """Raise `Interrupted` after a signal; call it where the state can be saved."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def _record(self, number: int, frame: FrameType | None = None) -> None:
        if self._signal is None:
            self._signal = number


@contextmanager
def graceful_shutdown() -> Iterator[StopRequest]:
    """Within this context signals only request a stop; use it in the main thread."""
    stop, received = StopRequest(), list[int]()

    def on_signal(number: int) -> None:
        received.append(number)
        if sum(signal_number in QUITS for signal_number in received) == 2:
            os._exit(128 + number)
        if number in QUITS:
            _print("stopping after this step (again to quit at once, unsaved)")
        elif len(received) == 1:
            _print(f"stopping after this step ({signal.Signals(number).name})")
        stop._record(number)

    with _handled(stop._record, on_signal):
        yield stop


@contextmanager
def exit_on_signal(message: str) -> Iterator[None]:
    """Within this context a signal ends the process at once with one line; for work that needs no cleanup.

    Args:
      message: printed after the name of the signal.
    """

    def on_signal(number: int) -> None:
        _print(f"{signal.Signals(number).name}: {message}")
        os._exit(128 + number)

    with _handled(lambda number, frame: None, on_signal):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal` for every signal at once, from another thread, and `handler` as soon as Python can.

    Python runs a signal handler when the main thread returns to Python, which may take a minute in a long
    compilation. So the signal numbers also go through a pipe to a thread that reacts at once. A warning that is
    ignored (such as SIGHUP under nohup), or handled outside Python, stays as it is.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    left = [number for number in WARNINGS if signal.getsignal(number) in (signal.SIG_IGN, None)]
    taken = [number for number in SIGNALS if number not in left]
    before = {number: signal.signal(number, handler) for number in taken}
    listener = threading.Thread(target=_listen, args=(reading, on_signal, taken), name="signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
        signal.set_wakeup_fd(wakeup)
        os.close(writing)
        listener.join()
        os.close(reading)


def _listen(reading: int, on_signal: Callable[[int], None], taken: list[signal.Signals]) -> None:
    while numbers := os.read(reading, 1):
        if numbers[0] in taken:
            on_signal(numbers[0])


def _print(line: str) -> None:
    with suppress(OSError):  # the terminal or the reader of the output is gone
        os.write(2, f"\nattnlab: {line}\n".encode())
