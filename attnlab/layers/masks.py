"""Building the mask of `functional.masks` that a config names."""

from functools import partial, reduce
from operator import and_, or_

from attnlab.config import masks as config
from attnlab.functional import masks
from attnlab.functional.masks.scattered import Drawn
from attnlab.layers.custom import custom_mask


def mask(chosen: config.Mask, positions: int, longest: int) -> masks.Mask:
    """Build the mask of a config for self-attention.

    Random blocks are drawn for `longest` positions, and a shorter sequence uses the first of them, so that the mask
    depends only on positions, not on the amount of padding.

    Args:
        chosen: config of the mask.
        positions: length of the sequence, padding included.
        longest: greatest length that the model is configured for; for a longer sequence, blocks are drawn anew.

    >>> both = config.AnyOf(masks=(config.Prefix(n=1), config.SlidingWindow(left=0)))
    >>> mask(both, 2, longest=8).dense(2, 2).astype(int).tolist()
    [[1, 0], [1, 1]]
    """
    match chosen:
        case config.SlidingWindow():
            return masks.sliding_window(chosen.left, chosen.right)
        case config.Prefix():
            return masks.prefix(chosen.n)
        case config.Dilated():
            return masks.dilated(chosen.window, chosen.dilation)
        case config.Strided():
            return masks.strided(chosen.stride)
        case config.Fixed():
            return masks.fixed(chosen.stride, chosen.summary)
        case config.GlobalTokens():
            return masks.global_tokens(chosen.tokens)
        case config.RandomBlocks():
            return _first(masks.random_blocks(chosen.block, chosen.count, seed=chosen.seed), positions, longest)
        case config.BigBird():
            counts = {"window": chosen.window, "global_blocks": chosen.global_blocks, "random": chosen.random}
            return _first(masks.big_bird(chosen.block, **counts, seed=chosen.seed), positions, longest)
        case config.AnyOf():
            return reduce(or_, map(partial(mask, positions=positions, longest=longest), chosen.masks))
        case config.AllOf():
            return reduce(and_, map(partial(mask, positions=positions, longest=longest), chosen.masks))
        case config.CustomMask():
            return custom_mask(chosen)


def _first(drawn: Drawn, positions: int, longest: int) -> masks.Mask:
    """Return the blocks of the first `positions` out of those drawn for the longest sequence."""
    blocks, needed = (-(-length // drawn.block) for length in (max(positions, longest), positions))
    return masks.block_layout(drawn.layout(blocks, blocks, 0)[:needed, :needed], drawn.block)
