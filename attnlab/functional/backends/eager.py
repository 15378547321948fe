"""Compiled programs of eager calls (outside of `jax.jit`), reused by later calls with equal parts and shapes.

JAX caches a loop by the Python function of its body, and every call makes new functions for the loops over blocks.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from attnlab.functional.backends.fingerprint import NoFingerprint, of_structure

KEPT = 512
"""The number of compiled calls that are kept; the least recently used is dropped first."""

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class _Program:
    """The inputs of a compilation; two are equal if their fingerprints are."""

    function: Function
    static: Hashable
    parts: Hashable
    types: tuple[Any, ...]
    structure: Any = field(compare=False)

    def __call__(self, leaves: list[Any]) -> Any:
        return self.function(self.static, jax.tree.unflatten(self.structure, leaves))


def compiled_once(function: Function, static: Hashable, arrays: Any) -> Any:
    """Return `function(static, arrays)`, compiled once for equal `static`, parts and shapes.

    The function is not compiled under `jax.jit`, nor if a function in `arrays` reads a value without a fingerprint:
    a large array (bind it by `Partial`), or an object of a user's class that is not a dataclass.

    Args:
        function: a function of a module, so that it is the same object in every call.
        static: all arguments that are not arrays.
        arrays: a pytree; functions among its nodes are compared by `fingerprint`.

    >>> compiled_once(lambda factor, x: factor * x, 2.0, jax.numpy.ones(2)).tolist()
    [2.0, 2.0]
    """
    leaves, structure = jax.tree.flatten(arrays)
    if _under_jit():
        return function(static, arrays)
    try:
        parts = of_structure(structure)
    except NoFingerprint:
        return function(static, arrays)
    program = _Program(function, static, parts, tuple(map(jax.typeof, leaves)), structure)
    return _compiled(program)(program, leaves)


@lru_cache(maxsize=KEPT)
def _compiled(program: _Program) -> Callable[[_Program, list[Any]], Any]:
    # The program is an argument too, so that JAX traces the current program if it traces again (for another precision).
    return jax.jit(lambda program, leaves: program(leaves), static_argnums=0)


def _under_jit() -> bool:
    """Return whether `jit` traces this call: a sum of constants is then a tracer, but not under `grad` or `vmap`."""
    return isinstance(jax.lax.add(np.float32(0), np.float32(0)), Tracer)
