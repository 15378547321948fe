"""Chefer et al.'s relevance: gradient-weighted attention, followed through the layers of one or two modalities."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.checks import check_self_attention, check_shape, without_padding
from attnlab.analysis.checks import check_valid
from attnlab.functional.types import widen


def positive_gradient_x_attention(
    weights: Float[Array, "*l h q k"], gradients: Float[Array, "*l h q k"]
) -> Float[Array, "*l q k"]:
    """Return the mean over heads of the positive part of gradient times attention: one layer's Ā.

    Ā = 1/H Σ_h max(0, ∂F/∂A_h ⊙ A_h)

    Not `gradient_x_attention`, which keeps negative products.

    Args:
        weights: the weights of the heads of one layer, or of several.
        gradients: the target's gradients with respect to them.
    Returns: Ā, at least 0.
    Numerics: float32 at least.
    Reference: Chefer et al. 2021, "Generic attention-model explainability", eq. 5.

    >>> positive_gradient_x_attention(jnp.array([[[0.25, 0.75]]]), jnp.array([[[4.0, -1.0]]])).tolist()
    [[1.0, 0.0]]
    """
    check_shape("positive_gradient_x_attention", "gradients", gradients, weights.shape, "weights")
    return jnp.mean(jnp.maximum(widen(weights) * widen(gradients), 0), axis=-3)


def attention_relevance(
    weights: Float[Array, "l h q k"], gradients: Float[Array, "l h q k"], *, valid: Bool[Array, " n"] | None = None
) -> Float[Array, "q k"]:
    """Follow gradient-weighted attention through all layers of self-attention down to the input tokens.

    R ← I,    R ← R + Ā_l R    for l = 1 … L,    Ā_l = mean_h max(0, ∂F/∂A ⊙ A)

    It can say which input tokens the target drew on through attention, for this target rather than another. It cannot
    say that a token speaks against the target (negative parts are cut off), and it ignores value vectors and
    feed-forward networks but for their gradient. The rows have no common scale: compare tokens within a row.
    As the residual connection enters as I only, pre-norm and post-norm layers are treated alike.

    Args:
        weights: the weights of every layer and head, first layer first.
        gradients: the target's gradients with respect to them.
        valid: True for real tokens; None if there is no padding.
    Returns: R [n n]; row i is the relevance to token i's last state (take that of [CLS], or of the token whose
        prediction is the target). The diagonal holds 1 of the token itself; the authors set it to 0 to show a row.
    Cost: 1 forward and backward pass, for the capture.
    Numerics: dtype of `weights`, computed in float32 at least; rows and columns of padding have exactly 0.
    Reference: Chefer et al. 2021, "Generic attention-model explainability for interpreting bi-modal and
        encoder-decoder Transformers", eq. 5 and 6. Not their CVPR paper of the same year, which uses layer-wise
        relevance propagation in place of A.

    >>> attention_relevance(jnp.array([[[[0.5, 0.5], [0.0, 1.0]]]]), jnp.ones((1, 1, 2, 2))).tolist()
    [[1.5, 0.5], [0.0, 2.0]]
    """
    name = "attention_relevance"
    check_self_attention(name, weights, "encoder_decoder_relevance, cross_attention_relevance or gradient_x_attention")
    check_shape(name, "gradients", gradients, weights.shape, "weights")
    check_valid(name, valid, weights.shape[-1])
    layers = without_padding(positive_gradient_x_attention(weights, gradients), valid, valid)
    start = jnp.eye(weights.shape[-1], dtype=layers.dtype)
    relevance = lax.scan(lambda below, layer: (below + layer @ below, None), start, layers)[0]
    return without_padding(relevance, valid, valid).astype(weights.dtype)


class BimodalRelevance(NamedTuple):
    """Relevance within and between two sequences a and b: a text and an image, a target and a source."""

    aa: Float[Array, "a a"]
    """Of the input tokens of a to the states of a."""
    ab: Float[Array, "a b"]
    """Of the input tokens of b to the states of a."""
    ba: Float[Array, "b a"]
    """Of the input tokens of a to the states of b."""
    bb: Float[Array, "b b"]
    """Of the input tokens of b to the states of b."""


def initial_relevance(a: int, b: int, dtype: str = "float32") -> BimodalRelevance:
    """Return the relevance before the first layer: every token to itself, none between a and b.

    >>> initial_relevance(1, 2).bb.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return BimodalRelevance(
        jnp.eye(a, dtype=dtype), jnp.zeros((a, b), dtype), jnp.zeros((b, a), dtype), jnp.eye(b, dtype=dtype)
    )


def self_attention_relevance(
    relevance: BimodalRelevance, *, a: Float[Array, "a a"] | None = None, b: Float[Array, "b b"] | None = None
) -> BimodalRelevance:
    """Update the relevance by a layer of self-attention of a, of b, or of both.

    R_aa ← R_aa + Ā_aa R_aa,    R_ab ← R_ab + Ā_aa R_ab    (and with a and b exchanged)

    Args:
        relevance: the relevance below the layer.
        a: Ā of the self-attention of a, by `positive_gradient_x_attention`; None if a has none here.
        b: Ā of the self-attention of b; None if b has none here.
    Returns: the relevance above the layer.
    Reference: Chefer et al. 2021, eq. 6 and 7.

    >>> self_attention_relevance(initial_relevance(1, 1), a=jnp.array([[0.5]])).aa.tolist()
    [[1.5]]
    """
    aa, ab, ba, bb = relevance
    if a is not None:
        check_shape("self_attention_relevance", "a", a, aa.shape, "relevance.aa")
        aa, ab = aa + a @ aa, ab + a @ ab
    if b is not None:
        check_shape("self_attention_relevance", "b", b, bb.shape, "relevance.bb")
        bb, ba = bb + b @ bb, ba + b @ ba
    return BimodalRelevance(aa, ab, ba, bb)


def cross_attention_relevance(
    relevance: BimodalRelevance, *, ab: Float[Array, "a b"] | None = None, ba: Float[Array, "b a"] | None = None
) -> BimodalRelevance:
    """Update the relevance by a layer of attention from a to b, from b to a, or both at once (co-attention).

    R_ab ← R_ab + R̄_aaᵀ Ā_ab R̄_bb,    R_aa ← R_aa + Ā_ab R_ba    (and with a and b exchanged)

    R̄ = I + (R − I with every row divided by its sum): what attention has mixed in counts as much as the token itself.

    Args:
        relevance: the relevance below the layer. Both directions are updated from it, as in LXMERT's co-attention.
        ab: Ā of the attention from a (queries) to b (keys), by `positive_gradient_x_attention`; None if there is none.
        ba: Ā of the attention from b to a; None if there is none.
    Returns: the relevance above the layer.
    Numerics: a row of R − I that is 0 stays 0 in R̄.
    Reference: Chefer et al. 2021, eq. 8 to 11.

    >>> cross_attention_relevance(initial_relevance(1, 1), ab=jnp.array([[0.5]])).ab.tolist()
    [[0.5]]
    """
    above = list(relevance)
    a, b = _normalized(relevance.aa), _normalized(relevance.bb)
    if ab is not None:
        check_shape("cross_attention_relevance", "ab", ab, relevance.ab.shape, "relevance.ab")
        above[1] += a.T @ ab @ b
        above[0] += ab @ relevance.ba
    if ba is not None:
        check_shape("cross_attention_relevance", "ba", ba, relevance.ba.shape, "relevance.ba")
        above[2] += b.T @ ba @ a
        above[3] += ba @ relevance.ab
    return BimodalRelevance(*above)


def _normalized(relevance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    identity = jnp.eye(relevance.shape[0], dtype=relevance.dtype)
    mixed = relevance - identity
    total = jnp.sum(mixed, axis=1, keepdims=True)
    positive = total > 0
    return identity + jnp.where(positive, mixed / jnp.where(positive, total, 1), 0)


def encoder_decoder_relevance(
    encoder: Float[Array, "l s s"],
    decoder: Float[Array, "m t t"],
    cross: Float[Array, "n t s"],
    *,
    source_valid: Bool[Array, " s"] | None = None,
    target_valid: Bool[Array, " t"] | None = None,
) -> BimodalRelevance:
    """Follow gradient-weighted attention through an encoder and a decoder down to source and target tokens.

    Every encoder layer updates the source's relevance; then every decoder layer updates the target's by its
    self-attention and by its cross-attention (`self_attention_relevance`, `cross_attention_relevance`).

    It can say which source tokens, and which tokens of the target prefix, the prediction of a token drew on. What it
    cannot say is as for `attention_relevance`.

    Args:
        encoder: Ā of every encoder layer, by `positive_gradient_x_attention`; [0 s s] if the source has no
            self-attention (an image's features).
        decoder: Ā of every decoder layer's self-attention.
        cross: Ā of every decoder layer's cross-attention.
        source_valid: True for real source tokens; None if there is no padding.
        target_valid: True for real target tokens; None if there is no padding.
    Returns: the relevance with the target as a and the source as b: `ab` [t s] is the relevance of source tokens to
        target states, `aa` [t t] that of target tokens; `ba` is 0.
    Cost: 1 forward and backward pass a target token, for the capture.
    Numerics: dtype of `cross`, computed in float32 at least; padding has exactly 0, whatever the arrays hold there.
    Reference: Chefer et al. 2021, as for DETR, their encoder-decoder model.

    >>> encoder_decoder_relevance(jnp.zeros((0, 2, 2)), jnp.zeros((1, 1, 1)), jnp.array([[[0.5, 0.25]]])).ab.tolist()
    [[0.5, 0.25]]
    """
    if decoder.shape[0] != cross.shape[0]:
        raise ValueError(
            f"encoder_decoder_relevance: decoder has {decoder.shape[0]} layers, cross {cross.shape[0]}; pass Ā of both "
            "attentions of every decoder layer"
        )
    name, (targets, sources) = "encoder_decoder_relevance", cross.shape[1:]
    check_shape(name, "encoder", encoder, (len(encoder), sources, sources), "[layers, source, source]")
    check_shape(name, "decoder", decoder, (len(decoder), targets, targets), "[layers, target, target]")
    check_valid(name, source_valid, sources, "source_valid")
    check_valid(name, target_valid, targets, "target_valid")
    encoder = without_padding(widen(encoder), source_valid, source_valid)
    decoder = without_padding(widen(decoder), target_valid, target_valid)
    matrices = without_padding(widen(cross), target_valid, source_valid)
    relevance = initial_relevance(targets, sources, str(matrices.dtype))
    relevance = lax.scan(lambda below, b: (self_attention_relevance(below, b=b), None), relevance, encoder)[0]

    def layer(below: BimodalRelevance, matrices: tuple[Array, Array]) -> tuple[BimodalRelevance, None]:
        middle = self_attention_relevance(below, a=matrices[0])
        return cross_attention_relevance(middle, ab=matrices[1]), None

    aa, ab, ba, bb = lax.scan(layer, relevance, (decoder, matrices))[0]
    aa, bb = without_padding(aa, target_valid, target_valid), without_padding(bb, source_valid, source_valid)
    return BimodalRelevance(*(part.astype(cross.dtype) for part in (aa, ab, ba, bb)))
