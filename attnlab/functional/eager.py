"""Calls outside of `jax.jit`: what is compiled for one serves the next of equal parts and shapes.

JAX knows a loop by the Python function that is its body, and the bodies of blocks are made anew by every call.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from attnlab.functional.fingerprint import NoFingerprint, of_structure

KEPT = 128
"""How many compiled calls are kept, those used last."""

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class _Program:
    """What a call is compiled for, all but its numbers. Equal where the fingerprints are."""

    function: Function
    how: Hashable
    parts: Hashable
    types: tuple[Any, ...]
    structure: Any = field(compare=False)

    def __call__(self, leaves: list[Any]) -> Any:
        return self.function(self.how, jax.tree.unflatten(self.structure, leaves))


def compiled_once(function: Function, how: Hashable, arrays: Any) -> Any:
    """Return `function(how, arrays)`, compiled once for equal `how`, parts and shapes where nothing is traced by jit.

    Under `jax.jit` and its like this is the plain call. So it is where a function in `arrays` reads what has no
    fingerprint: a large array (bind it by `Partial`), an object of a class of one's own that is no dataclass.

    Args:
        function: of a module, not made for the call.
        how: what is not an array.
        arrays: a pytree; functions among its nodes are compared by `fingerprint`.

    >>> compiled_once(lambda factor, x: factor * x, 2.0, jax.numpy.ones(2)).tolist()
    [2.0, 2.0]
    """
    leaves, structure = jax.tree.flatten(arrays)
    if _under_jit():
        return function(how, arrays)
    try:
        parts = of_structure(structure)
    except NoFingerprint:
        return function(how, arrays)
    program = _Program(function, how, parts, tuple(map(jax.typeof, leaves)), structure)
    return _compiled(program)(program, leaves)


@lru_cache(maxsize=KEPT)
def _compiled(program: _Program) -> Callable[[_Program, list[Any]], Any]:
    # The program is an argument as well: should JAX trace again (for another precision, say), it is the present one.
    return jax.jit(lambda program, leaves: program(leaves), static_argnums=0)


def _under_jit() -> bool:
    """Tell whether a sum of two numbers is computed later: `grad` and `vmap` compute it at once."""
    return isinstance(jax.lax.add(np.float32(0), np.float32(0)), Tracer)
