"""Ctrl-C while modules are imported. Imports nothing but the standard library."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible_import() -> Iterator[None]:
    """Within it Ctrl-C ends the process at once and without a traceback: nothing has begun that could be lost.

    As an exception it would come up in the middle of some module, which may swallow it or turn it into another one.
    Where Ctrl-C does something else than raise `KeyboardInterrupt`, it goes on doing that.
    """
    usual = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
