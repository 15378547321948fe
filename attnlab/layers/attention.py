"""The attention module of all models: it assembles score, mods, mask, normalizer and rng from a config.

    output_i = Σ_j weights[i, j] value_j,    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

Cross-attention, self-attention and pooling by learned queries differ only in the source of queries and keys. A single
head is `heads=1`; its queries, keys and values may lack the axis of heads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from attnlab.config.attention import Attention as Config
from attnlab.config.attention import check_decoder_attention
from attnlab.functional import cache, masks
from attnlab.functional.attention import AttentionOutput, attention
from attnlab.layers.capture import Kind, record, recording
from attnlab.layers.mods import Bound as BoundMods
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Bound as BoundNormalizer
from attnlab.layers.normalizers import Normalizer, draws
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

    def options(
        self, query: Float[Array, "b q h d"], lengths: Int[Array, " b"], rng: Array | None = None
    ) -> dict[str, Any]:
        """Return the score, mods and normalizer for a call of `functional.attention` with `query`."""
        return {"score": self.score, "mods": self.mods(query), "normalizer": self.normalizer(query, lengths, rng)}


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
    """Which sequence attends to which, as in `capture.LayerAttention`."""
    stack: str = "decoder"
    """The part of the model that the layer belongs to, as in `capture.LayerAttention`."""
    layer: int | None = None
    """Number of the layer in its stack, as in `capture.LayerAttention`."""
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
            train: whether to apply dropout and to sample with a random normalizer (needs the rng "dropout").
        Returns: an `AttentionOutput`; its fields lack the axis of heads if the query lacks it.
        """
        if query.ndim == 3:
            query, key, value = (array[:, :, None] for array in (query, key, value))
            result = self(
                query, key, value, lengths, mask=mask, mods=mods, returns=returns, implementation=implementation,
                layer=layer, train=train,
            )  # fmt: skip
            extras = jax.tree.map(lambda extra: extra[:, 0], result._replace(output=None))
            return extras._replace(output=result.output[:, :, 0])
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
        options = self._options(query, capacity, lengths, mods, (), False)
        result, extended = cache.attend(past, query, key, value, mask=mask, **options)
        return self._recorded(result).output, extended

    def _options(
        self, query: Array, keys: int, lengths: Array, mods: Sequence[Any], returns: Sequence[str], train: bool
    ) -> dict[str, Any]:
        rate = self.dropout if train else 0.0
        rng = self.make_rng("dropout") if train and (rate > 0.0 or draws(self.config.normalizer)) else None
        options = self.bind().options(query, lengths, rng)
        small = keys <= DENSE_KEYS and query.shape[0] * query.shape[2] * query.shape[1] * keys <= DENSE_LOGITS
        if recording(self) and "weights" not in returns:
            returns = (*returns, "weights")
        return options | {
            "mods": (*options["mods"], *mods),
            "dropout_rate": rate,
            "rng": rng if rate else None,
            "returns": tuple(returns),
            "implementation": "dense" if small else None,
        }

    def _recorded(self, result: Any, layer: int | None = None) -> AttentionOutput:
        output = result if isinstance(result, AttentionOutput) else AttentionOutput(result)
        if output.weights is not None:
            number = self.layer if layer is None else layer
            record(self, output.weights, kind=self.kind, stack=self.stack, layer=number)
        return output
