"""ALTI: how near each token's part comes to the whole output of a block, rolled out; ALTI+ for encoder–decoders."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.checks import normalized_rows, without_padding
from attnlab.analysis.attribution.decomposition import (
    AttentionBlock,
    Decomposition,
    decompose_cross_attention,
    decompose_self_attention,
    prepared,
)
from attnlab.analysis.attribution.rollout import rollout
from attnlab.analysis.checks import check_valid
from attnlab.functional.types import accumulation_dtype, widen


def alti_contributions(
    decomposition: Decomposition,
    *,
    query_valid: Bool[Array, " q"] | None = None,
    key_valid: Bool[Array, " k"] | None = None,
) -> Float[Array, "q k"]:
    """Return the share of each vector in the sum, by its ℓ₁ distance from it.

    c[i, j] = max(0, ‖y_i‖₁ − ‖y_i − v[i, j]‖₁),    each row divided by its sum

    y is the whole output, biases included, without the vectors of padded keys. A vector that points away from y gets 0,
    however long it is.

    Args:
        decomposition: of a block, by `decompose_self_attention` or `decompose_cross_attention`.
        query_valid: True for real queries; None if there is no padding.
        key_valid: True for real keys; None if there is no padding.
    Returns: contributions in [0, 1]; a row sums to 1, or is 0 if no vector comes nearer to y than 0 does.
    Numerics: dtype of the arrays, computed in float32 at least; rows and columns of padding have exactly 0, whatever
        the arrays hold there.
    Reference: Ferrando et al. 2022, "Measuring the mixing of contextual information in the Transformer".

    >>> alti_contributions(Decomposition(jnp.array([[[3.0], [1.0]]]), jnp.zeros((1, 1)))).tolist()
    [[0.75, 0.25]]
    """
    dtype, vectors = decomposition.vectors.dtype, widen(decomposition.vectors)
    check_valid("alti_contributions", query_valid, vectors.shape[0], "query_valid")
    check_valid("alti_contributions", key_valid, vectors.shape[1], "key_valid")
    if key_valid is not None:
        vectors = jnp.where(key_valid[None, :, None], vectors, 0)
    whole = Decomposition(vectors, widen(decomposition.constant)).total()
    distance = jnp.sum(jnp.abs(whole[:, None, :] - vectors), axis=-1)
    nearer = jnp.maximum(jnp.sum(jnp.abs(whole), axis=-1)[:, None] - distance, 0)
    return normalized_rows(without_padding(nearer, query_valid, key_valid)).astype(dtype)


def alti(blocks: Sequence[AttentionBlock], *, valid: Bool[Array, " n"] | None = None) -> Float[Array, "n n"]:
    """Follow the contributions of tokens to attention blocks down to the input tokens.

    R = C_L ⋯ C_1,    C_l = `alti_contributions` of layer l's block of self-attention, residual connection and norm

    It can say how a state is composed of input tokens, with value vectors, residual connections and norms counted, in
    shares that sum to 1. It cannot say anything of a target or of signs, and it leaves out the feed-forward networks.
    Post-norm blocks include the norm behind the residual connection; pre-norm blocks have none there (as in the
    authors' code), and a norm behind the last layer is left out.

    Args:
        blocks: what was captured of every layer's block, first layer first.
        valid: True for real tokens; None if there is no padding.
    Returns: R [n n] in [0, 1]; row i is the attribution of token i's last state. It sums to 1, or to less where a row
        of `alti_contributions` is 0.
    Cost: 1 forward pass, for the capture; memory [n n d] for one layer at a time.
    Numerics: dtype of the arrays, computed in float32 at least; rows and columns of padding have exactly 0, whatever
        the arrays hold there.
    Reference: Ferrando et al. 2022, "Measuring the mixing of contextual information in the Transformer".

    >>> one = jnp.ones((1, 1, 1))
    >>> alti([AttentionBlock(one, one, one, jnp.array([[3.0]]))]).tolist()
    [[1.0]]
    """
    if not blocks:
        raise ValueError("alti: needs at least one layer of self-attention; use integrated_gradients")
    return rollout(_contributions("alti", blocks, valid)).astype(blocks[0].weights.dtype)


class AltiPlus(NamedTuple):
    """What each target position's state is composed of."""

    source: Float[Array, "t s"]
    """Contributions of the source tokens."""
    target: Float[Array, "t t"]
    """Contributions of the tokens of the target prefix; with `source` each row sums to 1."""


def alti_plus(
    encoder: Sequence[AttentionBlock],
    decoder_self: Sequence[AttentionBlock],
    decoder_cross: Sequence[AttentionBlock],
    *,
    source_valid: Bool[Array, " s"] | None = None,
    target_valid: Bool[Array, " t"] | None = None,
) -> AltiPlus:
    """Follow contributions through an encoder and a decoder down to the source and the target prefix.

    A decoder layer's state is [C_x C_enc, r C_s] of the source and of its states below: C_x and r are the shares of
    source states and of the residual in the cross-attention block, C_s those in the self-attention block, C_enc is
    `alti` of the encoder. Layer by layer:

    R_source ← C_x C_enc + r C_s R_source,    R_target ← r C_s R_target    (from R_source = 0, R_target = I)

    It can say how much a prediction draws on the source and how much on the target prefix (their sums), and on which
    tokens. What it cannot say is as for `alti`.

    Args:
        encoder: what was captured of every encoder layer's block; empty if the source has no self-attention.
        decoder_self: of every decoder layer's block of self-attention.
        decoder_cross: of every decoder layer's block of cross-attention.
        source_valid: True for real source tokens; None if there is no padding.
        target_valid: True for real target tokens; None if there is no padding.
    Returns: the contributions, in [0, 1].
    Cost: 1 forward pass with the whole target as input, for the capture.
    Numerics: dtype of the arrays, computed in float32 at least; rows and columns of padding have exactly 0, whatever
        the arrays hold there. Rows are divided by their sum after every
        layer, as in the authors' code.
    Reference: Ferrando et al. 2022, "Towards opening the black box of neural machine translation: source and target
        interpretations of the Transformer".

    >>> one = jnp.ones((1, 1, 1))
    >>> block = AttentionBlock(one, one, one, jnp.array([[3.0]]))
    >>> [part.tolist() for part in alti_plus([], [block], [block])]
    [[[0.25]], [[0.75]]]
    """
    if not decoder_cross or len(decoder_self) != len(decoder_cross):
        raise ValueError(
            f"alti_plus: decoder_self has {len(decoder_self)} blocks, decoder_cross {len(decoder_cross)}; pass both "
            "blocks of every decoder layer (for a model without a decoder use alti)"
        )
    name, (queries, keys) = "alti_plus", decoder_cross[0].weights.shape[-2:]
    dtype = accumulation_dtype(decoder_cross[0].weights)
    source = jnp.zeros((queries, keys), dtype)
    target = without_padding(jnp.eye(queries, dtype=dtype), target_valid, target_valid)
    memory = rollout(_contributions(name, encoder, source_valid)) if encoder else jnp.eye(keys, dtype=dtype)
    with_residual = None if source_valid is None else jnp.append(source_valid, True)
    for own, cross in zip(_contributions(name, decoder_self, target_valid), decoder_cross, strict=True):
        parts = decompose_cross_attention(prepared(name, cross, target_valid, source_valid))
        shares = alti_contributions(parts, query_valid=target_valid, key_valid=with_residual)
        below = shares[:, -1:] * own
        joint = jnp.concatenate([shares[:, :-1] @ memory + below @ source, below @ target], axis=1)
        source, target = jnp.split(normalized_rows(joint), [keys], axis=1)
    return AltiPlus(*(part.astype(decoder_cross[0].weights.dtype) for part in (source, target)))


def _contributions(
    name: str, blocks: Sequence[AttentionBlock], valid: Bool[Array, " n"] | None
) -> Float[Array, "l n n"]:
    parts = [decompose_self_attention(prepared(name, block, valid, valid)) for block in blocks]
    return jnp.stack([alti_contributions(part, query_valid=valid, key_valid=valid) for part in parts])
