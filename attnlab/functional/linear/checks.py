"""Checks of the arguments of `linear_attention`, before anything is computed; every error says what would work."""

from difflib import get_close_matches
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.checks import described
from attnlab.functional.linear.mapped_features import is_positional
from attnlab.functional.linear.rule import Rule
from attnlab.functional.signatures import ELSEWHERE, check_callable
from attnlab.functional.types import known

_NO_WEIGHTS = "nothing: linear attention computes no weights; attention(...) has them"
_ONLY_PADDING = (
    "causal=True, or where=... [*B, S] of the keys, True = may be attended to; attention(...) takes other masks"
)
_NO_LOGITS = "nothing: linear attention has no logits to change; attention(...) takes mods"
HINTS = {
    **ELSEWHERE,
    **dict.fromkeys(("mask", "attn_mask", "attention_mask", "block_mask", "mask_mod", "segment_ids"), _ONLY_PADDING),
    **dict.fromkeys(("window", "window_size", "local_window_size", "sliding_window", "segments"), _ONLY_PADDING),
    **dict.fromkeys(("key_padding_mask", "padding_mask"), "where=... [*B, S], True = may be attended to"),
    **dict.fromkeys(("lengths", "seq_lengths", "key_value_seq_lengths"), "where=jnp.arange(S) < lengths[:, None]"),
    **dict.fromkeys(("returns", "need_weights", "return_weights", "output_attentions", "sow_weights"), _NO_WEIGHTS),
    **dict.fromkeys(("dropout_rate", "dropout", "dropout_p", "rng", "dropout_rng"), _NO_WEIGHTS),
    **dict.fromkeys(("mods", "bias", "attn_bias", "score_mod", "soft_cap", "softcap", "alibi", "sink"), _NO_LOGITS),
    **dict.fromkeys(("normalizer", "normalized", "normalize"), "rule=linear.sum_rule(normalized=...)"),
    **dict.fromkeys(("score", "kernel"), "feature_map=..., whose inner products are the weights"),
    **dict.fromkeys(("scale", "sm_scale", "softmax_scale"), "scale * query"),
    "is_causal": "causal=True",
    **dict.fromkeys(("beta",), "rule=linear.delta_rule(beta)"),
    **dict.fromkeys(("g", "gk", "gate", "log_decay"), "rule=linear.gated(log_decay)"),
    **dict.fromkeys(("chunk_size", "block_size"), "chunk=64"),
    **dict.fromkeys(("initial_state", "cache"), "state=state, the second result of the previous call"),
    "output_final_state": "nothing: the state is always returned",
    **dict.fromkeys(("implementation", "backend", "mode"), "chunk=..., or call linear.recurrent or linear.parallel"),
    **dict.fromkeys(("query_positions", "key_positions", "positions"), "state=state, which counts the tokens before"),
}
"""An argument of `attention` or of another library -> what to write instead."""


def check_inputs(query: Array, key: Array, value: Array, causal: bool) -> None:
    """Raise unless shapes and dtypes of query, key and value fit together."""
    shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
    if min(query.ndim, key.ndim, value.ndim) < 3:
        raise ValueError(
            f"linear_attention: query, key and value must have shape [*B, positions, heads, features], got {shapes}; "
            "with one head write query[:, None, :]"
        )
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3] or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(
            f"linear_attention: batch axes, numbers of keys and key heads must be equal, got {shapes}; for arrays with "
            "heads before positions write jnp.swapaxes(query, -2, -3)"
        )
    if key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        raise ValueError(
            f"linear_attention: {query.shape[-2]} query heads must be a multiple of {key.shape[-2]} key heads: {shapes}"
        )
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (query, key, value)):
        dtypes = f"{query.dtype}, {key.dtype}, {value.dtype}"
        raise ValueError(
            f"linear_attention: query, key and value must be floating-point, got {dtypes}; write "
            "query.astype(jnp.float32)"
        )
    if causal and query.shape[-3] != key.shape[-3]:
        raise ValueError(
            f"linear_attention: with causal=True the numbers of queries and keys must be equal, got {query.shape[-3]} "
            f"and {key.shape[-3]}; pass keys and values of earlier tokens as state=..."
        )


def check_rule(rule: Any, causal: Any, chunk: Any) -> None:
    """Raise for anything but a rule that has the form."""
    if not isinstance(rule, Rule):
        made = getattr(rule, "__name__", rule if isinstance(rule, str) else "")
        names = ("sum_rule", "retention", "gated", "delta_rule", "gated_delta_rule")
        near = get_close_matches(str(made), names, n=1)
        hint = f"rule=linear.{near[0]}(...)" if near else "rule=linear.sum_rule()"
        raise ValueError(f"linear_attention: rule must be a state rule, not {described(rule)}; write {hint}")
    if not isinstance(causal, bool):
        raise ValueError(f"linear_attention: causal must be True or False, not {described(causal)}")
    if rule.ordered and not causal:
        raise ValueError(
            f"linear_attention: {rule.name} has no non-causal form, as its state depends on the order of tokens; write "
            "causal=True, or rule=linear.sum_rule()"
        )
    if chunk is not None and not (isinstance(chunk, int) and chunk >= 1):
        raise ValueError(
            f"linear_attention: chunk must be an integer of 1 or more, or None, not {described(chunk)}; write chunk=64"
        )
    if chunk is not None and not causal:
        raise ValueError("linear_attention: chunk has no effect without causal=True; write chunk=None")


def check_where(where: Any, key: Array) -> None:
    """Raise unless `where` is None, or booleans for the keys."""
    if where is None:
        return
    shape, dtype = getattr(where, "shape", None), getattr(where, "dtype", None)
    if shape != key.shape[:-2] or dtype != jnp.bool_:
        raise ValueError(
            f"linear_attention: where must be booleans [*B, S], {list(key.shape[:-2])}, True for keys that may be "
            f"attended to, not {described(where)}; for numbers of keys write where=jnp.arange({key.shape[-3]}) < "
            "lengths[:, None]"
        )


def check_feature_map(feature_map: Any, state: Any, query: Array, key: Array, causal: bool) -> None:
    """Raise unless each feature map can be called, and is defined at the positions of the call."""
    for part in feature_map:
        if not callable(part) or isinstance(part, type):
            raise ValueError(
                f"linear_attention: feature_map must be a function, or a pair of them for query and key, not "
                f"{described(part)}; write feature_map=linear.elu_plus_one"
            )
        positional = is_positional(part)
        check_callable(
            "linear_attention: feature_map", part, ("features", "positions") if positional else ("features",)
        )
        if positional and state is not None and not causal:
            raise ValueError(
                "linear_attention: the positions of queries are unknown with a state and without causal=True; write "
                "causal=True, or a feature map without positions"
            )
        if positional:
            before = None if state is None else known(state.length)
            before = 0 if before is None else int(np.max(before))
            getattr(part, "func", part).check_positions(before + max(query.shape[-3], key.shape[-3]))


def check_state(state: Any) -> None:
    """Raise unless a state is None or has the fields of a `State`."""
    if state is not None and not (hasattr(state, "memory") and hasattr(state, "length")):
        raise ValueError(
            "linear_attention: state must be a linear.State, the second result of an earlier call, or None, not "
            f"{described(state)}"
        )


def check_memory(memory: Array, expected: tuple[int, ...]) -> None:
    """Raise unless the memory of a state has the shape [*B, K, m, V] of this call."""
    if memory.shape != expected:
        raise ValueError(
            f"linear_attention: state.memory must have shape {list(expected)} [*B, K, features, values], with one more "
            f"column for a normalized rule, not {list(memory.shape)}; it is of a call with other shapes, rule or "
            "feature map"
        )
