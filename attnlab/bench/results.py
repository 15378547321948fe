"""The measurements of `bench attention` and their statistics; written to and read from `results.json`."""

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
    """A median with its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """Return median and quartiles of numbers; those of a single number are the number itself.

        >>> Spread.of([4.0, 1.0, 3.0, 2.0, 5.0])
        Spread(low=2.0, median=3.0, high=4.0)
        """
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0])
        low, _, high = quantiles(numbers, n=4, method="inclusive")
        return cls(low, median(numbers), high)


class Exponent(NamedTuple):
    """The exponent of a power law y ∝ x^value that is fitted to points."""

    value: float
    error: float | None
    """Standard error; None for two points, which determine the power law."""

    def __str__(self) -> str:
        return f"{self.value:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


@dataclass(frozen=True)
class Outcome:
    """The measurements of one implementation in one case, or the reason why there are none."""

    peer: str
    runtime: str
    seconds: tuple[float, ...] = ()
    """Seconds of a call in each round; empty if it was not timed."""
    reason: str | None = None
    """The reason why it was not timed."""
    compile_seconds: float | None = None
    """Seconds until the first result."""
    peak_bytes: int | None = None
    """Measured peak of resident memory during a call, beyond inputs and output."""
    temp_bytes: int | None = None
    """Memory that the compiler plans beyond inputs and output."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Largest error of the output and of each gradient, relative to the largest value of the float64 reference."""
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One case, measured with all implementations in alternation."""

    case: Case
    outcomes: tuple[Outcome, ...]
    against: str | None
    """Peer that is the baseline of the ratios; None if none of the baselines was timed."""

    @property
    def timed(self) -> dict[str, Outcome]:
        """Outcomes of the timed implementations, by name."""
        return {outcome.peer: outcome for outcome in self.outcomes if outcome.seconds}

    def milliseconds(self, peer: str) -> Spread:
        """Return the time of a call."""
        return Spread.of([1e3 * seconds for seconds in self.timed[peer].seconds])

    def ratio(self, peer: str) -> Spread | None:
        """Return the time relative to the baseline.

        Ratios are taken within each round, so that a temporary slowdown of the whole machine cancels.
        """
        if self.against is None:
            return None
        pairs = zip(self.timed[peer].seconds, self.timed[self.against].seconds, strict=True)
        return Spread.of([seconds / baseline for seconds, baseline in pairs])


@dataclass(frozen=True)
class Report:
    """The results of a benchmark."""

    environment: Mapping[str, Any]
    """Versions, commit, devices and cores of the machine; start time; options."""
    results: tuple[Result, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all measurements, with their medians and ratios, as JSON values."""
        results = [
            asdict(result) | {"summary": {peer: _summary(result, peer) for peer in result.timed}}
            for result in self.results
        ]
        return {"environment": dict(self.environment), "results": results}

    def save(self, directory: Path) -> None:
        """Write `results.json` to a directory."""
        (directory / FILE).write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Report":
        """Build a report from the values of `to_json`."""
        results = []
        for item in data["results"]:
            outcomes = tuple(Outcome(**values | {"seconds": tuple(values["seconds"])}) for values in item["outcomes"])
            results.append(Result(Case.of(item["case"]), outcomes, item["against"]))
        return cls(data["environment"], tuple(results))


def read(directory: Path) -> Report:
    """Read a report that `Report.save` wrote."""
    try:
        return Report.of(json.loads((directory / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{directory}: contains no {FILE} of attnlab bench attention") from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise UserError(f"{directory / FILE}: is not a result of attnlab bench attention ({error!r})") from None


def exponent(points: Sequence[tuple[float, float]]) -> Exponent | None:
    """Fit y = c·x^e by least squares on the logarithms; return None for fewer than two distinct x.

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
    residual = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Exponent(slope, math.sqrt(residual / (len(points) - 2) / spread))


def choose_baseline(timed: Sequence[str], baselines: Sequence[str]) -> str | None:
    """Return the first of the baselines that was timed, or None."""
    return next((name for name in baselines if name in timed), None)


def _summary(result: Result, peer: str) -> dict[str, Any]:
    ratio = result.ratio(peer)
    summary = {"milliseconds": result.milliseconds(peer)._asdict(), "ratio": ratio._asdict() if ratio else None}
    if result.against is None:
        return summary
    return summary | {"ratio_of_medians": result.milliseconds(peer).median / result.milliseconds(result.against).median}
