"""Ctrl-C during imports. Imports no jax."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attnlab.system.stages import stage


@contextmanager
def interruptible_import() -> Iterator[None]:
    """Return a context in which Ctrl-C ends the process immediately and without a traceback.

    A `KeyboardInterrupt` would be raised inside of some imported module, which may catch or replace it. If Ctrl-C has
    another handler than the default one, that handler is kept.
    """
    is_default = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with stage("import"):
            yield
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
