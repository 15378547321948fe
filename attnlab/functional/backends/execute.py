"""Running a call of `attention`: plan it, divide it among devices, and compile an eager call once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from attnlab.functional.backends import BACKENDS, sharded
from attnlab.functional.backends.base import Results
from attnlab.functional.backends.call import Call, Operands, Options, fold, select
from attnlab.functional.backends.eager import compiled_once
from attnlab.functional.backends.plan import choose
from attnlab.functional.backends.separable import mixing
from attnlab.functional.extras import Extra
from attnlab.functional.types import Size


def execute(operands: Operands, options: Options, implementation: str | None) -> Results:
    """Compute the output and the extras of a call, in the shapes of `AttentionOutput`.

    Args:
        operands: arrays and functions, checked.
        options: static options.
        implementation: the name of a backend, or None for the fastest.
    """

    static = options, implementation, tuple(map(id, BACKENDS.values()))  # a call is planned again after `register`
    compute = partial(compiled_once, _compute, static)
    return sharded.by_compiler(compute, operands, options.returns + options.selected)


def _compute(static: tuple[Options, str | None, tuple[int, ...]], operands: Operands) -> Results:
    """Plan and run a call; results have the shapes of `AttentionOutput`."""
    options, implementation, _ = static
    call = Call(fold(operands), options)
    plan = choose(call, implementation)
    call = call.with_options(block_size=plan.block_size)
    backend = BACKENDS[plan.implementation]
    results = backend.run(call) if options.mesh is None else sharded.run(backend, call)
    for extra in options.selected:
        results |= _selected_weights(call, extra)
    return _unfold(results, operands.query.shape[:-3])


def _selected_weights(call: Call, extra: Extra) -> Results:
    """Return the weights of some rows and heads."""
    mixed_part = mixing(call)
    if mixed_part is not None and mixed_part.mixed != "masked keys":
        why = mixed_part.reason("weights of some rows cannot be computed separately")
        raise ValueError(f'attention: {why}; write returns=("weights",)')
    part = select(call, extra.rows, extra.heads)
    part = part.with_options(returns=(Extra("weights"),), selected=(), block_size=None, mesh=None)
    plan = choose(part)
    return BACKENDS[plan.implementation].run(part.with_options(block_size=plan.block_size))


def _unfold(results: Results, batch: tuple[Size, ...]) -> dict[str, Any]:
    """Reshape the leading axes [b, k, g] of all results to [*B, N], and the output to [*B, T, N, V]."""
    results = jax.tree.map(lambda x: x.reshape(*batch, x.shape[1] * x.shape[2], *x.shape[3:]), results)
    return results | {"output": jnp.moveaxis(results["output"], -3, -2)} if "output" in results else results
