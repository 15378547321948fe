"""What holds for every test (the rest, as checked annotations and warnings as errors, stands in pyproject.toml)."""

from collections.abc import Iterator

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture
def strict() -> Iterator[None]:
    """No dtype and no rank is promoted silently (for the functional core; Flax and optax do not survive it)."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit types exist."""
    with jax.enable_x64(True):
        yield
