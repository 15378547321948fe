"""Statistics of heads: hand-worked numbers, padding, edge cases, and scipy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled
from scipy import special, stats
from scipy.spatial import distance as scipy_distance

from attnlab.analysis import heads as library
from attnlab.functional import divergence

heads = Compiled(library)
jsd = Compiled(divergence).jsd
WEIGHTS = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])
CAUSAL = np.tril(np.ones((3, 3), bool))
LN2 = float(np.log(2))


def close(actual, expected, **kwargs):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=2e-5, atol=1e-6, **kwargs)


def random_weights(*shape: int, seed: int = 0, where=None) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=shape) * 2
    if where is not None:
        logits = np.where(where, logits, -np.inf)
    top = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return (weights / np.where(total > 0, total, 1.0)).astype(np.float32)


def padded(array, *sizes: int, value=np.nan) -> np.ndarray:
    """The array with `value` behind its last axes."""
    widths = [(0, 0)] * (array.ndim - len(sizes)) + [
        (0, size - n) for size, n in zip(sizes, array.shape[-len(sizes) :], strict=True)
    ]
    return np.pad(np.asarray(array), widths, constant_values=value)


# Patterns


def test_spread_by_hand():
    # Entropies: log 2; ½ log 4 + ½ log 2 = 1.5 log 2; 0.
    close(heads.entropy(WEIGHTS), [LN2, 1.5 * LN2, 0.0])
    close(heads.normalized_entropy(WEIGHTS), [LN2 / np.log(3), 1.5 * LN2 / np.log(3), 0.0])
    close(heads.effective_support(WEIGHTS), [2.0, 2**1.5, 1.0])
    close(heads.confidence(WEIGHTS), [0.5, 0.5, 1.0])


def test_the_number_of_keys_is_that_of_each_query():
    uniform = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    close(heads.normalized_entropy(uniform, CAUSAL), [0.0, 1.0, 1.0])  # one key: 0 by definition
    close(heads.effective_support(uniform, CAUSAL), [1.0, 2.0, 3.0])


def test_distance_and_neighbors_by_hand():
    # Row 1: 0.25 · 1 + 0.25 · 0 + 0.5 · 1. Row 2: 1 · 2.
    close(heads.distance(WEIGHTS), [0.5, 0.75, 2.0])
    close(heads.offset_mass(WEIGHTS, -1), [0.0, 0.25, 0.0])
    close(heads.offset_mass(WEIGHTS, 0), [0.5, 0.25, 0.0])
    close(heads.offset_mass(WEIGHTS, 1), [0.5, 0.5, 0.0])
    close(heads.mean_offset_mass(WEIGHTS, -1), 0.125)  # of two queries that have a previous token
    close(heads.mean_offset_mass(WEIGHTS, 1), 0.5)
    close(heads.mean_offset_mass(WEIGHTS, 1, CAUSAL), 0.0)  # no query may attend to the next token
    close(heads.mean_offset_mass(WEIGHTS, 3), 0.0)


def test_diagonality_by_hand():
    # Row 0: 1 − 0.5 · 1 / 2. Row 1: 1 − 0.75 / 1. Row 2: 1 − 2 / 2.
    close(heads.diagonality(WEIGHTS), [0.75, 0.25, 0.0])
    # Three queries, two keys: the diagonal is at keys 0, 0.5, 1. Row 1: 1 − 0.5 / 0.5.
    close(heads.diagonality(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])), [1.0, 0.0, 1.0])
    close(heads.diagonality(np.eye(3)), 1.0 * np.ones(3))
    close(heads.diagonality(np.ones((1, 1))), [1.0])
    close(heads.diagonality(np.eye(3), CAUSAL), np.ones(3))  # the first query may attend to nothing else


def test_diagonality_with_padding_at_the_start():
    weights = np.asarray(random_weights(3, 4))
    front = ((2, 0), (3, 0))
    shifted, where = np.pad(weights, front, constant_values=np.nan), np.pad(np.ones((3, 4), bool), front)
    close(heads.diagonality(shifted, where)[2:], heads.diagonality(weights))


def test_the_means_of_a_head():
    result = heads.head_statistics(WEIGHTS)
    close(result.entropy, 2.5 * LN2 / 3)
    close(result.confidence, 2 / 3)
    close(result.distance, 3.25 / 3)
    close([result.previous, result.self, result.next], [0.125, 0.25, 0.5])
    close(result.diagonality, 1 / 3)


PER_QUERY = {
    "entropy": heads.entropy, "normalized_entropy": heads.normalized_entropy, "confidence": heads.confidence,
    "effective_support": heads.effective_support, "distance": heads.distance, "diagonality": heads.diagonality,
    "offset_mass": lambda weights, where=None: heads.offset_mass(weights, -1, where),
}  # fmt: skip


@pytest.mark.parametrize("name", PER_QUERY)
@pytest.mark.parametrize("causal", [False, True])
def test_padding_never_counts(name, causal):
    where = np.tril(np.ones((4, 5), bool)) if causal else np.ones((4, 5), bool)
    weights = random_weights(4, 5, where=where)
    function = PER_QUERY[name]
    alone = function(np.asarray(weights), np.asarray(where))
    together = function(padded(weights, 7, 9), padded(where, 7, 9, value=False))
    close(together[:4], alone)
    assert (together[4:] == 0).all()
    mean = partial(heads.mean_over_queries, where=padded(where, 7, 9, value=False))
    close(mean(together), np.mean(np.asarray(alone)))


@pytest.mark.parametrize("name", PER_QUERY)
def test_a_mask_of_keys_counts_for_every_query(name):
    weights = np.asarray(random_weights(4, 5, where=np.arange(5) < 3))
    row = np.arange(5)[None, :] < 3
    whole = np.broadcast_to(row, weights.shape)
    close(PER_QUERY[name](weights, row), PER_QUERY[name](weights, whole))
    mean = heads.mean_over_queries(PER_QUERY[name](weights, row), row)
    close(mean, np.mean(PER_QUERY[name](weights, whole)))


def test_the_mean_entropy_with_a_mask_of_keys_by_hand():
    # Four queries, each with two equal weights: log 2, whatever the number of rows of the mask.
    weights, row = np.full((4, 2), 0.5), np.ones((1, 2), bool)
    close(heads.head_statistics(weights, row).entropy, LN2)
    close(heads.mean_over_queries(heads.entropy(weights, row), row), LN2)
    close(heads.received_attention(weights, row), [0.5, 0.5])
    assert float(heads.max_divergence_from_mean(weights, row)) == 0.0
    assert float(heads.max_difference_from_uniform(weights, row)) == 0.0


def test_a_mask_of_another_shape_is_refused():
    for shape in ((3, 2), (4, 3), (1, 3)):
        with pytest.raises((ValueError, TypeError)):
            heads.entropy(np.full((4, 2), 0.5), np.ones(shape, bool))
    with pytest.raises((ValueError, TypeError)):
        heads.mean_over_queries(np.ones(4), np.ones((3, 2), bool))


def test_head_statistics_with_padding_in_a_batch():
    weights = random_weights(2, 3, 4, 4)
    lengths = np.array([4, 4])
    batch = padded(weights, 6, 6)
    where = jax.jit(jax.vmap(lambda t, s: heads.padding(6, 6, t, s)))(lengths, lengths)
    over_heads = jax.vmap(heads.head_statistics, in_axes=(0, None))
    together = jax.jit(jax.vmap(over_heads))(batch, where)
    for b in range(2):
        for h in range(3):
            alone = heads.head_statistics(np.asarray(weights[b, h]))
            for mine, expected in zip(together, alone, strict=True):
                close(mine[b, h], expected)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1)])
def test_empty_and_single(shape):
    weights = np.ones(shape)
    for function in PER_QUERY.values():
        result = function(weights)
        assert result.shape == shape[:1]
        assert np.isfinite(result).all()
    assert all(np.isfinite(value) for value in heads.head_statistics(weights))
    if shape == (1, 1):
        assert [float(value) for value in heads.head_statistics(weights)] == [0, 0, 1, 1, 0, 0, 1, 0, 1]


def test_precision_and_gradients(x64):
    weights, broken = random_weights(3, 3).astype(np.float64), random_weights(3, 3).astype(np.float64)
    broken[1] = np.nan
    for function in PER_QUERY.values():
        assert function(weights).dtype == jnp.float64
        assert function(weights.astype(jnp.float16)).dtype == jnp.float32
        where = np.array([[True, True, False], [False] * 3, [True] * 3])
        gradient = jax.jit(jax.grad(lambda w, where, function=function: function(w, where).sum()))(broken, where)
        gradient = np.asarray(gradient)
        assert np.isfinite(gradient).all()
        assert (gradient[~where] == 0).all()


def test_nothing_is_promoted_silently(strict):
    weights, where = np.asarray(random_weights(2, 3, 3)), CAUSAL
    valid = np.array([True, True, False])
    assert all(value.shape == () for value in heads.head_statistics(weights[0], where))
    assert heads.mean_over_queries(heads.entropy(weights[0], where), where).shape == ()
    assert heads.padding(3, 3, 2, 3).shape == (3, 3)
    assert [value.shape for value in heads.coverage_deviation(weights[0], where)] == [(), (), ()]
    assert heads.sink_rate(weights, where).shape == (3,)
    assert heads.head_divergence(weights, where=where).shape == (2, 2)
    assert heads.linear_cka(weights[0], weights[1], valid).shape == ()
    assert heads.conicity(weights[0], valid).shape == ()
    assert heads.massive_activation_ratio(weights[0], valid).shape == ()
    assert heads.value_norm_ratio(weights[0], 0, valid).shape == ()
    tokens = np.array([1, 1, 2])
    for name in ("mul", "abs"):
        options = {"exclude_bos": True, "exclude_current_token": True, "error_measure": name}
        assert heads.previous_token_head(weights[0], valid, **options).shape == ()
        assert heads.duplicate_token_head(weights[0], tokens, valid, **options).shape == ()
        assert heads.induction_head(weights[0], tokens, **options).shape == ()
    assert library.attention_alarms(jnp.asarray(weights[None]), jnp.asarray(where[None, None])) == []
    assert heads.mean_output(weights, np.ones(2, bool)).shape == (3, 3)
    gates = {"a": np.ones(3)}
    importance = heads.head_importance(lambda g, x: jnp.sum(g["a"][None] * x), gates, weights, valid[:2])
    assert heads.normalized_by_layer(importance)["a"].shape == (3,)


def test_conicity_by_hand():
    # Mean of (3, 0) and (0, 4): (1.5, 2), length 2.5: cosines 0.6 and 0.8.
    states = np.array([[3.0, 0.0], [0.0, 4.0]])
    close(heads.conicity(states), 0.7)
    close(heads.conicity(padded(states, 4, 2), np.array([True, True, False, False])), 0.7)
    close(heads.conicity(states[:1]), 1.0)
    close(heads.conicity(np.array([[1.0], [-1.0]])), 0.0)  # the mean has length 0
    # 10 and three times −1: the mean is positive, three of four states point the other way.
    close(heads.conicity(np.array([[10.0], [-1.0], [-1.0], [-1.0]])), -0.5)
    assert float(heads.conicity(np.zeros((0, 2)))) == 0.0


@pytest.mark.reference
def test_entropy_against_scipy():
    weights = random_weights(50, 8)
    close(heads.entropy(np.asarray(weights)), stats.entropy(weights, axis=1))
    close(heads.normalized_entropy(np.asarray(weights)), stats.entropy(weights, axis=1, base=8))


# Coverage and sinks


def test_coverage_by_hand():
    # Columns: 0.5 + 0.25 + 1, 0.5 + 0.25, 0.5.
    close(heads.coverage(WEIGHTS), [1.75, 0.75, 0.5])
    close(list(heads.coverage_deviation(WEIGHTS)), [1.5, 0.75, 0.75])
    where = np.array([[True, True, False, False]] * 2 + [[False] * 4] * 2)
    close(list(heads.coverage_deviation(padded(WEIGHTS[:2, :2], 4, 4), where)), [0.5, 0.5, 0.0])
    assert [float(value) for value in heads.coverage_deviation(np.zeros((0, 3)))] == [0.0, 0.0, 0.0]


def test_received_attention_counts_the_queries_that_may_attend():
    causal = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.6, 0.2, 0.2]])
    close(heads.received_attention(causal, CAUSAL), [0.7, 0.35, 0.2])  # means over 3, 2 and 1 queries
    close(heads.received_attention(padded(causal, 5, 6), padded(CAUSAL, 5, 6, value=False)), [0.7, 0.35, 0.2, 0, 0, 0])
    layers = np.stack([causal, np.eye(3)])
    close(heads.sink_rate(layers, CAUSAL), [1.0, 1.0, 0.5])  # the identity: 1/3, 1/2, 1
    close(heads.sink_rate(layers, CAUSAL, threshold=0.34), [0.5, 1.0, 0.5])
    assert heads.sink_rate(np.zeros((0, 3, 3))).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="threshold 30"):
        heads.sink_rate(layers, threshold=30.0)


def test_norms_of_values_and_massive_activations():
    value = np.array([[3.0, 4.0], [0.0, 10.0], [30.0, 0.0]])
    close(heads.value_norm_ratio(value, 0), 5 / 20)
    valid = np.array([True, True, False])
    close(heads.value_norm_ratio(np.where(valid[:, None], value, np.nan), 0, valid), 0.5)
    close(heads.value_norm_ratio(value, 2, valid), 0.0)
    close(heads.value_norm_ratio(value[:1], 0), 0.0)
    assert float(heads.value_norm_ratio(np.array([[1.0], [0.0]]), 0)) == np.inf
    with pytest.raises(ValueError, match="key 3 does not exist"):
        heads.value_norm_ratio(value, 3)
    # Magnitudes 1, 1, 2, 4, 6, 100: the median is 3.
    states = np.array([[1.0, -1.0], [2.0, 4.0], [6.0, -100.0]])
    close(heads.massive_activation_ratio(states), 100 / 3)
    close(heads.massive_activation_ratio(padded(states, 7, 2), np.arange(7) < 3), 100 / 3)
    close(heads.massive_activation_ratio(states[1:], np.array([True, False])), 4 / 3)
    assert float(heads.massive_activation_ratio(np.array([[0.0, 0.0, 5.0]]))) == np.inf
    assert float(heads.massive_activation_ratio(np.zeros((2, 2)))) == 0.0
    assert float(heads.massive_activation_ratio(np.zeros((0, 2)))) == 0.0
    assert float(heads.massive_activation_ratio(states, np.zeros(3, bool))) == 0.0


# Similarity


def test_jsd_by_hand():
    # p = (1, 0), q = (½, ½), m = (¾, ¼): ½ log 4/3 + ½ (½ log 2/3 + ½ log 2).
    expected = 0.5 * np.log(4 / 3) + 0.25 * (np.log(2 / 3) + np.log(2))
    close(jsd(np.array([1.0, 0.0]), np.array([0.5, 0.5])), expected)
    assert float(jsd(np.array([0.3, 0.7]), np.array([0.3, 0.7]))) == 0.0
    assert jsd(np.zeros((2, 0)), np.zeros((2, 0))).tolist() == [0.0, 0.0]
    gradient = jax.jit(jax.grad(jsd))(np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.0]))
    assert np.isfinite(gradient).all()


def test_jsd_of_nearly_equal_distributions_keeps_its_digits():
    p = np.array([0.2, 0.3, 0.5], np.float32)
    q = (p + np.array([1e-4, -1e-4, 0.0], np.float32)).astype(np.float32)
    m = (p.astype(float) + q) / 2
    exact = 0.5 * special.rel_entr(p.astype(float), m).sum() + 0.5 * special.rel_entr(q.astype(float), m).sum()
    assert float(jsd(np.asarray(p), np.asarray(q))) == pytest.approx(exact, abs=2e-9)


@pytest.mark.reference
def test_jsd_against_scipy():
    p, q = random_weights(40, 7), random_weights(40, 7, seed=1)
    close(jsd(np.asarray(p), np.asarray(q)), scipy_distance.jensenshannon(p, q, axis=1) ** 2)


def test_divergence_between_heads_with_padding():
    weights = random_weights(3, 4, 5)
    expected = [
        [np.mean(scipy_distance.jensenshannon(a.astype(float), b.astype(float), axis=1) ** 2) for b in weights]
        for a in weights
    ]
    matrix = heads.head_divergence(np.asarray(weights))
    np.testing.assert_allclose(matrix, np.nan_to_num(expected), atol=1e-6)
    assert (np.diag(matrix) == 0).all()
    close(matrix, matrix.T)
    where = heads.padding(6, 8, 4, 5)
    close(heads.head_divergence(padded(weights, 6, 8), where=where), matrix)
    close(heads.head_divergence(padded(weights, 6, 8), padded(weights[1:], 6, 8), where=where), matrix[:, 1:])
    assert heads.head_divergence(np.zeros((2, 0, 3))).tolist() == [[0, 0], [0, 0]]


def test_a_permutation_of_heads_is_stable():
    weights = np.asarray(random_weights(4, 6, 6))
    order = np.array([2, 0, 3, 1])
    match = library.match_heads(heads.head_divergence(weights, weights[order]))
    assert order[match.second].tolist() == match.first.tolist() == [0, 1, 2, 3]
    assert match.stability == 0.0
    # Greedily 0 with 0 (0.1) would leave 1 with 1 (0.9): 1.0 in all. The best match is 0.2 + 0.3.
    match = library.match_heads(np.array([[0.1, 0.2], [0.3, 0.9]]))
    assert match.second.tolist() == [1, 0]
    assert match.stability == pytest.approx(0.25)
    assert library.match_heads(np.zeros((2, 3))).first.tolist() == [0, 1]
    assert np.isnan(library.match_heads(np.zeros((0, 2))).stability)
    with pytest.raises(ValueError, match="must be finite"):
        library.match_heads(np.array([[np.nan]]))


def test_linear_cka_by_hand():
    # X centered: (−1, 0, 1); Y centered: (−1, 1, 0). (Yᵀ X)² = 1, XᵀX = 2, YᵀY = 2: 1/4, the squared correlation.
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[4.0], [6.0], [5.0]])
    close(heads.linear_cka(x, y), 0.25)
    close(heads.linear_cka(x, np.ones((3, 2))), 0.0)
    close(heads.linear_cka(np.zeros((0, 2)), np.zeros((0, 3))), 0.0)
    rng = np.random.default_rng(0)
    features, rotation = rng.normal(size=(20, 4)).astype(np.float32), np.linalg.qr(rng.normal(size=(4, 4)))[0]
    rotated = (3 * features @ rotation + 7).astype(np.float32)
    close(heads.linear_cka(np.asarray(features), np.asarray(rotated)), 1.0)
    other = rng.normal(size=(20, 3)).astype(np.float32)
    alone = heads.linear_cka(np.asarray(features), np.asarray(other))
    close(heads.linear_cka(padded(features, 25, 4), padded(other, 25, 3), np.arange(25) < 20), alone)
    # The definition by Gram matrices: HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)).
    h = np.eye(20) - 1 / 20
    mine, theirs = h @ features @ features.T @ h, h @ other @ other.T @ h
    close(alone, np.sum(mine * theirs) / np.sqrt(np.sum(mine**2) * np.sum(theirs**2)))
