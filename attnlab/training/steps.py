"""One training step: pure, jitted, data parallel over the devices of a mesh."""

import hashlib
from collections.abc import Callable
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
"""Arrays with the rows first (see data/batching.py)."""
Metrics = dict[str, Float[Array, ""]]


@struct.dataclass
class TrainState:
    """All that changes while training; with the config and the data it decides every later number."""

    step: Int[Array, ""]
    params: PyTree
    optimizer: PyTree


DATA = "data"
"""The one axis of the mesh."""
REPLICATED, BY_ROWS = PartitionSpec(), PartitionSpec(DATA)


def mesh() -> Mesh:
    """All devices on one axis."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated() -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh(), REPLICATED)


def by_rows() -> NamedSharding:
    """Rows of a batch shared out over the devices; their number must be a multiple of the devices'."""
    return NamedSharding(mesh(), BY_ROWS)


def initial_state(initialize: Callable[[Array], PyTree], training: Training, seed: int) -> TrainState:
    """Draw the parameters; every device gets all of them.

    Args:
        initialize: rng -> parameters.
        training: its optimizer's state is made too.
        seed: of the rng.
    """

    def build() -> TrainState:
        params = initialize(jax.random.key(seed))
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer(training.optimizer, training.steps).init(params))

    return jax.jit(build, out_shardings=replicated())()


def make_train_step(
    loss: Callable[[PyTree, Batch, Array], Loss], training: Training, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Build (state, batch) -> (state, metrics); compiled once a batch shape, the state's memory is reused.

    Each device takes the gradient of its rows, and the gradients are added up once, after the model's loops (left to
    itself the compiler adds them up inside these, at every position). The dropout of step k depends on (seed, k) and
    the device's number alone, so that a resumed run draws the same.

    Args:
        loss: (parameters, batch, rng) -> sums over the batch.
        training: optimizer and length.
        seed: of the rng.

    Returns: the step; its metrics are means over what the loss counts, and `count` itself.
    """
    update = optimizer(training.optimizer, training.steps)
    rate = schedule(training.optimizer, training.steps)

    def gradient(params: PyTree, batch: Batch, step: Array) -> tuple[Metrics, PyTree]:
        rng = jax.random.fold_in(jax.random.key(seed), step * jax.device_count() + jax.lax.axis_index(DATA))

        def summed(params: PyTree) -> tuple[Array, Loss]:
            found = loss(params, batch, rng)
            return found.total, found

        (_, found), gradients = jax.value_and_grad(summed, has_aux=True)(params)
        count = jax.lax.psum(found.count, DATA)
        sums = {"loss": found.total, **found.metrics}
        means = jax.tree.map(lambda a: jax.lax.psum(a, DATA) / jnp.maximum(count, 1), (sums, gradients))
        return means[0] | {"count": count}, means[1]

    # Nothing inside is differentiated from outside, so what is replicated need not be tracked (check_vma).
    gradient = jax.shard_map(
        gradient, mesh=mesh(), in_specs=(REPLICATED, BY_ROWS, REPLICATED), out_specs=REPLICATED, check_vma=False
    )

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        metrics, gradients = gradient(state.params, batch, state.step)
        updates, opt_state = update.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"gradient_norm": optax.tree.norm(gradients), "learning_rate": jnp.asarray(rate(state.step))}
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=replicated())


def fingerprint(params: PyTree) -> str:
    """Hash of every parameter's bits (sha256): equal exactly when two trainings ended alike."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(params)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes())
    return digest.hexdigest()


def place(batch: Batch) -> Batch:
    """Put a batch on the devices, rows shared out."""
    return jax.device_put(batch, by_rows())
