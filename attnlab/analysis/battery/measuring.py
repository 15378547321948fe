"""The battery on a data set: explained predictions, chunks, and records that are kept as soon as they are computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attnlab.analysis.battery.battery import Battery, Record
from attnlab.analysis.battery.chunks import Marked, chunks_of
from attnlab.config.errors import UserError
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.poll import Poll, no_poll


def measure(
    battery: Battery,
    examples: Mapping[int, Any],
    done: Sequence[Record] = (),
    keep: Callable[[Sequence[Record]], object] = lambda records: None,
    poll: Poll = no_poll,
) -> list[Record]:
    """Return the record of each example, in the order of their numbers.

    An example that cannot be explained (a text without tokens) has a record with the reason: {"example", "failed"}.

    Args:
        battery: of the model.
        examples: number in the split -> example.
        done: records from before an interruption, as `keep` got them.
        keep: called with the records of every chunk when they are computed.
        poll: called with the number of examples done; it begins again after the predictions.
    """
    records = {record["example"]: record for record in done}
    pending = [place for place, number in enumerate(sorted(examples)) if number not in records]
    numbers, marked = sorted(examples), []
    task, params = battery.explainer.task, battery.params
    for count, place in enumerate(pending):
        poll(count, len(pending))
        example = examples[numbers[place]]
        try:
            explained = task.explained_prediction(params, example, TargetSelection())
        except UserError as error:
            records[numbers[place]] = failed = {"example": numbers[place], "failed": str(error)}
            keep([failed])
            continue
        marked.append(Marked(numbers[place], place, explained, task.evidence(example, explained)))
    count = 0
    for chunk in chunks_of(battery.explainer, params, marked, len(examples)):
        poll(count, len(marked))
        found = battery.measure(chunk)
        keep(found)
        records |= {record["example"]: record for record in found}
        count += len(found)
    if marked:
        poll(count, count)
    return [records[number] for number in numbers]
