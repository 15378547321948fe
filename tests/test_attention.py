"""The public functions: errors, dropout, comparison with other libraries, grouped heads."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.tree_util import Partial
from jaxtyping import TypeCheckError
from rows import SCORES, SIZES, problem
from tolerances import assert_close

from attnlab.functional import dropout, masks, mods, normalizers, scores
from attnlab.functional.attention import attention, attention_weights, pool
from attnlab.functional.parts import per_head

pytestmark = pytest.mark.optimized


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


QUERY, KEY, VALUE = draw(2, 5, 4, 8), draw(2, 6, 4, 8, seed=1), draw(2, 6, 4, 8, seed=2)
attend = jax.jit(attention, static_argnames=("dropout_rate", "returns", "implementation"))
weigh = jax.jit(attention_weights)
keep = jax.jit(dropout.keep, static_argnums=1)


# Second opinions


def test_equals_jax_nn():
    where = draw(2, 4, 5, 6) > -0.5
    expected = jax.nn.dot_product_attention(QUERY, KEY[:, :, :2], VALUE[:, :, :2], mask=where)
    result = attend(QUERY, KEY[:, :, :2], VALUE[:, :, :2], mask=masks.array(where, "b h q k"))
    assert_close(result, expected, "float32")


def test_equals_flax():
    lengths = jnp.array([3, 6])
    where = (jnp.arange(6) < lengths[:, None])[:, None, None, :]
    expected = linen.dot_product_attention(QUERY, KEY, VALUE, mask=where)
    assert_close(attend(QUERY, KEY, VALUE, mask=masks.lengths(lengths)), expected, "float32")


def test_key_heads_are_shared_by_groups_of_query_heads():
    shared = attend(QUERY, KEY[:, :, :2], VALUE[:, :, :2])
    repeated = attend(QUERY, jnp.repeat(KEY[:, :, :2], 2, axis=2), jnp.repeat(VALUE[:, :, :2], 2, axis=2))
    assert_close(shared, repeated, "float32")


def test_softmax_equals_jax_nn_along_any_axis():
    logits = 30.0 * draw(3, 4, 5)
    for axis in (0, 1, 2, -1):
        assert_close(normalizers.softmax(logits, axis=axis), jax.nn.softmax(logits, axis), "float32")


@pytest.mark.parametrize("large", [1e4, 3e38])
def test_softmax_of_large_logits_is_exact(large):
    assert normalizers.softmax(jnp.array([large, large, -large])).tolist() == [0.5, 0.5, 0.0]


def test_lse_has_the_weights_for_gradient():
    logits = draw(6)

    def lse(logits):
        key = logits[:, None, None]  # against the query 1, its score is the logit itself
        result = attend(jnp.ones((1, 1, 1)), key, key, score=Partial(scores.dot), returns=("lse", "weights"))
        return result.lse[0, 0], result.weights[0, 0]

    gradient, weights = jax.grad(lse, has_aux=True)(logits)
    assert_close(gradient, weights, "float32")


# Dropout


def dropped(rate: float = 0.4, seed: int = 7, mask=None, keys: int = 6, **options) -> jax.Array:
    rng = jax.random.key(seed)
    return attend(QUERY, KEY[:, :keys], VALUE[:, :keys], dropout_rate=rate, rng=rng, mask=mask, **options)


def test_dropout_is_a_function_of_rng_and_positions_alone():
    rng, five, six = jax.random.key(3), jnp.arange(5), jnp.arange(6)
    whole = keep(rng, 0.4, jnp.int32(1), jnp.int32(2), five, six)
    blocks = [[keep(rng, 0.4, jnp.int32(1), jnp.int32(2), q, k) for k in (six[:4], six[4:])]
              for q in (five[:2], five[2:])]  # fmt: skip
    np.testing.assert_array_equal(np.block(blocks), whole)


def test_dropout_of_the_real_keys_does_not_depend_on_padding():
    padded = dropped(mask=masks.lengths(4))
    assert_close(padded, dropped(keys=4), "float32")


def test_dropout_drops_its_rate_and_scales_the_rest():
    rng, rate = jax.random.key(0), 0.25
    ones = jnp.ones((40, 30, 2, 3))
    out = attend(draw(40, 20, 2, 3), draw(40, 30, 2, 3), ones, dropout_rate=rate, rng=rng)
    assert abs(float(out.mean()) - 1.0) < 0.01
    kept = [keep(rng, rate, jnp.int32(b), jnp.int32(h), jnp.arange(50), jnp.arange(50)) for b, h in
            [(0, 0), (0, 1), (1, 0), (1, 1)]]  # fmt: skip
    assert abs(float(jnp.stack(kept).mean()) - 0.75) < 4 * (0.25 * 0.75 / 10_000) ** 0.5
    assert len({np.asarray(k).tobytes() for k in kept}) == 4


def test_dropout_is_repeated_by_its_rng_and_changed_by_another():
    np.testing.assert_array_equal(dropped(), dropped())
    assert not np.array_equal(dropped(), dropped(seed=8))
    np.testing.assert_array_equal(dropped(rate=0.0), attend(QUERY, KEY, VALUE))


def test_dropout_equals_pooling_by_the_kept_weights():
    rng, rate = jax.random.key(7), 0.4
    positions = jnp.arange(5), jnp.arange(6)
    kept = jnp.stack([
        jnp.stack([keep(rng, rate, jnp.int32(b), jnp.int32(h), *positions) for h in range(4)]) for b in range(2)
    ])  # fmt: skip
    weights = jnp.where(kept, weigh(QUERY, KEY) / (1 - rate), 0.0)
    assert_close(dropped(), pool(weights, VALUE), "float32")


def test_returned_weights_are_those_before_dropout():
    np.testing.assert_array_equal(dropped(returns=("weights",)).weights, weigh(QUERY, KEY))
    np.testing.assert_array_equal(dropped(returns=("weights", "lse")).output, dropped())


# Shapes and types


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.quick(
    "dot-b-T1-S1-N1-K1",
    "additive-b3-T5-S6-N4-K2",
    "general-b2x1-T3-S5-N3-K1",
    "scaled_dot-b1-T2-S129-N1-K1",
    "cosine-b3-T5-S6-N4-K2",
    "concat-b2x1-T3-S5-N3-K1",
    "distance-b-T7-S3-N1-K1",
    "trilinear-b3-T5-S6-N4-K2",
)
def test_shapes(score, size):
    drawn = problem(score, size)
    result = jax.eval_shape(
        lambda inputs: attention(*inputs, **drawn.options(), returns=("weights", "lse")), drawn.inputs
    )
    assert result.output.shape == (*size.batch, size.T, size.N, size.V)
    assert result.weights.shape == (*size.batch, size.N, size.T, size.S)
    assert result.lse.shape == (*size.batch, size.N, size.T)


def test_an_annotation_of_the_core_is_checked_under_test():
    with pytest.raises(TypeCheckError, match="'key'"):
        scores.dot(jnp.ones((2, 3)), jnp.ones((2, 4)))


def unchecked(*args, **options):
    """Return `attention` without the checks of annotations, as users call it."""
    return attention.__wrapped__(*args, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((QUERY[0, 0], KEY, VALUE), {}, r"query .*positions, heads, features\]"),
        ((QUERY[:1], KEY, VALUE), {}, "batch axes"),
        ((QUERY, KEY[:, :3], VALUE), {}, "key heads must be equal"),
        ((QUERY[:, :, :3], KEY, VALUE), {}, "3 query heads .*multiple of 4 key heads"),
        ((QUERY.astype(int), KEY, VALUE), {}, "floating-point.*int32"),
        ((QUERY, KEY, VALUE), {"implementation": "stream"}, "'stream' .*dense, streaming"),
        ((QUERY, KEY, VALUE), {"returns": ("weight",)}, "'weight' .*weights, scores, logits"),
        ((QUERY, KEY, VALUE), {"returns": "weights"}, "returns .*tuple"),
        ((QUERY, KEY, VALUE), {"dropout_rate": 0.1}, "dropout .*rng=jax.random.key"),
        ((QUERY, KEY, VALUE), {"dropout_rate": 1.0, "rng": jax.random.key(0)}, r"dropout_rate .*\[0, 1\).*1\.0"),
        ((QUERY, KEY, VALUE), {"mask": jnp.ones((5, 6), bool)}, "masks.array"),
        ((QUERY, KEY, VALUE), {"mods": jnp.tanh}, r"mods .*tuple.*mods=\(mod,\)"),
        (
            (QUERY, KEY, VALUE),
            {"mask": masks.lengths(jnp.array([1, 2, 3]))},
            r"batch axes \(3,\), .*the inputs have \(2,\)",
        ),
        ((QUERY, KEY, VALUE), {"mask": masks.causal()}, "5 queries and 6 keys .*alignment"),
        (
            (QUERY, KEY, VALUE),
            {"score": per_head(Partial(scores.general, w=jnp.ones((8, 8))))},
            r"score .*'h'.*\(4,\).*\(8, 8\)",
        ),
    ],
)
def test_wrong_arguments_raise(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        unchecked(*arguments, **options)


def test_pool_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match=r"pool: .*3 heads .*multiple of .*2 heads"):
        pool(jnp.ones((3, 1, 1)), jnp.ones((1, 2, 1)))


def test_no_part_means_shared_by_all_heads():
    w = draw(8, 8)
    shared = attend(QUERY, KEY, VALUE, score=Partial(scores.general, w=w))
    mapped = attend(QUERY, KEY, VALUE, score=per_head(Partial(scores.general, w=jnp.stack([w] * 4))))
    assert_close(shared, mapped, "float32")


Q = jnp.ones((2, 6, 4, 8))


@pytest.mark.parametrize("implementation", [None, "dense", "streaming"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": lambda query, key: (query @ key.T)[None]}, r"the score .*\(1, 6, 6\).*parts.map_over"),
        ({"mods": (lambda logits, positions: logits[0],)}, r"the mod 0 .*\(6,\)"),
        ({"normalizer": lambda logits, where: logits.sum(axis=1)}, r"the normalizer .*\(6,\)"),
        ({"normalizer": jax.nn.softmax}, "normalizer softmax of jax.*normalizers.softmax"),
        ({"mods": (mods.alibi(8),)}, r"mods\[0\] is alibi\(8\).*4 heads"),
    ],
)
def test_a_part_of_the_wrong_shape_raises(options, message, implementation):
    with pytest.raises(ValueError, match=message):
        attention(Q, Q, Q, implementation=implementation, **options)


WRONG = """
import jax.numpy as jnp
from jax.tree_util import Partial
from attnlab import attention, masks, scores
def own(logits, where, *, power): ...
q = jnp.ones((6, 4, 8))
for change in (
    {"score": "dot"}, {"mods": ("soft_cap",)}, {"mask": masks.causal}, {"query": q[..., :7]},
    {"score": scores.cosine, "query": q[..., :7]}, {"mask": "causal"}, {"mask": "prefx"}, {"mask": "all"},
    {"score": scores.general}, {"score": Partial(scores.additive, v=q[0, 0])}, {"normalizer": own},
    {"mask": masks.causal("lower_right") & masks.sliding_window(3, 0), "query": q[:5]},
    {"score": Partial(scores.general, w=q[0])},
):
    try:
        attention(**({"query": q, "key": q, "value": q} | change))
    except ValueError as error:
        print(error)
"""


def test_errors_without_checked_annotations_are_one_line_with_the_argument_and_the_call():
    """Run in a separate process, since under pytest jaxtyping checks annotations first."""
    printed = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, check=True).stdout
    expected = [
        ("attention: score ", "'dot'", "score=scores.dot"),
        ("attention: mods[0] ", "'soft_cap'", "mods=(mods.soft_cap(cap),)"),
        ("attention: mask ", "function causal", "masks.causal()"),
        ("scores.scaled_dot: ", "width 7 ", "width 8 "),
        ("scores.cosine: ", "width 7 ", "width 8 "),
        ("attention: mask ", "'causal'", "masks.causal()"),
        ("attention: mask ", "'prefx'", "masks.prefix(...)"),
        ("attention: mask ", "'all'", "array, big_bird, block_layout, causal"),
        ("attention: score scores.general ", " w;", "Partial(scores.general, w=w)"),
        ("attention: score scores.additive ", "w_query, w_key", "scores.additive, w_query=w_query, w_key=w_key, v=v)"),
        ("attention: normalizer own ", "power", "Partial(own, power=power)"),
        ("sliding_window: ", "5 queries and 6 keys", 'sliding_window(3, 0, alignment="lower_right")'),
        ("scores.general: w ", "[4, 8]", "[8, 8]"),
    ]
    for line, (place, value, suggestion) in zip(printed.splitlines(), expected, strict=True):
        assert line.startswith(place)
        assert value in line
        assert suggestion in line


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6,), "k"), ((5, 6), "q k"), ((2, 6), "b k"), ((2, 5, 6), "b q k"), ((4, 5, 6), "h q k"),
        ((2, 4, 5, 6), "b h q k"), ((2, 1, 5, 6), "b h q k"), ((5, 7), "q k"), ((3, 5, 6), "b q k"),
    ],
)  # fmt: skip
def test_the_error_for_an_array_as_mask_suggests_its_axes(shape: tuple[int, ...], axes: str):
    for where in (jnp.ones(shape, bool), np.ones(shape, bool)):
        with pytest.raises(ValueError, match=f'axes="{axes}"'):
            unchecked(QUERY, KEY, VALUE, mask=where)
    if "b" not in axes:
        with pytest.raises(ValueError, match=f'axes="{axes}"'):
            unchecked(QUERY[0], KEY[0], VALUE[0], mask=jnp.ones(shape, bool))


def test_masks_are_not_combined_by_and_or():
    with pytest.raises(TypeError, match="combine masks with &"):
        masks.causal() and masks.lengths(jnp.array([3]))
