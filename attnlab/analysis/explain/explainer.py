"""The explanation of a task's predictions: compiled once for each method and shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from attnlab.analysis.attribution import Attribution, attention_flow
from attnlab.analysis.attribution.batches import predict_in_batches
from attnlab.analysis.attribution.requirements import Need
from attnlab.analysis.explain.call import BASELINES, ModelCall, Removal, check_removal
from attnlab.analysis.explain.layout import Layout
from attnlab.analysis.explain.methods import (
    AT_ONCE,
    EXPLAINERS,
    FLOW,
    RANKS,
    methods_for,
    needs_met,
    options_of,
    refuse_method,
)
from attnlab.analysis.explain.positions import positions_of
from attnlab.analysis.explain.record import Explanation, parts_of
from attnlab.config.errors import UserError
from attnlab.data.text.buckets import Shape
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.base import Task
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.input_parts import Granularity

GRANULARITIES = ("token", "word", "sentence")


@dataclass(frozen=True, eq=False)
class Prepared:
    """An explained prediction as the arguments of a compiled function."""

    batch: Mapping[str, Any]
    valid: np.ndarray
    """[n] True for positions that are not padding."""
    removable: np.ndarray
    """[n] True for positions that are neither padding nor special tokens."""
    rows: np.ndarray
    layout: Layout


@dataclass(eq=False)
class Explainer:
    """Explains the predictions of a task's model, one example at a time.

    Keep it: it holds the compiled functions, one for each method, its options, and the shape of the input.
    """

    task: Task

    @property
    def methods(self) -> list[str]:
        """The methods that the model can have."""
        return methods_for(self.needs)

    def explain(
        self,
        params: PyTree,
        example: Any,
        *,
        method: str = "integrated_gradients",
        selection: TargetSelection | None = None,
        granularity: Granularity | str = "token",
        **options: Any,
    ) -> Explanation:
        """Explain the prediction of an example.

        Args:
            params: the parameters of the task's model.
            example: as `task.parse_example` returns it.
            method: a method of `methods`.
            selection: the target; None for the model's own prediction.
            granularity: sum the attributions of tokens over words, or over sentences.
            options: of the method: `baseline` ("pad", "zeros", "mean"), `removal` (one of these, "mask" or "drop"),
                `n_steps`, `n_samples`, `noise_level`, `seed`, `layer`, `head`.
        Raises:
            UserError: the method, the target or an option does not exist for this model; names what does.
        """
        self._check(method, granularity, options)
        settings = options_of(method, options)
        explained = self.task.explained_prediction(params, example, selection or TargetSelection())
        attributions, gap, score = self.attribute(params, explained, method, **settings)
        widths = self.prepare(params, explained).layout.widths
        parts = parts_of(jax.tree.leaves(explained.inputs), widths, attributions, granularity, ranks=method in RANKS)  # type: ignore[arg-type]
        return Explanation(
            method, settings, explained.description, score, explained.prediction, explained.output, parts, gap
        )

    def attribute(
        self, params: PyTree, explained: ExplainedPrediction, method: str, shape: Shape | None = None, **options: Any
    ) -> tuple[np.ndarray, float | None, float]:
        """Return the attributions [n] of all positions, padding included; the completeness gap; the target's value.

        Args:
            params: the parameters of the task's model.
            explained: as `task.explained_prediction` returns it.
            method: a method of `methods`.
            shape: shape of the batch; None for the adapter's `padded_shape`.
            options: of the method.
        """
        refuse_method(method, self.needs)
        settings = options_of(method, options)
        compiled, prepared = self._compiled(method, settings), self.prepare(params, explained, shape)
        result, score = compiled(*self._arguments(params, explained, prepared))
        return *_on_host(method, result, prepared), float(score)

    def attribute_together(
        self, params: PyTree, explained: ExplainedPrediction, methods: tuple[str, ...]
    ) -> tuple[dict[str, tuple[np.ndarray, float | None]], float, list[LayerAttention]]:
        """Return the attributions and the completeness gap of several methods, compiled as one function.

        They share the passes of the model that they have in common, and all that compiling them takes.

        Args:
            params: the parameters of the task's model.
            explained: as `task.explained_prediction` returns it.
            methods: methods of `methods`, with their default options.
        Returns: method -> (attributions [n] of all positions, gap); the target's value; the attention of all layers,
            with the masks and without the other details.
        """
        for method in methods:
            refuse_method(method, self.needs)
        compiled, prepared = self._compiled_together(methods), self.prepare(params, explained)
        results, score, layers = compiled(*self._arguments(params, explained, prepared))
        found = {method: _on_host(method, result, prepared) for method, result in zip(methods, results, strict=True)}
        return found, float(score), jax.device_get(layers)

    def scores_without(
        self,
        params: PyTree,
        explained: ExplainedPrediction,
        removed: np.ndarray,
        *,
        removal: Removal = "pad",
        shape: Shape | None = None,
    ) -> np.ndarray:
        """Return the target [m] for versions of the input with removed positions.

        Args:
            params: the parameters of the task's model.
            explained: as `task.explained_prediction` returns it.
            removed: [m n] True for the positions that are removed; special tokens and padding stay.
            removal: what removed means: the baseline that replaces an embedding, "mask" in the attention, or "drop".
            shape: shape of the batch; None for the adapter's `padded_shape`.
        """
        self.check_removal(removal)
        compiled, prepared = self._compiled("", {"removal": removal}), self.prepare(params, explained, shape)
        return np.asarray(compiled(*self._arguments(params, explained, prepared), jnp.asarray(removed)))

    def prepare(self, params: PyTree, explained: ExplainedPrediction, shape: Shape | None = None) -> Prepared:
        """Return the batch of an explained prediction with the positions that are not padding."""
        adapter = self.task.adapter
        batch = adapter.fill(explained.examples, shape or adapter.padded_shape(explained.examples))
        layout = self.layout(params, batch, jax.tree.structure(explained.inputs))
        return Prepared(batch, *positions_of(explained, layout, batch), layout)

    def _arguments(self, params: PyTree, explained: ExplainedPrediction, prepared: Prepared) -> tuple[Any, ...]:
        tree = jax.tree.structure(explained.inputs)
        arrays = prepared.batch, prepared.valid, prepared.removable, prepared.rows
        return tree, explained.rows is None, params, explained.target, *arrays

    def check_removal(self, removal: str) -> None:
        """Raise `UserError` for a removal that the model cannot have; names one that works."""
        check_removal(removal, self.task.adapter, "attention" in self.needs)

    def check(self, methods: Sequence[str], granularity: str) -> None:
        """Raise `UserError` for methods that the model cannot have, or an unknown granularity."""
        for method in methods:
            self._check(method, granularity, {})

    def _check(self, method: str, granularity: str, options: Mapping[str, Any]) -> None:
        refuse_method(method, self.needs)
        if granularity not in GRANULARITIES:
            raise UserError(f"granularity {granularity!r}: must be one of {', '.join(GRANULARITIES)}")
        if (baseline := options.get("baseline", "pad")) not in BASELINES:
            raise UserError(f"baseline {baseline!r}: must be one of {', '.join(BASELINES)}")
        self.check_removal(options.get("removal", "pad"))
        for name in ("n_steps", "n_samples"):
            if (number := options.get(name, 1)) < 1:
                raise UserError(f"{name} {number}: must be at least 1")

    @cached_property
    def needs(self) -> frozenset[Need]:
        """What the model offers to methods of attribution."""
        return needs_met(self.task.adapter)

    @cached_property
    def _functions(self) -> dict[Any, Callable[..., Any]]:
        return {}

    @cached_property
    def _layouts(self) -> dict[Any, Layout]:
        return {}

    def layout(self, params: PyTree, batch: Mapping[str, Any], tree: Any) -> Layout:
        """Return the layout of the embedded inputs of a batch; `tree` is that of `Layout`."""
        key = tree, tuple((name, array.shape) for name, array in batch.items())
        if key not in self._layouts:
            self._layouts[key] = Layout.of(tree, jax.eval_shape(self.task.adapter.embed, params, batch))
        return self._layouts[key]

    def _compiled(self, method: str, options: Mapping[str, Any]) -> Callable[..., Any]:
        """Return the compiled function of a method; of no method, that of `scores_without`."""
        key = method, tuple(sorted(options.items()))
        if key in self._functions:
            return self._functions[key]

        def apply(
            tree: Any, pools: bool, params: PyTree, target: Any, batch: Any, valid: Array, removable: Array,
            rows: Array, removed: Array | None = None,
        ) -> Any:  # fmt: skip
            call = self._call(tree, pools, params, target, batch, valid, removable, rows)
            if removed is not None:
                return predict_in_batches(call.without(options["removal"]), removed, AT_ONCE)
            return EXPLAINERS[method](call, **options), call.score(call.embedded)

        self._functions[key] = jax.jit(apply, static_argnums=(0, 1))
        return self._functions[key]

    def _compiled_together(self, methods: tuple[str, ...]) -> Callable[..., Any]:
        """Return the compiled function of several methods with their default options."""
        if methods in self._functions:
            return self._functions[methods]

        def apply(*arguments: Any) -> Any:
            call = self._call(*arguments)
            results = [EXPLAINERS[method](call, **options_of(method, {})) for method in methods]
            return results, call.score(call.embedded), [_with_mask_only(layer) for layer in call.layers]

        self._functions[methods] = jax.jit(apply, static_argnums=(0, 1))
        return self._functions[methods]

    def _call(
        self, tree: Any, pools: bool, params: PyTree, target: Any, batch: Any, valid: Array, removable: Array,
        rows: Array,
    ) -> ModelCall:  # fmt: skip
        return ModelCall.of(
            self.task.adapter, params, batch, tree,
            target=target, valid=valid, removable=removable, rows=rows, pools=pools,
        )  # fmt: skip


def _on_host(method: str, result: Any, prepared: Prepared) -> tuple[np.ndarray, float | None]:
    """Return attributions and completeness gap of what a method's compiled function returned."""
    if method == FLOW:
        weights, shares = map(np.asarray, result)
        return shares @ attention_flow(weights, valid=prepared.valid, queries=np.flatnonzero(shares).tolist()), None
    if not isinstance(result, Attribution):
        return np.asarray(result), None
    gap = None if result.completeness_gap is None else float(result.completeness_gap)
    return np.asarray(result.attributions), gap


def _with_mask_only(layer: LayerAttention) -> LayerAttention:
    """Return a record with its weights and mask, without the other details."""
    pooled = layer.pooled and replace(layer.pooled, weights_after_dropout=None, value=None)
    return replace(layer, pooled=pooled, projection=None, residual=None, feed_forward=None)
