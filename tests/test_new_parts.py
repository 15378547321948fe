"""A new score, mod, mask or normalizer is one function and one row of the conformance suite (rows.py)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import MASKS, MODS, NORMALIZERS, SMALL, Row
from samples import BY_NAME, Sample
from test_conformance import ACCURATE, assert_is_oracle, evaluate

from attnlab.functional import masks
from attnlab.functional.backends import BACKENDS

pytestmark = pytest.mark.optimized


def laplace(query, key, *, scale):
    """logits[i, j] = −scale ‖query_i − key_j‖₁"""
    return -scale * jnp.abs(query[:, None, :] - key[None, :, :]).sum(axis=-1)


def laplace_oracle(query, key, scale):
    return -scale * math.fsum(abs(q - k) for q, k in zip(query, key, strict=True))


def recency(logits, positions):
    """logits[i, j] ← logits[i, j] − |i − j| / 2"""
    return logits - 0.5 * jnp.abs(positions.rows - positions.columns).astype(logits.dtype)


def softplus(logits, where):
    """weights[i, j] = log(1 + exp(logits[i, j]))    where allowed, else 0"""
    where = jnp.ones(logits.shape, bool) if where is None else where
    return jnp.where(where, jax.nn.softplus(jnp.where(where, logits, 0.0)), 0.0)


def softplus_oracle(logits):
    return [0.0 if logit == -math.inf else math.log1p(math.exp(logit)) for logit in logits]


def even_keys(rng, size):
    return masks.from_fn(lambda query, key, head: key % 2 == 0), lambda b, h, i, j: j % 2 == 0


ROWS = {
    "score": (BY_NAME, Row("new", laplace, laplace_oracle, {"scale": ""}, ties="E")),
    "mods": (MODS, ((recency,), lambda slope: lambda logit, i, j, head: logit - 0.5 * abs(i - j))),
    "mask": (MASKS, even_keys),
    "normalizer": (NORMALIZERS, (softplus, softplus_oracle)),
}
PLAIN = {"score": "scaled_dot", "mods": "no_mods", "mask": "lengths", "normalizer": "softmax"}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.quick("score")
def test_a_new_part_is_a_function_and_a_row(kind, monkeypatch, strict, x64):
    """With nothing else, it equals its oracle in every backend, and has the same gradients in all."""
    table, row = ROWS[kind]
    monkeypatch.setitem(table, "new", row)
    sample = Sample(**PLAIN | {kind: "new"}, size=SMALL, group=1, block_size=(2, 3))
    _, expected = evaluate(sample, "dense")
    for implementation in BACKENDS:
        result, gradients = evaluate(sample, implementation)
        assert_is_oracle(sample, result, ACCURATE)
        for gradient, reference in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(gradient, reference, rtol=ACCURATE, atol=ACCURATE)
