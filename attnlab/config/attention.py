"""Configs of attention: a score, mods, a mask and a normalizer, each selected by its `kind`."""

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Seed
from attnlab.config.custom import CustomMod, CustomScore
from attnlab.config.masks import Mask, kinds_in
from attnlab.config.normalizers import Normalizer, Softmax, kinds_of


class ScoreConfig(Config):
    """Base class of the configs of scores, with the properties that models check."""

    equal_widths: ClassVar[bool] = False
    """Whether query and key must have the same width."""
    rotation_invariant: ClassVar[bool] = False
    """Whether the logits stay the same if query and key are rotated alike, as `rotary` positions require."""


class Dot(ScoreConfig):
    """logits = query · key (Luong et al. 2015, "dot"); query and key must have the same width."""

    equal_widths = True
    rotation_invariant = True
    kind: Literal["dot"] = "dot"


class ScaledDot(ScoreConfig):
    """logits = query · key / √d (Vaswani et al. 2017); query and key must have the same width."""

    equal_widths = True
    rotation_invariant = True
    kind: Literal["scaled_dot"] = "scaled_dot"


class General(ScoreConfig):
    """logits = queryᵀ W key with a learned W (Luong et al. 2015, "general")."""

    kind: Literal["general"] = "general"


class Additive(ScoreConfig):
    """logits = vᵀ tanh(W_q query + W_k key) with learned v, W_q and W_k (Bahdanau et al. 2015)."""

    kind: Literal["additive"] = "additive"
    hidden: PositiveInt = 256
    """Width of the hidden layer."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


class Multiplicative(ScoreConfig):
    """logits = scale · (W_q query) · (W_k key) with learned W_q and W_k (Vaswani et al. 2017; Britz et al. 2017)."""

    kind: Literal["multiplicative"] = "multiplicative"
    hidden: PositiveInt = 256
    """Width to which queries and keys are projected."""
    scale: PositiveFloat | None = None
    """Factor of the product; null uses 1 / √hidden, and 1 leaves it unscaled."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


class Concat(ScoreConfig):
    """logits = vᵀ tanh(W [query; key]) with learned v and W (Luong et al. 2015, "concat")."""

    kind: Literal["concat"] = "concat"
    hidden: PositiveInt = 256
    """Width of the hidden layer."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


class Cosine(ScoreConfig):
    """logits = scale · cos(query, key) (Graves et al. 2014); query and key must have the same width."""

    equal_widths = True
    rotation_invariant = True
    kind: Literal["cosine"] = "cosine"
    scale: PositiveFloat = 10.0
    """Factor of the cosine; the initial value if `learned`."""
    learned: bool = False
    """Learn the logarithm of the scale, one value per head."""


class NegativeSquaredDistance(ScoreConfig):
    """logits = −scale · ‖query − key‖² (Tsai et al. 2019); query and key must have the same width."""

    equal_widths = True
    rotation_invariant = True
    kind: Literal["negative_squared_distance"] = "negative_squared_distance"
    scale: PositiveFloat | None = None
    """Factor of the squared distance; the initial value if `learned`. null uses 1 / (2√d), so that query · key is
    divided by √d as in `scaled_dot`."""
    learned: bool = False
    """Learn the logarithm of the scale, one value per head."""


class Trilinear(ScoreConfig):
    """logits = wᵀ [query; key; query ∘ key] with a learned w (Seo et al. 2017); query and key must have the same
    width."""

    equal_widths = True
    kind: Literal["trilinear"] = "trilinear"


class Constant(ScoreConfig):
    """logits = 0, whatever query and key are: uniform weights with softmax, the control for learned attention
    (Wiegreffe & Pinter 2019). With `diagonal_bias` or `random_bias` the weights depend on positions alone."""

    rotation_invariant = True
    kind: Literal["constant"] = "constant"


Score = Annotated[
    Dot
    | ScaledDot
    | General
    | Additive
    | Multiplicative
    | Concat
    | Cosine
    | NegativeSquaredDistance
    | Trilinear
    | Constant
    | CustomScore,
    Field(discriminator="kind"),
]
ROTATION_INVARIANT = tuple(
    score.model_fields["kind"].default for score in get_args(get_args(Score)[0]) if score.rotation_invariant
)
"""Scores that depend only on relative position if positions are `rotary`."""


class SoftCap(Config):
    """logits ← cap · tanh(logits / cap) (Gemma 2)."""

    kind: Literal["soft_cap"] = "soft_cap"
    cap: PositiveFloat
    """Upper bound on the absolute value of a logit."""


class Alibi(Config):
    """logits[i, j] ← logits[i, j] − slope_h · |i − j| (Press et al. 2022)."""

    kind: Literal["alibi"] = "alibi"


class RelativeBias(Config):
    """logits[i, j] ← logits[i, j] + table[clip(j − i, ±distance)], with one learned table per head (Shaw et al.
    2018)."""

    kind: Literal["relative_bias"] = "relative_bias"
    distance: PositiveInt = 32
    """Largest distance with an entry of its own, in tokens; farther keys on the same side share that entry."""


class T5Bias(Config):
    """logits[i, j] ← logits[i, j] + table[bucket(j − i)], with one learned table per head (Raffel et al. 2020)."""

    kind: Literal["t5_bias"] = "t5_bias"
    buckets: Annotated[int, Field(ge=4)] = 32
    """Number of buckets of relative positions."""
    max_distance: PositiveInt = 128
    """Distance in tokens from which all keys share the last bucket; must exceed half of `buckets`."""

    @model_validator(mode="after")
    def _buckets_reach(self) -> Self:
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance {self.max_distance} must exceed {self.buckets // 2}, half of buckets")
        return self


class Location(Config):
    """logits[i, j] ← queryᵀ w_j, independent of the key (Luong et al. 2015, "location"); must be the first mod."""

    kind: Literal["location"] = "location"
    positions: PositiveInt
    """Number of learned vectors w_j; keys at later positions use the last one."""


class DiagonalBias(Config):
    """logits[i, j] ← logits[i, j] − (j − c_i)² / (2 width²) with c_i = ratio · i + offset: a Gaussian around the
    diagonal. With the score `constant` it is hard-coded Gaussian attention (You et al. 2020)."""

    kind: Literal["diagonal_bias"] = "diagonal_bias"
    width: PositiveFloat = 1.0
    """Standard deviation of the Gaussian, in keys."""
    ratio: PositiveFloat = 1.0
    """Keys for each query: 1 within one sequence; between two, the mean length of that attended to over the mean length
    of the other, in the training data. A decoder does not know how long its output will be."""
    offsets: Annotated[tuple[float, ...], Field(min_length=1)] = (0.0,)
    """Keys by which the center of each head is shifted; with more heads than offsets they are repeated in turn."""


class RandomBias(Config):
    """logits[i, j] ← logits[i, j] + scale · r[i, j], random numbers of each layer, head and pair of positions, drawn
    once and not learned. With the score `constant` it is the random Synthesizer with fixed weights (Tay et al.
    2021)."""

    kind: Literal["random_bias"] = "random_bias"
    seed: Seed = 0
    """Seed of the numbers. The seed of a run does not change them."""
    scale: PositiveFloat = 1.0
    """Standard deviation of the numbers; the larger, the more the weights of a query differ."""


Mod = Annotated[
    SoftCap | Alibi | RelativeBias | T5Bias | Location | DiagonalBias | RandomBias | CustomMod,
    Field(discriminator="kind"),
]
BETWEEN_POSITIONS = ("alibi", "relative_bias", "t5_bias")
"""Mods that compare the position of a query with that of a key."""


class Attention(Config):
    """weights = normalizer(mods(score(query, key))) over the keys that the mask allows."""

    score: Score
    """Function that computes a logit from a query and a key."""
    mods: tuple[Mod, ...] = ()
    """Changes to the logits, applied in order after the score."""
    mask: Mask | None = None
    """Keys that a query may attend to; null allows all of them. Padding is always masked, and so are later tokens in a
    decoder."""
    normalizer: Normalizer = Softmax()
    """Function that turns logits into weights."""

    @model_validator(mode="after")
    def _location_comes_first(self) -> Self:
        if any(mod.kind == "location" for mod in self.mods[1:]):
            raise ValueError("mods: location replaces the logits, so it must be the first mod")
        return self

    def tiny(self) -> Self:
        """Shrink the learned parameters of the parts."""
        return super().tiny().replace(mods=tuple(mod.tiny() for mod in self.mods))


def _refuse(
    attention: Attention,
    why: str,
    mods: tuple[str, ...] = (),
    masks: tuple[str, ...] = (),
    normalizers: tuple[str, ...] = (),
) -> None:
    parts = [("mods", mod.kind, mods) for mod in attention.mods]
    parts += [("mask", kind, masks) for kind in kinds_in(attention.mask)]
    parts += [("normalizer", kind, normalizers) for kind in kinds_of(attention.normalizer)]
    for part, kind, refused in parts:
        if kind in refused:
            raise ValueError(f"{part}: {kind} {why}")


def _between_sequences(attention: Attention) -> Attention:
    _refuse(attention, "compares positions within one sequence, but this attends to another", mods=BETWEEN_POSITIONS)
    if attention.mask is not None:
        raise ValueError(f"mask: {attention.mask.kind} compares positions within one sequence; use null here")
    return attention


def check_decoder_attention(attention: Attention) -> Attention:
    """Return an attention config that a decoder can apply to the tokens so far.

    Raises:
        ValueError: a part depends on the length of the whole sequence.
    """
    why = "needs the length of the whole sequence, which a decoder does not know"
    _refuse(attention, why, mods=("location",), masks=("random_blocks", "big_bird"), normalizers=("local_p",))
    return attention


def _unaligned(attention: Attention) -> Attention:
    why = "needs queries in the order of the keys, but these do not come in it; use constant with random_bias"
    _refuse(attention, why, mods=("diagonal_bias",))
    return _between_sequences(attention)


CrossAttention = Annotated[Attention, AfterValidator(_between_sequences)]
"""Attention to another sequence; parts that compare positions are refused, as the sequences do not share them."""
DecoderSelfAttention = Annotated[Attention, AfterValidator(check_decoder_attention)]
"""Self-attention of a decoder; parts that need the length of the whole sequence are refused."""
UnalignedAttention = Annotated[Attention, AfterValidator(_unaligned)]
"""Attention to another sequence by queries in no order of its keys, such as learned ones; see also `CrossAttention`."""
