"""Functions under test as one program a call, with results as NumPy arrays.

An eager call compiles every operation of its own for every shape, which took most of the time of small tests.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, compiled as a whole: arrays are its arguments, anything else is constant.

    Calls with traced arrays, as inside of `jax.vmap`, run the function itself.
    """
    program = functools.cache(functools.partial(_program, function))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            arrays = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
            args, kwargs = tree.unflatten(arrays)
            return function(*args, **kwargs)
        places = tuple(n for n, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray))
        constants = tuple(None if n in places else leaf for n, leaf in enumerate(leaves))
        result = program(tree, places, constants, tuple(map(type, constants)))([leaves[n] for n in places])
        return jax.tree.map(np.asarray, result)

    return call


class Compiled:
    """The functions of a module, each compiled as a whole when it is first asked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = compiled(getattr(self._module, name))
        setattr(self, name, found)
        return found


def _program(function: Callable[..., Any], tree: Any, places: tuple[int, ...], constants: tuple, _: tuple) -> Any:
    @jax.jit
    def run(arrays: list[Any]) -> Any:
        leaves = list(constants)
        for place, array in zip(places, arrays, strict=True):
            leaves[place] = array
        args, kwargs = tree.unflatten(leaves)
        return function(*args, **kwargs)

    return run
