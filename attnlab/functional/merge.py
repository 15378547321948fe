"""Merging attention over parts of the keys: splits of a long sequence, caches, devices."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from attnlab.functional import statistics
from attnlab.functional.attention import AttentionOutput
from attnlab.functional.normalizers import softmax
from attnlab.functional.types import widen


def merge(parts: Sequence[AttentionOutput], *, sink: Any = None) -> AttentionOutput:
    """Merge softmax attention over parts of the keys into attention over all of them.

    output = Σ_p share_p output_p,    share = softmax(lse_1, lse_2, …),    lse = log Σ_p exp(lse_p)

    This is attention over the parts, with their lse as logits and their outputs as values.

    Args:
        parts: the results of `attention` of the same queries for each part of the keys, with `normalizer=softmax`
            and at least `returns=("lse",)`. A part may have no temperature (scale its score instead) and no sink
            (pass it here). Pass `key_positions`, so that mods and masks use the positions in the whole sequence.
        sink: a number, or an array [] or [N], of `normalizers.softmax_with_sink`; None for no sink.
    Returns: an `AttentionOutput` with output, lse, and max if every part has it; the other fields are None.
    Numerics: shifted by the largest lse, so nothing overflows. An lse of magnitude L is itself rounded to
        float32, which changes the share of a part by a factor of up to 1 ± L · 2⁻²⁴; for logits above about 1e3, use
        one call for all keys, or float64. A part in which a query is fully masked (lse −inf) gets share 0; a query
        fully masked in all parts gets output 0, lse −inf and finite gradients. Differentiable in forward and reverse
        mode, to any order.
    Reference: Dao et al. 2022, section 3.1; Juravsky et al. 2024, "Hydragen", eq. 5.

    >>> from attnlab.functional.attention import attention
    >>> query, key, value = jnp.ones((1, 1, 1)), jnp.zeros((3, 1, 1)), jnp.arange(3.0).reshape(3, 1, 1)
    >>> halves = [attention(query, key[part], value[part], returns=("lse",)) for part in (slice(0, 1), slice(1, 3))]
    >>> merge(halves).output.ravel().tolist()
    [1.0]
    """
    parts = tuple(parts)
    if not parts:
        raise ValueError("merge: parts must not be empty")
    lses = [part.lse for part in parts if part.lse is not None]
    for number, part in enumerate(parts):
        if part.lse is None:
            raise ValueError(f'merge: part {number} has no lse; write attention(..., returns=("lse",))')
        if part.output.shape != parts[0].output.shape or part.lse.shape != lses[0].shape:
            raise ValueError(
                f"merge: all parts must have one shape of output: part {number} has {part.output.shape}, part 0 "
                f"{parts[0].output.shape}"
            )
    levels = jnp.stack(lses, axis=-1)
    lse = statistics.lse(levels.reshape(-1, len(parts))).reshape(levels.shape[:-1])
    shares = jnp.moveaxis(softmax(levels), -3, -2)
    if sink is not None:
        level = jnp.broadcast_to(jnp.asarray(sink, lse.dtype), lse.shape[-2:-1])
        finite = jnp.where(lse == -jnp.inf, 0.0, lse)
        without_sink = jax.nn.sigmoid(finite - jnp.broadcast_to(level[:, None], lse.shape))
        shares *= jnp.moveaxis(without_sink, -2, -1)[..., None]
    output = sum(
        shares[..., number, None].astype(widen(part.output).dtype) * widen(part.output)
        for number, part in enumerate(parts)
    )
    largest = [part.max for part in parts if part.max is not None]
    largest = jnp.max(jnp.stack(largest), axis=0) if len(largest) == len(parts) else None
    return AttentionOutput(jnp.asarray(output).astype(parts[0].output.dtype), lse=lse, max=largest)
