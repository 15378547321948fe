"""Explanations of a prediction by several methods at once."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from attnlab.analysis.explain.choice import SLOW, estimated_seconds
from attnlab.analysis.explain.explainer import Explainer
from attnlab.analysis.explain.explanations import Explanations
from attnlab.analysis.explain.layer_maps import layer_alarms, layer_maps
from attnlab.analysis.explain.methods import options_of
from attnlab.analysis.explain.record import Explanation, parts_of
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.input_parts import Granularity


def explain_together(
    explainer: Explainer,
    params: PyTree,
    example: Any,
    methods: Sequence[str],
    *,
    selection: TargetSelection | None = None,
    granularity: Granularity = "word",
    started: Callable[[str], None] = lambda text: None,
) -> Explanations:
    """Explain the prediction of an example by several methods.

    The quick ones are compiled as one function, each slow one by itself, after an estimate of the time it takes.

    Args:
        explainer: of the task.
        params: the parameters of the task's model.
        example: as `task.parse_example` returns it.
        methods: methods of `explainer.methods`, with their default options.
        selection: the target; None for the model's own prediction.
        granularity: sum the attributions of tokens over words, or over sentences.
        started: called with what is computed next, in words.
    Raises:
        UserError: a method, or the target, does not exist for this model; names what does.
    """
    explainer.check(methods, granularity)
    started("prediction")
    explained = explainer.task.explained_prediction(params, example, selection or TargetSelection())
    quick = tuple(method for method in methods if method not in SLOW)
    started(f"{len(quick)} methods: {', '.join(quick)}" if quick else "attention")
    found, score, layers = explainer.attribute_together(params, explained, quick)
    slow = [method for method in methods if method in SLOW]
    if slow:
        seconds = _seconds_of_evaluation(explainer, params, explained)
        prepared = explainer.prepare(params, explained)
        queries = len(explained.rows) if explained.rows is not None else int(prepared.valid.sum())
        sizes = len(prepared.valid), sum(layer.kind == "self" for layer in layers), queries
        for method in slow:
            estimate = estimated_seconds(method, *sizes, seconds)
            started(f"{method}: about {max(round(estimate), 1):,} s, and its compilation")
            attributions, gap, _ = explainer.attribute(params, explained, method)
            found[method] = attributions, gap
    sequences = jax.tree.leaves(explained.inputs)
    widths = explainer.prepare(params, explained).layout.widths
    by_method = {}
    for method in methods:
        attributions, gap = found[method]
        parts = parts_of(sequences, widths, attributions, granularity)
        by_method[method] = Explanation(
            method, options_of(method, {}), explained.description, score, explained.prediction, explained.output,
            parts, gap,
        )  # fmt: skip
    texts = {part.name: part.text for sequence in sequences for part in sequence.parts}
    return Explanations(by_method, texts, layer_maps(explained, layers), tuple(layer_alarms(explained, layers)))


def _seconds_of_evaluation(explainer: Explainer, params: PyTree, explained: ExplainedPrediction) -> float:
    """Return how long an evaluation of the model takes among many, from a second run of a compiled method."""
    explainer.attribute(params, explained, "leave_one_out")
    start = time.perf_counter()
    explainer.attribute(params, explained, "leave_one_out")
    return (time.perf_counter() - start) / len(explainer.prepare(params, explained).valid)
