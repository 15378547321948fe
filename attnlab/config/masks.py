"""Which keys a query may attend to besides what padding and causality forbid, chosen by `kind` (`functional.masks`)."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from attnlab.config.base import Config, Seed
from attnlab.config.custom import CustomMask


class SlidingWindow(Config):
    """Keys at most `left` before and `right` after the query (Beltagy et al. 2020)."""

    kind: Literal["sliding_window"] = "sliding_window"
    left: NonNegativeInt
    """Number of keys before the query that it may attend to."""
    right: NonNegativeInt = 0
    """In a decoder nothing after the query is seen, whatever this says."""


class Prefix(Config):
    """The first n keys."""

    kind: Literal["prefix"] = "prefix"
    n: PositiveInt
    """Number of keys."""


class Dilated(Config):
    """Every `dilation`-th key around the query, half of the window on each side (Beltagy et al. 2020)."""

    kind: Literal["dilated"] = "dilated"
    window: Annotated[int, Field(ge=0, multiple_of=2)]
    """Number of keys besides the query's own, half on each side."""
    dilation: PositiveInt
    """Distance between neighboring keys, in positions."""


class Strided(Config):
    """The last keys and every `stride`-th one before (Child et al. 2019); looks back alone."""

    kind: Literal["strided"] = "strided"
    stride: PositiveInt
    """Number of the last keys that are seen, and the distance between those seen before."""


class Fixed(Config):
    """The query's own stretch of keys and the last `summary` of every stretch before (Child et al. 2019)."""

    kind: Literal["fixed"] = "fixed"
    stride: PositiveInt
    """Length of a stretch of keys."""
    summary: PositiveInt = 1
    """Number of keys at the end of each stretch that all later queries see."""

    @model_validator(mode="after")
    def _a_stretch_has_its_summary(self) -> Self:
        if self.summary > self.stride:
            raise ValueError(f"summary {self.summary} is more than a stretch of {self.stride} has")
        return self


class GlobalTokens(Config):
    """The first `tokens` positions see all and are seen by all; widens another mask in `any_of`."""

    kind: Literal["global_tokens"] = "global_tokens"
    tokens: PositiveInt
    """Number of global positions."""


class RandomBlocks(Config):
    """Every block of queries sees `count` blocks of keys drawn at random (Zaheer et al. 2020); a model draws them once,
    for its `max_length` positions, and a shorter text has of them what its places see."""

    kind: Literal["random_blocks"] = "random_blocks"
    block: PositiveInt
    """Positions in a block."""
    count: PositiveInt
    """Number of random blocks of keys for each block of queries."""
    seed: Seed = 0
    """Seed of the random blocks."""


class BigBird(Config):
    """Blocks in a window, a few global ones and a few at random (Zaheer et al. 2020); a model draws them once, for its
    `max_length` positions, and the global blocks at the end are those of a text of that length."""

    kind: Literal["big_bird"] = "big_bird"
    block: PositiveInt = 64
    """Positions in a block."""
    window: Annotated[int, Field(ge=1)] = 3
    """Blocks in the window around its own, an odd number."""
    global_blocks: NonNegativeInt = 2
    """Number of global blocks, half at each end."""
    random: NonNegativeInt = 3
    """Number of random blocks of keys for each block of queries."""
    seed: Seed = 0
    """Seed of the random blocks."""

    @model_validator(mode="after")
    def _half_of_the_window_on_each_side(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} is even; half of it lies on each side of its own block")
        return self


class AnyOf(Config):
    """What one of several masks lets through: `sliding_window` and `global_tokens` together are Longformer's."""

    kind: Literal["any_of"] = "any_of"
    masks: Annotated[tuple["Mask", ...], Field(min_length=1)]
    """The masks; a query may attend where at least one of them allows it."""


class AllOf(Config):
    """What every one of several masks lets through."""

    kind: Literal["all_of"] = "all_of"
    masks: Annotated[tuple["Mask", ...], Field(min_length=1)]
    """The masks; a query may attend where all of them allow it."""


Mask = Annotated[
    SlidingWindow
    | Prefix
    | Dilated
    | Strided
    | Fixed
    | GlobalTokens
    | RandomBlocks
    | BigBird
    | AnyOf
    | AllOf
    | CustomMask,
    Field(discriminator="kind"),
]
AnyOf.model_rebuild()
AllOf.model_rebuild()


def kinds_in(mask: Mask | None) -> tuple[str, ...]:
    """List the kinds that a mask is made of.

    >>> kinds_in(AnyOf(masks=(Prefix(n=1), GlobalTokens(tokens=1))))
    ('any_of', 'prefix', 'global_tokens')
    """
    if mask is None:
        return ()
    inside = mask.masks if isinstance(mask, AnyOf | AllOf) else ()
    return (mask.kind, *(kind for part in inside for kind in kinds_in(part)))
