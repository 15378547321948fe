"""Attention as every model has it: one module assembles score, mods, mask, normalizer and rng from a config.

    output_i = Σ_j weights[i, j] value_j,    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

Cross-attention, self-attention and pooling by learned queries differ in where queries and keys come from. One head is
`heads=1`; its queries, keys and values may lack the axis of heads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from attnlab.config.attention import Attention as Config
from attnlab.functional import cache, masks
from attnlab.functional.attention import AttentionOutput, attention
from attnlab.layers.capture import Kind, record, recording
from attnlab.layers.mods import Bound as BoundMods
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Bound as BoundNormalizer
from attnlab.layers.normalizers import Normalizer, draws
from attnlab.layers.scores import Score, ScoreFunction

DENSE_LOGITS = 2**24
"""A call of up to so many logits, with rows of at most DENSE_KEYS, is computed densely: quicker than in blocks."""
DENSE_KEYS = 256


class BoundAttention(NamedTuple):
    """Score, mods and normalizer with their learned arrays bound: pure functions, free to be used in `jax.lax.scan`."""

    score: ScoreFunction
    mods: BoundMods
    normalizer: BoundNormalizer

    def options(
        self, query: Float[Array, "b q h d"], lengths: Int[Array, " b"], rng: Array | None = None
    ) -> dict[str, Any]:
        """Return the score, mods and normalizer for a call of `functional.attention` with these queries."""
        return {"score": self.score, "mods": self.mods(query), "normalizer": self.normalizer(query, lengths, rng)}


class Attention(nn.Module):
    """Attention of queries to keys and values, with what its score, mods and normalizer learn."""

    config: Config
    heads: int
    query_width: int
    """Features of a head's queries."""
    key_width: int
    """Features of a head's keys."""
    kind: Kind = "cross"
    """Which sequence attends to which, as in `capture.LayerAttention`."""
    stack: str = "decoder"
    """The part of the model that the layer belongs to, likewise."""
    layer: int | None = None
    """Number of the layer, likewise."""
    dropout: float = 0.0
    """Of the weights."""
    bidirectional: bool = True
    """False where queries attend only to keys before them."""

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
        train: bool,
    ) -> AttentionOutput:
        """Return the output and the extras that `returns` names, and record the weights where they are asked for.

        Args:
            query: of all heads, or without their axis of one.
            key: of as many heads, or of fewer, each shared by several of the queries.
            value: likewise.
            lengths: keys of each example that are not padding.
            mask: which query may attend to which key; None lets all attend to the first `lengths` keys.
            mods: applied after the config's own.
            returns: fields of `AttentionOutput`.
            implementation: as in `functional.attention`; None chooses by size.
            layer: number of the layer, where one module stands for several.
            train: apply dropout, and sample with a random normalizer (needs the rng "dropout").
        Returns: an `AttentionOutput`, whose fields lack the axis of heads where the query does.
        """
        if query.ndim == 3:
            query, key, value = (array[:, :, None] for array in (query, key, value))
            found = self(
                query, key, value, lengths, mask=mask, mods=mods, returns=returns, implementation=implementation,
                layer=layer, train=train,
            )  # fmt: skip
            extras = jax.tree.map(lambda extra: extra[:, 0], found._replace(output=None))
            return extras._replace(output=found.output[:, :, 0])
        options = self._options(query, key.shape[1], lengths, mods, returns, train)
        if implementation is not None:
            options["implementation"] = implementation
        where = masks.lengths(lengths) if mask is None else mask
        return self._recorded(attention(query, key, value, mask=where, **options), layer)

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
        """Let the next queries attend to all keys up to each; return the longer cache too."""
        tokens, capacity = query.shape[1], past.key.shape[1]
        lengths = jax.numpy.broadcast_to(past.length + tokens, query.shape[:1])
        options = self._options(query, capacity, lengths, mods, (), False)
        found, longer = cache.attend(past, query, key, value, mask=mask, **options)
        return self._recorded(found).output, longer

    def _options(
        self, query: Array, keys: int, lengths: Array, mods: Sequence[Any], returns: Sequence[str], train: bool
    ) -> dict[str, Any]:
        rate = self.dropout if train else 0.0
        rng = self.make_rng("dropout") if train and (rate > 0.0 or draws(self.config.normalizer)) else None
        options = self.bind().options(query, lengths, rng)
        few = keys <= DENSE_KEYS and query.shape[0] * query.shape[2] * query.shape[1] * keys <= DENSE_LOGITS
        if recording(self) and "weights" not in returns:
            returns = (*returns, "weights")
        return options | {
            "mods": (*options["mods"], *mods),
            "dropout_rate": rate,
            "rng": rng if rate else None,
            "returns": tuple(returns),
            "implementation": "dense" if few else None,
        }

    def _recorded(self, found: Any, layer: int | None = None) -> AttentionOutput:
        output = found if isinstance(found, AttentionOutput) else AttentionOutput(found)
        if output.weights is not None:
            record(self, output.weights, kind=self.kind, stack=self.stack, layer=layer or self.layer)
        return output
