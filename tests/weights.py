"""Random parameters for tests, also for tables initialized to 0; drawn by NumPy, so that nothing is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.base import Task


def drawn(init: Callable[..., dict], *arguments, spread: float = 0.4) -> dict:
    """Draw variables of the shapes that `init` returns for these arguments."""
    shapes = jax.eval_shape(init, {"params": jax.random.key(0), "dropout": jax.random.key(1)}, *arguments)
    return _normal(shapes, spread)


def parameters(of: Task | ModelAdapter, spread: float = 0.3) -> Any:
    """Draw the parameters of the model of a task or an adapter."""
    return _normal(jax.eval_shape(of.initialize, jax.random.key(0)), spread)


def _normal(shapes: Any, spread: float) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(spread * rng.normal(size=a.shape), a.dtype), shapes)
