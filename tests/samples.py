"""Samples of the product score × mod × mask × normalizer × returns × block size × size, and calls on a problem.

All lists are cycled through together, as often as the longest needs, so that every row occurs in
combination with others.
"""

import os
from dataclasses import dataclass

import jax
import numpy as np
from rows import EDGES, MASKS, MODS, NORMALIZERS, SCORES, SIZES, Problem, Size
from rows import problem as draw_problem

from attnlab.functional import extras
from attnlab.functional.attention import attention
from attnlab.functional.backends import BACKENDS
from attnlab.functional.parts import as_part, floats

BY_NAME = {row.name: row for row in SCORES}
BLOCKWISE = [name for name in BACKENDS if name != "dense"]
OPTIMIZED = {"xla_backend_optimization_level": 3} | (
    {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ.get("XLA_FLAGS", "") else {}
)
"""For bitwise comparisons the compiler optimizes, as it does for users (see conftest.py)."""


@dataclass(frozen=True)
class Sample:
    """A combination of parts, extras and sizes."""

    score: str
    mods: str
    mask: str
    normalizer: str
    size: Size
    group: int = 0
    block_size: tuple[int, int] | None = None

    def __str__(self) -> str:
        block = "" if self.block_size is None else "-{}x{}".format(*self.block_size)
        return f"{self.score}-{self.mods}-{self.mask}-{self.normalizer}-{self.size}{block}"

    def problem(self, dtype: str = "float64") -> Problem:
        return draw_problem(BY_NAME[self.score], self.size, self.mask, self.mods, self.normalizer, dtype)

    def returns(self) -> tuple[str | extras.Extra, ...]:
        """Return every extra in one of three samples."""
        some = extras.weights(rows=(self.size.T - 1, 0), heads=(self.size.N - 1,))
        groups = ("weights", "scores", "logits", extras.top_k(min(3, self.size.S))), ("lse", "max", "distance")
        return (*groups, ("entropy", "key_mass", some))[self.group]


LENGTHS = [*SIZES[2:4], *EDGES]
BLOCKS = [None, (2, 3), (1, 1), (64, 33), (3, 128)]
GROUPS = [0, 1, 2, 1, 2, 0, 2]


def cover_sample(number: int) -> Sample:
    """Return the sample of this number: every list advances by one."""
    pick = lambda rows: list(rows)[number % len(rows)]  # noqa: E731
    lists = (BY_NAME, MODS, MASKS, NORMALIZERS, LENGTHS, GROUPS, BLOCKS)
    return Sample(*(pick(rows) for rows in lists))


def random_sample(number: int) -> Sample:
    """Return a random sample, the same for the same number."""
    rng = np.random.default_rng(number)
    lists = (BY_NAME, MODS, MASKS, NORMALIZERS, LENGTHS, GROUPS, BLOCKS)
    return Sample(*(list(rows)[rng.integers(len(rows))] for rows in lists))


COVER = [cover_sample(number) for number in range(max(map(len, (SCORES, MODS, MASKS, NORMALIZERS, LENGTHS))))]
REST = [random_sample(number) for number in range(150)]


def learnable(this: Problem, dtype: str | None = "float64"):
    """Return the floating-point arrays of a problem, its other leaves, and a function that combines both."""
    learned, constant, together = floats(
        (this.inputs, this.params, tuple(map(as_part, this.mods)), as_part(this.normalizer))
    )
    return [x if dtype is None else x.astype(dtype) for x in learned], constant, together


def solver(this: Problem, returns=("weights", "lse", "entropy"), compiled=None, **changes):
    """Return `attention` with the parts of a problem as a compiled function of its inputs."""
    call = lambda inputs: attention(*inputs, **this.options() | changes, returns=returns)  # noqa: E731
    return jax.jit(call, compiler_options=compiled)


def solve(this: Problem, inputs=None, returns=("weights", "lse", "entropy"), **changes):
    return solver(this, returns, **changes)(this.inputs if inputs is None else inputs)
