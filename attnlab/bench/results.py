"""What `bench attention` measured, and the statistics of it; written to and read from `results.json`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from attnlab.bench.cases import Case
from attnlab.config.errors import UserError

FILE = "results.json"


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """Summarize; a single number is its own quartiles.

        >>> Spread.of([4.0, 1.0, 3.0, 2.0, 5.0])
        Spread(low=2.0, median=3.0, high=4.0)
        """
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0])
        low, _, high = quantiles(numbers, n=4, method="inclusive")
        return cls(low, median(numbers), high)


class Exponent(NamedTuple):
    """A power law fitted to points: y ∝ x^value."""

    value: float
    error: float | None
    """Standard error; None for two points, which any power law goes through."""

    def __str__(self) -> str:
        return f"{self.value:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


@dataclass(frozen=True)
class Outcome:
    """What became of one implementation in one case."""

    peer: str
    about: str
    seconds: tuple[float, ...] = ()
    """Of one call, a number a round; none when it was not timed."""
    why: str | None = None
    """The reason why it was not timed."""
    compile_seconds: float | None = None
    """Until the first result was there."""
    peak_bytes: int | None = None
    """Measured peak of resident memory during a call, beyond inputs and output."""
    temp_bytes: int | None = None
    """What the compiler plans for beyond inputs and output."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Largest error of the output and of each gradient against float64, relative to the largest number."""
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One case, all implementations taking turns."""

    case: Case
    outcomes: tuple[Outcome, ...]
    against: str | None
    """Whom the ratios are taken against; None where it was not timed."""

    @property
    def timed(self) -> dict[str, Outcome]:
        """The outcomes that have times, by implementation."""
        return {outcome.peer: outcome for outcome in self.outcomes if outcome.seconds}

    def milliseconds(self, peer: str) -> Spread:
        """Time of a call."""
        return Spread.of([1e3 * seconds for seconds in self.timed[peer].seconds])

    def ratio(self, peer: str) -> Spread | None:
        """Time relative to the one it is compared with: each round's own ratio, so that what slows the whole machine
        for a while cancels."""
        if self.against is None:
            return None
        pairs = zip(self.timed[peer].seconds, self.timed[self.against].seconds, strict=True)
        return Spread.of([mine / other for mine, other in pairs])


@dataclass(frozen=True)
class Report:
    """A whole benchmark."""

    environment: Mapping[str, Any]
    """Versions, commit, devices and cores of the machine; when it was begun; the options."""
    results: tuple[Result, ...]

    def plain(self) -> dict[str, Any]:
        """All that was measured, and the medians and ratios with it, as plain data."""
        results = [
            asdict(result) | {"summary": {peer: _summary(result, peer) for peer in result.timed}}
            for result in self.results
        ]
        return {"environment": dict(self.environment), "results": results}

    def save(self, directory: Path) -> None:
        """Write `plain` into a directory."""
        (directory / FILE).write_text(json.dumps(self.plain(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Report":
        """Read what `plain` returns."""
        results = []
        for item in data["results"]:
            outcomes = tuple(Outcome(**one | {"seconds": tuple(one["seconds"])}) for one in item["outcomes"])
            results.append(Result(Case.of(item["case"]), outcomes, item["against"]))
        return cls(data["environment"], tuple(results))


def read(directory: Path) -> Report:
    """Read what `Report.save` wrote."""
    try:
        return Report.of(json.loads((directory / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{directory}: holds no {FILE} of attnlab bench attention") from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise UserError(f"{directory / FILE}: not written by attnlab bench attention ({error!r})") from None


def exponent(points: Sequence[tuple[float, float]]) -> Exponent | None:
    """Fit y = c·x^e by least squares on the logarithms; None for fewer than two different x.

    >>> print(exponent([(1.0, 3.0), (2.0, 12.0), (4.0, 48.0)]))
    2.00 ± 0.00
    """
    if len({x for x, _ in points}) < 2:
        return None
    xs, ys = ([math.log(point[axis]) for point in points] for axis in (0, 1))
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    if len(points) == 2:
        return Exponent(slope, None)
    rest = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Exponent(slope, math.sqrt(rest / (len(points) - 2) / spread))


def compared_with(timed: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the first of those wanted that was timed."""
    return next((name for name in wanted if name in timed), None)


def _summary(result: Result, peer: str) -> dict[str, Any]:
    ratio = result.ratio(peer)
    both = {"milliseconds": result.milliseconds(peer)._asdict(), "ratio": ratio._asdict() if ratio else None}
    if result.against is None:
        return both
    return both | {"ratio_of_medians": result.milliseconds(peer).median / result.milliseconds(result.against).median}
