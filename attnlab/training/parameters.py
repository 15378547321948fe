"""The parameters that a run is evaluated with: those of its best checkpoint, or the mean of the last ones."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from attnlab.config import Training
from attnlab.training.checkpoints import Checkpoints
from attnlab.training.steps import replicated


def read_parameters(
    checkpoints: Checkpoints, initialize: Callable[[Array], PyTree], training: Training
) -> list[tuple[int, PyTree]]:
    """Return the parameters to evaluate as (step, parameters): of the best checkpoint, or with `average_last` of the
    last ones, whose mean is evaluated (see `average`).

    Args:
        checkpoints: the checkpoints of the run.
        initialize: rng -> parameters of the model.
        training: the `training` section of the config.
    Returns: an empty list if no checkpoint is intact; parameters are copied to every device.
    """
    shapes, sharding = jax.eval_shape(lambda: initialize(jax.random.key(0))), replicated()
    like = {"params": jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=sharding), shapes)}
    if training.average_last:
        found = checkpoints.last(like, training.average_last)
    else:
        best = checkpoints.best(like)
        found = [] if best is None else [best]
    return [(step, tree["params"]) for step, tree in found]


def average(trees: Sequence[PyTree]) -> PyTree:
    """Return the mean of parameter trees, leaf by leaf."""
    if len(trees) == 1:
        return trees[0]
    return jax.jit(lambda trees: jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), axis=0), *trees))(trees)
