"""Configs of masks, selected by `kind` (`functional.masks`); they are combined with the padding and causal masks."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from attnlab.config.base import Config, Seed
from attnlab.config.custom import CustomMask


class SlidingWindow(Config):
    """Keys at most `left` positions before and `right` positions after the query (Beltagy et al. 2020)."""

    kind: Literal["sliding_window"] = "sliding_window"
    left: NonNegativeInt
    """Number of keys before the query that it may attend to."""
    right: NonNegativeInt = 0
    """Number of keys after the query that it may attend to; no effect in a decoder, which is causal."""


class Prefix(Config):
    """The first `n` keys."""

    kind: Literal["prefix"] = "prefix"
    n: PositiveInt
    """Number of keys at the beginning."""


class Dilated(Config):
    """Every `dilation`-th key around the query, half of the window on each side (Beltagy et al. 2020)."""

    kind: Literal["dilated"] = "dilated"
    window: Annotated[int, Field(ge=0, multiple_of=2)]
    """Number of keys besides the query's own, half on each side."""
    dilation: PositiveInt
    """Distance between neighboring keys, in positions."""


class Strided(Config):
    """The last `stride` keys and every `stride`-th key before them, none after the query (Child et al. 2019)."""

    kind: Literal["strided"] = "strided"
    stride: PositiveInt
    """Number of the last keys, and the distance between the earlier ones, in positions."""


class Fixed(Config):
    """The keys of the query's own block, and the last `summary` keys of each earlier block (Child et al. 2019)."""

    kind: Literal["fixed"] = "fixed"
    stride: PositiveInt
    """Length of a block, in positions."""
    summary: PositiveInt = 1
    """Number of keys at the end of each block that all later queries may attend to; at most `stride`."""

    @model_validator(mode="after")
    def _summary_fits_block(self) -> Self:
        if self.summary > self.stride:
            raise ValueError(f"summary {self.summary} must not exceed stride {self.stride}")
        return self


class GlobalTokens(Config):
    """The first `tokens` positions attend to all keys, and all queries attend to them. Use it in `any_of`."""

    kind: Literal["global_tokens"] = "global_tokens"
    tokens: PositiveInt
    """Number of global positions."""


class RandomBlocks(Config):
    """`count` random blocks of keys for each block of queries (Zaheer et al. 2020). A model draws them once, for its
    `max_length` positions; a shorter sequence uses the beginning of this mask."""

    kind: Literal["random_blocks"] = "random_blocks"
    block: PositiveInt
    """Positions in a block."""
    count: PositiveInt
    """Number of random blocks of keys for each block of queries."""
    seed: Seed = 0
    """Seed of the random blocks, below 2³²."""


class BigBird(Config):
    """Blocks in a window, global blocks and random blocks (Zaheer et al. 2020). A model draws them once, for its
    `max_length` positions; a shorter sequence uses the beginning of this mask, without the global blocks at the end."""

    kind: Literal["big_bird"] = "big_bird"
    block: PositiveInt = 64
    """Positions in a block."""
    window: Annotated[int, Field(ge=1)] = 3
    """Number of blocks in the window around the query's own block; an odd number."""
    global_blocks: NonNegativeInt = 2
    """Number of global blocks, half of them at each end."""
    random: NonNegativeInt = 3
    """Number of random blocks of keys for each block of queries."""
    seed: Seed = 0
    """Seed of the random blocks, below 2³²."""

    @model_validator(mode="after")
    def _window_is_odd(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} must be odd: the query's own block and as many on each side")
        return self


class AnyOf(Config):
    """Union of masks; Longformer's mask is the union of `sliding_window` and `global_tokens`."""

    kind: Literal["any_of"] = "any_of"
    masks: Annotated[tuple["Mask", ...], Field(min_length=1)]
    """The masks; a query may attend to a key if at least one of them allows it."""


class AllOf(Config):
    """Intersection of masks."""

    kind: Literal["all_of"] = "all_of"
    masks: Annotated[tuple["Mask", ...], Field(min_length=1)]
    """The masks; a query may attend to a key if all of them allow it."""


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
    """Return the kind of a mask, and the kinds of the masks that it combines.

    >>> kinds_in(AnyOf(masks=(Prefix(n=1), GlobalTokens(tokens=1))))
    ('any_of', 'prefix', 'global_tokens')
    """
    if mask is None:
        return ()
    parts = mask.masks if isinstance(mask, AnyOf | AllOf) else ()
    return (mask.kind, *(kind for part in parts for kind in kinds_in(part)))
