"""The methods by which the prediction of a task's model can be explained, and which of them a model can have."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.analysis.attribution import (
    ATTRIBUTION_METHODS,
    Attribution,
    aggregate_features,
    check_method,
    greedy_leave_one_out,
    input_x_gradient,
    integrated_gradients,
    leave_one_out,
    occlusion,
    random_attribution,
    saliency,
    smooth_grad,
)
from attnlab.analysis.attribution.requirements import DESCRIPTIONS, Need
from attnlab.analysis.explain import attention_methods as on_attention
from attnlab.analysis.explain.call import Baseline, ModelCall, Removal
from attnlab.analysis.explain.zeroed_values import of_value_zeroing, recomputable
from attnlab.config.errors import UserError
from attnlab.tasks.adapter import ModelAdapter

AT_ONCE = 25
"""Versions of an input that are computed at a time, which bounds memory."""
RANKS = ("greedy_leave_one_out",)
"""Methods whose attributions are ranks."""
FLOW = "attention_flow"
"""The method that runs on NumPy arrays, outside a compiled function."""


def _saliency(call: ModelCall) -> Attribution:
    return saliency(call.score, call.embedded, valid=call.valid)


def _input_x_gradient(call: ModelCall) -> Attribution:
    return _summed(input_x_gradient(call.score, call.embedded, valid=call.valid))


def _integrated_gradients(call: ModelCall, *, baseline: Baseline = "pad", n_steps: int = 50) -> Attribution:
    return _summed(
        integrated_gradients(
            call.score, call.embedded, baseline=call.baseline(baseline), n_steps=n_steps, valid=call.removable,
            internal_batch_size=AT_ONCE,
        )
    )  # fmt: skip


def _smooth_grad(
    call: ModelCall, *, n_samples: int = 50, noise_level: float = 0.15, seed: int = 0
) -> Float[Array, " n"]:
    """Apply SmoothGrad to one embedded array at a time, as noise is relative to the range of its features."""
    norms, embedded = [], call.embedded
    for number, (place, width) in enumerate(zip(call.layout.slices, call.layout.features, strict=True)):
        score = lambda some, place=place, width=width: call.score(embedded.at[place, :width].set(some))  # noqa: E731
        slopes = smooth_grad(
            jax.random.fold_in(jax.random.key(seed), number), score, embedded[place, :width],
            noise_level=noise_level, n_samples=n_samples, internal_batch_size=AT_ONCE, valid=call.valid[place],
        )  # fmt: skip
        norms.append(aggregate_features(slopes.attributions, "vnorm"))
    return jnp.concatenate(norms)


def _occlusion(call: ModelCall, *, baseline: Baseline = "pad") -> Attribution:
    return occlusion(
        call.score, call.embedded, replacement=call.baseline(baseline), removable=call.removable,
        internal_batch_size=AT_ONCE,
    )  # fmt: skip


def _leave_one_out(call: ModelCall, *, removal: Removal = "pad") -> Attribution:
    n = len(call.valid)
    return leave_one_out(call.without(removal), n, removable=call.removable, internal_batch_size=AT_ONCE)


def _greedy_leave_one_out(call: ModelCall, *, removal: Removal = "pad") -> Attribution:
    n = len(call.valid)
    return greedy_leave_one_out(call.without(removal), n, removable=call.removable, internal_batch_size=AT_ONCE)


def _random_attribution(call: ModelCall, *, seed: int = 0) -> Attribution:
    return random_attribution(jax.random.key(seed), len(call.valid), removable=call.removable)


def _value_zeroing(call: ModelCall) -> Float[Array, " n"]:
    return of_value_zeroing(call, AT_ONCE)


EXPLAINERS: dict[str, Callable[..., Attribution | Float[Array, " n"] | Any]] = {
    "saliency": _saliency,
    "input_x_gradient": _input_x_gradient,
    "integrated_gradients": _integrated_gradients,
    "smooth_grad": _smooth_grad,
    "occlusion": _occlusion,
    "leave_one_out": _leave_one_out,
    "greedy_leave_one_out": _greedy_leave_one_out,
    "random_attribution": _random_attribution,
    "raw_attention": on_attention.of_raw_attention,
    "gradient_x_attention": on_attention.of_gradient_x_attention,
    "attention_rollout": on_attention.of_attention_rollout,
    FLOW: on_attention.flow_inputs,
    "attention_relevance": on_attention.of_attention_relevance,
    "encoder_decoder_relevance": on_attention.of_encoder_decoder_relevance,
    "attention_norms": on_attention.of_attention_norms,
    "block_norms": on_attention.of_block_norms,
    "globenc": on_attention.of_globenc,
    "alti": on_attention.of_alti,
    "alti_plus": on_attention.of_alti_plus,
    "value_zeroing": _value_zeroing,
}
"""Method -> function of a call and the method's options."""


def options_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a method with their values; an option that it does not have is a `UserError`."""
    parameters = inspect.signature(EXPLAINERS[method]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for name in given:
        if name not in defaults:
            known = f"its options are {', '.join(defaults)}" if defaults else "it has no options"
            raise UserError(f"{name}: {method} has no such option; {known}")
    return defaults | dict(given)


def needs_met(adapter: ModelAdapter) -> frozenset[Need]:
    """Return what a model offers to methods of attribution; computes shapes only."""
    params = jax.eval_shape(lambda: adapter.initialize(jax.random.key(0)))
    layers = jax.eval_shape(
        lambda params, batch: adapter.forward(params, batch, details=True).attention, params, adapter.example_batch
    )
    needs: set[Need] = {"embedded", "removal"}
    encoder, cross = on_attention.encoder_layers(layers), [layer for layer in layers if layer.kind == "cross"]
    decoder = [layer for layer in layers if layer.kind == "self" and layer.stack == "decoder"]
    if on_attention.reading_layers(layers):
        needs |= {"attention", "weight_gradients", "values"}
    if encoder and not cross:
        needs |= {"self_attention", "self_attention_layer"}
        pre = all(layer.residual is not None and layer.residual.position == "pre" for layer in encoder)
        if pre or all(layer.feed_forward is not None for layer in encoder):
            needs.add("feed_forward_norm")
        if all(map(recomputable, encoder)):
            needs.add("layer")
    if cross and len(decoder) == len(cross):
        needs |= {"cross_attention", "decoder_self_attention", "self_attention_layer"}
    return frozenset(needs)


def methods_for(needs: Collection[str]) -> list[str]:
    """Return the methods of attribution that a model can have.

    Args:
        needs: what the model offers, see `needs_met`.
    """
    return [method for method in EXPLAINERS if ATTRIBUTION_METHODS[method].needs <= set(needs)]


def refuse_method(method: str, needs: frozenset[Need]) -> None:
    """Raise `UserError` for a method that does not exist, or that a model cannot have; names one that works."""
    if method in ATTRIBUTION_METHODS.keys() - EXPLAINERS.keys():
        others = ", ".join(methods_for(needs))
        raise UserError(f"method {method}: is not computed for the models of tasks; this one has {others}")
    try:
        check_method(method, needs & DESCRIPTIONS.keys())
    except ValueError as error:
        raise UserError(f"method {error}" if method in ATTRIBUTION_METHODS else str(error)) from None


def _summed(result: Attribution) -> Attribution:
    return Attribution(result.method, aggregate_features(result.attributions, "sum"), result.completeness_gap)
