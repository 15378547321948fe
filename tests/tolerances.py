"""The accepted difference of a result from the float64 oracle, by dtype and device. Never loosened to pass a test."""

import jax
import numpy as np

TOLERANCES = {
    ("float64", "cpu"): 1e-13,
    ("float64", "gpu"): 1e-13,
    ("float32", "cpu"): 2e-6,
    ("float32", "gpu"): 5e-6,
    ("bfloat16", "cpu"): 2**-8,
    ("bfloat16", "gpu"): 2**-8,
    ("float16", "cpu"): 2**-10,
    ("float16", "gpu"): 2**-10,
}
"""For numbers of order one: |found − expected| ≤ tolerance · (1 + |expected|). float32 on a GPU supposes
`jax_default_matmul_precision = "highest"`; a product in TF32 is another dtype."""


def tolerance(dtype: str) -> float:
    return TOLERANCES[dtype, jax.default_backend()]


def assert_close(result: object, expected: object, dtype: str) -> None:
    """Compare with the tolerance of the table; NaN and −inf must be at the same positions."""
    wide = np.asarray(result).astype(np.float64)
    np.testing.assert_allclose(wide, expected, rtol=tolerance(dtype), atol=tolerance(dtype))
