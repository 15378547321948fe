"""One training step: pure, jitted, data parallel over the devices of a mesh."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from attnlab.config import Training
from attnlab.training.objective import Loss
from attnlab.training.optimizer import optimizer, schedule

Batch = dict[str, Any]
"""Arrays whose first axis is the batch (see data/text/batching.py)."""
Metrics = dict[str, Float[Array, ""]]


@struct.dataclass
class TrainState:
    """The state of training; with config and data it determines all later steps."""

    step: Int[Array, ""]
    params: PyTree
    optimizer: PyTree


DATA = "data"
"""Name of the only mesh axis."""
REPLICATED, BY_ROWS = PartitionSpec(), PartitionSpec(DATA)


def mesh() -> Mesh:
    """Return a mesh of all devices on one axis."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated() -> NamedSharding:
    """Return the sharding that copies an array to every device."""
    return NamedSharding(mesh(), REPLICATED)


def by_rows() -> NamedSharding:
    """Return the sharding that splits a batch over the devices; its rows must be a multiple of their number."""
    return NamedSharding(mesh(), BY_ROWS)


def initial_state(initialize: Callable[[Array], PyTree], training: Training, seed: int) -> TrainState:
    """Initialize parameters and optimizer state, replicated on every device.

    The compiled program is the same for every seed.

    Args:
        initialize: rng -> parameters.
        training: optimizer and number of steps.
        seed: seed of the rng.
    """

    def build(rng: Array) -> TrainState:
        params = initialize(rng)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer(training.optimizer, training.steps).init(params))

    return jax.jit(build, out_shardings=replicated())(_rng(seed))


def make_train_step(
    loss: Callable[[PyTree, Batch, Array], Loss], training: Training, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Build the jitted train step (state, batch) -> (state, metrics); the memory of the state is donated.

    The compiled program is the same for every seed. Each device computes the gradient of its rows, and gradients are
    summed once, after the model's loops (by default the compiler sums them inside these, at every position). Dropout of
    step k depends on (seed, k) and the index of the device only, so that a resumed run draws the same.

    Args:
        loss: (parameters, batch, rng) -> sums over the batch.
        training: optimizer and number of steps.
        seed: seed of the rng.

    Returns: the step; its metrics are means over the `count` of the loss, and `count` itself.
    """
    update = optimizer(training.optimizer, training.steps)
    rate = schedule(training.optimizer, training.steps)

    def gradient(params: PyTree, batch: Batch, step: Array, rng: Array) -> tuple[Metrics, PyTree]:
        rng = jax.random.fold_in(rng, step * jax.device_count() + jax.lax.axis_index(DATA))

        def summed(params: PyTree) -> tuple[Array, Loss]:
            sums = loss(params, batch, rng)
            return sums.total, sums

        (_, sums), gradients = jax.value_and_grad(summed, has_aux=True)(params)
        count = jax.lax.psum(sums.count, DATA)
        totals = {"loss": sums.total, **sums.metrics}
        means = jax.tree.map(lambda a: jax.lax.psum(a, DATA) / jnp.maximum(count, 1), (totals, gradients))
        return means[0] | {"count": count}, means[1]

    # The outputs are not differentiated, so replication need not be tracked (check_vma).
    specs = (REPLICATED, BY_ROWS, REPLICATED, REPLICATED)
    gradient = jax.shard_map(gradient, mesh=mesh(), in_specs=specs, out_specs=REPLICATED, check_vma=False)

    def step(state: TrainState, batch: Batch, rng: Array) -> tuple[TrainState, Metrics]:
        metrics, gradients = gradient(state.params, batch, state.step, rng)
        updates, opt_state = update.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"gradient_norm": optax.tree.norm(gradients), "learning_rate": jnp.asarray(rate(state.step))}
        return TrainState(state.step + 1, params, opt_state), metrics

    return partial(jax.jit(step, donate_argnums=0, out_shardings=replicated()), rng=_rng(seed))


def _rng(seed: int) -> Array:
    """Return the rng of a seed as an array on every device: as a constant of a program, it would be compiled in."""
    return jax.device_put(jax.random.key(seed), replicated())


def fingerprint(params: PyTree) -> str:
    """Return the sha256 of all parameters: equal if and only if their bits are equal."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(params)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes())
    return digest.hexdigest()


def shard_batch(batch: Batch) -> Batch:
    """Put a batch on the devices, split by rows."""
    return jax.device_put(batch, by_rows())
