"""One training step: pure, jitted, data parallel over the devices of a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from attnlab.config import Training
from attnlab.training.objective import cross_entropy
from attnlab.training.optimizer import optimizer, schedule

Batch = dict[str, Any]
"""source, source_lengths, target_in, target_out, target_lengths (see data/batching.py)."""
Metrics = dict[str, Float[Array, ""]]


@struct.dataclass
class TrainState:
    """All that changes while training; with the config and the data it decides every later number."""

    step: Int[Array, ""]
    params: PyTree
    optimizer: PyTree


def mesh() -> Mesh:
    """All devices on one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated() -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def by_rows() -> NamedSharding:
    """Rows of a batch shared out over the devices; their number must be a multiple of the devices'."""
    return NamedSharding(mesh(), PartitionSpec("data"))


def initial_state(model: nn.Module, training: Training, seed: int) -> TrainState:
    """Draw the parameters; every device gets all of them."""

    def build() -> TrainState:
        one = jnp.ones((1, 2), jnp.int32)
        params = model.init(jax.random.key(seed), one, jnp.array([2]), one, train=False)["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer(training.optimizer, training.steps).init(params))

    return jax.jit(build, out_shardings=replicated())()


def make_train_step(
    model: nn.Module, training: Training, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Build (state, batch) -> (state, metrics); compiled once a batch shape, the state's memory is reused.

    The dropout of step k depends on (seed, k) alone, so that a resumed run draws the same.
    """
    update = optimizer(training.optimizer, training.steps)
    rate = schedule(training.optimizer, training.steps)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(jax.random.key(seed, impl="rbg"), state.step)

        def loss(params: PyTree) -> tuple[Array, Array]:
            out = model.apply(
                {"params": params},
                batch["source"],
                batch["source_lengths"],
                batch["target_in"],
                train=True,
                rngs={"dropout": rng},
            )
            return cross_entropy(
                out.logits, batch["target_out"], batch["target_lengths"], label_smoothing=training.label_smoothing
            )

        (smoothed, nll), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = update.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": smoothed,
            "nll": nll,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(rate(state.step)),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=replicated())


def place(batch: Batch) -> Batch:
    """Put a batch on the devices, rows shared out."""
    return jax.device_put(batch, by_rows())
