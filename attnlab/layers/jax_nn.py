"""A drop-in replacement of `jax.nn.dot_product_attention`, and its bias and mask arrays as parts of attention.

It is a function, and so nothing of it is recorded by `capture.apply_with_attention`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from attnlab.functional import masks, mods, scores
from attnlab.functional.attention import attention
from attnlab.functional.signatures import suggest_arguments


@suggest_arguments()
def jax_nn_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Any:
    """Attend with the signature, defaults and meaning of `jax.nn.dot_product_attention`.

    output_i = Σ_j softmax(scale · query_i · key + bias_i, where = mask_i)[j] value_j

    There are two differences: the output of a query that may attend to nothing is 0, with residual −inf (in jax.nn the
    mean of all values); and float64 stays float64 (in jax.nn the softmax is float32).

    Args:
        query: [B, T, N, D] or [T, N, D].
        key: [B, S, K, D] or [S, K, D]; N is a multiple of K.
        value: [B, S, K, V] or [S, K, V].
        bias: added to the logits; broadcasts to [B, N, T, S].
        mask: truth values, True = may attend; broadcasts to [B, N, T, S].
        scale: of the logits; None is 1 / √D.
        is_causal: whether query i attends only to keys up to i ("upper_left").
        query_seq_lengths: [B], the output of later queries is 0; None is all queries.
        key_value_seq_lengths: [B], later keys are not attended to; None is all keys.
        local_window_size: (left, right): query i attends to keys i − left to i + right; a number is both; None is no
            window.
        implementation: None or "xla": attnlab chooses; "cudnn" is refused.
        return_residual: whether to return the logarithm of the softmax's denominator [B, T, N] too, which has no
            gradient, as in jax.nn.
    Returns: the output [B, T, N, V], or the pair (output, residual).
    Numerics: logits and softmax in float32 at least; the output in the dtype of the inputs.
    Reference: `jax.nn.dot_product_attention` of jax 0.10.2.

    >>> jax_nn_dot_product_attention(jnp.ones((2, 1, 4)), jnp.ones((3, 1, 4)), jnp.ones((3, 1, 4))).shape
    (2, 1, 4)
    """
    if implementation not in (None, "xla"):
        reason = "attnlab has no cuDNN kernel" if implementation == "cudnn" else "expected None or 'xla'"
        raise ValueError(f"jax_nn_dot_product_attention: implementation {implementation!r} is not supported: {reason}")
    query, key, value = jnp.asarray(query), jnp.asarray(key), jnp.asarray(value)
    if query.ndim not in (3, 4):
        raise ValueError(f"jax_nn_dot_product_attention: query is [B, T, N, D] or [T, N, D], not {query.shape}")
    if mask is not None and jnp.asarray(mask).dtype != jnp.bool_:
        raise ValueError(
            f"jax_nn_dot_product_attention: mask must hold truth values, not {jnp.asarray(mask).dtype}; "
            "write mask=mask.astype(bool) for a mask of 0 and 1, or bias=mask to add it to the logits"
        )
    arrays = [x if x.ndim == 4 else x[None] for x in (query, key, value)]
    allowed = masks.causal("upper_left") if is_causal else None
    if local_window_size is not None:
        left, right = (local_window_size,) * 2 if isinstance(local_window_size, int) else local_window_size
        allowed = restrict(allowed, masks.sliding_window(left, right, "upper_left"))
    if query_seq_lengths is not None or key_value_seq_lengths is not None:
        pairs = (key_value_seq_lengths, arrays[1].shape[1]), (query_seq_lengths, arrays[0].shape[1])
        # jax.nn accepts lengths beyond the array
        lengths = [None if x is None else jnp.clip(jnp.asarray(x), 0, size) for x, size in pairs]
        allowed = restrict(allowed, masks.lengths(*lengths))
    options: dict[str, Any] = {"mask": allowed, "returns": ("lse",) if return_residual else ()}
    if scale is not None:
        options["score"] = Partial(_scaled_by, scale=jnp.asarray(scale))
    options = with_arrays(options, arrays[0], arrays[1], bias, mask)
    result: Any = attention(arrays[0], arrays[1], arrays[2], **options)
    if not return_residual:
        return result.reshape(*query.shape[:-1], value.shape[-1])
    residual = jnp.swapaxes(result.lse, -1, -2).reshape(query.shape[:-1]).astype(key.dtype)
    return result.output.reshape(*query.shape[:-1], value.shape[-1]), jax.lax.stop_gradient(residual)


def _scaled_by(query: Array, key: Array, *, scale: Array) -> Array:
    logits = scores.dot(query, key)
    return logits * scale.astype(logits.dtype)


def with_arrays(
    options: dict[str, Any], query: Array, key: Array, bias: ArrayLike | None, mask: ArrayLike | None
) -> dict[str, Any]:
    """Add a bias and a mask of truth values, which broadcast to [*B, N, T, S], to the options of `attention`."""
    shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3])
    added = dict(options)
    if mask is not None:
        where, axes = _named("mask", jnp.asarray(mask), shape)
        added["mask"] = restrict(options.get("mask"), masks.array(where, axes))
    if bias is not None:
        if jnp.asarray(bias).dtype == jnp.bool_:
            raise ValueError("attention: bias is added to the logits, but holds truth values; write mask=bias")
        array, axes = _named("bias", jnp.asarray(bias), shape)
        added["mods"] = (*options.get("mods", ()), mods.bias(array, axes))
    return added


def _named(argument: str, array: Array, shape: tuple[int, ...]) -> tuple[Array, str]:
    """Name the axes of an array that broadcasts to [*B, N, T, S], and drop the axes along which it is constant."""
    pairs = zip(array.shape[::-1], shape[::-1], strict=False)
    if array.ndim > len(shape) or any(size not in (1, target) for size, target in pairs):
        raise ValueError(f"attention: {argument} {array.shape} does not broadcast to [*B, N, T, S], here {shape}")
    array = array.reshape(*[1] * (len(shape) - array.ndim), *array.shape)
    batch = shape[:-3]
    varies = any(size > 1 for size in array.shape[:-3])
    front = batch if varies else ()
    array = jnp.broadcast_to(array, (*batch, *array.shape[-3:])) if varies else array.reshape(array.shape[-3:])
    inner = [(name, size) for name, size in zip("hqk", array.shape[-3:], strict=True) if size > 1 or name == "k"]
    if array.shape[-1] != shape[-1]:
        array, inner[-1] = jnp.broadcast_to(array, (*array.shape[:-1], shape[-1])), ("k", shape[-1])
    array = array.reshape(*front, *(size for _, size in inner))
    return array, " ".join((["b"] if varies else []) + [name for name, _ in inner])


def restrict(mask: masks.Mask | None, other: masks.Mask) -> masks.Mask:
    """Return the intersection of two masks; a first mask of None allows everything."""
    return other if mask is None else mask & other
