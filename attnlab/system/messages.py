"""Messages for the user."""

import sys
from collections.abc import Callable
from contextlib import suppress

Notify = Callable[[str], None]
"""Receives a one-line message for the user."""


def print_to_stderr(line: str) -> None:
    """Print a one-line message to standard error."""
    with suppress(OSError):  # a closed terminal or a full disk must not stop the command
        print(f"attnlab: {line}", file=sys.stderr, flush=True)
