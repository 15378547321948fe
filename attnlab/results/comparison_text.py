"""A comparison of groups of runs as Markdown and as plain data."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from attnlab.results.comparison import Comparison
from attnlab.results.group_costs import GroupCost, costs_table, group_cost
from attnlab.results.group_scores import BOTH, EXAMPLES, NOTHING, SEEDS, GroupDifference, GroupScore
from attnlab.results.tables import PROPERTIES, line
from attnlab.results.varied import varied_settings
from attnlab.tasks.base import Metric
from attnlab.tasks.bootstrap import RESAMPLES
from attnlab.tasks.notes import NO_INTERVAL

MEANINGS = {
    BOTH: "for other seeds and other examples (t interval on crossed variance components)",
    SEEDS: "for other seeds on the same examples (t interval; scores of single examples are unknown)",
    EXAMPLES: f"for other examples, not for other seeds, as there is a single run (bootstrap, {RESAMPLES:,} resamples)",
}
"""What an interval accounts for -> what that means."""
MARKS = {BOTH: "", SEEDS: " †", EXAMPLES: " ‡", NOTHING: ""}


def render(comparison: Comparison) -> str:
    """Return a comparison as Markdown: scores, differences, cost, the settings that differ, and how to read it."""
    blocks = [_table(scores_table(comparison)), _table(differences_table(comparison))]
    costs = [group_cost(group) for group in comparison.groups]
    if any(cost.step for cost in costs) or len(comparison.groups) > 2:
        blocks.append(_table(costs_table(comparison.names, costs)))
    return "\n\n".join([*blocks, *notes(comparison, costs)]) + "\n"


def scores_table(comparison: Comparison) -> list[list[str]]:
    """Return rows of cells, the headings first: mean ± standard deviation over seeds and interval of every group."""
    metrics = _metrics(comparison)
    rows = [["test set", "group", "seeds", *(metric.heading for metric in metrics)]]
    for split in dict.fromkeys(score.split for score in comparison.scores):
        for number, (name, group) in enumerate(zip(comparison.names, comparison.groups, strict=True)):
            found = {s.metric.name: s for s in comparison.scores if s.group == number and s.split == split}
            cells = [score_cell(found.get(metric.name)) for metric in metrics]
            rows.append([split, f"`{name}`", ", ".join(str(run.seed) for run in group.runs), *cells])
    return rows


def differences_table(comparison: Comparison) -> list[list[str]]:
    """Return rows of cells, the headings first: difference with interval, p-values, effect size, detectable."""
    corrected = any(difference.p_holm is not None for difference in comparison.differences)
    several = any(difference.basis != EXAMPLES for difference in comparison.differences)
    headings = ["test set", "metric", "comparison", "difference", "p", *["p (Holm)"] * corrected]
    rows = [[*headings, *["g", "detectable"] * several]]
    for entry in comparison.differences:
        first, second = (comparison.names[number] for number in (entry.first, entry.second))
        cells = [entry.split, entry.metric.heading, f"`{first}` − `{second}`", difference_cell(entry), p_text(entry.p)]
        cells += [p_text(entry.p_holm)] * corrected
        digits = entry.metric.digits
        cells += [number_text(entry.effect, 1, "+"), number_text(entry.detectable, digits)] if several else []
        rows.append(cells)
    return rows


def score_cell(score: GroupScore | None) -> str:
    """Format a score: mean ± standard deviation over seeds [interval]; — if there is none."""
    if score is None:
        return "—"
    digits = score.metric.digits
    text = f"{score.mean:.{digits}f}"
    if score.deviation is not None:
        text += f" ± {score.deviation:.{digits}f}"
    if score.interval is None:
        return text
    return f"{text} [{score.interval[0]:.{digits}f}, {score.interval[1]:.{digits}f}]{MARKS[score.basis]}"


def difference_cell(entry: GroupDifference) -> str:
    """Format a difference with its interval, and a mark for what the interval accounts for."""
    digits = entry.metric.digits
    ends = f" [{entry.interval[0]:+.{digits}f}, {entry.interval[1]:+.{digits}f}]" if entry.interval else ""
    return f"{entry.value:+.{digits}f}{ends}{MARKS[entry.basis]}"


def p_text(p: float | None) -> str:
    """Format a p-value; — if there is none."""
    return "—" if p is None else "< 0.001" if p < 0.0005 else f"{p:.3f}"


def number_text(value: float | None, digits: int, sign: str = "") -> str:
    """Format a number; — if there is none."""
    return "—" if value is None else f"{value:{sign}.{digits}f}"


def notes(comparison: Comparison, costs: Sequence[GroupCost]) -> Iterator[str]:
    """Yield paragraphs: what was left out, what the columns mean, settings and environments that differ, and cost."""
    yield from (f"Not compared: {text}." for text in comparison.omitted)
    if any(entry.interval is None and entry.basis == EXAMPLES for entry in comparison.differences):
        splits = ", ".join(dict.fromkeys(e.split for e in comparison.differences if e.interval is None))
        yield f"{NO_INTERVAL.capitalize()} ({splits})."
    yield " ".join(_legend(comparison))
    yield _settings(comparison)
    yield from _environments(comparison)
    if unknown := [group for group, cost in zip(comparison.groups, costs, strict=True) if not cost.step]:
        commands = ", ".join(f"`attnlab cost {group.runs[0].directory}/config.yaml`" for group in unknown[:2])
        more = f" and {len(unknown) - 2} more" if len(unknown) > 2 else ""
        yield f"The cost of a step is unknown for {len(unknown)} group(s): {commands}{more}."


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data."""
    names = comparison.names
    return {
        "task": comparison.groups[0].kind,
        "groups": [
            {
                "name": name,
                "runs": [str(run.directory) for run in group.runs],
                "seeds": [run.seed for run in group.runs],
                "cost": group_cost(group).as_json(),
            }
            for name, group in zip(names, comparison.groups, strict=True)
        ],
        "varied": varied_settings(comparison.groups),
        "scores": [
            {"group": names[s.group], "split": s.split, "metric": s.metric.name, "mean": s.mean, "runs": list(s.runs),
             "standard_deviation": s.deviation, "ci95": s.interval and list(s.interval), "accounts_for": s.basis}
            for s in comparison.scores
        ],
        "differences": [
            {"first": names[d.first], "second": names[d.second], "split": d.split, "metric": d.metric.name,
             "difference": d.value, "ci95": d.interval and list(d.interval), "p": d.p, "p_holm": d.p_holm,
             "hedges_g": d.effect, "detectable": d.detectable, "standard_error": d.standard_error, "df": d.df,
             "accounts_for": d.basis}
            for d in comparison.differences
        ],
        "not_compared": list(comparison.omitted),
    }  # fmt: skip


def _metrics(comparison: Comparison) -> list[Metric]:
    return list({score.metric.name: score.metric for score in comparison.scores}.values())


def _table(rows: Sequence[Sequence[str]]) -> str:
    kinds = ["---" if heading in ("test set", "group", "metric", "comparison") else "---:" for heading in rows[0]]
    return "\n".join([line(rows[0]), f"|{'|'.join(kinds)}|", *map(line, rows[1:])])


def _legend(comparison: Comparison) -> Iterator[str]:
    if any(score.deviation is not None for score in comparison.scores):
        yield "Scores are mean ± standard deviation over the seeds."
    yield "[low, high] is a 95% interval,"
    used = {entry.basis for entry in (*comparison.scores, *comparison.differences)}
    bases = [basis for basis in MEANINGS if basis in used]
    yield "; ".join(f"{MARKS[basis].strip()} {MEANINGS[basis]}".strip() for basis in bases) + "."
    if any(entry.p_holm is not None for entry in comparison.differences):
        tested = max(Counter((entry.metric, entry.split) for entry in comparison.differences).values())
        yield f"p (Holm) is corrected for the {tested} comparisons of a metric on a test set."
    if any(entry.basis != EXAMPLES for entry in comparison.differences):
        yield (
            "g is the difference in standard deviations over the seeds (Hedges). A true difference below `detectable` "
            "is found with a chance of less than 80%: that it was not found says little."
        )
    if any(entry.basis == EXAMPLES for entry in comparison.differences):
        yield (
            "The bootstrap's p is twice the fraction of resamples in which the difference has the opposite sign or is "
            "zero, at least 2 / 2^m for m examples on which the two differ."
        )


def _settings(comparison: Comparison) -> str:
    settings = varied_settings(comparison.groups)
    if not settings:
        return "The configs are equal."
    lines = [f"- `{place}`: {' vs. '.join(dict.fromkeys(values))}" for place, values in settings.items()]
    return "\n".join([f"The configs differ in {len(lines)} setting{'s' if len(lines) > 1 else ''}:", "", *lines])


def _environments(comparison: Comparison) -> Iterator[str]:
    """Yield the differences in machine, version of jax and commit, which may affect the results too."""
    different = []
    for name, value_of in PROPERTIES.items():
        values = [", ".join(dict.fromkeys(map(value_of, group.runs))) for group in comparison.groups]
        if name != "seed" and len(set(values)) > 1:
            different.append(f"{name} {' vs. '.join(values)}")
    devices = [str(group.runs[0].environment["fingerprint"].get("devices", "?")) for group in comparison.groups]
    if len(set(devices)) > 1:
        different.append(f"devices {' vs. '.join(devices)}")
    if different:
        yield f"The environments differ: {'; '.join(different)}."
