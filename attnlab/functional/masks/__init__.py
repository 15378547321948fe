"""Masks: which query may attend to which key. Predicates on positions (True = may attend), combined by & | ~.

A mask is called with the positions of a block of one head of one example (`types.Positions`) and returns booleans [q,
k], so nothing of size T×S is stored; `classify` returns which blocks are empty or full without evaluating every pair. A
mask is a pytree: ids, lengths and arrays are leaves (new values do not compile again), the rest is static. A leaf may
have leading batch axes *B.

A query that a mask allows no key is a fully masked row: its output and weights are 0, with finite gradients.
"""

from attnlab.functional.masks.algebra import And, Mask, Not, Or
from attnlab.functional.masks.custom import array, from_fn
from attnlab.functional.masks.extent import lengths, prefix
from attnlab.functional.masks.ids import segments
from attnlab.functional.masks.layout import block_layout
from attnlab.functional.masks.patterns import dilated, fixed, global_tokens, strided
from attnlab.functional.masks.position import causal, sliding_window
from attnlab.functional.masks.scattered import big_bird, random_blocks

__all__ = [
    "And",
    "Mask",
    "Not",
    "Or",
    "array",
    "big_bird",
    "block_layout",
    "causal",
    "dilated",
    "fixed",
    "from_fn",
    "global_tokens",
    "lengths",
    "prefix",
    "random_blocks",
    "segments",
    "sliding_window",
    "strided",
]
