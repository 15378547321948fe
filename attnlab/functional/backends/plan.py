"""The choice of a backend for a call, and the reason for or against each backend."""

import math
from dataclasses import dataclass, field

from attnlab.functional.backends import BACKENDS
from attnlab.functional.backends.base import Backend, Cost
from attnlab.functional.backends.call import Call


@dataclass(frozen=True)
class Plan:
    """How a call of `attention` is computed; print it to read why."""

    implementation: str
    peak_bytes: int | None
    """Estimated memory of the forward pass beyond inputs and outputs, in bytes: of one example if the number of
    examples is symbolic; None if a length is symbolic."""
    block_size: tuple[int, int] | None
    """Queries and keys of a block in the forward pass; None if the implementation has no blocks."""
    computed: float | None
    """The share of the logits that is computed, in [0, 1]; None if it depends on values known at run time."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Name of every backend -> the reason why it was or was not chosen."""
    sizes: str = ""
    """How the axes of the inputs were interpreted."""

    def __str__(self) -> str:
        lines = [f"{self.implementation}: {self.reasons[self.implementation]}", f"  {self.sizes}"]
        if self.block_size is not None:
            share = "a share known at run time" if self.computed is None else f"{self.computed:.0%}"
            lines += [f"  blocks of {self.block_size[0]} queries × {self.block_size[1]} keys, {share} of all logits"]
        if self.peak_bytes is not None:
            lines += [f"  about {self.peak_bytes / 2**20:.1f} MiB beyond inputs and outputs, forward"]
        lines += [f"  not {name}: {why}" for name, why in self.reasons.items() if name != self.implementation]
        return "\n".join(lines)


def choose(call: Call, name: str | None = None) -> Plan:
    """Choose the backend with this name, or the backend with the smallest estimated time that supports the call.

    Args:
        call: the call of `attention`.
        name: name of a backend; None for the fastest.
    Raises: ValueError if no backend has this name, or if it does not support the call.
    """
    if name is not None and name not in BACKENDS:
        raise ValueError(
            f"attention: implementation {name!r} is not one of {', '.join(BACKENDS)}; write "
            'implementation="streaming" for blocks (flash attention), or None to choose the fastest'
        )
    costs = {backend.name: backend.cost(call, call.options.device) for backend in BACKENDS.values()}
    by_time = sorted(costs, key=lambda other: _seconds(costs[other]))
    candidates = by_time if name is None else [name]
    chosen, unsupported = _first_supporting(call, [BACKENDS[other] for other in candidates])
    if chosen is None:
        raise ValueError(f"attention: {_unsupported_message(call, name, unsupported, by_time)}")
    reasons = {
        other: unsupported[other] if other in unsupported else _reason(other, chosen, name is not None, costs)
        for other in BACKENDS
    }
    cost = costs[chosen]
    return Plan(chosen, cost.peak_bytes, cost.block_size, cost.computed, reasons, str(call.sizes))


def _first_supporting(call: Call, backends: list[Backend]) -> tuple[str | None, dict[str, str]]:
    """Return the first backend that supports the call, and the reasons why the backends before it do not."""
    unsupported = {}
    for backend in backends:
        why = backend.supports(call)
        if why is None:
            return backend.name, unsupported
        unsupported[backend.name] = why
    return None, unsupported


def _unsupported_message(call: Call, name: str | None, unsupported: dict[str, str], by_time: list[str]) -> str:
    """Return the reasons why no candidate supports the call, with the fastest backend that does as a suggestion."""
    if name is None:
        return "no implementation supports this call; " + "; ".join(
            f"{other}: {why}" for other, why in unsupported.items()
        )
    instead, _ = _first_supporting(call, [BACKENDS[other] for other in by_time if other != name])
    hint = "" if instead is None else f'; write implementation="{instead}"'
    return f"{name} does not support this call: {unsupported[name]}{hint}"


def _reason(name: str, chosen: str, by_name: bool, costs: dict[str, Cost]) -> str:
    """Return the reason for or against a backend that supports the call, or that was not checked."""
    reason = costs[name].reason
    if name == chosen:
        return f"selected by name ({reason})" if by_name else reason
    seconds, fastest = _seconds(costs[name]), _seconds(costs[chosen])
    if by_name:
        return f"{chosen} is selected by name ({reason})"
    if math.isfinite(seconds) and seconds > 1.05 * fastest > 0.0:
        return f"{reason} (estimated at {seconds / fastest:.1f} times the time of {chosen})"
    return reason


def _seconds(cost: Cost) -> float:
    return math.inf if cost.seconds is None else cost.seconds
