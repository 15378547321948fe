"""Scalar parameters of parts: values that are known are refused, and those inside jit give NaN weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.functional import mods, normalizers
from attnlab.functional.attention import attention
from attnlab.functional.parts import map_over
from attnlab.functional.types import Positions

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]

POSITIONS = Positions(jnp.arange(2), jnp.arange(3), jnp.int32(0), jnp.int32(0))
LOGITS = np.array([[1.0, 0.5, -1.0], [0.0, -2.0, 3.0]], np.float32)
WEIGHTS = {
    "entmax: alpha": lambda alpha, logits: normalizers.entmax(alpha)(logits),
    "temperature: t": lambda t, logits: normalizers.temperature(t)(logits),
    "gumbel_softmax: temperature": lambda t, logits: normalizers.gumbel_softmax(jax.random.key(0), t)(
        logits, None, POSITIONS
    ),
    "local_p: width": lambda width, logits: normalizers.local_p(np.array([0.5, 1.0], np.float32), width)(
        logits, None, POSITIONS
    ),
    "soft_cap: cap": lambda cap, logits: normalizers.softmax(mods.soft_cap(cap)(logits, POSITIONS)),
    "diagonal_bias: width": lambda width, logits: normalizers.softmax(mods.diagonal_bias(width)(logits, POSITIONS)),
}
"""Name of a parameter in errors -> the weights of logits, as a function of it."""
INVALID = {name: 0.5 if name.startswith("entmax") else -0.5 for name in WEIGHTS}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("kind", [float, jnp.float32, lambda x: map_over(jnp.array([2.0, x]), "h")])
def test_known_values_are_refused(name, kind):
    requirement = r"at least 1 \(the softmax\)" if name.startswith("entmax") else "positive"
    for value in (INVALID[name], float("nan")):
        with pytest.raises(ValueError, match=rf"^{name} must be {requirement}, not {value}$"):
            WEIGHTS[name](kind(value), LOGITS)


@pytest.mark.quick("invalid")
@pytest.mark.parametrize("kind", ["invalid", "valid", "invalid constants", "constants of NaN"])
def test_values_inside_jit_give_nan_where_they_are_invalid(kind):
    # XLA compiles exp(NaN) to arbitrary numbers if the NaN is a constant of the program (jax-ml/jax#29537).
    values = {
        name: {"valid": 1.5, "constants of NaN": float("nan")}.get(kind, invalid) for name, invalid in INVALID.items()
    }

    @jax.jit
    def weights(values, logits):
        return {name: call(values[name], logits) for name, call in WEIGHTS.items()}

    if "constants" in kind:
        found = jax.jit(lambda logits: weights(jax.tree.map(jnp.float32, values), logits))(LOGITS)
    else:
        found = weights(values, LOGITS)
    for name, array in found.items():
        assert set(np.isnan(array).flat) == {kind != "valid"}, name


@pytest.mark.slow
def test_blocks_take_the_temperature_as_rows_do():
    query = np.ones((1, 3, 1, 2), np.float32)

    @jax.jit
    def output(t, query):
        part = normalizers.temperature(t)
        return attention(query, query, query, normalizer=part, implementation="streaming")

    assert jnp.isnan(output(-1.0, query)).all()
