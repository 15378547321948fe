"""What the functions for Linen and NNX take: biases, masks, dropout, precision; and what they refuse."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax_inputs import INPUTS, KEY, QUERY, VALUE, assert_same, draw

from attnlab.functional import masks, mods, normalizers
from attnlab.layers.adapters import linen_attention_fn, nnx_attention_fn
from attnlab.layers.jax_nn import jax_nn_dot_product_attention

FUNCTIONS = {
    "linen": (linen_attention_fn, linen.dot_product_attention),
    "nnx": (nnx_attention_fn, nnx.dot_product_attention),
}


@pytest.mark.parametrize("library", FUNCTIONS)
def test_the_signature_is_theirs(library):
    make, theirs = FUNCTIONS[library]
    result, expected = (inspect.signature(f).parameters for f in (make(), theirs))
    assert list(result) == [name for name in expected if name in result]
    assert not set(expected) - set(result), "a newer Flax passes more: honor or refuse it"
    assert {n: p.default for n, p in result.items()} == {n: p.default for n, p in expected.items()}


BIASES = [(2, 4, 5, 6), (1, 4, 5, 6), (4, 5, 6), (5, 6), (6,), (2, 1, 1, 6), (1, 1, 5, 1), ()]


@pytest.mark.parametrize("library", FUNCTIONS)
def test_a_bias_of_any_shape_that_broadcasts(library):
    make, theirs = FUNCTIONS[library]
    expect = jax.jit(lambda bias: theirs(QUERY, KEY, VALUE, jnp.broadcast_to(bias, (2, 4, 5, 6))))
    find = jax.jit(lambda bias: make()(QUERY, KEY, VALUE, bias))
    for shape in BIASES:
        bias = draw(*shape, seed=4)
        assert_same(find(bias), expect(bias), 1e-5)
    for bias in (draw(6), draw(2, 1, 1, 6)):
        result, expected = (
            jax.jit(jax.grad(lambda bias, f=f: jnp.sum(jnp.sin(f(bias)))))(bias) for f in (find, expect)
        )
        assert_same(result, expected, 1e-5)


@pytest.mark.parametrize("library", FUNCTIONS)
def test_a_mask_of_any_shape_that_broadcasts(library):
    make, theirs = FUNCTIONS[library]
    find = jax.jit(lambda where: make()(QUERY, KEY, VALUE, mask=where))
    expect = jax.jit(lambda where: theirs(QUERY, KEY, VALUE, mask=where))
    for shape in [(2, 4, 5, 6), (1, 4, 1, 6), (5, 6), (6,), (2, 1, 5, 1)]:
        where = draw(*shape, seed=4) > -0.7
        whole = np.broadcast_to(where, (2, 4, 5, 6))
        some = np.swapaxes(whole.any(-1), -1, -2)[..., None]
        assert_same(find(where), np.where(some, expect(whole), 0.0), 1e-5)


ALLOWED = np.array(draw(5, 6, seed=4) > -0.7)
ADDITIVE = {
    "-inf": np.where(ALLOWED, 0.0, -np.inf).astype("float32"),
    "-1e9": np.where(ALLOWED, 0.0, -1e9).astype("float32"),
    "bfloat16": jnp.asarray(np.where(ALLOWED, 0.0, -1e9), jnp.bfloat16),
    "integers": np.where(ALLOWED, 0, -10000).astype("int32"),
    "halves": np.where(ALLOWED, 1.0, 0.5).astype("float32"),
    "nan": np.where(ALLOWED, 1.0, np.nan).astype("float32"),
}


@pytest.mark.parametrize("library", FUNCTIONS)
@pytest.mark.parametrize("kind", ADDITIVE)
@pytest.mark.quick("-1e9-linen", "nan-nnx")
def test_an_additive_mask_is_no_mask(library, kind):
    """Refused if its values are known; inside jit the output is NaN, never that of the inverted mask."""
    fn, mask = FUNCTIONS[library][0](), jnp.asarray(ADDITIVE[kind])
    with pytest.raises(ValueError, match=r"mask holds 0 and 1 .* write bias=mask"):
        fn(QUERY, KEY, VALUE, mask=mask)
    with pytest.raises(ValueError, match="write bias=mask"):
        jax.jit(lambda query: fn(query, KEY, VALUE, mask=mask))(QUERY)
    assert np.isnan(jax.jit(lambda mask: fn(QUERY, KEY, VALUE, mask=mask))(mask)).all()


@pytest.mark.parametrize("library", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.quick("float32-linen", "bfloat16-nnx")
def test_a_mask_of_zeros_and_ones_is_one_in_and_outside_of_jit(library, dtype):
    fn, mask = FUNCTIONS[library][0](), jnp.asarray(ALLOWED, dtype)
    expected = fn(QUERY, KEY, VALUE, mask=jnp.asarray(ALLOWED))
    assert_same(jax.jit(lambda mask: fn(QUERY, KEY, VALUE, mask=mask))(mask), expected, 1e-6)
    assert_same(fn(QUERY, KEY, VALUE, mask=mask), expected, 1e-6)


def test_weights_that_are_sown_are_nan_too_where_a_mask_is_additive():
    seen = {}

    class Holder:
        def sow(self, kind, name, value):
            seen[name] = value

    def weights(mask):
        nnx_attention_fn()(QUERY, KEY, VALUE, mask=mask, module=Holder())
        return seen.pop("attention_weights")

    assert np.isnan(jax.jit(weights)(jnp.asarray(ADDITIVE["-1e9"]))).all()


@pytest.mark.parametrize("library", FUNCTIONS)
def test_batch_axes_that_broadcast(library):
    where = draw(2, 1, 4, 5, 6, seed=4) > -1.0
    query, key, value = (jnp.stack([x, 2 * x, 3 * x], axis=1) for x in (QUERY, KEY, VALUE))
    make, theirs = FUNCTIONS[library]
    expected = jax.jit(lambda where: theirs(query, key, value, mask=where))(np.broadcast_to(where, (2, 3, 4, 5, 6)))
    assert_same(jax.jit(lambda where: make()(query, key, value, mask=where))(where), expected, 1e-5)


@pytest.mark.parametrize("library", FUNCTIONS)
def test_a_row_without_keys_is_zero_and_theirs_is_the_mean(library):
    make, theirs = FUNCTIONS[library]
    nothing = jnp.zeros((2, 4, 5, 6), bool)
    ours, their = (jax.jit(lambda where, f=f: f(QUERY, KEY, VALUE, mask=where))(nothing) for f in (make(), theirs))
    assert not np.any(ours)
    assert_same(their, np.broadcast_to(np.asarray(VALUE).mean(axis=1, keepdims=True), QUERY.shape), 1e-5)


# Dropout


@pytest.mark.parametrize("library", FUNCTIONS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.quick("True-linen", "False-nnx")
def test_dropout_is_shared_by_heads_and_examples_if_flax_requests_it(library, shared):
    make, _ = FUNCTIONS[library]
    same = jnp.ones((3, 20, 2, 4))
    value = jnp.broadcast_to(jnp.eye(20)[:, None, :], (3, 20, 2, 20))  # outputs are the weights themselves
    options = {"broadcast_dropout": shared, "dropout_rng": jax.random.key(1), "dropout_rate": 0.4}
    out = np.asarray(jax.jit(lambda value: make()(same, same, value, **options))(value))
    kept = out != 0.0
    assert abs(float(kept.mean()) - 0.6) < (0.1 if shared else 0.04)
    assert_same(out[kept], np.full_like(out[kept], 1 / 20 / 0.6), 1e-5)
    assert bool((kept == kept[:1, :, :1]).all()) == shared


@pytest.mark.parametrize("library", FUNCTIONS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.quick("True-nnx", "False-linen")
def test_dropout_has_gradients_and_none_when_deterministic(library, shared):
    make, _ = FUNCTIONS[library]
    options = {"broadcast_dropout": shared, "dropout_rng": jax.random.key(1), "dropout_rate": 0.4}

    def loss(value, **more):
        return jnp.sum(make()(QUERY, KEY, value, **options, **more))

    total, slope = jax.jit(jax.value_and_grad(loss))(VALUE)
    np.testing.assert_allclose((slope * VALUE).sum(), total, rtol=1e-4)
    dry, plain = lambda value: loss(value, deterministic=True), lambda value: jnp.sum(make()(QUERY, KEY, value))
    assert_same(jax.jit(dry)(VALUE), jax.jit(plain)(VALUE), 1e-6)
    with pytest.raises(ValueError, match=r"dropout .*rng"):
        make()(QUERY, KEY, VALUE, dropout_rate=0.4, broadcast_dropout=shared)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.quick("True")
def test_sown_weights_are_those_before_dropout(shared):
    fn = linen_attention_fn()
    module = linen.MultiHeadDotProductAttention(4, dropout_rate=0.5, broadcast_dropout=shared, attention_fn=fn)
    query = INPUTS["self"]
    params = jax.jit(functools.partial(module.init, deterministic=True))(jax.random.key(5), query)
    options = {"deterministic": False, "rngs": {"dropout": jax.random.key(0)}}
    _, result = jax.jit(lambda p: module.apply(p, query, sow_weights=True, mutable="intermediates", **options))(params)
    weights = result["intermediates"]["attention_weights"][0]
    assert_same(weights.sum(-1), jnp.ones((2, 4, 5)), 1e-5)
    assert (weights > 0.0).all()


# Precision


def products(jaxpr) -> list:
    """Return the precision of every matrix product in a program, inner programs included."""
    result = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            result.append(equation.params["precision"])
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, jax.extend.core.ClosedJaxpr)
        ):
            if isinstance(inner, jax.extend.core.ClosedJaxpr):
                result += products(inner.jaxpr)
            elif isinstance(inner, jax.extend.core.Jaxpr):
                result += products(inner)
    return result


HIGHEST = jax.lax.Precision.HIGHEST


@pytest.mark.parametrize("wrapped", [lambda function: function, jax.jit, jax.checkpoint])
@pytest.mark.parametrize(
    ("library", "precision"),
    [("linen", HIGHEST), ("linen", "highest"), ("nnx", "float32"), ("nnx", (HIGHEST, HIGHEST))],
)
def test_precision_holds_forward_and_in_gradients(library, precision, wrapped):
    fn = FUNCTIONS[library][0]()
    loss = wrapped(lambda query, key, value: jnp.sum(fn(query, key, value, precision=precision)))
    jaxpr = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(QUERY, KEY, VALUE).jaxpr
    assert len(products(jaxpr)) >= 4
    assert set(products(jaxpr)) == {(HIGHEST, HIGHEST)}


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linen_attention_fn(returns=("weights",)), "returns is not an option"),
        (lambda: nnx_attention_fn(dropout_rate=0.1), "dropout_rate is not an option"),
        (lambda: linen_attention_fn()(QUERY, KEY, VALUE, einsum_dot_general=jax.lax.dot_general), "einsum_dot_general"),
        (lambda: linen_attention_fn()(QUERY, KEY, VALUE, qk_attn_weights_einsum=jnp.einsum), "qk_attn_weights_einsum"),
        (lambda: linen_attention_fn()(QUERY, KEY, VALUE, mask=jnp.ones((3, 1, 5, 6))), "does not broadcast"),
        (lambda: nnx_attention_fn()(QUERY, KEY, VALUE, bias=jnp.ones((2, 2, 4, 5, 6))), "does not broadcast"),
        (lambda: nnx_attention_fn()(QUERY, KEY, VALUE, precision=("highest", "default")), "differs for the two"),
        (lambda: nnx_attention_fn()(QUERY, KEY, VALUE, precision=3), "precision 3 .* jax.lax.Precision"),
        (lambda: nnx_attention_fn(implementation="streaming")(QUERY, KEY, VALUE, precision="high"), "'dense'"),
        (lambda: jax_nn_dot_product_attention(QUERY, KEY, VALUE, implementation="cudnn"), "no cuDNN kernel"),
        (lambda: jax_nn_dot_product_attention(QUERY, KEY, VALUE, implementation="mosaic"), "None or 'xla'"),
        (lambda: jax_nn_dot_product_attention(QUERY, KEY, VALUE, mask=jnp.ones((5, 6))), "truth values"),
        (lambda: jax_nn_dot_product_attention(QUERY, KEY, VALUE, bias=jnp.ones((5, 6), bool)), "write mask=bias"),
        (lambda: linen_attention_fn()(QUERY, KEY, VALUE, bias=jnp.ones((5, 6), bool)), "write mask=bias"),
        (lambda: nnx_attention_fn()(QUERY, KEY, VALUE, bias=jnp.ones(6, bool)), "write mask=bias"),
        (lambda: jax_nn_dot_product_attention(QUERY[None], KEY[None], VALUE[None]), r"\[B, T, N, D\] or \[T, N, D\]"),
    ],
)
def test_unsupported_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "options",
    [
        {"mods": (mods.alibi(4),)},
        {"mask": masks.sliding_window(2, 0, "lower_right")},
        {"normalizer": normalizers.local_p(jnp.arange(5.0), 1.0)},
    ],
    ids=["mods", "mask", "normalizer"],
)
def test_parts_that_depend_on_positions_are_refused_where_flax_does_not_pass_them(options):
    tokens = jnp.ones((1, 5, 8))
    module = linen.MultiHeadDotProductAttention(4, decode=True, attention_fn=linen_attention_fn(**options))
    variables = module.clone(attention_fn=linen_attention_fn()).init(jax.random.key(0), tokens)
    with pytest.raises(ValueError, match=r"position of the query.*attnlab\.cache"):
        module.apply(variables, tokens[:, :1], mutable=["cache"])
