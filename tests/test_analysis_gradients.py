"""Attribution methods on a function `embedded -> score`: gradients, perturbations, controls, aggregation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled, compiled

from attnlab.analysis import attribution
from attnlab.analysis.attribution.batches import map_over, weighted_sum
from attnlab.analysis.attribution.checks import check_embedded
from attnlab.analysis.attribution.integrated_gradients import quadrature
from attnlab.analysis.checks import check_valid

pytestmark = pytest.mark.usefixtures("strict")
PADDED = np.array([True, True, False])
ZEROS = np.zeros(2, np.float32)
methods = Compiled(attribution)
aggregate_features, aggregate_segments = methods.aggregate_features, methods.aggregate_segments
greedy_leave_one_out, leave_one_out, occlusion = (
    methods.greedy_leave_one_out, methods.leave_one_out, methods.occlusion,
)  # fmt: skip
input_x_gradient, integrated_gradients, saliency, smooth_grad = (
    methods.input_x_gradient, methods.integrated_gradients, methods.saliency, methods.smooth_grad,
)  # fmt: skip
random_attribution = methods.random_attribution
weighted_sum, map_over = map(compiled, (weighted_sum, map_over))


def score(x):
    """x00² + 3 x00 x11; the gradient is [[2 x00 + 3 x11, 0], [0, 3 x00]]."""
    return x[0, 0] ** 2 + 3 * x[0, 0] * x[1, 1]


X = np.array([[2.0, 5.0], [7.0, 1.0], [4.0, 4.0]], np.float32)


def saturating(x):
    return jnp.tanh(jnp.sum(x) - jnp.sum(x * x) / 40)


def occluded(score, x, *, valid=None, replacement=ZEROS):
    return occlusion(score, x, replacement=replacement, removable=valid)


METHODS = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": partial(integrated_gradients, baseline=ZEROS),
    "smooth_grad": partial(smooth_grad, jax.random.key(0), n_samples=3),
    "occlusion": occluded,
}


def test_saliency_and_input_x_gradient_by_hand():
    # gradient [[2·2 + 3·1, 0], [0, 3·2], [0, 0]] = [[7, 0], [0, 6], [0, 0]]
    assert saliency(score, X).attributions.tolist() == [7, 6, 0]
    assert input_x_gradient(score, X).attributions.tolist() == [[14, 0], [0, 6], [0, 0]]


def test_integrated_gradients_by_hand():
    # from 0 the path is a x: ∫ (2 a 2 + 3 a 1) da = 3.5, times 2; ∫ 3 a 2 da = 3, times 1; sum 10 = F(x) − F(0)
    result = integrated_gradients(score, X, baseline=ZEROS)
    np.testing.assert_allclose(result.attributions, [[7, 0], [0, 3], [0, 0]], atol=1e-5)
    assert result.completeness_gap < 1e-5


def test_the_completeness_gap_is_that_of_the_rule():
    # F = x², from 0 to 1: the left rule with 2 steps integrates 2a at 0 and ½ to ½; F(1) − F(0) = 1
    square = lambda x: x[0, 0] ** 2  # noqa: E731
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    left = integrated_gradients(square, one, baseline=zero, n_steps=2, method="riemann_left")
    assert (left.attributions.item(), left.completeness_gap.item()) == (0.5, 0.5)
    right = integrated_gradients(square, one, baseline=zero, n_steps=2, method="riemann_right")
    assert (right.attributions.item(), right.completeness_gap.item()) == (1.5, 0.5)
    middle = integrated_gradients(square, one, baseline=zero, n_steps=1, method="riemann_middle")
    assert (middle.attributions.item(), middle.completeness_gap.item()) == (1.0, 0.0)


@pytest.mark.parametrize("method", ["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"])
def test_a_rule_of_integration_has_weights_of_sum_1(method):
    nodes, weights = quadrature(method, 7)
    assert np.isclose(weights.sum(), 1)
    assert ((nodes >= 0) & (nodes <= 1)).all()


def test_more_steps_close_the_gap():
    gaps = [integrated_gradients(saturating, X, baseline=ZEROS, n_steps=n).completeness_gap for n in (1, 4, 64)]
    assert gaps[0] > 1e-2
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("size", [1, 3, 50, 64])
@pytest.mark.quick("3", "64")
def test_batches_of_steps_change_nothing(size):
    whole = integrated_gradients(score, X, baseline=ZEROS)
    some = integrated_gradients(score, X, baseline=ZEROS, internal_batch_size=size)
    np.testing.assert_allclose(some.attributions, whole.attributions, rtol=1e-6, atol=1e-6)
    whole = smooth_grad(jax.random.key(1), score, X, n_samples=50)
    some = smooth_grad(jax.random.key(1), score, X, n_samples=50, internal_batch_size=size)
    np.testing.assert_allclose(some.attributions, whole.attributions, rtol=1e-5, atol=1e-5)
    whole = occlusion(score, X, replacement=ZEROS)
    some = occlusion(score, X, replacement=ZEROS, internal_batch_size=size)
    assert some.attributions.tolist() == whole.attributions.tolist()


def test_batches_hold_no_more_than_their_size():
    function = lambda i: i * jnp.arange(7.0)  # noqa: E731
    items, weights = np.arange(5, dtype=np.float32), np.array([1.0, 1.0, 1.0, 1.0, 2.0], np.float32)
    assert weighted_sum(function, items, weights, 2).tolist() == [14.0 * j for j in range(7)]
    program = str(jax.make_jaxpr(lambda items: weighted_sum(function, items, weights, 2))(items))
    assert "f32[2,7]" in program
    assert "f32[5,7]" not in program
    assert map_over(lambda i: i + 1, np.arange(3), 2).tolist() == [1, 2, 3]


def test_smooth_grad_of_a_quadratic_score_is_its_gradient_at_the_mean_of_the_copies():
    # the gradient is linear, so the mean of gradients is the gradient at the mean: the noise is averaged away
    result = smooth_grad(jax.random.key(0), score, X, n_samples=4000)
    np.testing.assert_allclose(result.attributions, jax.jit(jax.grad(score))(X), atol=0.1)
    exact = smooth_grad(jax.random.key(0), score, X, noise_level=0.0, n_samples=2)
    np.testing.assert_allclose(exact.attributions, jax.jit(jax.grad(score))(X), rtol=1e-6)


def test_the_noise_of_smooth_grad_scales_with_the_range_of_the_real_tokens():
    # the gradient of Σ x²/2 is x, so the attributions are x plus the noise, which scales with max x − min x = 10
    half_square = lambda x: jnp.sum(x * x) / 2  # noqa: E731
    x = np.array([[0.0, 10.0], [3.0, 4.0], [1e6, -1e6]], np.float32)

    def noise(level):
        options = {"noise_level": level, "n_samples": 1, "valid": PADDED}
        return (smooth_grad(jax.random.key(0), half_square, x, **options).attributions - x)[:2]

    np.testing.assert_allclose(noise(0.2), 2 * noise(0.1), rtol=1e-3, atol=1e-4)
    assert 0.1 < float(np.std(noise(0.1))) < 3


def test_occlusion_by_hand():
    # F = 10; without token 0 (zeros): 0; without token 1: 4; token 2 does not matter
    assert occlusion(score, X, replacement=ZEROS).attributions.tolist() == [10, 6, 0]
    # with the first two tokens replaced by [1, 1] one at a time: 1 + 3 = 4, and 4 + 6 = 10
    assert occlusion(score, X, replacement=np.ones((3, 2), np.float32)).attributions.tolist() == [6, 0, 0]


def test_leave_one_out_by_hand():
    remaining = lambda removed: jnp.where(removed[:, 0], 0.0, 3.0) + jnp.where(removed[:, 1], 2.0, 1.0)  # noqa: E731
    assert leave_one_out(remaining, 3).attributions.tolist() == [3, -1, 0]
    assert leave_one_out(remaining, 3, removable=np.array([True, False, True])).attributions.tolist() == [3, 0, 0]


def test_greedy_leave_one_out_sees_what_tokens_do_together():
    # F = 1 if token 0 or token 2 is there, plus 0.1 for token 1. One at a time 0 and 2 drop nothing, so 1 goes first;
    # then 0 and 2 tie, 0 goes, and 2 drops all
    def either(removed):
        return jnp.where(removed[:, 0] & removed[:, 2], 0.0, 1.0) + jnp.where(removed[:, 1], 0.0, 0.1)

    single = leave_one_out(either, 4).attributions
    np.testing.assert_allclose(single, [0, 0.1, 0, 0], atol=1e-7)
    # ranks: 1 first (4); 0, 2, 3 tie: 0 (3); 2 drops all (2); 3 last (1)
    assert greedy_leave_one_out(either, 4).attributions.tolist() == [3, 4, 2, 1]
    some = greedy_leave_one_out(either, 4, internal_batch_size=3, removable=np.array([True, True, True, False]))
    assert some.attributions.tolist() == [2, 3, 1, 0]


def test_greedy_leave_one_out_finds_the_steepest_deletion_curve_of_an_additive_score():
    gains = np.array([0.3, -0.2, 0.9, 0.5], np.float32)
    left = lambda removed: jnp.sum(jnp.where(removed, 0.0, gains[None]), axis=1)  # noqa: E731
    assert np.argsort(-greedy_leave_one_out(left, 4).attributions).tolist() == [2, 3, 0, 1]


def test_greedy_leave_one_out_leaves_nan_for_last():
    values = np.array([np.nan, 1.0, 2.0], np.float32)
    worst = lambda removed: jnp.sum(jnp.where(removed, values[None], 0.0), axis=1)  # noqa: E731
    assert greedy_leave_one_out(worst, 3).attributions.tolist() == [1, 3, 2]


def test_random_attribution():
    first = random_attribution(jax.random.key(0), 1000).attributions
    assert ((first > 0) & (first < 1)).all()
    assert abs(float(first.mean()) - 0.5) < 0.05
    assert first.tolist() == random_attribution(jax.random.key(0), 1000).attributions.tolist()
    assert first.tolist() != random_attribution(jax.random.key(1), 1000).attributions.tolist()


@pytest.mark.parametrize("name", METHODS)
def test_padding_gets_exactly_0_and_changes_nothing(name):
    method = METHODS[name]
    real = lambda x: saturating(x[:2] / 10)  # noqa: E731
    result = method(real, X, valid=PADDED)
    assert not result.attributions[2].any()
    assert result.attributions[:2].any()
    assert result.completeness_gap is None or result.completeness_gap < 1e-5
    other = method(real, np.where(PADDED[:, None], X, np.float32(-50.0)), valid=PADDED)
    assert result.attributions.tolist() == other.attributions.tolist()


@pytest.mark.parametrize("name", METHODS)
def test_nan_at_padding_stays_there(name):
    real = lambda x: jnp.sum(jnp.where(PADDED[:, None], x, 0.0) ** 2)  # noqa: E731
    result = METHODS[name](real, np.where(PADDED[:, None], X, np.float32(np.nan)), valid=PADDED)
    assert np.isfinite(result.attributions).all()


@pytest.mark.parametrize("name", METHODS)
def test_all_padding_gives_zeros(name):
    result = METHODS[name](saturating, X, valid=np.zeros(3, bool))
    assert not result.attributions.any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n", [0, 1])
def test_no_token_and_one_token(name, n):
    result = METHODS[name](lambda x: jnp.sum(x), X[:n])
    assert result.attributions.shape[0] == n
    assert result.method == name
    if n:  # Σ x = 7, gradient 1
        expected = {"saliency": 2**0.5, "smooth_grad": 2.0}.get(name, 7.0)
        assert np.isclose(np.sum(result.attributions), expected, rtol=1e-5)


def test_no_token_and_one_token_of_removal():
    for method in (leave_one_out, greedy_leave_one_out):
        assert method(lambda removed: jnp.ones(len(removed)), 0).attributions.shape == (0,)
        assert method(lambda removed: jnp.where(removed[:, 0], 0.0, 1.0), 1).attributions.tolist() == [1]


@pytest.mark.parametrize("name", METHODS)
def test_vmap_and_jit_give_what_a_loop_gives(name):
    batch, valid = np.stack([X, X[::-1], -X]), np.arange(3)[None, :] < np.array([3, 2, 1])[:, None]
    method = lambda x, v: METHODS[name](saturating, x, valid=v)  # noqa: E731
    together = jax.jit(jax.vmap(method))(batch / 5, valid)
    for index in range(3):
        alone = method(batch[index] / 5, valid[index])
        np.testing.assert_allclose(together.attributions[index], alone.attributions, rtol=1e-4, atol=1e-6)
        if alone.completeness_gap is not None:
            np.testing.assert_allclose(together.completeness_gap[index], alone.completeness_gap, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_float64_stays_float64(name, x64):
    options = {"integrated_gradients": "baseline", "occlusion": "replacement"}
    method = partial(METHODS[name], **({options[name]: np.zeros(2)} if name in options else {}))
    assert method(saturating, X.astype(np.float64)).attributions.dtype == "float64"
    assert greedy_leave_one_out(lambda removed: jnp.where(removed[:, 0], 0.0, 1.0), 2).attributions.tolist() == [2, 1]


@pytest.mark.parametrize("name", METHODS)
def test_wrong_arguments_are_refused(name):
    method = METHODS[name]
    with pytest.raises(ValueError, match=rf"{name}: score must return one number, not an array \[2\].*\[label\]"):
        method(lambda x: x[0], X)
    with pytest.raises(ValueError, match=rf"{name}: score must return a floating-point number, not int32"):
        method(lambda x: jnp.argmax(x), X)


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match=r"f: embedded must have shape .* not \[2, 3, 4\]; for a batch write jax.vmap"):
        check_embedded("f", jnp.ones((2, 3, 4)))
    with pytest.raises(
        ValueError, match="f: embedded must be floating-point, not int32; pass embeddings, not token ids"
    ):
        check_embedded("f", jnp.ones((2, 3), jnp.int32))
    with pytest.raises(
        ValueError, match=r"f: valid must be booleans \[3\].* not int32\[3\]; .* jnp.arange\(3\) < length"
    ):
        check_valid("f", jnp.ones(3, jnp.int32), 3)
    for method, name in ((integrated_gradients, "baseline"), (occlusion, "replacement")):
        with pytest.raises(ValueError, match=rf"{name} must have shape \[3, 2\] or \[2\], not \[1\]"):
            method.__wrapped__.__wrapped__(score, jnp.asarray(X), **{name: jnp.zeros(1)})


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="integrated_gradients: n_steps must be at least 1, not 0"):
        integrated_gradients(score, X, baseline=ZEROS, n_steps=0)
    with pytest.raises(ValueError, match=r"integrated_gradients: method must be one of .* not 'simpson'"):
        quadrature.__wrapped__("simpson", 3)
    with pytest.raises(ValueError, match="smooth_grad: noise_level must be at least 0"):
        smooth_grad(jax.random.key(0), score, X, noise_level=-1.0)
    with pytest.raises(ValueError, match="occlusion: internal_batch_size must be at least 1"):
        occlusion(score, X, replacement=ZEROS, internal_batch_size=0)


def test_aggregate_features():
    x = np.array([[3.0, -4.0], [0.0, 0.0]])
    assert aggregate_features(x).tolist() == [-1, 0]
    assert aggregate_features(x, "vnorm").tolist() == [5, 0]
    assert np.isfinite(jax.jit(jax.grad(lambda x: aggregate_features(x, "vnorm").sum()))(x.astype(np.float32))).all()


def test_aggregate_segments():
    # segment 0: tokens 0 and 1; segment 1 is empty; segment 2: token 3; token 2 belongs to none
    values, ids = np.array([1.0, -3.0, 9.0, -2.0]), np.array([0, 0, -1, 2])
    aggregate = lambda how: aggregate_segments(values, ids, 3, how).tolist()  # noqa: E731
    assert aggregate("sum") == [-2, 0, -2]
    assert aggregate("mean") == [-1, 0, -2]
    assert aggregate("max") == [1, 0, -2]
    assert aggregate("absmax") == [-3, 0, -2]
    assert aggregate_segments(np.array([2.0, -2.0]), np.array([0, 0]), 1, "absmax").tolist() == [2]
    for how in ("sum", "mean", "max", "absmax"):
        assert aggregate_segments(np.zeros(0), np.zeros(0, int), 2, how).tolist() == [0, 0]
        assert aggregate_segments(values, ids, 0, how).shape == (0,)


def test_aggregation_refuses_unknown_names():
    with pytest.raises(ValueError, match="how must be 'sum' or 'vnorm', not 'l2'"):
        aggregate_features.__wrapped__.__wrapped__(jnp.asarray(X), "l2")
    with pytest.raises(ValueError, match="how must be 'sum', 'mean', 'max' or 'absmax', not 'median'"):
        aggregate_segments.__wrapped__.__wrapped__(jnp.ones(2), jnp.zeros(2, int), 1, "median")


def test_removal_runs_the_model_in_batches():
    sizes, gains = [], np.array([0.3, -0.2, 0.9, 0.5], np.float32)

    def left(removed):
        sizes.append(len(removed))
        return jnp.sum(jnp.where(removed, 0.0, gains[None]), axis=1)

    for method in (leave_one_out, greedy_leave_one_out):
        whole = method(left, 4).attributions
        sizes.clear()
        some = method(left, 4, internal_batch_size=3).attributions
        assert set(sizes) == {3}
        np.testing.assert_allclose(some, whole, rtol=1e-6)
        with pytest.raises(
            ValueError, match=rf"predict must return an array of shape \({4 + (method is leave_one_out)},"
        ):
            method(lambda removed: jnp.ones((len(removed), 1)), 4)
        with pytest.raises(ValueError, match="removable must be booleans"):
            method(left, 4, removable=jnp.ones(3, bool))


def test_only_removable_tokens_are_removed():
    removable = np.array([False, True, True, False])

    def guarded(removed):  # NaN if a special token is removed
        kept = jnp.sum(jnp.where(removed, 0.0, jnp.array([[9.0, 1.0, 2.0, 9.0]])), axis=1)
        return jnp.where(jnp.any(removed & ~removable[None], axis=1), jnp.nan, kept)

    assert leave_one_out(guarded, 4, removable=removable).attributions.tolist() == [0, 1, 2, 0]
    assert greedy_leave_one_out(guarded, 4, removable=removable).attributions.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("size", [1, 7, None])
@pytest.mark.quick("1-bfloat16", "None-float16")
def test_low_precision_sums_in_float32_whatever_the_batches(dtype, size):
    # ∫ ∂F/∂x over the path of a linear score is its slope, 3; 300 steps summed in bfloat16 would stop at half of it
    x, linear = np.ones((2, 1), jnp.dtype(dtype)), lambda x: jnp.sum(x) * 3
    result = integrated_gradients(
        linear, x, baseline=np.zeros(1, jnp.dtype(dtype)), n_steps=300, internal_batch_size=size
    )
    assert result.attributions.dtype == dtype
    assert result.attributions.tolist() == [[3], [3]]
    result = smooth_grad(jax.random.key(0), linear, x, n_samples=300, internal_batch_size=size)
    assert result.attributions.dtype == dtype
    assert result.attributions.tolist() == [[3], [3]]


def test_the_mean_of_many_tokens_in_low_precision():
    # 1000 tokens of 1: bfloat16 has no integers beyond 256
    ones = np.ones(1000, jnp.bfloat16)
    for how in ("sum", "mean"):
        value = aggregate_segments(ones, np.zeros(1000, np.int32), 1, how)
        assert value.dtype == "bfloat16"
        assert value.tolist() == [{"sum": 1000, "mean": 1}[how]]
    assert aggregate_features(np.ones((1, 1024), jnp.bfloat16), "vnorm").tolist() == [32]
