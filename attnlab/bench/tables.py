"""Tables of the results of `bench attention`: one per case for the terminal, and Markdown tables for a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from attnlab.bench.results import Outcome, Report, Result

HOW = (
    "Time of one call: median over {rounds} interleaved rounds, each implementation in its own process. Ratio: "
    "median of the ratios within a round (quartiles in parentheses). Peak MB: resident memory of one call beyond its "
    "inputs and output, measured in another process; planned MB: memory that XLA's compiled program reserves beyond "
    "them."
)


def table(result: Result) -> Table:
    """Return the table of a case: one row per implementation, with the reason where it was not timed."""
    against = result.against or "—"
    table = Table(title=str(result.case), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("ms", "(quartiles)", f"÷ {against}", "(quartiles)", "peak MB", "planned MB", "error", "ready in s"):
        table.add_column(heading, justify="left" if heading.startswith("(") else "right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for outcome in result.outcomes:
        table.add_row(outcome.peer, *_cells(result, outcome), outcome.reason or outcome.note)
    return table


def markdown(report: Report) -> str:
    """Return a Markdown page: the machine, then a table of ratios and a table of memory for every mode."""
    lines = ["# attnlab bench attention", "", _machine(report.environment), ""]
    lines += [HOW.format(rounds=report.environment.get("rounds", "the")), ""]
    for mode in dict.fromkeys(result.case.mode for result in report.results):
        results = [result for result in report.results if result.case.mode == mode]
        title = mode.replace("_", " + ")
        reasons: dict[str, int] = {}
        lines += [f"## {title}: time relative to the peer in the second column", "", *ratios(results, reasons), ""]
        lines += [f"{number}. {reason}" for reason, number in reasons.items()] + ([""] if reasons else [])
        lines += [f"## {title}: peak MB of one call beyond inputs and output", "", *_memory(results), ""]
    return "\n".join(lines)


def _cells(result: Result, outcome: Outcome) -> list[str]:
    error = f"{max(outcome.errors.values()):.0e}" if outcome.errors else ""
    ready = "" if outcome.compile_seconds is None else f"{outcome.compile_seconds:.1f}"
    memory = [_megabytes(outcome.peak_bytes), _megabytes(outcome.temp_bytes)]
    if not outcome.seconds:
        return ["—", "", "—", "", *memory, error, ready]
    time, ratio = result.milliseconds(outcome.peer), result.ratio(outcome.peer)
    figures = [f"{time.median:.2f}", f"({time.low:.2f}–{time.high:.2f})"]
    figures += ["—", ""] if ratio is None else [f"{ratio.median:.2f}", f"({ratio.low:.2f}–{ratio.high:.2f})"]
    return [*figures, *memory, error, ready]


def ratios(results: Sequence[Result], reasons: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a table of ratios; reasons are footnotes, numbered in `reasons`."""
    peers = _peers(results)
    yield "| case (B,H,T,D) | ms of | " + " | ".join(peers) + " |"
    yield "|" + "---|" * (len(peers) + 2)
    for result in results:
        outcomes = {outcome.peer: outcome for outcome in result.outcomes}
        cells = []
        for peer in peers:
            outcome = outcomes.get(peer)
            if outcome is None:
                cells.append("")
            elif outcome.reason:
                cells.append(f"— <sup>{reasons.setdefault(outcome.reason, len(reasons) + 1)}</sup>")
            else:
                ratio = result.ratio(peer)
                cells.append(f"{result.milliseconds(peer).median:.2f} ms" if ratio is None else _ratio(ratio.median))
        base = f"{result.against} {result.milliseconds(result.against).median:.2f}" if result.against else "—"
        yield f"| {result.case.variant} {result.case.shape} | {base} | " + " | ".join(cells) + " |"


def _memory(results: Sequence[Result]) -> Iterator[str]:
    peers = _peers(results)
    yield "| case (B,H,T,D) | " + " | ".join(peers) + " |"
    yield "|" + "---|" * (len(peers) + 1)
    for result in results:
        outcomes = {outcome.peer: outcome for outcome in result.outcomes}
        cells = [_megabytes(outcomes[peer].peak_bytes) if peer in outcomes else "" for peer in peers]
        yield f"| {result.case.variant} {result.case.shape} | " + " | ".join(cell or "—" for cell in cells) + " |"


def _peers(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(outcome.peer for result in results for outcome in result.outcomes))


def _machine(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages", {})
    versions = ", ".join(f"{name} {packages[name]}" for name in ("jax", "flax", "torch") if packages.get(name))
    changed = " with changes" if environment.get("dirty") else ""
    commit = (environment.get("commit") or "unknown")[:10]
    devices = ", ".join(dict.fromkeys(environment.get("devices", [])))
    value = environment.get
    return (
        f"{value('cores')} cores of {value('cpu')}, {value('device_count')} devices ({devices}), "
        f"Python {value('python')}, {versions}, attnlab {value('attnlab')} at {commit}{changed}, "
        f"started {value('begun')}."
    )


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _megabytes(count: int | None) -> str:
    if count is None:
        return ""
    return "<1" if count < 1e6 else f"{count / 1e6:,.0f}"
