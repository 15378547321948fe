"""Random block layouts for any number of positions: random blocks, and BigBird."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask
from attnlab.functional.masks.alignment import static_integer
from attnlab.functional.masks.blocks import BlockClasses, Blocks
from attnlab.functional.masks.layout import block_layout
from attnlab.functional.masks.picture import CELLS
from attnlab.functional.types import Positions, Size, Where


class Drawn(Mask):
    """A random layout of blocks, drawn when the numbers of queries and keys are known."""

    name = "this mask"
    can_classify = (True, True)
    block: int
    heads: int | None

    @property
    def by_head(self) -> bool:  # pyright: ignore
        return self.heads is not None

    def layout(self, rows: int, columns: int, head: int) -> np.ndarray:
        """Draw the layout of one head."""
        raise NotImplementedError

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        if None not in (heads, self.heads) and heads != self.heads:
            raise ValueError(f"{self.name}: heads is {self.heads}, but the inputs have {heads} heads")
        shape = math.ceil(queries / self.block), math.ceil(keys / self.block)
        if self.heads is None:
            return block_layout(self.layout(*shape, 0), self.block)
        layouts = [self.layout(*shape, head) for head in range(self.heads)]
        return block_layout(np.stack(layouts), self.block, "h q k")

    def __call__(self, positions: Positions) -> Where:
        raise ValueError(self._unfitted)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        raise ValueError(self._unfitted)

    @property
    def _unfitted(self) -> str:
        return f"{self.name}: evaluated before the number of queries and keys is known; call .fitted(T, S)"

    def reach(self) -> int:
        return CELLS * self.block


def _add_random(layout: np.ndarray, count: int, seed: int, head: int) -> np.ndarray:
    """Add `count` random blocks to each row of the layout, out of the masked blocks."""
    rng = np.random.default_rng((seed, head))
    for row in layout:
        masked = np.flatnonzero(~row)
        row[rng.permutation(masked)[:count]] = True
    return layout


@partial(register_dataclass, data_fields=[], meta_fields=["block", "count", "seed", "heads"])
@dataclass(frozen=True, repr=False, eq=False)
class RandomBlocks(Drawn):
    """Every block of queries attends to a few random blocks of keys; made by `random_blocks`."""

    block: int
    count: int
    seed: int
    heads: int | None
    name = "random_blocks"

    def layout(self, rows: int, columns: int, head: int) -> np.ndarray:
        return _add_random(np.zeros((rows, columns), bool), self.count, self.seed, head)

    def expression(self) -> str:
        heads = "" if self.heads is None else f", heads={self.heads}"
        return f"random_blocks({self.block}, {self.count}, seed={self.seed}{heads})"


def random_blocks(block: int, count: int, *, seed: int, heads: int | None = None) -> Drawn:
    """Let every block of queries attend to a few random blocks of keys.

    may[i, j] = ⌊j / block⌋ ∈ R(⌊i / block⌋),   R(a) a set of `count` blocks drawn uniformly without replacement

    Args:
        block: positions in a block, at least 1.
        count: number of key blocks for each query block, at least 0; all of them if there are fewer.
        seed: seed of the random numbers, at least 0; the same seed and sizes give the same blocks.
        heads: number of query heads, for a layout per head; None for one layout for all heads.
    Returns: a static mask, drawn when the numbers of queries and keys are known.
    Reference: Zaheer et al. 2020 (BigBird), section 2, and appendix D for blocks.

    >>> int(random_blocks(2, 1, seed=0).dense(8, 8).sum())
    16
    """
    block, count = (
        static_integer("random_blocks", "block", block, minimum=1),
        static_integer("random_blocks", "count", count, minimum=0),
    )
    seed = static_integer("random_blocks", "seed", seed, minimum=0)
    heads = None if heads is None else static_integer("random_blocks", "heads", heads, minimum=1)
    return RandomBlocks(block, count, seed, heads)


@partial(register_dataclass, data_fields=[], meta_fields=["block", "window", "global_blocks", "count", "seed", "heads"])
@dataclass(frozen=True, repr=False, eq=False)
class BigBird(Drawn):
    """Window, global and random blocks; made by `big_bird`."""

    block: int
    window: int
    global_blocks: int
    count: int
    seed: int
    heads: int | None
    name = "big_bird"

    def layout(self, rows: int, columns: int, head: int) -> np.ndarray:
        block = np.arange(rows)
        first, last = (self.global_blocks + 1) // 2, self.global_blocks // 2
        is_global = (block < first) | (block >= rows - last)
        near = abs(block[:, None] - block[None, :]) <= self.window // 2
        return _add_random(near | is_global[:, None] | is_global[None, :], self.count, self.seed, head)

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        if queries != keys:
            raise ValueError(
                f"big_bird: the numbers of queries and keys must be equal (self-attention), got {queries} and {keys}"
            )
        return super().fitted(queries, keys, heads)

    def expression(self) -> str:
        heads = "" if self.heads is None else f", heads={self.heads}"
        parts = f"window={self.window}, global_blocks={self.global_blocks}, random={self.count}, seed={self.seed}"
        return f"big_bird({self.block}, {parts}{heads})"


def big_bird(
    block: int,
    *,
    window: int = 3,
    global_blocks: int = 2,
    random: int = 3,
    seed: int,
    heads: int | None = None,
) -> Drawn:
    """Let every block attend to a window around it, to global blocks and to random blocks; global blocks attend to all.

    may[i, j] = |a − b| ≤ ⌊window / 2⌋  or  a ∈ G  or  b ∈ G  or  b ∈ R(a),   a = ⌊i / block⌋, b = ⌊j / block⌋

    Args:
        block: positions in a block, at least 1.
        window: number of blocks in the window, its own included; odd.
        global_blocks: number of blocks that attend to all and are attended to by all (existing tokens, the paper's
            ITC); half of them, rounded up, are at the beginning, the others at the end.
        random: number of random blocks for each block, in addition to the others.
        seed: seed of the random numbers, at least 0.
        heads: number of query heads, for a layout per head; None for one layout for all heads.
    Returns: a static mask, drawn when the number of positions is known. The defaults are those of the paper's base
        model, which has blocks of 64.
    Reference: Zaheer et al. 2020 (BigBird), section 2 and appendix D.

    >>> print(big_bird(64, random=1, seed=0).map(512, 512, block=64).splitlines()[1])
    ████████
    """
    counts = {"block": (block, 1), "window": (window, 1), "global_blocks": (global_blocks, 0), "random": (random, 0)}
    for name, (value, minimum) in counts.items():
        static_integer("big_bird", name, value, minimum)
    if window % 2 == 0:
        raise ValueError(f"big_bird: window must be odd, with half of it on each side, not {window}")
    seed = static_integer("big_bird", "seed", seed, minimum=0)
    heads = None if heads is None else static_integer("big_bird", "heads", heads, minimum=1)
    return BigBird(block, window, global_blocks, random, seed, heads)
