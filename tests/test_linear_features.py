"""Feature maps of linear attention against oracles; FAVOR+ as an estimate of the kernel; requests that are refused."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle_linear as oracle
import pytest
from jax.test_util import check_grads
from tolerances import assert_close

from attnlab import linear, linear_attention

pytestmark = pytest.mark.optimized
DRAW = np.random.default_rng(0)
X, W, B, PROJECTION = (DRAW.standard_normal(shape) for shape in ((5, 4), (4, 3), (3,), (6, 4)))
X[1], X[2, 0] = 0.0, -40.0
POSITIONS = np.array([3, 4, 5, 6, 7])
MAPS = {
    "elu_plus_one": (linear.elu_plus_one, oracle.elu_plus_one(X)),
    "identity": (linear.identity, X),
    "silu_unit": (linear.silu_unit, oracle.silu_unit(X)),
    "favor": (lambda x: linear.favor(x, projection=jnp.asarray(PROJECTION)), oracle.favor(X, PROJECTION)),
    "cosformer": (
        lambda x: linear.cosformer(9)(x, jnp.asarray(POSITIONS)[: len(x)]),
        oracle.cosformer(X, POSITIONS, 9),
    ),
    "hedgehog": (lambda x: linear.hedgehog(x, w=jnp.asarray(W), b=jnp.asarray(B)), oracle.hedgehog(X, W, B)),
}


@pytest.mark.usefixtures("strict", "x64")
def test_feature_maps_equal_the_oracles():
    computed = jax.jit(lambda x: {name: phi(x) for name, (phi, _) in MAPS.items()})(X)
    assert computed.keys() == MAPS.keys()
    for name, (_, expected) in MAPS.items():
        assert_close(computed[name], expected, "float64")


@pytest.mark.slow
@pytest.mark.usefixtures("strict", "x64")
@pytest.mark.parametrize("name", MAPS)
def test_derivatives_of_feature_maps(name):
    phi = MAPS[name][0]
    check_grads(jax.jit(phi), (X[[0, 3, 4]],), order=2, modes=("fwd", "rev"), rtol=1e-5, atol=1e-5)
    slope = jax.grad(lambda x: phi(x).sum())(X)
    assert np.isfinite(slope).all()


@pytest.mark.slow
@pytest.mark.parametrize("middle", [-60.0, -40.0, 1e20])
def test_silu_unit_of_features_whose_squares_vanish_or_overflow(middle):
    x = middle * np.array([[1.0, 1.01, 1.02]])
    direction = np.array([1.0, 2.0, 3.0])
    silu = x / (1.0 + np.exp(-x))
    unit = silu / np.linalg.norm(silu)
    slope = 1.0 / (1.0 + np.exp(-x)) * (1.0 + x / (1.0 + np.exp(np.minimum(x, 500.0))))
    expected = (direction - unit * (unit @ direction)) / np.linalg.norm(silu) * slope
    f32 = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(linear.silu_unit(f32), unit, rtol=2e-5)
    found = jax.grad(lambda x: (linear.silu_unit(x) * jnp.asarray(direction, jnp.float32)).sum())(f32)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
class TestFavor:
    COUNT, WIDTH, DRAWS = 6, 4, 4000

    @pytest.fixture
    def projections(self):
        rngs = jax.random.split(jax.random.key(0), self.DRAWS)
        return jax.jit(jax.vmap(lambda rng: linear.orthogonal_projection(rng, self.COUNT, self.WIDTH)))(rngs)

    @staticmethod
    def kernels(projections, query, key):
        estimate = lambda w: linear.favor(query, projection=w) @ linear.favor(key, projection=w).T  # noqa: E731
        return np.asarray(jax.jit(jax.vmap(estimate))(projections), np.float64)

    def test_the_kernel_is_unbiased_within_three_standard_errors(self, projections):
        query, key = map(jnp.asarray, np.random.default_rng(1).standard_normal((2, 3, self.WIDTH)).astype(np.float32))
        kernels = self.kernels(projections, query, key)
        expected = np.exp(query @ key.T / np.sqrt(self.WIDTH))
        errors = kernels.std(axis=0, ddof=1) / np.sqrt(self.DRAWS)
        assert (np.abs(kernels.mean(axis=0) - expected) < 3 * errors).all()

    def test_rows_of_a_group_are_orthogonal_and_each_is_gaussian(self, projections):
        first = np.asarray(projections)[:, : self.WIDTH]
        products = np.einsum("nrd,nsd->nrs", first, first)
        off_diagonal = products - np.einsum("nrr->nr", products)[:, :, None] * np.eye(self.WIDTH)
        assert np.abs(off_diagonal).max() < 1e-4
        assert np.abs(np.einsum("nrd,nsd->nrs", first, np.asarray(projections)[:, self.WIDTH :])).max() > 0.1
        values = np.asarray(projections).reshape(-1, self.WIDTH)
        np.testing.assert_allclose(np.cov(values.T), np.eye(self.WIDTH), atol=0.05)
        np.testing.assert_allclose((values**4).mean(axis=0), 3.0, atol=0.2)

    def test_orthogonal_rows_have_less_variance_than_independent_rows(self, projections):
        query, key = map(jnp.asarray, np.random.default_rng(2).normal(0, 0.5, (2, 3, self.WIDTH)).astype(np.float32))
        independent = jax.random.normal(jax.random.key(1), projections.shape)
        orthogonal, other = (self.kernels(w, query, key).var(axis=0).mean() for w in (projections, independent))
        assert orthogonal < other

    def test_attention_with_many_features_is_close_to_softmax(self):
        from attnlab import attention

        draw = np.random.default_rng(3)
        query, key, value = (jnp.asarray(draw.normal(0, 0.5, (6, 1, 4)), jnp.float32) for _ in range(3))
        phi = partial(linear.favor, projection=linear.orthogonal_projection(jax.random.key(2), 4096, 4))
        estimate, _ = linear_attention(query, key, value, feature_map=phi)
        np.testing.assert_allclose(estimate, attention(query, key, value), atol=0.05)


def ones(*shape):
    """Return ones without compiling a program for each shape."""
    return jnp.asarray(np.ones(shape, np.float32))


QUERY, KEY, VALUE = ones(5, 4, 3), ones(5, 2, 3), ones(5, 2, 2)
GATE = ones(5, 2)
UNCHECKED = linear_attention.__wrapped__
"""Without checks of annotations, as users call it."""
NAMED = partial(linear_attention, QUERY, KEY, VALUE)
ENTRY = partial(UNCHECKED, QUERY, KEY, VALUE)
STATE = linear.State(ones(2, 3, 3), jnp.int32(0))
REFUSED = {
    "weights": (lambda: NAMED(returns=("weights",)), ("returns", "attention(...)")),
    "mask": (lambda: NAMED(mask=None), ("mask", "causal=True", "where=")),
    "normalizer": (lambda: NAMED(normalizer=None), ("normalizer", "sum_rule(normalized=")),
    "normalized delta": (lambda: linear.delta_rule(GATE, normalized=True), ("normalized", "linear.sum_rule")),
    "dropout": (lambda: NAMED(dropout_rate=0.1), ("dropout_rate", "no weights")),
    "bias": (lambda: NAMED(bias=None), ("bias", "attention(...)")),
    "chunk_size": (lambda: NAMED(chunk_size=64), ("chunk_size", "chunk=64")),
    "not causal": (lambda: ENTRY(rule=linear.delta_rule(GATE)), ("delta_rule", "causal=True", "sum_rule()")),
    "rule as a function": (lambda: ENTRY(rule=linear.gated), ("rule", "linear.gated(...)")),
    "rule as text": (lambda: ENTRY(rule="delta"), ("'delta'", "linear.delta_rule(...)")),
    "shape of a gate": (
        lambda: ENTRY(rule=linear.gated(ones(5, 4)), causal=True),
        ("log_decay", "[5, 2]", "[5, 4]"),
    ),
    "width of a gate": (
        lambda: ENTRY(rule=linear.gated(ones(5, 2, 7)), causal=True),
        ("log_decay", "7 features", "returns 3"),
    ),
    "decay": (lambda: linear.retention(1.5), ("decay", "(0, 1]", "1.5")),
    "decays": (lambda: linear.retention(jnp.array([0.5, 0.0])), ("decay", "(0, 1]", "0 to 0.5")),
    "number of decays": (
        lambda: ENTRY(rule=linear.retention(ones(3)), causal=True),
        ("decay", "[3]", "retention_decays(2)"),
    ),
    "lengths": (lambda: UNCHECKED(ones(3, 4, 3), KEY, VALUE, causal=True), ("3 and 5", "state=")),
    "heads": (lambda: UNCHECKED(ones(5, 3, 3), KEY, VALUE), ("3 query heads", "2 key heads")),
    "rank": (lambda: UNCHECKED(ones(5, 3), ones(5, 3), ones(5, 2)), ("[5, 3]", "query[:, None, :]")),
    "integers": (
        lambda: UNCHECKED(jnp.asarray(np.ones((5, 4, 3), np.int32)), KEY, VALUE),
        ("int32", "astype(jnp.float32)"),
    ),
    "where as lengths": (lambda: ENTRY(where=jnp.array([3])), ("where", "int32[1]", "< lengths[:, None]")),
    "chunk": (lambda: ENTRY(chunk=0, causal=True), ("chunk", "not 0", "chunk=64")),
    "chunk without causal": (lambda: ENTRY(chunk=8), ("chunk=None", "causal=True")),
    "causal": (lambda: ENTRY(causal=None), ("causal", "None")),
    "state": (lambda: ENTRY(state=ones(3)), ("linear.State", "float32[3]")),
    "shape of the state": (lambda: ENTRY(state=STATE._replace(memory=GATE)), ("[2, 3, 3]", "[5, 2]")),
    "positions beyond": (lambda: ENTRY(feature_map=linear.cosformer(4)), ("max_length=4", "cosformer(5)")),
    "positions beyond after a state": (
        lambda: ENTRY(
            feature_map=linear.cosformer(8), causal=True,
            state=linear.State(ones(2, 6, 3), jnp.int32(4)),
        ),
        ("max_length=8", "cosformer(9)"),
    ),
    "positions unknown": (lambda: ENTRY(feature_map=linear.cosformer(8), state=STATE), ("positions", "causal=True")),
    "parameters not bound": (lambda: ENTRY(feature_map=linear.favor), ("feature_map", "projection")),
    "map as text": (lambda: ENTRY(feature_map="elu"), ("'elu'", "linear.elu_plus_one")),
    "width of the projection": (
        lambda: ENTRY(feature_map=partial(inspect.unwrap(linear.favor), projection=ones(8, 2))),
        ("width 2", "orthogonal_projection(rng, m, 3)"),
    ),
    "unequal features": (
        lambda: ENTRY(feature_map=(lambda x: x, lambda x: x[:, :2])),
        ("equal width", "3 and 2"),
    ),
    "one number a token": (lambda: ENTRY(feature_map=lambda x: x[:, 0]), ("[t m]", "[5]")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_with_what_would_work(case):
    request, parts = REFUSED[case]
    with pytest.raises((ValueError, TypeError)) as error:
        request()
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
