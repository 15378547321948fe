"""The task's own metrics on the examples of the battery: with the model's attention, and with uniform weights.

That the output changes little under uniform weights says nothing of how good it is: a model may become another one that
is right as often, or stay the same on all examples that it got wrong. Hence accuracy, F1 or BLEU beside the changes.

Reference: Wiegreffe & Pinter 2019, section 3.2, who train with uniform weights; here they replace learned ones.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import PyTree

from attnlab.analysis.battery.chunks import Marked
from attnlab.tasks.base import Task
from attnlab.tasks.bootstrap import interval, paired_difference

LEARNED, UNIFORM = "learned", "uniform"
DIFFERENCE = "uniform_minus_learned"
DIGITS = 4

Scores = dict[str, dict[str, Any]]
"""For learned, and if the model can have it uniform, attention: metric -> the row of an example (`Task.aggregate`)."""


def scores_of_outputs(task: Task, other: Task | None, params: PyTree, members: Sequence[Marked]) -> list[Scores]:
    """Return what each example contributes to the task's metrics.

    Args:
        task: of the model.
        other: with uniform weights in its model; None if there are none to replace.
        params: the parameters of the model.
        members: the explained predictions of a chunk, with their examples.
    Returns: nothing for a chunk with an example whose reference is unknown.
    """
    examples = [member.example for member in members]
    outputs = {LEARNED: [member.explained.prediction for member in members]}
    if not task.output_scores(outputs[LEARNED], examples):
        return [{} for _ in members]
    if other is not None:
        outputs[UNIFORM] = other.outputs(params, examples)
    rows = {weights: task.output_scores(texts, examples) for weights, texts in outputs.items()}
    return [
        {weights: {name: array[place].tolist() for name, array in found.items()} for weights, found in rows.items()}
        for place in range(len(members))
    ]


def task_metrics(
    task: Task, records: Sequence[Mapping[str, Any]], undefined: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return each metric with its 95% bootstrap interval over examples.

    Args:
        task: whose metrics they are, and which computes them from rows.
        records: of the examples.
        undefined: metrics that are left out.
    Returns: metric -> `learned`, `uniform` and `uniform_minus_learned` (the last two if the model can have uniform
        attention), each with its value in percent (`mean`), its interval `ci95` (None for fewer than 20 examples), and
        the number of examples `n`.
    """
    known = [record["scores"] for record in records if record.get("scores")]
    found = {}
    for name in _in_order(task, known):
        if name not in undefined:
            shared = [scores for scores in known if all(name in rows for rows in scores.values())]
            learned, other = (
                np.array([scores[weights][name] for scores in shared if weights in scores])
                for weights in (LEARNED, UNIFORM)
            )
            found[name] = _metric(partial(task.aggregate, name), learned, other)
    return found


def _in_order(task: Task, known: Sequence[Scores]) -> list[str]:
    """Return the names of the metrics, those that the task reports first, in its order."""
    names = list(dict.fromkeys(name for scores in known for name in scores[LEARNED]))
    reported = [metric.name for metric in task.reported_metrics]
    return sorted(names, key=lambda name: reported.index(name) if name in reported else len(reported))


def _metric(statistic: Any, learned: np.ndarray, uniform: np.ndarray) -> dict[str, Any]:
    metric = {LEARNED: _entry(statistic(learned), interval(learned, statistic), len(learned))}
    if len(uniform) == len(learned):
        change = paired_difference(uniform, learned, statistic)
        ends = None if change.low is None or change.high is None else [change.low, change.high]
        metric[UNIFORM] = _entry(statistic(uniform), interval(uniform, statistic), len(uniform))
        metric[DIFFERENCE] = _entry(change.difference, ends, len(uniform))
    return metric


def _entry(value: float, ends: Sequence[float] | None, number: int) -> dict[str, Any]:
    return {
        "mean": round(float(value), DIGITS),
        "ci95": None if ends is None else [round(float(end), DIGITS) for end in ends],
        "n": number,
    }
