"""`attention` in the modules of Flax, Linen's and NNX's, as their `attention_fn`.

Every argument that the modules pass is honored, or refused by a ValueError that names it; none is dropped.
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
from attnlab.layers.jax_nn import also, with_arrays


@suggest_arguments(options_of=attention)
def linen_attention_fn(**options: Any) -> Callable[..., Array]:
    """Make the `attention_fn` of `flax.linen.MultiHeadDotProductAttention` from options of `attention`.

    It takes what `flax.linen.dot_product_attention` takes, with the same defaults and meaning, except that

    - a query that may attend to nothing gets 0 (Flax: the mean of all values);
    - logits and weights are float32 at least, whatever `dtype` and `force_fp32_for_softmax` say, and float64 stays;
    - dropout has Flax's distribution, not its random numbers (`broadcast_dropout=True`, Flax's default, draws one
      mask [T, S] for all heads and examples);
    - a `precision` other than None makes the implementation "dense";
    - one query among several keys with a mask is Flax's decoding, in which a query's position is not told: mods other
      than soft_cap, and masks other than lengths, are refused there (`attnlab.cache` decodes with all of them);
    - `bias` is added after the mods, so that no soft cap undoes a bias of −1e9;
    - a mask of numbers holds 0 and 1: any other is refused (an additive mask is a `bias`), and inside jit, where its
      values are not known, makes all outputs NaN;
    - `einsum_dot_general`, `qk_attn_weights_einsum` and `attn_weights_value_einsum` are refused.

    Args:
        options: score, mods, mask (which restricts further what Flax's mask allows), normalizer, implementation ...
    Returns: a function of (query, key, value, bias, mask, ...). With `sow_weights=True` the module sows the weights
        before dropout as "attention_weights" among its intermediates, as it does with Flax's own function.

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
        for name, given in (
            ("einsum_dot_general", einsum_dot_general),
            ("qk_attn_weights_einsum", qk_attn_weights_einsum),
            ("attn_weights_value_einsum", attn_weights_value_einsum),
        ):
            if given is not None:
                raise ValueError(f"attention_fn: {name} is not taken; another product of q and k is a score of attnlab")
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

    It takes what `flax.nnx.dot_product_attention` takes, with the same defaults and meaning, and the exceptions
    of `linen_attention_fn`. Key heads may be fewer than query heads (`num_kv_heads`).

    Args:
        options: score, mods, mask (which restricts further what Flax's mask allows), normalizer, implementation ...
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
        own = {**options, "mask": also(options.get("mask"), masks.causal("upper_left"))} if is_causal else options
        output, weights = _attend(own, query, key, value, bias, mask, drop, precision, sow=module is not None)
        if module is not None:
            module.sow(nnx.Intermediate, "attention_weights", weights.astype(query.dtype))
        return output

    return attention_fn


class _Drop(NamedTuple):
    """What Flax says about dropout."""

    rate: float
    rng: Array | None
    shared: bool
    """By all heads and examples."""


@partial(register_dataclass, data_fields=["normalizer", "rng"], meta_fields=["rate"])
@dataclass(frozen=True)
class _Dropping(normalizers.Positional):
    """A normalizer whose weights are dropped, the same for all heads and examples."""

    normalizer: Any
    rng: Any
    rate: float

    def __call__(self, logits: Array, where: Array | None, positions: Positions) -> Array:
        own = (positions,) if isinstance(self.normalizer, normalizers.Positional) else ()
        weights = self.normalizer(logits, where, *own)
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
    """Return the output, and the weights before dropout where they are to be sown."""
    if query.shape[-3] == 1 < key.shape[-3] and mask is not None:
        _check_one_query(options)
    where, wrong = _truth_values(mask)
    options = with_arrays(options, query, key, bias, where)
    if precision is not None:
        if options.get("implementation") not in (None, "dense"):
            raise ValueError("attention_fn: a precision is kept by implementation 'dense' alone")
        options["implementation"] = "dense"  # the reverse rules of the others are traced outside of this context
    dropping = {"dropout_rate": drop.rate, "rng": drop.rng}
    shared = drop.shared and drop.rate > 0
    if shared:
        if drop.rng is None:
            raise ValueError("attention_fn: dropout needs a dropout_rng")
        own = options.get("normalizer", normalizers.softmax)
        dropping = {"normalizer": _Dropping(parts.as_part(own), drop.rng, drop.rate)}
    with _precision(precision):
        found: Any = attention(query, key, value, **{**options, **dropping}, returns=("weights",) if sow else ())
        if not sow:
            return _spoiled(found, wrong), None
        # of weights dropped by the normalizer, the ones before are not to be had from the same call
        weights = _weights(options, query, key) if shared else found.weights
        return _spoiled(found.output, wrong), _spoiled(weights, wrong)


def _truth_values(mask: ArrayLike | None) -> tuple[Array | None, Array | None]:
    """Return the mask as truth values and, where only the run knows its numbers, whether one is neither 0 nor 1."""
    if mask is None or jnp.asarray(mask).dtype == jnp.bool_:
        return None if mask is None else jnp.asarray(mask), None
    mask = jnp.asarray(mask)
    if (values := known(mask)) is None:
        return mask == 1, jnp.any((mask != 0) & (mask != 1))
    if values.size and not ((values == 0) | (values == 1)).all():
        other = values[(values != 0) & (values != 1)].ravel()[0]
        raise ValueError(
            f"attention_fn: mask holds 0 and 1 (1 = may attend), this one has {other}; "
            "write bias=mask where it is added to the logits"
        )
    return mask == 1, None


def _spoiled(array: Array, wrong: Array | None) -> Array:
    return array if wrong is None else jnp.where(wrong, jnp.full_like(array, jnp.nan), array)


def _check_one_query(options: dict[str, Any]) -> None:
    """Refuse what depends on where a single query stands: Flax's decoding does not tell, it passes a mask."""
    apart = [mod for mod in options.get("mods", ()) if getattr(mod, "func", mod) is not mods.soft_cap(1.0).func]
    mask = options.get("mask")
    if apart or not (mask is None or isinstance(mask, Lengths)):
        what = "the mods" if apart else "the mask"
        raise ValueError(
            f"attention_fn: where one query stands among several keys is not told (Flax's decode=True), so {what} "
            "may be wrong; soft_cap and masks.lengths are taken there, and attnlab.cache decodes with all others"
        )


def _weights(options: dict[str, Any], query: Array, key: Array) -> Array:
    named = ("score", "mods", "mask", "normalizer")
    return attention_weights(query, key, **{name: options[name] for name in named if name in options})


def _precision(precision: Any) -> contextlib.AbstractContextManager[Any]:
    """Compute the products in a precision of `jax.lax`, as the context of the tracing."""
    if precision is None:
        return contextlib.nullcontext()
    if isinstance(precision, tuple | list):
        if len(set(precision)) > 1:
            raise ValueError(f"attention_fn: precision {precision} differs for the two operands; one for both is taken")
        precision = precision[0]
    name = precision.name if isinstance(precision, jax.lax.Precision | jax.lax.DotAlgorithmPreset) else precision
    if not isinstance(name, str):
        raise ValueError(f"attention_fn: precision {precision} is none of jax.lax.Precision, a name, None")
    return jax.default_matmul_precision(name.lower() if isinstance(precision, jax.lax.Precision) else name)


def _check_options(options: dict[str, Any]) -> None:
    for name in ("dropout_rate", "rng", "returns", "query_positions", "key_positions"):
        if name in options:
            raise ValueError(
                f"attention_fn: {name} is no option here, for Flax's module decides it call by call; write it there"
            )
