"""Decoding: compiled greedy and beam search, which return the attention weights of every token too."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from attnlab.config import Decoding
from attnlab.data.text.tokenizer import BOS, EOS, PAD

Advance = Callable[[Any, Int[Array, " n"]], tuple[Any, Float[Array, "n v"], Float[Array, "n s"]]]
"""(state, last token) -> (state, log-probabilities of the next token, attention)."""


@struct.dataclass
class Hypotheses:
    """The hypotheses of a batch, best first."""

    tokens: Int[Array, "b n l+1"]
    lengths: Int[Array, "b n"]
    """Tokens of each hypothesis, without the end token."""
    scores: Float[Array, "b n"]
    """Log-probability divided by the length penalty; −inf beyond the number of hypotheses of the search."""
    weights: Float[Array, "b n l+1 s"]
    """Row i holds the attention weights over the source when token i was generated; row `length` is the end token's."""


def make_decode(model: nn.Module, config: Decoding) -> Callable[[PyTree, Array, Array], Hypotheses]:
    """Build the jitted function (params, source [b ...], source_lengths [b]) -> Hypotheses; a beam of 1 is greedy."""

    apply: Any = model.apply

    def decode(params: PyTree, source: Array, lengths: Array) -> Hypotheses:
        memory, state = apply({"params": params}, source, lengths, train=False, method="encode")
        memory, state = memory.repeat(config.beam), jax.tree.map(lambda a: jnp.repeat(a, config.beam, axis=0), state)

        def advance(state: Any, tokens: Array) -> tuple[Any, Array, Array]:
            state, out = apply({"params": params}, memory, state, tokens[:, None], train=False, method="decode")
            return state, jax.nn.log_softmax(out.logits[:, 0]), out.weights[:, 0]

        search = greedy if config.beam == 1 else beam
        last = jax.ShapeDtypeStruct((lengths.shape[0] * config.beam,), jnp.int32)
        positions = jax.eval_shape(advance, state, last)[2].shape[-1]  # for an image, its cells, not its pixels
        return search(advance, state, lengths=lengths, positions=positions, config=config)

    return jax.jit(decode)


def length_penalty(length: Array, alpha: float) -> Array:
    """Compute ((5 + length) / 6)^α, with the end token counted in the length (Wu et al. 2016, equation 14)."""
    return ((5.0 + length) / 6.0) ** alpha


def coverage_penalty(weights: Float[Array, "... l s"], lengths: Int[Array, "..."], beta: float) -> Float[Array, "..."]:
    """Compute β Σ_s log min(Σ_t weights[t, s], 1) over the first `lengths` positions: at most 0.

    It penalizes source positions with a total weight below 1; the total is clipped at 1e-3 from below.

    Reference: Wu et al. 2016, equation 15.
    """
    covered = jnp.clip(jnp.sum(weights, axis=-2), 1e-3, 1.0)
    real = jnp.arange(weights.shape[-1]) < lengths[..., None]
    return beta * jnp.sum(jnp.log(covered), axis=-1, where=real)


def _allowed(log_probs: Float[Array, "... v"], step: Array, config: Decoding) -> Float[Array, "... v"]:
    """Set log-probabilities of invalid tokens to −inf.

    Padding and the start token are never valid, the end token is invalid before `min_length`, and all other tokens are
    invalid from `max_length` on.
    """
    token = jnp.arange(log_probs.shape[-1])
    end = token == EOS
    allowed = (token != PAD) & (token != BOS) & ~(end & (step < config.min_length)) & (end | (step < config.max_length))
    return jnp.where(allowed, log_probs, -jnp.inf)


def greedy(advance: Advance, state: Any, *, lengths: Int[Array, " b"], positions: int, config: Decoding) -> Hypotheses:
    """Select the likeliest token at every step; rows with a source of length 0 are padding and end at once."""
    real, source_lengths = lengths > 0, lengths
    rows, steps = real.shape[0], config.max_length + 1

    def cond(carry: tuple) -> Array:
        step, _, _, finished, *_ = carry
        return (step < steps) & ~jnp.all(finished)

    def body(carry: tuple) -> tuple:
        step, state, last, finished, total, tokens, lengths, weights = carry
        state, log_probs, step_weights = advance(state, last)
        log_probs = _allowed(log_probs, step, config)
        token = jnp.argmax(log_probs, axis=-1).astype(jnp.int32)
        total = jnp.where(finished, total, total + jnp.max(log_probs, axis=-1))
        tokens = tokens.at[:, step].set(jnp.where(finished | (token == EOS), PAD, token))
        weights = weights.at[:, step].set(jnp.where(finished[:, None], 0.0, step_weights))
        finished = finished | (token == EOS)
        return step + 1, state, token, finished, total, tokens, jnp.where(finished, lengths, lengths + 1), weights

    start = (
        jnp.zeros((), jnp.int32), state, jnp.full(rows, BOS, jnp.int32), ~real, jnp.zeros(rows),
        jnp.full((rows, steps), PAD, jnp.int32), jnp.zeros(rows, jnp.int32), jnp.zeros((rows, steps, positions)),
    )  # fmt: skip
    *_, total, tokens, lengths, weights = jax.lax.while_loop(cond, body, start)
    scores = total / length_penalty(lengths + 1, config.length_penalty)
    if config.coverage_penalty:
        scores += coverage_penalty(weights, source_lengths, config.coverage_penalty)
    return Hypotheses(tokens[:, None], lengths[:, None], scores[:, None], weights[:, None])


@struct.dataclass
class _Beams:
    """Hypotheses with scores: log-probabilities of live hypotheses, penalized scores of finished ones."""

    scores: Float[Array, "b k"]
    tokens: Int[Array, "b k l"]
    lengths: Int[Array, "b k"]
    weights: Float[Array, "b k l s"]


def _to_rank(rows: Array, rank: int) -> Array:
    """Reshape [b] to [b, 1, …, 1] of the given rank."""
    return rows.reshape(-1, *[1] * (rank - 1))


def _best(beams: _Beams, count: int) -> _Beams:
    scores, index = jax.lax.top_k(beams.scores, count)
    pick = jax.vmap(lambda a, i: a[i])
    return _Beams(scores, pick(beams.tokens, index), pick(beams.lengths, index), pick(beams.weights, index))


def beam(advance: Advance, state: Any, *, lengths: Int[Array, " b"], positions: int, config: Decoding) -> Hypotheses:
    """Keep the `beam` likeliest live hypotheses and the `beam` finished hypotheses with the best scores.

    At every step each live hypothesis is also a candidate with the end token. The search of a row ends at the greatest
    length, or when no live hypothesis, scored at its present length, exceeds the worst finished hypothesis that is
    kept; from then on its finished hypotheses do not change. So the result of a row does not depend on the other rows
    of the batch; with a length penalty a longer hypothesis might score better (with α = 0 none can). Rows with a source
    of length 0 are padding and finished at the start.
    """
    real = lengths > 0
    rows, width, steps = real.shape[0], config.beam, config.max_length + 1

    def cond(carry: tuple) -> Array:
        step, _, _, _, _, active = carry
        return (step < steps) & jnp.any(active)

    def body(carry: tuple) -> tuple:
        step, state, last, live, done, active = carry
        state, log_probs, step_weights = advance(state, last.reshape(-1))
        log_probs = _allowed(log_probs.reshape(rows, width, -1), step, config) + live.scores[..., None]
        live = replace(live, weights=live.weights.at[:, :, step].set(step_weights.reshape(rows, width, positions)))

        scores = log_probs[..., EOS] / length_penalty(step + 1, config.length_penalty)
        if config.coverage_penalty:
            source_lengths = jnp.broadcast_to(lengths[:, None], (rows, width))
            scores += coverage_penalty(live.weights, source_lengths, config.coverage_penalty)
        ended = replace(live, scores=scores)
        merged = _best(jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), done, ended), width)
        done = jax.tree.map(lambda new, old: jnp.where(_to_rank(active, new.ndim), new, old), merged, done)

        continued = log_probs.at[..., EOS].set(-jnp.inf)
        scores, choice = jax.lax.top_k(continued.reshape(rows, -1), width)
        parent, token = choice // continued.shape[-1], (choice % continued.shape[-1]).astype(jnp.int32)
        pick = jax.vmap(lambda a, i: a[i])
        live = _Beams(
            scores,
            pick(live.tokens, parent).at[:, :, step].set(token),
            jnp.full((rows, width), step + 1),
            pick(live.weights, parent),
        )
        flat = (parent + width * jnp.arange(rows)[:, None]).reshape(-1)
        attainable = live.scores[:, 0] / length_penalty(step + 1, config.length_penalty)
        active = active & (attainable > done.scores[:, -1])
        return step + 1, jax.tree.map(lambda a: a[flat], state), token, live, done, active

    empty = _Beams(
        jnp.full((rows, width), -jnp.inf),
        jnp.full((rows, width, steps), PAD, jnp.int32),
        jnp.zeros((rows, width), jnp.int32),
        jnp.zeros((rows, width, steps, positions)),
    )
    first = replace(empty, scores=empty.scores.at[:, 0].set(0.0))
    start = (jnp.zeros((), jnp.int32), state, jnp.full((rows, width), BOS, jnp.int32), first, empty, real)
    *_, done, _ = jax.lax.while_loop(cond, body, start)
    done = jax.tree.map(lambda a: a[:, : config.n_best], done)
    return Hypotheses(done.tokens, done.lengths, done.scores, done.weights)
