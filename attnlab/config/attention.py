"""What attention is made of: a score, mods, a mask and a normalizer, each chosen by its `kind`."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config
from attnlab.config.custom import CustomMod, CustomScore
from attnlab.config.masks import Mask, kinds_in
from attnlab.config.normalizers import Normalizer, Softmax


class Dot(Config):
    """logits = query · key (Luong et al. 2015, "dot"); query and key have the same width."""

    kind: Literal["dot"] = "dot"


class ScaledDot(Config):
    """logits = query · key / √d (Vaswani et al. 2017); query and key have the same width."""

    kind: Literal["scaled_dot"] = "scaled_dot"


class General(Config):
    """logits = queryᵀ W key, W learned (Luong et al. 2015, "general")."""

    kind: Literal["general"] = "general"


class Additive(Config):
    """logits = vᵀ tanh(W_q query + W_k key), all learned (Bahdanau et al. 2015)."""

    kind: Literal["additive"] = "additive"
    hidden: PositiveInt = 256
    """Width of the hidden layer."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


class Concat(Config):
    """logits = vᵀ tanh(W [query; key]), all learned, W in one piece (Luong et al. 2015, "concat")."""

    kind: Literal["concat"] = "concat"
    hidden: PositiveInt = 256
    """Width of the hidden layer."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


class Cosine(Config):
    """logits = scale · cos(query, key) (Graves et al. 2014); query and key have the same width."""

    kind: Literal["cosine"] = "cosine"
    scale: PositiveFloat = 10.0
    """Factor of the cosine."""
    learned: bool = False
    """Learn the scale, one a head, starting there (its logarithm is what is learned)."""


class NegativeSquaredDistance(Config):
    """logits = −scale · ‖query − key‖² (Tsai et al. 2019); query and key have the same width."""

    kind: Literal["negative_squared_distance"] = "negative_squared_distance"
    scale: PositiveFloat | None = None
    """null is 1 / (2√d), with which queryᵀ key has the factor of `scaled_dot`."""
    learned: bool = False
    """Learn the scale, one a head, starting there (its logarithm is what is learned)."""


class Trilinear(Config):
    """logits = wᵀ [query; key; query ∘ key], w learned (Seo et al. 2017); query and key have the same width."""

    kind: Literal["trilinear"] = "trilinear"


Score = Annotated[
    Dot | ScaledDot | General | Additive | Concat | Cosine | NegativeSquaredDistance | Trilinear | CustomScore,
    Field(discriminator="kind"),
]
ONE_WIDTH = ("dot", "scaled_dot", "cosine", "negative_squared_distance")
"""Scores of queries and keys that have the same width; with those turned by `rotary` they know the distance alone."""


class SoftCap(Config):
    """logits ← cap · tanh(logits / cap) (Gemma 2)."""

    kind: Literal["soft_cap"] = "soft_cap"
    cap: PositiveFloat
    """Bound of the absolute value of a logit."""


class Alibi(Config):
    """logits[i, j] ← logits[i, j] − slope_h · |i − j| (Press et al. 2022)."""

    kind: Literal["alibi"] = "alibi"


class RelativeBias(Config):
    """logits[i, j] ← logits[i, j] + table[clip(j − i, ±distance)], learned, a table a head (Shaw et al. 2018)."""

    kind: Literal["relative_bias"] = "relative_bias"
    distance: PositiveInt = 32
    """Farther keys share an entry on either side."""


class T5Bias(Config):
    """logits[i, j] ← logits[i, j] + table[bucket(j − i)], learned, a table a head (Raffel et al. 2020)."""

    kind: Literal["t5_bias"] = "t5_bias"
    buckets: Annotated[int, Field(ge=4)] = 32
    """Number of buckets of distances."""
    max_distance: PositiveInt = 128
    """From here on all keys share the last bucket."""

    @model_validator(mode="after")
    def _buckets_reach(self) -> Self:
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance {self.max_distance} is not above {self.buckets // 2}, half of the buckets")
        return self


class Location(Config):
    """logits[i, j] ← queryᵀ w_j, whatever key stands there (Luong et al. 2015, "location"); before other mods."""

    kind: Literal["location"] = "location"
    positions: PositiveInt
    """Number of the w_j; a key farther on counts as the last."""


Mod = Annotated[SoftCap | Alibi | RelativeBias | T5Bias | Location | CustomMod, Field(discriminator="kind")]
BETWEEN_POSITIONS = ("alibi", "relative_bias", "t5_bias")
"""Mods that compare the position of a query with that of a key."""


class Attention(Config):
    """weights = normalizer(mods(score(query, key)), where the mask lets); "global" attention without a mask."""

    score: Score
    """How well each key matches each query."""
    mods: tuple[Mod, ...] = ()
    """Applied from left to right."""
    mask: Mask | None = None
    """Further restricts what may be attended; padding, and in a decoder what comes later, never may."""
    normalizer: Normalizer = Softmax()
    """How logits become weights."""

    @model_validator(mode="after")
    def _location_comes_first(self) -> Self:
        if any(mod.kind == "location" for mod in self.mods[1:]):
            raise ValueError("mods: location replaces the logits, so it comes first")
        return self

    def tiny(self) -> Self:
        """Shrink what the parts learn."""
        mods = tuple(mod.tiny() for mod in self.mods)
        return self.replace(score=self.score.tiny(), mods=mods, normalizer=self.normalizer.tiny())

    def over_another_sequence(self, place: str) -> Self:
        """Raise where a part compares positions, which two sequences do not share; `place` is where it stands."""
        _refuse(
            self, place, mods=BETWEEN_POSITIONS, why="compares positions within one sequence, this attends to another"
        )
        if self.mask is not None:
            raise ValueError(
                f"{place}.mask {self.mask.kind} compares positions within one sequence; only null fits here"
            )
        return self

    def over_the_past(self, place: str) -> Self:
        """Raise where a part needs the whole sequence, of which a decoder has the beginning only."""
        why = "needs the length of the whole sequence, which a decoder does not know"
        _refuse(self, place, mods=("location",), masks=("random_blocks", "big_bird"), normalizers=("local_p",), why=why)
        return self

    def of_single_queries(self, place: str) -> Self:
        """Raise where what makes each query in a call of its own, as a recurrent decoder does, cannot use a part."""
        why = "draws anew for each query of one call, but here every query is a call of its own"
        _refuse(self, place, normalizers=("gumbel_softmax",), why=why)
        return self.over_another_sequence(place)


def _refuse(
    attention: Attention,
    place: str,
    *,
    why: str,
    mods: tuple[str, ...] = (),
    masks: tuple[str, ...] = (),
    normalizers: tuple[str, ...] = (),
) -> None:
    found = [("mods", mod.kind) for mod in attention.mods if mod.kind in mods]
    found += [("mask", kind) for kind in kinds_in(attention.mask) if kind in masks]
    found += [("normalizer", kind) for kind in (attention.normalizer.kind,) if kind in normalizers]
    for part, kind in found:
        raise ValueError(f"{place}.{part}: {kind} {why}")
