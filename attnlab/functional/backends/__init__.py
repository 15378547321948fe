"""Backends: how attention is computed. Each is one file that implements `base.Backend`.

`BACKENDS` lists them; of backends with the same estimated time, the planner chooses the first.
"""

from attnlab.functional.backends.base import Backend
from attnlab.functional.backends.block_sparse import BlockSparse
from attnlab.functional.backends.dense import Dense
from attnlab.functional.backends.streaming import Streaming

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Dense(), Streaming(), BlockSparse())}
"""Name of an implementation -> backend."""


def register(backend: Backend) -> None:
    """Add a backend to `BACKENDS`, so that `attention` can choose it and take its name as `implementation`.

    >>> class Slow(Dense):
    ...     name = "slow"
    >>> register(Slow())
    >>> BACKENDS.pop("slow").name
    'slow'
    """
    if backend.name in BACKENDS:
        raise ValueError(f"register: a backend named {backend.name!r} exists; write another name")
    BACKENDS[backend.name] = backend
