"""Build the optax optimizer and learning-rate schedule of a config."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from attnlab.config.training import AdamW, Optimizer


def schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Build the learning-rate schedule: linear warm-up, then the config's decay; linear and cosine end at 0.

    >>> rates = schedule(AdamW(learning_rate=1.0, schedule="linear", warmup_steps=2), steps=4)
    >>> [round(float(rates(step)), 2) for step in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup, rest = config.warmup_steps, max(steps - config.warmup_steps, 1)
    decay = {
        "constant": optax.constant_schedule(config.learning_rate),
        "linear": optax.linear_schedule(config.learning_rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, rest),
        "inverse_sqrt": lambda step: config.learning_rate * jnp.sqrt(max(warmup, 1) / (step + max(warmup, 1))),
    }[config.schedule]
    if warmup == 0:
        return decay
    return optax.join_schedules([lambda step: config.learning_rate * (step + 1) / warmup, decay], [warmup])


def optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """Build the optimizer: clipping by global norm, then AdamW or SGD; vectors (biases) are not decayed."""
    rate = schedule(config, steps)
    if isinstance(config, AdamW):
        transformation = optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=_matrices)
    else:
        decay = optax.add_decayed_weights(config.weight_decay, _matrices)
        transformation = optax.chain(decay, optax.sgd(rate, config.momentum, config.nesterov))
    if config.clip_norm is None:
        return transformation
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), transformation)


def _matrices(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: p.ndim > 1, params)
