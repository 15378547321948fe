"""The battery on a data set: explained predictions, chunks, and records that are kept as soon as they are computed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from attnlab.analysis.battery.battery import Battery, Record
from attnlab.analysis.battery.chunks import Marked, chunks_of
from attnlab.config.errors import UserError
from attnlab.tasks.explained_prediction import TargetSelection


@runtime_checkable
class ChunkPoll(Protocol):
    """A callback that reports progress, and stops the computation by raising."""

    def __call__(self, done: int, total: int, *, compiling: bool = False) -> None:
        """Take the number of examples done, their total, and whether a chunk begins that is compiled first."""


def no_poll(done: int, total: int, *, compiling: bool = False) -> None:
    """Do nothing."""


def run_battery(
    battery: Battery,
    examples: Mapping[int, Any],
    done: Sequence[Record] = (),
    keep: Callable[[Sequence[Record]], object] = lambda records: None,
    poll: ChunkPoll = no_poll,
) -> list[Record]:
    """Return the record of each example, in the order of their numbers.

    Examples are predicted as chunks need them: an interruption loses one chunk, and the predictions of chunks that are
    not full yet.

    An example that cannot be explained (a text without tokens) has a record with the reason: {"example", "failed"}.

    Args:
        battery: of the model.
        examples: number in the split -> example.
        done: records from before an interruption, as `keep` got them.
        keep: called with the records of every chunk when they are computed.
        poll: called before every prediction and every chunk, and at the end.
    """
    records = {record["example"]: record for record in done}
    before, pending = len(records), [place for place, number in enumerate(sorted(examples)) if number not in records]

    def add(found: Sequence[Record]) -> None:
        keep(found)
        records.update({record["example"]: record for record in found})

    def report(compiling: bool = False) -> None:
        poll(len(records) - before, len(pending), compiling=compiling)

    predicted = _predicted(battery, examples, pending, add, report)
    for chunk in chunks_of(battery.explainer, battery.params, predicted, len(examples)):
        report(compiling=battery.is_new(chunk))
        add(battery.records(chunk))
        report()
    if pending:
        report()
    return [records[number] for number in sorted(examples)]


def _predicted(
    battery: Battery,
    examples: Mapping[int, Any],
    pending: Sequence[int],
    add: Callable[[Sequence[Record]], None],
    report: Callable[[], None],
) -> Iterator[Marked]:
    """Yield the explained predictions one at a time; add the records of examples that have none."""
    task, numbers = battery.explainer.task, sorted(examples)
    for place in pending:
        report()
        number = numbers[place]
        example = examples[number]
        try:
            explained = task.explained_prediction(battery.params, example, TargetSelection())
        except UserError as error:
            add([{"example": number, "failed": str(error)}])
            continue
        evidence, correct = task.evidence(example, explained), task.is_correct(example, explained)
        yield Marked(number, place, explained, example, evidence, correct)
