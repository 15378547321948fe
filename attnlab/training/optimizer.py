"""The optimizer of a config, as an optax transformation."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from attnlab.config.training import AdamW, Optimizer


def schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Step size by step: linear warm-up to the peak, then the config's decay; linear and cosine reach 0 at `steps`.

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
    """Clip by global norm, then AdamW or SGD; vectors (biases) are not decayed."""
    rate = schedule(config, steps)
    if isinstance(config, AdamW):
        made = optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=_matrices)
    else:
        decay = optax.add_decayed_weights(config.weight_decay, _matrices)
        made = optax.chain(decay, optax.sgd(rate, config.momentum, config.nesterov))
    return made if config.clip_norm is None else optax.chain(optax.clip_by_global_norm(config.clip_norm), made)


def _matrices(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: p.ndim > 1, params)
