"""Two runs side by side on the same test sets: how far apart they are, how sure that is, and what they differ in."""

from collections.abc import Iterator

import numpy as np

from attnlab.config.errors import UserError
from attnlab.config.load import differing
from attnlab.facts import Facts
from attnlab.results import line
from attnlab.runs import each_of
from attnlab.tasks.base import Column
from attnlab.tasks.resampling import Difference, paired_difference

NOTE = (
    "[low, high] is the 95% interval, and p twice the share of the other sign, among 1000 draws of the test set's "
    "examples (paired bootstrap). They tell how much another test set would differ, not how much another seed would."
)


def page(first: Facts, second: Facts) -> str:
    """Compare two runs on every test set that both were evaluated on, in Markdown.

    Raises:
        UserError: they are of different tasks or data, or were evaluated before attnlab kept what this needs.
    """
    if first.kind != second.kind:
        raise UserError(f"{first.directory} is a run of the task {first.kind}, {second.directory} of {second.kind}")
    if first.environment["fingerprint"].get("data") != second.environment["fingerprint"].get("data"):
        raise UserError(f"{first.directory} and {second.directory} were trained and scored on different data")
    shared = [split for split in first.results if split in second.results]
    if not shared:
        raise UserError(
            f"{first.directory} was scored on {', '.join(first.results)}, {second.directory} on "
            f"{', '.join(second.results)}: none in common"
        )
    return "\n".join([*_tables(first, second, shared), "", *_settings(first, second), NOTE]) + "\n"


def differences(first: Facts, second: Facts, split: str) -> Iterator[tuple[Column, Difference]]:
    """Compare every score of a test set that is known example by example."""
    rows = each_of(first.directory, split), each_of(second.directory, split)
    for facts, found in zip((first, second), rows, strict=True):
        if not found:
            raise UserError(
                f"{facts.directory}: what each example of {split} scored is not kept; attnlab evaluate "
                f"{facts.directory} keeps it"
            )
    for column in first.task.columns:
        one, other = (np.asarray(found.get(column.name, ()), float) for found in rows)
        if len(one) and len(other):
            if one.shape != other.shape:
                raise UserError(f"{first.directory} and {second.directory}: {split} has not the same examples")
            name = column.name
            yield column, paired_difference(one, other, lambda rows, name=name: first.task.total(name, rows))


def _tables(first: Facts, second: Facts, splits: list[str]) -> Iterator[str]:
    names = [facts.directory.resolve().name for facts in (first, second)]
    yield line(["test set", "score", *(f"`{name}`" for name in names), "difference", "p"])
    yield "|---|---|---:|---:|---:|---:|"
    for split in splits:
        for column, found in differences(first, second, split):
            low, high, apart = (f"{value:+.{column.digits}f}" for value in (found.low, found.high, found.difference))
            scores = [f"{value:.{column.digits}f}" for value in (found.first, found.second)]
            yield line([split, column.heading, *scores, f"{apart} [{low}, {high}]", f"{found.p:.3f}"])


def _settings(first: Facts, second: Facts) -> Iterator[str]:
    found = [one for one in differing(dict(first.config), dict(second.config)) if one[0] != "name"]
    if not found:
        yield "The two differ in no setting."
        return
    yield f"They differ in {len(found)} setting{'s' if len(found) > 1 else ''}:\n"
    yield from (f"- `{place}`: {one} against {other}" for place, one, other in found)
    yield ""
