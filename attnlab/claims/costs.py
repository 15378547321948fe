"""Costs of attention for a claim: measured by `attnlab bench attention`, as samples over rounds and as exponents."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from attnlab.analysis.significance import Estimate, seeds_difference, seeds_mean
from attnlab.bench import attention
from attnlab.bench.cases import Case, Peer, Shape
from attnlab.bench.results import FILE, Report, exponent, read
from attnlab.claims.evidence import Measured, recentered
from attnlab.config.claim import Cost, Sizes
from attnlab.config.claim_effects import Exponent, Quantity, Ratio
from attnlab.config.errors import UserError

TINY_ROUNDS = 2
PLANNED, ROUNDS, FIT = "nothing: the compiler plans it", "rounds", "the fit"
"""What an interval of a cost accounts for."""


def run_benchmark(cost: Cost, quick: bool, tiny: bool, directory: Path, log: Callable[[str], None]) -> Report:
    """Measure all cases of a cost, and write results.json; a measurement that is complete is not repeated.

    Args:
        cost: the measurement.
        quick: take the sizes of the quick version.
        tiny: take the first sizes only.
        directory: directory of results.json.
        log: called with lines of progress.
    """
    cases = list(_cases(cost, cost.sizes(quick), tiny))
    if (directory / FILE).exists():
        report = read(directory)
        if {result.case for result in report.results} == set(cases):
            return report
    directory.mkdir(parents=True, exist_ok=True)
    environment = attention.machine("float32") | {"command": [Path(sys.argv[0]).name, *sys.argv[1:]]}
    rounds = TINY_ROUNDS if tiny else cost.sizes(quick).rounds
    return attention.benchmark(
        cases, [Peer(cost.backend)], rounds, environment, (), directory, log, lambda result: None
    )  # fmt: skip


def named(report: Report, variants: Mapping[str, str]) -> Report:
    """Return a report in which the variants have their names on the page."""
    names = {variant: name for name, variant in variants.items()}
    results = (
        replace(r, case=replace(r.case, variant=names.get(r.case.variant, r.case.variant))) for r in report.results
    )
    return Report(report.environment, tuple(results))


def archive(report: Report, directory: Path) -> None:
    """Write a report to another directory without what names the machine's files."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = ("packages", "cores", "cpu", "commit", "dirty", "attnlab", "backend", "device_count")
    Report({name: value for name, value in report.environment.items() if name in kept}, report.results).save(directory)


def ratio(effect: Ratio, report: Report) -> Measured | None:
    """Estimate the ratio of the costs of two variants; None if they were not measured.

    It is the ratio of geometric means over the rounds. The interval is Welch's over the logarithms of the rounds: the
    variants are timed one after the other, so their rounds are not paired.
    """
    shape = _shape(effect.length, effect.width, report)
    found = [costs_of(report, name, effect.mode, shape, effect.quantity) for name in (effect.first, effect.second)]
    if found[0] is None or found[1] is None:
        return None
    first, second = np.log(found[0]), np.log(found[1])
    rounds = len(_seconds(report))
    value = math.exp(first.mean() - second.mean())
    if effect.quantity == "memory":
        return Measured(value, (value, value), PLANNED, rounds)
    if rounds < 2:
        return Measured(value, None, "", rounds)
    low, high = seeds_difference(first, second).interval()
    return Measured(value, (math.exp(low), math.exp(high)), ROUNDS, rounds)


def growth(effect: Exponent, report: Report) -> Measured | None:
    """Estimate the exponent of a cost against the length, or the difference of two; None if it was not measured.

    The interval is that of the slope of a line through the logarithms of the medians.
    """
    parts = [(effect.variant, 1.0), *([(effect.minus, -1.0)] if effect.minus else [])]
    value, variance, degrees = 0.0, 0.0, math.inf
    for variant, sign in parts:
        points = [
            (length, cost)
            for length, cost in curve(report, variant, effect.mode, effect.quantity, "length")
            if length >= effect.from_length
        ]
        fitted = exponent(points)
        if fitted is None:
            return None
        value += sign * fitted.value
        variance += math.inf if fitted.error is None else fitted.error**2
        degrees = min(degrees, len(points) - 2)
    rounds = len(_seconds(report))
    if not math.isfinite(variance):
        return Measured(value, None, "", rounds)
    return Measured(value, recentered(value, Estimate(value, math.sqrt(variance), max(degrees, 1))), FIT, rounds)


def curve(report: Report, variant: str, mode: str, quantity: Quantity, along: str) -> list[tuple[int, float]]:
    """Return the median cost of a variant at every length or width; the other is the largest one measured."""
    return [(x, float(np.median(found))) for x, found in _along(report, variant, mode, quantity, along)]


def spreads(
    report: Report, variant: str, mode: str, quantity: Quantity, along: str
) -> Iterator[tuple[int, float, float]]:
    """Yield at every length or width the 95% interval of the geometric mean over rounds; none of planned memory."""
    for x, found in _along(report, variant, mode, quantity, along):
        if len(found) > 1:
            low, high = seeds_mean(np.log(found)).interval()
            yield x, math.exp(low), math.exp(high)


def _along(report: Report, variant: str, mode: str, quantity: Quantity, along: str) -> list[tuple[int, np.ndarray]]:
    shapes = sorted({result.case.shape for result in report.results})
    other = "width" if along == "length" else "length"
    largest = max(getattr(shape, other) for shape in shapes)
    found = (
        (getattr(shape, along), costs_of(report, variant, mode, shape, quantity))
        for shape in shapes
        if getattr(shape, other) == largest
    )
    return sorted(((x, costs) for x, costs in found if costs is not None), key=lambda point: point[0])


def costs_of(report: Report, variant: str, mode: str, shape: Shape, quantity: Quantity) -> np.ndarray | None:
    """Return the milliseconds of every round, or the memory in MB that the compiler plans; None if it is unknown."""
    for result in report.results:
        case = result.case
        if (case.variant, case.mode, case.shape) == (variant, mode, shape) and result.timed:
            outcome = next(iter(result.timed.values()))
            if quantity == "time":
                return 1e3 * np.array(outcome.seconds)
            return None if not outcome.temp_bytes else np.array([outcome.temp_bytes / 1e6])
    return None


def _cases(cost: Cost, sizes: Sizes, tiny: bool) -> Iterator[Case]:
    lengths, widths = (sizes.lengths[:3], sizes.widths[:1]) if tiny else (sizes.lengths, sizes.widths)
    shapes = dict.fromkeys(
        [Shape(1, cost.heads, length, max(widths)) for length in lengths]
        + [Shape(1, cost.heads, max(lengths), width) for width in widths]
    )
    for mode in cost.modes:
        for variant in cost.variants.values():
            yield from (Case(variant, mode, shape, "float32") for shape in shapes)


def _shape(length: int | None, width: int | None, report: Report) -> Shape:
    shapes = [result.case.shape for result in report.results]
    if not shapes:
        raise UserError("a measurement of cost has no results")
    return Shape(
        1, shapes[0].heads, length or max(s.length for s in shapes), width or max(s.width for s in shapes)
    )  # fmt: skip


def _seconds(report: Report) -> tuple[float, ...]:
    outcomes = (outcome for result in report.results for outcome in result.timed.values())
    return min((outcome.seconds for outcome in outcomes), key=len, default=())
