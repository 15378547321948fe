"""From a mask's config to the mask of `functional.masks` that it names."""

from functools import reduce
from operator import and_, or_

from attnlab.config import masks as config
from attnlab.functional import masks


def mask(chosen: config.Mask) -> masks.Mask:
    """Build the mask that a config names, of a sequence with itself.

    >>> mask(config.AnyOf(masks=(config.Prefix(n=1), config.SlidingWindow(left=0)))).dense(2, 2).astype(int).tolist()
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
            return masks.random_blocks(chosen.block, chosen.count, seed=chosen.seed)
        case config.BigBird():
            counts = {"window": chosen.window, "global_blocks": chosen.global_blocks, "random": chosen.random}
            return masks.big_bird(chosen.block, **counts, seed=chosen.seed)
        case config.AnyOf():
            return reduce(or_, map(mask, chosen.masks))
        case config.AllOf():
            return reduce(and_, map(mask, chosen.masks))
