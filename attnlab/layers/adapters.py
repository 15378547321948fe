"""Adapters that make `attention` the `attention_fn` of Flax's modules, Linen's and NNX's.

Every argument that the modules pass is honored, or refused by a ValueError that names it; none is ignored. What such a
module computes is not recorded by `capture.apply_with_attention`, and takes no interventions.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.linen import dtypes as linen_dtypes
from flax.nnx.nn import dtypes as nnx_dtypes
from jax import Array
from jax.tree_util import register_dataclass
from jax.typing import ArrayLike

from attnlab.functional import dropout, masks, mods, normalizers, parts
from attnlab.functional.attention import attention, attention_weights
from attnlab.functional.masks.extent import Lengths
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import Positions, known
from attnlab.layers.jax_nn import restrict, with_arrays


@suggest_arguments(options_of=attention)
def linen_attention_fn(**options: Any) -> Callable[..., Array]:
    """Make the `attention_fn` of `flax.linen.MultiHeadDotProductAttention` from options of `attention`.

    The function takes the arguments of `flax.linen.dot_product_attention`, with the same defaults and meaning, except
    that

    - a query that may attend to nothing gets 0 (Flax: the mean of all values);
    - logits and weights are at least float32 for every `dtype` and `force_fp32_for_softmax`, and float64 stays float64;
    - dropout has Flax's distribution, not its random numbers (`broadcast_dropout=True`, Flax's default, draws one
      mask [T, S] for all heads and examples);
    - a `precision` other than None selects the implementation "dense";
    - a single query with several keys and a mask is a step of Flax's decoding, whose position Flax does not pass: mods
      other than soft_cap, masks other than lengths, and normalizers that depend on positions are refused there
      (`attnlab.cache` decodes with all of them);
    - `bias` is added after the mods, so that no soft cap undoes a bias of −1e9;
    - a numeric mask holds 0 and 1: any other value is refused (an additive mask is a `bias`); under jit, where the
      values are unknown, it makes all outputs NaN;
    - `einsum_dot_general`, `qk_attn_weights_einsum` and `attn_weights_value_einsum` are refused.

    Args:
        options: score, mods, mask (combined with Flax's mask by "and"), normalizer, implementation ...
    Returns: a function of (query, key, value, bias, mask, ...). With `sow_weights=True` the module sows the weights
        before dropout as "attention_weights" in its intermediates, as it does with Flax's own function.

    >>> from flax import linen
    >>> layer = linen.MultiHeadDotProductAttention(2, attention_fn=linen_attention_fn(mask=masks.causal()))
    >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 3, 4)))[0].shape
    (1, 3, 4)
    """
    _check_options(options)

    def attention_fn(
        query: Array,
        key: Array,
        value: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: Array | None = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        force_fp32_for_softmax: bool = False,
        einsum_dot_general: Callable[..., Array] | None = None,
        qk_attn_weights_einsum: Callable[..., Array] | None = None,
        attn_weights_value_einsum: Callable[..., Array] | None = None,
    ) -> Array:
        for name, argument in (
            ("einsum_dot_general", einsum_dot_general),
            ("qk_attn_weights_einsum", qk_attn_weights_einsum),
            ("attn_weights_value_einsum", attn_weights_value_einsum),
        ):
            if argument is not None:
                raise ValueError(f"attention_fn: {name} is not supported; write another product of q and k as a score")
        query, key, value = linen_dtypes.promote_dtype(query, key, value, dtype=dtype)
        drop = _Drop(0.0 if deterministic else dropout_rate, dropout_rng, broadcast_dropout)
        output, weights = _attend(options, query, key, value, bias, mask, drop, precision, sow=module is not None)
        if module is not None:
            wide = force_fp32_for_softmax and query.dtype != jnp.float64
            module.sow("intermediates", "attention_weights", weights.astype(jnp.float32 if wide else query.dtype))
        return output

    return attention_fn


@suggest_arguments(options_of=attention)
def nnx_attention_fn(**options: Any) -> Callable[..., Array]:
    """Make the `attention_fn` of `flax.nnx.MultiHeadAttention` from options of `attention`.

    The function takes the arguments of `flax.nnx.dot_product_attention`, with the same defaults and meaning, and the
    exceptions of `linen_attention_fn`. Key heads may be fewer than query heads (`num_kv_heads`).

    Args:
        options: score, mods, mask (combined with Flax's mask by "and"), normalizer, implementation ...
    Returns: a function of (query, key, value, bias, mask, ...); `sow_weights=True` sows `nnx.Intermediate` weights.

    >>> layer = nnx.MultiHeadAttention(2, 4, attention_fn=nnx_attention_fn(), decode=False, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 3, 4)), is_causal=True).shape
    (1, 3, 4)
    """
    _check_options(options)

    def attention_fn(
        query: Array,
        key: Array,
        value: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: Array | None = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        promote_dtype: Callable[..., Any] = nnx_dtypes.promote_dtype,
        is_causal: bool = False,
    ) -> Array:
        query, key, value = promote_dtype((query, key, value), dtype=dtype)
        drop = _Drop(0.0 if deterministic else dropout_rate, dropout_rng, broadcast_dropout)
        call = {**options, "mask": restrict(options.get("mask"), masks.causal("upper_left"))} if is_causal else options
        output, weights = _attend(call, query, key, value, bias, mask, drop, precision, sow=module is not None)
        if module is not None:
            module.sow(nnx.Intermediate, "attention_weights", weights.astype(query.dtype))
        return output

    return attention_fn


class _Drop(NamedTuple):
    """Flax's arguments for dropout."""

    rate: float
    rng: Array | None
    shared: bool
    """Whether all heads and examples share one dropout mask."""


@partial(register_dataclass, data_fields=["normalizer", "rng"], meta_fields=["rate"])
@dataclass(frozen=True)
class _Dropping(normalizers.Positional):
    """A normalizer followed by dropout of its weights, with one dropout mask for all heads and examples."""

    normalizer: Any
    rng: Any
    rate: float

    def __call__(self, logits: Array, where: Array | None, positions: Positions) -> Array:
        extra = (positions,) if isinstance(self.normalizer, normalizers.Positional) else ()
        weights = self.normalizer(logits, where, *extra)
        zero = jnp.int32(0)
        kept = dropout.keep(self.rng, self.rate, zero, zero, positions.query, positions.key)
        return dropout.drop(weights, kept, self.rate)


def _attend(
    options: dict[str, Any],
    query: Array,
    key: Array,
    value: Array,
    bias: ArrayLike | None,
    mask: ArrayLike | None,
    drop: _Drop,
    precision: Any,
    sow: bool,
) -> tuple[Array, Any]:
    """Return the output, and the weights before dropout if `sow` is set."""
    if query.shape[-3] == 1 < key.shape[-3] and mask is not None:
        _check_one_query(options)
    where, wrong = _truth_values(mask)
    options = with_arrays(options, query, key, bias, where)
    if precision is not None:
        if options.get("implementation") not in (None, "dense"):
            raise ValueError("attention_fn: only implementation 'dense' honors a precision")
        options["implementation"] = "dense"  # the reverse rules of the others are traced outside this context
    dropping = {"dropout_rate": drop.rate, "rng": drop.rng}
    shared = drop.shared and drop.rate > 0
    if shared:
        if drop.rng is None:
            raise ValueError("attention_fn: dropout needs a dropout_rng")
        normalizer = options.get("normalizer", normalizers.softmax)
        dropping = {"normalizer": _Dropping(parts.as_part(normalizer), drop.rng, drop.rate)}
    with _precision(precision):
        result: Any = attention(query, key, value, **{**options, **dropping}, returns=("weights",) if sow else ())
        if not sow:
            return _nan_if(wrong, result), None
        # where the normalizer itself drops weights, the call cannot return the weights before dropout
        weights = _weights(options, query, key) if shared else result.weights
        return _nan_if(wrong, result.output), _nan_if(wrong, weights)


def _truth_values(mask: ArrayLike | None) -> tuple[Array | None, Array | None]:
    """Return the mask as truth values and, if its values are unknown under jit, whether any is neither 0 nor 1."""
    if mask is None or jnp.asarray(mask).dtype == jnp.bool_:
        return None if mask is None else jnp.asarray(mask), None
    mask = jnp.asarray(mask)
    if (values := known(mask)) is None:
        return mask == 1, jnp.any((mask != 0) & (mask != 1))
    if values.size and not ((values == 0) | (values == 1)).all():
        other = values[(values != 0) & (values != 1)].ravel()[0]
        raise ValueError(
            f"attention_fn: mask holds 0 and 1 (1 = may attend), but contains {other}; "
            "write bias=mask to add it to the logits"
        )
    return mask == 1, None


def _nan_if(wrong: Array | None, array: Array) -> Array:
    return array if wrong is None else jnp.where(wrong, jnp.full_like(array, jnp.nan), array)


def _check_one_query(options: dict[str, Any]) -> None:
    """Refuse parts that depend on the position of a single query, which Flax's decoding does not pass."""
    soft_cap = mods.soft_cap(1.0).func
    positional = [mod for mod in options.get("mods", ()) if getattr(mod, "func", mod) is not soft_cap]
    mask, normalizer = options.get("mask"), options.get("normalizer")
    wrong = {
        "the mods": bool(positional),
        "the mask": not (mask is None or isinstance(mask, Lengths)),
        "the normalizer": isinstance(getattr(normalizer, "func", normalizer), normalizers.Positional),
    }
    if part := next((name for name, is_wrong in wrong.items() if is_wrong), None):
        raise ValueError(
            f"attention_fn: Flax's decode=True does not pass the position of the query, so {part} may be wrong; use "
            "soft_cap, masks.lengths and a normalizer without positions, or decode with attnlab.cache"
        )


def _weights(options: dict[str, Any], query: Array, key: Array) -> Array:
    named = ("score", "mods", "mask", "normalizer")
    return attention_weights(query, key, **{name: options[name] for name in named if name in options})


def _precision(precision: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which matrix products are traced with a precision of `jax.lax`."""
    if precision is None:
        return contextlib.nullcontext()
    if isinstance(precision, tuple | list):
        if len(set(precision)) > 1:
            raise ValueError(f"attention_fn: precision {precision} differs for the two operands; use one for both")
        precision = precision[0]
    name = precision.name if isinstance(precision, jax.lax.Precision | jax.lax.DotAlgorithmPreset) else precision
    if not isinstance(name, str):
        raise ValueError(f"attention_fn: precision {precision} is not a jax.lax.Precision, a name, or None")
    return jax.default_matmul_precision(name.lower() if isinstance(precision, jax.lax.Precision) else name)


def _check_options(options: dict[str, Any]) -> None:
    for name in ("dropout_rate", "rng", "returns", "query_positions", "key_positions"):
        if name in options:
            raise ValueError(
                f"attention_fn: {name} is not an option here: Flax's module sets it in each call; pass it to the module"
            )
