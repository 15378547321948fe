"""The interface of a backend: whether it supports a call of `attention`, its estimated cost, and running the call.

A backend is a subclass of `Backend` in its own file, added to `BACKENDS` in `backends/__init__.py` (or by `register`).
It must pass the conformance suite, whose tests run on every registered backend.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from attnlab.functional.backends.call import Call

Results = dict[str, Any]
"""Results by their field of `AttentionOutput`: "output" unless there are no values, and all that `options.returns`
names; each with the leading axes [b, k, g], then as in `AttentionOutput` (the output [b, k, g, T, V])."""


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a call's forward pass."""

    seconds: float | None
    """Estimated time; None if a length is symbolic."""
    peak_bytes: int | None
    """Peak memory beyond inputs and outputs, in bytes; None if a length is symbolic."""
    reason: str
    """The main source of this cost, printed by `plan` whether or not the backend is chosen."""
    block_size: tuple[int, int] | None = None
    """Queries and keys of a block; None for a backend without blocks."""
    computed: float | None = 1.0
    """The share of the logits that is computed, in [0, 1]; None if it depends on values known at run time."""


class Backend(ABC):
    """A way to compute attention, chosen by the smallest estimated time among those that support the call."""

    name: str
    """Its name as `attention(..., implementation=name)`."""

    @abstractmethod
    def supports(self, call: Call) -> str | None:
        """Return why this backend cannot run the call, or None if it can.

        The planner calls it in the order of estimated times and stops at the first None, so it may be slow. The reason
        must read as a clause after the backend's name.
        """

    @abstractmethod
    def cost(self, call: Call, device: str) -> Cost:
        """Estimate the cost of a call on a kind of device, "cpu" or "gpu"; defined for unsupported calls too.

        Like `supports`, it must depend on nothing else: eager calls with equal parts and shapes are planned once.
        """

    @abstractmethod
    def run(self, call: Call) -> Results:
        """Compute the output and the extras of a supported call, with the block size of `cost` in its options."""
