"""The page of a claim and the list of all claims, in Markdown.

What stands between the markers of a page is generated: verdict, figure, effects and runs. A page that exists keeps the
rest, which may be written by hand; a new one is made from the texts of the claim.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from attnlab.claims.costs import FIT, ROUNDS
from attnlab.claims.evidence import BOTH, EXAMPLES, SEEDS, Evidence
from attnlab.claims.figure import RATIO, means
from attnlab.claims.verdict import DEPENDS, MIN_SEEDS, TOO_FEW, UNKNOWN, Effect, Verdict
from attnlab.config.claim import Claim
from attnlab.config.claim_effects import RunsPanel
from attnlab.results import marked_text
from attnlab.results.tables import duration, line
from attnlab.training.atomic_files import write_whole

MARKS = ("verdict", "figure", "effects", "runs")
"""Names of the markers of a page, in order."""
COLUMNS = 128
"""Columns of a paragraph."""
INDEX, INDEX_MARK = "index.md", "claims"
FEW = "too few seeds"
"""Outcome of an effect in the quick version."""
BASES = {BOTH: "", SEEDS: " †", EXAMPLES: " ‡", ROUNDS: " §", FIT: " ¶"}
"""Marks of intervals by what they account for."""
NOTES = {
    "": "without a mark for other seeds and other test examples (t interval on crossed variance components)",
    " †": "† for other seeds on the same examples (t interval over seeds)",
    " ‡": "‡ for other examples and not for other seeds, as there is a single run (bootstrap)",
    " §": "§ for other rounds of timed calls (t interval of the logarithms)",
    " ¶": "¶ of the slope of the fitted line",
}
"""Notes on these marks."""


@dataclass(frozen=True)
class Finding:
    """A claim with what was found.

    Attributes:
        claim: the claim.
        evidence: what has been measured.
        effects: its effects.
        verdict: the verdict on it.
        command: the command that does all of it.
        has_figure: whether NAME.png was drawn.
    """

    claim: Claim
    evidence: Evidence
    effects: Sequence[Effect]
    verdict: Verdict
    command: str
    has_figure: bool


def write_page(finding: Finding, directory: Path) -> Path:
    """Write the page of a claim: NAME.md of a directory."""
    path = directory / f"{finding.claim.name}.md"
    if not path.exists():
        write_whole(path, _skeleton(finding))
    for mark in MARKS:
        marked_text.insert(generated(finding, mark), path, mark)
    return path


def write_index(findings: Sequence[Finding], directory: Path) -> Path:
    """Write the list of claims: index.md of a directory."""
    path = directory / INDEX
    if not path.exists():
        begin, end = marked_text.pair(INDEX_MARK)
        write_whole(
            path, f"# Claims about attention\n\n{_wrapped(_about(findings[0].evidence.quick))}\n\n{begin}\n{end}\n"
        )
    marked_text.insert(index_table(findings), path, INDEX_MARK)
    return path


def index_table(findings: Sequence[Finding]) -> str:
    """Return the list of claims as a table: claim, verdict, first effect with its interval, and link."""
    rows = [
        line(
            [
                f"[{finding.claim.claim}]({finding.claim.name}.md)",
                f"**{finding.verdict}**",
                _first_effect(finding),
            ]
        )
        for finding in findings
    ]
    return "\n".join(["| claim | verdict | first effect [95% interval] |", "|---|---|---|", *rows]) + "\n"


def generated(finding: Finding, mark: str) -> str:
    """Return what stands between the markers with a name."""
    match mark:
        case "verdict":
            return f"{_verdict(finding)}\n"
        case "figure":
            name = finding.claim.name
            return f"![{finding.claim.claim}]({name}.png)\n" if finding.has_figure else "Not run yet.\n"
        case "effects":
            return "\n".join(_effects_table(finding.effects, finding.evidence.quick)) + "\n"
        case _:
            return "\n".join(_runs(finding)) + "\n"


def _skeleton(finding: Finding) -> str:
    claim = finding.claim
    marked = {mark: "\n".join(marked_text.pair(mark)) for mark in MARKS}
    return f"""# {claim.claim}

{_wrapped(f"**Question.** {claim.question}")}

{marked["verdict"]}

{marked["figure"]}

## Design

{_wrapped(claim.design)}

## Effects

{marked["effects"]}

## What would change the verdict

{_wrapped(claim.change)}

## Runs

{marked["runs"]}
"""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _about(quick: bool) -> str:
    text = (
        "Claims that are commonly made about attention, each with the experiment that examines it. A verdict is "
        "computed from 95% intervals: a claim **holds** if every effect it names lies, with its whole interval, at or "
        "above the smallest effect that counts, **does not hold** if every one lies below, **depends** if some do and "
        "some do not, and is **undecided** if an interval is too wide to tell."
    )
    if quick:
        return f"{text} This is the quick version: few seeds, small data and short training, on which no verdict rests."
    return text


def _verdict(finding: Finding) -> str:
    word, reason = finding.verdict.word, finding.verdict.reason
    if word == UNKNOWN:
        return "**Verdict: not run yet.**"
    if word == TOO_FEW:
        few = f"fewer than {MIN_SEEDS} seeds" if not finding.evidence.quick else "this is the quick version"
        return f"**Verdict: {TOO_FEW}** ({few}). {_sentence(finding)}"
    word = f"{DEPENDS} the condition" if word == DEPENDS else word
    return f"**Verdict: {word}.** {_sentence(finding)}" + (f" {reason}" if reason else "")


def _sentence(finding: Finding) -> str:
    first = next((effect for effect in finding.effects if effect.value is not None), None)
    return "" if first is None else f"{first.label[:1].upper()}{first.label[1:]}: {_value(first)}."


def _first_effect(finding: Finding) -> str:
    return _sentence(finding).removesuffix(".") or "—"


def _effects_table(effects: Sequence[Effect], quick: bool) -> Iterator[str]:
    """Yield the table of effects; that of the quick version has no outcomes."""
    yield "| effect | estimate [95% interval] | counts from | outcome |"
    yield "|---|---:|---:|---|"
    for effect in effects:
        outcome = (FEW if quick else effect.outcome) if effect.claimed else "not part of the claim"
        least = _number(effect.at_least, _format(effect)) + (" either way" if effect.two_sided else "")
        yield line([effect.label, "—" if effect.value is None else _value(effect) + _basis(effect), least, outcome])
    notes = [NOTES[mark] for mark in dict.fromkeys(_basis(e) for e in effects if _has_ends(e)) if mark in NOTES]
    if notes:
        yield ""
        yield f"Intervals: {'; '.join(notes)}."


def _basis(effect: Effect) -> str:
    return BASES.get(effect.basis, "")


def _format(effect: Effect) -> str:
    """Return the format of an effect's numbers; ratios have no sign."""
    return f"{'' if effect.unit == RATIO else '+'}.{effect.digits}f"


def _has_ends(effect: Effect) -> bool:
    return effect.interval is not None and effect.interval[1] > effect.interval[0]


def _value(effect: Effect) -> str:
    """Return an estimate with its interval and unit."""
    assert effect.value is not None
    digits = _format(effect)
    text = _number(effect.value, digits)
    if effect.interval is not None and _has_ends(effect):
        low, high = effect.interval
        text += f" [{_number(low, digits)}, {_number(high, digits)}]"
    return f"{text} {effect.unit}".strip()


def _number(value: float, digits: str) -> str:
    text = format(value, digits) if math.isfinite(value) else "∞"
    return text.replace("-", "−")


def _runs(finding: Finding) -> Iterator[str]:
    """Yield the tables of groups, and the command."""
    claim, evidence = finding.claim, finding.evidence
    for panel in claim.figure:
        if isinstance(panel, RunsPanel) and means(panel, evidence):
            yield from _panel(panel, evidence)
            yield ""
    for name in evidence.costs:
        yield f"Cost `{name}`: {_machine(name, evidence)}."
        yield ""
    for name, runs in evidence.studies.items():
        if runs.complete < runs.planned:
            yield f"Of the study {name}, {runs.complete} of {runs.planned} runs are complete."
            yield ""
    yield "```"
    yield finding.command
    yield "```"


def _panel(panel: RunsPanel, evidence: Evidence) -> Iterator[str]:
    """Yield the table of a panel's groups."""
    yield f"{panel.title[:1].upper()}{panel.title[1:]}:\n"
    yield "| group | mean [95% interval] | seeds | training of a run | commit |"
    yield "|---|---:|---|---|---|"
    for one in means(panel, evidence):
        runs, ends, digits = one.group.runs, "", f".{panel.digits}f"
        if one.mean.interval is not None and one.mean.interval[1] > one.mean.interval[0]:
            low, high = one.mean.interval
            ends = f" [{_number(low, digits)}, {_number(high, digits)}]{BASES.get(one.mean.basis, '')}"
        seeds = ", ".join(str(run.seed) for run in runs)
        commit = "; ".join(dict.fromkeys(run.commit for run in runs))
        took = duration(mean(run.seconds for run in runs))
        yield line([one.name or "the model", f"{_number(one.mean.value, digits)}{ends}", seeds, took, commit])


def _machine(name: str, evidence: Evidence) -> str:
    report = evidence.costs[name]
    environment = report.environment
    rounds = min((len(o.seconds) for result in report.results for o in result.timed.values()), default=0)
    cores, cpu = environment.get("cores"), environment.get("cpu") or "CPU"
    commit = str(environment.get("commit") or environment.get("attnlab"))[:7]
    return f"{rounds} timed rounds of every case on one of {cores} cores of {cpu}, commit {commit}"
