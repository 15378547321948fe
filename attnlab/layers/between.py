"""Attention of one sequence to another with one head: any score, mods and normalizer, with what they learn."""

from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention
from attnlab.functional import masks
from attnlab.functional.attention import AttentionOutput, attention
from attnlab.layers import scores
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Normalizer, draws


class Between(nn.Module):
    """Queries of one sequence attend to the first `lengths` keys of another."""

    config: Attention
    width: int
    """Features of a query."""

    def setup(self) -> None:
        self.score = scores.MODULES[self.config.score.kind](self.config.score, self.width)
        self.mods = Mods(self.config.mods, 1, self.width)
        self.normalizer = Normalizer(self.config.normalizer, 1, self.width)

    def __call__(
        self,
        query: Float[Array, "b q d"],
        key: Float[Array, "b k e"],
        value: Float[Array, "b k v"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
    ) -> AttentionOutput:
        """Return output [b q v], weights [b q k] and the largest logit of each query, `max` [b q]."""
        random = train and draws(self.config.normalizer)
        asked = query[:, :, None, :]
        prepared, score = self.score(key)
        found: Any = attention(
            asked,
            prepared[:, :, None, :],
            value[:, :, None, :],
            score=score,
            mods=self.mods()(asked),
            mask=masks.lengths(lengths),
            normalizer=self.normalizer()(asked, lengths, self.make_rng("dropout") if random else None),
            returns=("weights", "max"),
            implementation="dense",
        )
        return AttentionOutput(found.output[:, :, 0], weights=found.weights[:, 0], max=found.max[:, 0])
