"""The attention module of all models: it assembles score, mods, mask, normalizer and rng from a config.

    output_i = Σ_j weights[i, j] value_j,    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

Cross-attention, self-attention and pooling by learned queries differ only in the source of queries and keys. A single
head is `heads=1`; its queries, keys and values may lack the axis of heads.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from attnlab.config.attention import Attention as Config
from attnlab.config.attention import check_decoder_attention
from attnlab.functional import cache, masks
from attnlab.functional.attention import AttentionOutput, attention
from attnlab.functional.dropout import drop, keep
from attnlab.layers.capture import (
    Queries,
    has_interventions,
    intervened,
    is_replaced,
    record,
    recording,
    recording_details,
)
from attnlab.layers.layer_attention import Kind, PoolingInputs, layer_attention, layer_name
from attnlab.layers.mods import Bound as BoundMods
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Bound as BoundNormalizer
from attnlab.layers.normalizers import Normalizer, draws
from attnlab.layers.part_inputs import PartInputs
from attnlab.layers.scores import Score, ScoreFunction

DENSE_LOGITS = 2**24
"""Most logits of a call that is computed densely, which is faster than in blocks; its rows have at most DENSE_KEYS."""
DENSE_KEYS = 256
"""Most keys of a call that is computed densely."""


class BoundAttention(NamedTuple):
    """Score, mods and normalizer with their learned arrays bound: pure functions, safe to use in `jax.lax.scan`."""

    score: ScoreFunction
    mods: BoundMods
    normalizer: BoundNormalizer

    def options(self, inputs: PartInputs) -> dict[str, Any]:
        """Return the score, mods, normalizer and positions of a call of `functional.attention` with these inputs."""
        start, positions = inputs.start, {}
        if start is not None:
            positions["query_positions"] = start + jax.numpy.arange(inputs.query.shape[1], dtype=jax.numpy.int32)
        return {"score": self.score, "mods": self.mods(inputs), "normalizer": self.normalizer(inputs), **positions}


class Attention(nn.Module):
    """Attention of queries to keys and values; the parameters are those of its score, mods and normalizer.

        output_i = Σ_j weights[i, j] value_j,    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

    The queries, keys and values are attended to as they are: the projections of multi-head attention belong to
    `multi_head.SelfAttention` and `multi_head.CrossAttention`.

    Numerics: as `functional.attention`; a query that may attend to nothing gets 0.
    Reference: Bahdanau et al. 2015; Luong et al. 2015; Vaswani et al. 2017.

    >>> from attnlab.config.attention import ScaledDot
    >>> layer, x = Attention(Config(score=ScaledDot()), 1, 4, 4), jax.numpy.ones((2, 3, 4))
    >>> layer.apply({}, x, x, x, jax.numpy.array([3, 0]), train=False).output[:, 0, 0].tolist()
    [1.0, 0.0]
    """

    config: Config
    heads: int
    query_width: int
    """Features of a head's queries."""
    key_width: int
    """Features of a head's keys."""
    kind: Kind = "cross"
    """Which sequence attends to which, as in `LayerAttention`."""
    stack: str = "decoder"
    """The part of the model that the layer belongs to, as in `LayerAttention`."""
    layer: int | None = None
    """Number of the layer in its stack, as in `LayerAttention`."""
    dropout: float = 0.0
    """Probability that a weight is dropped in training, in [0, 1)."""
    bidirectional: bool = True
    """False if queries attend only to earlier keys."""

    def setup(self) -> None:
        self.score = Score(self.config.score, self.heads, self.query_width, self.key_width)
        self.mods = Mods(self.config.mods, self.heads, self.query_width, self.bidirectional)
        self.normalizer = Normalizer(self.config.normalizer, self.heads, self.query_width)

    def bind(self) -> BoundAttention:
        """Return score, mods and normalizer as pure functions."""
        return BoundAttention(self.score(), self.mods(), self.normalizer())

    def __call__(
        self,
        query: Float[Array, "b q *h d"],
        key: Float[Array, "b k *g e"],
        value: Float[Array, "b k *g v"],
        lengths: Int[Array, " b"],
        *,
        mask: masks.Mask | None = None,
        mods: Sequence[Any] = (),
        returns: Sequence[str] = (),
        implementation: str | None = None,
        layer: int | None = None,
        start: Any = 0,
        train: bool,
    ) -> AttentionOutput:
        """Return the output and the extras in `returns`; record the weights if the model is applied with recording.

        Args:
            query: queries of all heads; with a single head the axis of heads may be missing.
            key: keys of as many heads as the queries, or of fewer, each shared by several query heads.
            value: values, of as many heads as the keys.
            lengths: keys of each example that are not padding.
            mask: which query may attend to which key, padding included, in place of the restriction to `lengths`; None
                lets every query attend to the first `lengths` keys. The config's mask is not applied here.
            mods: applied after the config's own mods.
            returns: fields of `AttentionOutput`.
            implementation: as in `functional.attention`; None chooses by size.
            layer: number of the layer, if the module is shared by several layers; None is the module's own.
            start: position of the first query in its sequence, for parts and interventions.
            train: whether to apply dropout and to sample with a random normalizer (needs the rng "dropout").
        Returns: an `AttentionOutput`; its fields lack the axis of heads if the query lacks it. An intervention replaces
            the output and the weights, and leaves all other extras unchanged.
        """
        if query.ndim == 3:
            query, key, value = (array[:, :, None] for array in (query, key, value))
            result = self(
                query, key, value, lengths, mask=mask, mods=mods, returns=returns, implementation=implementation,
                layer=layer, start=start, train=train,
            )  # fmt: skip
            extras = jax.tree.map(lambda extra: extra[:, 0], result._replace(output=None))
            return extras._replace(output=result.output[:, :, 0])
        number = self.layer if layer is None else layer
        place = layer_name(self.kind, self.stack, number)
        first = None if isinstance(start, int) and start == 0 else start
        options = self._options(PartInputs(query, lengths, place, start=first), key.shape[1], mods, returns, train)
        if implementation is not None:
            options["implementation"] = implementation
        where = masks.lengths(lengths) if mask is None else mask
        result = attention(query, key, value, mask=where, **options)
        return intervene_and_record(
            self, result, value, kind=self.kind, stack=self.stack, layer=number, rng=options["rng"], rate=self.dropout,
            start=start,
        )  # fmt: skip

    def step(
        self,
        query: Float[Array, "b q h d"],
        key: Float[Array, "b q g e"],
        value: Float[Array, "b q g v"],
        past: cache.Cache,
        *,
        mask: masks.Mask | None = None,
        mods: Sequence[Any] = (),
    ) -> tuple[Float[Array, "b q h v"], cache.Cache]:
        """Attend from the next queries to all keys up to each of them; return the output and the extended cache.

        Args:
            query: queries of the next tokens.
            key: keys of the next tokens.
            value: values of the next tokens.
            past: the previous tokens.
            mask: a mask of the whole sequence, combined with the causal mask by "and"; None for no other mask.
            mods: applied after the config's own mods.
        Raises: ValueError if the config has a part that depends on the queries or the length of the whole sequence.
        """
        try:
            check_decoder_attention(self.config)
        except ValueError as error:
            raise ValueError(f"attention.{error}") from None
        tokens, capacity = query.shape[1], past.key.shape[1]
        lengths = jax.numpy.broadcast_to(past.length + tokens, query.shape[:1])
        inputs = PartInputs(query, lengths, layer_name(self.kind, self.stack, self.layer))
        options = self._options(inputs, capacity, mods, (), False)
        result, extended = cache.attend(past, query, key, value, mask=mask, **options)
        place: Any = {"kind": self.kind, "stack": self.stack, "layer": self.layer}
        return intervene_and_record(self, result, extended.value, **place, start=past.length).output, extended

    def _options(
        self, inputs: PartInputs, keys: int, mods: Sequence[Any], returns: Sequence[str], train: bool
    ) -> dict[str, Any]:
        rate = self.dropout if train else 0.0
        rng = self.make_rng("dropout") if train and (rate > 0.0 or draws(self.config.normalizer)) else None
        options, query = self.bind().options(inputs._replace(rng=rng)), inputs.query
        small = keys <= DENSE_KEYS and query.shape[0] * query.shape[2] * query.shape[1] * keys <= DENSE_LOGITS
        returns = (*returns, *(name for name in recorded_extras(self) if name not in returns))
        return options | {
            "mods": (*options["mods"], *mods),
            "dropout_rate": rate,
            "rng": rng if rate else None,
            "returns": tuple(returns),
            "implementation": "dense" if small else None,
        }


def recorded_extras(module: nn.Module) -> tuple[str, ...]:
    """Return the extras of `functional.attention` that `intervene_and_record` needs."""
    if has_interventions() or recording_details(module):
        return ("weights", "scores")
    return ("weights",) if recording(module) else ()


def intervene_and_record(
    module: nn.Module,
    result: Any,
    value: Float[Array, "b k g v"],
    *,
    kind: Kind,
    stack: str,
    layer: int | None = None,
    rng: Array | None = None,
    rate: float = 0.0,
    start: Any = 0,
) -> AttentionOutput:
    """Replace the weights of a layer if there is an intervention, record its attention, and return its result.

    Args:
        module: the bound module that computes the attention.
        result: what `functional.attention` returned, with `recorded_extras`.
        value: the values that it pooled.
        kind: as in `capture.record`, like `stack` and `layer`.
        rng: of the dropout of weights; None for no dropout.
        rate: probability that a weight was dropped.
        start: the index of the first query.
    Returns: the result; an intervention replaces its weights and output, and leaves all other extras unchanged.
    Raises: ValueError for an intervention in a call with dropout.
    """
    output = result if isinstance(result, AttentionOutput) else AttentionOutput(result)
    weights: Any = output.weights
    if weights is None:
        return output
    pooled, name = None, layer_name(kind, stack, layer)
    if output.scores is not None:
        dropped = weights if rng is None else _dropped(weights, rng, rate)
        pooled = PoolingInputs(~jax.numpy.isneginf(output.scores), dropped, value)
    if rng is not None and is_replaced(name):
        raise ValueError(
            f"the intervention in {name} replaces weights without dropout; apply the model with train=False"
        )
    found = layer_attention(kind, stack, layer, weights, pooled=pooled)
    replaced = intervened(found, Queries(start, weights.shape[2])) if pooled is not None else None
    if replaced is not None and pooled is not None:
        weights = replaced.weights
        output = output._replace(weights=weights, output=replaced.output)
        pooled = replace(pooled, weights_after_dropout=weights)
    record(module, weights, kind=kind, stack=stack, layer=layer, pooled=pooled)
    return output


def _dropped(weights: Float[Array, "b h q k"], rng: Array, rate: float) -> Float[Array, "b h q k"]:
    """Return the weights after the dropout of `functional.attention`."""
    examples, heads, queries, keys = map(jax.numpy.arange, weights.shape)

    def head_dropped(weights: Array, example: Array, head: Array) -> Array:
        return drop(weights, keep(rng, rate, example, head, queries, keys), rate)

    return jax.vmap(jax.vmap(head_dropped, (0, None, 0)), (0, 0, None))(weights, examples, heads)
