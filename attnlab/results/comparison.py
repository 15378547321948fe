"""Two runs side by side on the same test sets: how far apart they are, how sure that is, and what they differ in."""

from collections.abc import Iterator

from attnlab.config.errors import UserError
from attnlab.config.load import differing
from attnlab.results.record import Facts
from attnlab.results.scores import Each, each_of
from attnlab.results.tables import ABOUT, line
from attnlab.tasks.base import Metric
from attnlab.tasks.bootstrap import FEWEST, RESAMPLES, Difference, paired_difference
from attnlab.tasks.notes import FEW

NOTE = (
    f"[low, high] is the 95% interval of {RESAMPLES:,} draws of the test set's examples (paired bootstrap), and p "
    "twice the share in which the difference had the other sign or was none, but no less than 2 / 2^m, m the examples "
    "on which the two differ. They tell how much another test set would differ, not how much another seed would."
)


def page(first: Facts, second: Facts) -> str:
    """Compare two runs on every test set of which both know what its examples scored, in Markdown.

    Raises:
        UserError: they are of different tasks, or share no test set, or one was evaluated before attnlab kept what
            this needs.
    """
    if first.kind != second.kind:
        raise UserError(f"{first.directory} is a run of the task {first.kind}, {second.directory} of {second.kind}")
    shared = [split for split in first.results if split in second.results]
    if not shared:
        raise UserError(
            f"{first.directory} was scored on {', '.join(first.results)}, {second.directory} on "
            f"{', '.join(second.results)}: none in common"
        )
    pairs = {split: (_known(first, split), _known(second, split)) for split in shared}
    known = {split: (one, other) for split, (one, other) in pairs.items() if one and other}
    if not known:
        split = shared[0]
        raise UserError(_missing(first if pairs[split][0] is None else second, split))
    notes = [f"Not compared: {split}, whose examples were not kept.\n" for split in shared if split not in known]
    notes += [f"{text}\n" for split in known for text in _noted(first, second, split)]
    notes += [f"{FEW.capitalize()} ({split}).\n" for split, (one, _) in known.items() if _few(one)]
    tables = _tables(first, second, known)
    return "\n".join([*tables, "", *notes, *_settings(first, second), *_about(first, second), NOTE]) + "\n"


def differences(first: Facts, second: Facts, split: str, one: Each, other: Each) -> Iterator[tuple[Metric, Difference]]:
    """Compare every score of a test set that is known example by example, in the order of the task's columns."""
    if one.examples != other.examples:
        raise UserError(f"{first.directory} and {second.directory}: {split} has not the same examples")
    for column in first.task.reported_metrics:
        name = column.name
        if name in one.rows and name in other.rows:
            rows = one.rows[name], other.rows[name]
            yield column, paired_difference(*rows, lambda rows, name=name: first.task.aggregate(name, rows))


def _known(facts: Facts, split: str) -> Each | None:
    """What the examples of a split scored, if it was kept; it must belong to the results."""
    each = each_of(facts.directory, split)
    for name, rows in () if each is None else each.rows.items():
        score = facts.results[split].get(name)
        if score is not None and abs(facts.task.aggregate(name, rows) - score) > 1e-4:
            raise UserError(f"{facts.directory}: each/{split}.json is not of these results; {_again(facts, split)}")
    return each


def _missing(facts: Facts, split: str) -> str:
    if not (facts.directory / "checkpoints").is_dir():
        return f"{facts.directory}: holds what `attnlab results --save` kept of a run; the run itself is needed"
    return f"{facts.directory}: what the examples of {split} scored is not kept; {_again(facts, split)} keeps it"


def _again(facts: Facts, split: str) -> str:
    return f"attnlab evaluate {facts.directory} --split {split}"


def _tables(first: Facts, second: Facts, known: dict[str, tuple[Each, Each]]) -> Iterator[str]:
    names = [facts.directory.resolve().name for facts in (first, second)]
    if names[0] == names[1]:
        names = [str(facts.directory) for facts in (first, second)]
    yield line(["test set", "score", *(f"`{name}`" for name in names), "difference", "p"])
    yield "|---|---|---:|---:|---:|---:|"
    for split, pair in known.items():
        for column, found in differences(first, second, split, *pair):
            shown = lambda value, digits=column.digits: f"{value:+.{digits}f}"  # noqa: E731
            scores = [f"{value:.{column.digits}f}" for value in (found.first, found.second)]
            apart = shown(found.difference)
            if found.low is not None and found.high is not None:
                apart += f" [{shown(found.low)}, {shown(found.high)}]"
            yield line([split, column.heading, *scores, apart, "—" if found.p is None else f"{found.p:.3f}"])


def _few(each: Each) -> bool:
    return any(len(rows) < FEWEST for rows in each.rows.values())


def _noted(first: Facts, second: Facts, split: str) -> Iterator[str]:
    """Scores that say nothing on a test set, and why."""
    for column in first.task.reported_metrics:
        why = next(filter(None, (run.results[split].get(f"{column.name}_note") for run in (first, second))), None)
        if why is not None:
            yield f"Not compared: {column.heading} of {split}: {why}."


def _settings(first: Facts, second: Facts) -> Iterator[str]:
    found = [one for one in differing(dict(first.config), dict(second.config)) if one[0] != "name"]
    if not found:
        yield "Their configs differ in nothing.\n"
        return
    yield f"Their configs differ in {len(found)} setting{'s' if len(found) > 1 else ''}:\n"
    yield from (f"- `{place}`: {one} against {other}" for place, one, other in found)
    yield ""


def _about(first: Facts, second: Facts) -> Iterator[str]:
    """What else may have made a difference."""
    found = {name: (told(first), told(second)) for name, told in ABOUT.items() if name != "seed"}
    apart = [f"{name} {one} against {other}" for name, (one, other) in found.items() if one != other]
    if apart:
        yield f"They were made with {'; '.join(apart)}.\n"
