"""Every implementation, score, mod, mask and normalizer on the device that jax finds: `pytest -m gpu`.

float32 with products of true float32 lies as near to the float64 oracle as the table of tolerances says, and its
gradients likewise to those of float64. bfloat16 and float16 err by the rule of flash attention: at most twice as far as
a plain computation that rounds every score, logit and weight, and one unit in the last place of the largest number.
"""

from contextlib import nullcontext
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import COVER, Sample
from test_conformance import evaluate
from tolerances import tolerance

from attnlab.functional import extras
from attnlab.functional.backends import BACKENDS

FEW = (12,)
"""Samples that the default suite tries on a CPU too."""
JUMPS = ("hardmax", "top_k")
"""Normalizers that jump where two logits are alike: rounding a logit may choose another key."""

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("strict"), pytest.mark.optimized]
samples = pytest.mark.parametrize(
    "sample", [pytest.param(s, marks=[] if n in FEW else pytest.mark.slow) for n, s in enumerate(COVER)], ids=str
)
every_implementation = pytest.mark.parametrize("implementation", BACKENDS)


@cache
def right(sample: Sample, drawn: str) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """The oracle's values of numbers drawn in a dtype, and the gradients of `dense` in float64, on the host."""
    found = {name: np.asarray(x) for name, x in sample.problem(drawn).expected().items()}
    hosts = jax.devices("cpu") if jax.default_backend() != "cpu" else []
    with jax.enable_x64(True), jax.default_device(hosts[0]) if hosts else nullcontext():
        return found, [np.asarray(x) for x in evaluate(sample, "dense", drawn=drawn)[1]]


def assert_near(found: object, expected: np.ndarray, allowed: float) -> None:
    wide = np.asarray(found).astype(np.float64)
    np.testing.assert_allclose(wide, expected, rtol=allowed, atol=allowed)


@samples
@every_implementation
def test_float32_is_the_oracle_and_its_gradients_those_of_float64(sample, implementation):
    """A logit of size L is known to L units in the last place, and so are the weights made of it."""
    expected, by_float64 = right(sample, "float32")
    found, slopes = evaluate(sample, implementation, drawn="float32", dtype=None)
    finite = np.where(np.isfinite(expected["logits"]), expected["logits"], 0.0)
    allowed = tolerance("float32") * (1 + np.abs(finite).max(initial=0.0))
    assert_near(found.output, expected["output"], allowed)
    for extra in extras.requested(sample.returns()):
        if extra.name != "top_k" and not extra.selects:
            assert_near(getattr(found, extra.name), expected[extra.name], allowed)
    for slope, of_float64 in zip(slopes, by_float64, strict=True):
        largest = np.abs(of_float64).max(initial=1.0)
        assert_near(np.asarray(slope) / largest, of_float64 / largest, 4 * allowed)


@samples
@every_implementation
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_errs_at_most_twice_as_far_as_plain_rounding(sample, implementation, dtype):
    if sample.normalizer in JUMPS:
        sample = Sample(sample.score, sample.mods, sample.mask, "softmax", sample.size, block_size=sample.block_size)
    this = sample.problem(dtype)
    exact = this.expected()["output"]
    plain = this.expected(lambda x: float(jnp.dtype(dtype).type(x)))["output"].astype(dtype)
    found = evaluate(sample, implementation, slopes=False, drawn=dtype, dtype=None)[0].output
    assert found.dtype == dtype
    error = lambda x: np.abs(np.asarray(x).astype(np.float64) - exact).max(initial=0.0)  # noqa: E731
    unit = float(jnp.finfo(dtype).eps) * np.abs(exact).max(initial=0.0)
    assert error(found) <= 2 * error(plain) + unit
