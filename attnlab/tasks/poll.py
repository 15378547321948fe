"""A callback that long evaluations call between batches: it reports progress, and stops them by raising."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

IndexedBatch = TypeVar("IndexedBatch", bound=tuple[Any, ...])


@runtime_checkable
class Poll(Protocol):
    """A callback between batches that takes the number of examples done and their total; it raises to stop."""

    def __call__(self, done: int = 0, total: int = 0) -> None: ...


def no_poll(done: int = 0, total: int = 0) -> None:
    """Do nothing."""


def with_poll(batches: Iterable[IndexedBatch], poll: Poll, total: int) -> Iterator[IndexedBatch]:
    """Iterate over batches, each a tuple that starts with the indices of its examples; poll before each and at the end.

    >>> list(with_poll([([0, 1], "a"), ([2], "b")], lambda done, total: print(done, "of", total), 3))
    0 of 3
    2 of 3
    3 of 3
    [([0, 1], 'a'), ([2], 'b')]
    """
    done = 0
    for batch in batches:
        poll(done, total)
        yield batch
        done += len(batch[0])
    poll(total, total)
