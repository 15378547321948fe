"""The battery of one model: compiled functions, and the records of the examples of a chunk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, PyTree

from attnlab.analysis.attribution import Attribution, random_attribution
from attnlab.analysis.battery.adversarial import has_one_row
from attnlab.analysis.battery.attention_tests import adversarial_test, attention_tests, left_out_tests, main_layers
from attnlab.analysis.battery.chunks import Arrays, Chunk, Static, call_of, mapped
from attnlab.analysis.battery.metric_table import OF_GENERATED, OF_ONE, PLAUSIBILITY
from attnlab.analysis.battery.metrics import metrics_of
from attnlab.analysis.battery.settings import CEILING, FLOOR, BatterySettings, left_out_metrics
from attnlab.analysis.battery.summary import summarize
from attnlab.analysis.battery.task_metrics import scores_of_outputs, task_metrics
from attnlab.analysis.explain import Explainer
from attnlab.analysis.explain.call import BASELINES, ModelCall
from attnlab.analysis.explain.methods import EXPLAINERS, FLOW
from attnlab.analysis.faithfulness import spearman_rho
from attnlab.analysis.interventions import uniform
from attnlab.data.text.buckets import Shape
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.base import Task
from attnlab.tasks.generation import GenerationTask
from attnlab.training.steps import replicated

Record = dict[str, Any]
"""The results of one example as plain data: its number, `methods` with their metrics, and `tests`."""
SEARCHED_AT_ONCE = 4
"""Examples with several rows of weights whose adversarial attention is searched together."""
NOT_RANDOMIZED = (FLOOR, FLOW)
"""Methods that are not compared with a randomized model: one does not see it, the other one is slow."""
TAG = 0xFA17_4F01
"""Derives the key of random parameters. Training uses `key(seed)` itself and folds in numbers of steps, which are far
smaller; the battery folds in 0 to 2."""


@dataclass(eq=False)
class Battery:
    """All metrics of all methods for the examples of a data set.

    Keep it: it holds the compiled functions, four for each shape of the examples.
    """

    explainer: Explainer
    params: PyTree
    settings: BatterySettings
    methods_left_out: Mapping[str, str] = field(default_factory=dict)
    """The methods that are left out, each with its reason."""

    def summary(self, records: Sequence[Record], examples: Sequence[Any] = ()) -> dict[str, Any]:
        """Return the means of all metrics with intervals, what they are of, and what is left out, with reasons.

        Args:
            records: of the examples.
            examples: the examples themselves, for notes on their evidence and on metrics that are undefined for them.
        """
        task, summary = self.explainer.task, summarize(records, self.settings)
        metrics = left_out_metrics(self.settings.removal, task.adapter)
        left_out = {"methods": dict(self.methods_left_out), "tests": self.tests_left_out, "metrics": metrics}
        if summary["rationale_size"] is None:
            metrics |= dict.fromkeys(PLAUSIBILITY.metrics, "the data mark no evidence for these examples")
        scored = any(record.get("scores") for record in records)
        undefined = dict(task.undefined_metrics(examples)) if examples and scored else {}
        metrics |= undefined
        return {
            "target": OF_GENERATED if isinstance(task, GenerationTask) else OF_ONE,
            "removal_note": task.adapter.replacement_note if self.settings.removal in BASELINES else "",
            **summary,
            "task_metrics": task_metrics(task, records, undefined),
            "notes": task.evidence_notes(examples),
            "left_out": left_out,
        }

    @cached_property
    def tests_left_out(self) -> dict[str, str]:
        """The tests that the model cannot have, each with its reason; computes shapes only."""
        return left_out_tests(self._layers)

    @cached_property
    def _layers(self) -> list[LayerAttention]:
        """The shapes of the records of all layers."""
        adapter = self.explainer.task.adapter
        attention = lambda params, batch: adapter.forward(params, batch, details=True).attention  # noqa: E731
        return jax.eval_shape(attention, self.params, adapter.example_batch)

    def is_new(self, chunk: Chunk) -> bool:
        """Return whether functions must be compiled for a chunk: no records of its shape have been computed."""
        return (chunk.static, chunk.shape) not in self._shapes

    @cached_property
    def _shapes(self) -> set[tuple[Static, Shape]]:
        return set()

    @cached_property
    def _with_uniform_attention(self) -> Task | None:
        """The task with uniform weights in the attention to the input; None for a model without such attention."""
        main = main_layers(self._layers)
        return self.explainer.task.intervened({layer.name: uniform for layer in main}) if main else None

    def records(self, chunk: Chunk) -> list[Record]:
        """Return the record of each member of a chunk."""
        settings, arrays = self.settings, chunk.arrays
        self._shapes.add((chunk.static, chunk.shape))
        functions = self._functions_of(chunk.static)
        attributed = functions["attribute"](self._replicated, arrays)
        values, gaps = np.array(attributed["values"]), np.asarray(attributed["gaps"])
        if FLOW in settings.methods:
            values[:, settings.methods.index(FLOW)] = self._flow(chunk)
        metrics = jax.device_get(functions["metrics"](self._replicated, arrays, values))
        tests = jax.device_get(functions["tests"](self._replicated, arrays))
        adversarial = self._adversarial(chunk, functions["adversarial"])
        correlations = self._correlations(chunk, functions["attribute"], values)
        task, other, members = self.explainer.task, self._with_uniform_attention, chunk.members
        scores = scores_of_outputs(task, other, self.params, members)
        found = [
            self._record(chunk, row, metrics, gaps[row], tests, correlations) | {"scores": scores[row]}
            for row in range(len(members))
        ]
        for record, results in zip(found, adversarial, strict=True):
            record["tests"] |= results
        return found

    def _record(
        self, chunk: Chunk, row: int, metrics: Any, gaps: np.ndarray, tests: Mapping[str, Any], correlations: Any
    ) -> Record:
        member, arrays, methods = chunk.members[row], chunk.arrays, {}
        gold, marked = np.flatnonzero(arrays.gold[row] & arrays.comparable[row]), member.evidence is not None
        for place, method in enumerate(self.settings.methods):
            found: dict[str, Any] = {
                name: plain(value[row, place]) for name, value in metrics.items() if name not in ("ranks", "counts")
            }
            found["completeness_gap"] = plain(gaps[place])
            if marked:
                found["gold_ranks"] = sorted(metrics["ranks"][row, place, gold].tolist())
            if correlations is not None and member.place < self.settings.randomized and method not in NOT_RANDOMIZED:
                found["mprt"] = plain(correlations[row, place])
            methods[method] = {name: value for name, value in found.items() if value is not None}
        return {
            "example": member.number,
            "correct": member.correct,
            "prediction": member.explained.prediction[:200],
            "positions": int(arrays.removable[row].sum()),
            "counts": metrics["counts"][row, 0].tolist(),
            "comparable": int(arrays.comparable[row].sum()),
            "marked": len(gold) if marked else None,
            "methods": methods,
            "tests": {name: plain(value[row]) for name, value in tests.items()},
        }

    def _correlations(self, chunk: Chunk, attribute: Callable[..., Any], values: np.ndarray) -> np.ndarray | None:
        """Return the rank correlation [b m] with the attributions of a model with random parameters.

        They are those of the complete randomization, the last step of the cascade of Adebayo et al. 2018.
        """
        if chunk.members[0].place >= self.settings.randomized:
            return None
        others = attribute(self._random_params, chunk.arrays)["values"]
        return np.asarray(_rank_correlations(values, np.asarray(others), chunk.arrays.removable))

    def _adversarial(self, chunk: Chunk, search: Callable[..., Any]) -> list[dict[str, Any]]:
        """Return the results of the search for adversarial attention of each member; none for one that is not searched.

        The members are searched a few at a time, so that no time is spent on those that are not.
        """
        layers, members = main_layers(self._layers), chunk.members
        results = [dict[str, Any]() for _ in members]
        if has_one_row(layers, chunk.static.generated):
            rows, size = list(range(len(members))), chunk.shape.rows
        else:
            rows = [row for row, member in enumerate(members) if layers and member.place < self.settings.searched]
            size = -(-SEARCHED_AT_ONCE // jax.device_count()) * jax.device_count()
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            filled = np.array([*some, *[some[-1]] * (size - len(some))])
            arrays = jax.tree.map(partial(np.take, indices=filled, axis=0), chunk.arrays)
            found = jax.device_get(search(self._replicated, arrays))
            for place, row in enumerate(some):
                results[row] = {name: plain(value[place]) for name, value in found.items()}
        return results

    def _flow(self, chunk: Chunk) -> np.ndarray:
        """Return attention flow, which NumPy computes, of every row; that of the filling rows is 0."""
        shape = Shape(1, chunk.shape.source, chunk.shape.target)
        flows = np.zeros(np.shape(chunk.arrays.valid), np.float32)
        for row, member in enumerate(chunk.members):
            flows[row] = self.explainer.attribute(self.params, member.explained, FLOW, shape=shape)[0]
        return flows

    @cached_property
    def _replicated(self) -> PyTree:
        return jax.device_put(self.params, replicated())

    @cached_property
    def _random_params(self) -> PyTree:
        """Another initialization: `TAG` keeps its random numbers apart from those of every training, of any seed."""
        rng = jax.random.fold_in(jax.random.key(self.settings.seed), TAG)
        return jax.jit(self.explainer.task.initialize, out_shardings=replicated())(rng)

    @cached_property
    def _functions(self) -> dict[Static, dict[str, Callable[..., Any]]]:
        return {}

    def _functions_of(self, static: Static) -> dict[str, Callable[..., Any]]:
        if static not in self._functions:
            adapter, settings = self.explainer.task.adapter, self.settings

            def attribute(params: PyTree, one: Arrays) -> dict[str, Array]:
                return _attributions(call_of(adapter, params, static, one), one, settings)

            def metrics(params: PyTree, one: Arrays, values: Array) -> dict[str, Array]:
                call, ceiling = call_of(adapter, params, static, one), values[settings.methods.index(CEILING)]
                return metrics_of(call, static, one, values, ceiling, _rng(settings, one, 1), settings)

            def tests(params: PyTree, one: Arrays) -> dict[str, Array]:
                return attention_tests(
                    call_of(adapter, params, static, one), static, one, _rng(settings, one, 2), settings
                )

            def adversarial(params: PyTree, one: Arrays) -> dict[str, Array]:
                return adversarial_test(
                    call_of(adapter, params, static, one), static, one, _rng(settings, one, 2), settings
                )

            self._functions[static] = {
                "attribute": mapped(attribute), "metrics": mapped(metrics), "tests": mapped(tests),
                "adversarial": mapped(adversarial),
            }  # fmt: skip
        return self._functions[static]


@jax.jit
def _rank_correlations(
    first: Float[Array, "b m n"], second: Float[Array, "b m n"], removable: Bool[Array, "b n"]
) -> Float[Array, "b m"]:
    return jax.vmap(jax.vmap(spearman_rho, (0, 0, None)))(first, second, removable)


def _attributions(call: ModelCall, one: Arrays, settings: BatterySettings) -> dict[str, Array]:
    """Return the attributions [m n] and completeness gaps [m] of all methods; those of attention flow are 0."""
    values, gaps = [], []
    for method in settings.methods:
        if method == FLOW:
            result: Any = jnp.zeros(len(call.valid))
        elif method == FLOOR:
            result = random_attribution(_rng(settings, one, 0), len(call.valid), removable=call.removable)
        else:
            result = EXPLAINERS[method](call, **settings.options(method))
        record = result if isinstance(result, Attribution) else Attribution(method, result)
        values.append(jnp.asarray(record.attributions, jnp.float32))
        gaps.append(jnp.nan if record.completeness_gap is None else record.completeness_gap)
    return {"values": jnp.stack(values), "gaps": jnp.stack([jnp.asarray(gap, jnp.float32) for gap in gaps])}


def _rng(settings: BatterySettings, one: Arrays, stream: int) -> Array:
    """Return the key of an example, which does not depend on its chunk."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), stream), one.number)


def plain(value: Any) -> Any:
    """Return a number, or an array of them, as plain data; None for one that is not finite.

    >>> plain(np.float32(0.1)), plain(np.array([1.0, np.nan]))
    (0.1, [1.0, None])
    """
    if np.ndim(value):
        return [plain(number) for number in value]
    return float(f"{float(value):.7g}") if np.isfinite(value) else None
