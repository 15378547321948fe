"""Adapters: `attention` in Flax's modules, and as a replacement of `jax.nn.dot_product_attention`."""

import doctest
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from attnlab.functional import masks, mods, normalizers, scores
from attnlab.functional.attention import attention_weights
from attnlab.layers import adapters, jax_nn
from attnlab.layers.adapters import linen_attention_fn, nnx_attention_fn
from attnlab.layers.jax_nn import jax_nn_dot_product_attention


def draw(*shape: int, seed: int = 0, dtype="float32") -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def assert_same(result, expected, tolerance: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), result, expected)


TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
INPUTS = {"self": draw(2, 5, 8), "source": draw(2, 6, 8, seed=1)}
LENGTHS = jnp.array([4, 6])
MASKS = {
    "none": None,
    "padding": (jnp.arange(6) < LENGTHS[:, None])[:, None, None, :],
    "whole": (draw(2, 4, 5, 6, seed=3) > -0.5).at[..., 0].set(True),
    "of_floats": linen.make_attention_mask(jnp.ones((2, 5)), (jnp.arange(6) < LENGTHS[:, None]).astype(jnp.float32)),
}


def with_gradients(apply, params, *inputs):
    def loss(params, *inputs):
        output = apply(params, *inputs)
        return jnp.sum(jnp.sin(output)), output

    return jax.jit(jax.value_and_grad(loss, argnums=(0, *range(1, 1 + len(inputs))), has_aux=True))(params, *inputs)


# Linen


@pytest.mark.parametrize(("dtype", "mask"), [("float32", "of_floats"), ("float64", "none"), ("float64", "whole")])
def test_linen_module_is_the_same(x64, dtype, mask):
    options = {"num_heads": 4, "param_dtype": jnp.dtype(dtype)}
    query, source = (x.astype(dtype) for x in INPUTS.values())
    theirs = linen.MultiHeadDotProductAttention(**options)
    ours = linen.MultiHeadDotProductAttention(**options, attention_fn=linen_attention_fn())
    params = jax.jit(theirs.init)(jax.random.key(5), query, source)
    result, expected = (
        with_gradients(lambda p, q, s, m=m: m.apply(p, q, s, mask=MASKS[mask]), params, query, source)
        for m in (ours, theirs)
    )
    assert_same(result, expected, TOLERANCE[dtype])
    assert result[0][1].dtype == expected[0][1].dtype == dtype


def test_linen_sows_the_weights():
    query, source = INPUTS.values()
    theirs = linen.MultiHeadDotProductAttention(4)
    ours = linen.MultiHeadDotProductAttention(4, attention_fn=linen_attention_fn())
    params = jax.jit(theirs.init)(jax.random.key(5), query, source)
    (out, result), (expected_out, expected) = (
        jax.jit(
            lambda p, m=m: m.apply(p, query, source, mask=MASKS["padding"], sow_weights=True, mutable="intermediates")
        )(params)
        for m in (ours, theirs)
    )
    assert_same((out, result), (expected_out, expected), 1e-5)


def test_linen_decodes_with_its_cache():
    """One token at a time: Flax's cache passes keys that are not written yet, with a mask that hides them."""
    tokens = draw(2, 5, 8)
    theirs = linen.MultiHeadDotProductAttention(4, decode=True)
    ours = linen.MultiHeadDotProductAttention(4, decode=True, attention_fn=linen_attention_fn())
    variables = jax.jit(theirs.init)(jax.random.key(5), tokens)
    for module in (ours, theirs):
        state, outputs = {**variables}, []
        step = jax.jit(lambda state, token, m=module: m.apply(state, token, mutable="cache"))
        for at in range(5):
            output, new = step(state, tokens[:, at : at + 1])
            state, outputs = {**state, **new}, [*outputs, output]
        if module is ours:
            result = outputs
    assert_same(result, outputs, 1e-5)


def test_bfloat16_is_at_least_as_good():
    query, source = INPUTS.values()
    exact = linen.MultiHeadDotProductAttention(4)
    params = jax.jit(exact.init)(jax.random.key(5), query, source)
    theirs = linen.MultiHeadDotProductAttention(4, dtype=jnp.bfloat16)
    ours = linen.MultiHeadDotProductAttention(4, dtype=jnp.bfloat16, attention_fn=linen_attention_fn())
    expected, result, rival = (jax.jit(m.apply)(params, query, source) for m in (exact, ours, theirs))
    error, limit = (np.abs(np.asarray(x, np.float32) - expected).max() for x in (result, rival))
    assert result.dtype == jnp.bfloat16
    assert error <= 2 * limit


def test_parts_are_taken():
    query = INPUTS["self"]
    fn = linen_attention_fn(mask=masks.causal(), score=scores.dot, normalizer=normalizers.sparsemax)
    module = linen.MultiHeadDotProductAttention(4, attention_fn=fn)
    params = jax.jit(module.init)(jax.random.key(5), query)
    apply = jax.jit(functools.partial(module.apply, sow_weights=True, mutable="intermediates"))
    _, result = apply(params, query)
    weights = np.asarray(result["intermediates"]["attention_weights"][0])
    assert not np.triu(weights, 1).any()
    assert (weights == 0.0).sum() > np.triu(np.ones((5, 5)), 1).sum() * 8


# NNX


@pytest.mark.parametrize(("dtype", "mask", "key_heads"), [("float32", "of_floats", 4), ("float64", "padding", 2)])
def test_nnx_module_is_the_same(x64, dtype, mask, key_heads):
    query, source = (x.astype(dtype) for x in INPUTS.values())

    def module(**more):
        options = {"num_heads": 4, "in_features": 8, "num_kv_heads": key_heads, "decode": False}
        return nnx.MultiHeadAttention(**options, param_dtype=jnp.dtype(dtype), rngs=nnx.Rngs(3), **more)

    results = []
    for more in ({"attention_fn": nnx_attention_fn()}, {}):
        graph, params = nnx.split(module(**more))
        results.append(
            with_gradients(lambda p, q, s, g=graph: nnx.merge(g, p)(q, s, mask=MASKS[mask]), params, query, source)
        )
    assert_same(
        jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), TOLERANCE["float32"]
    )  # theirs: softmax in f32
    assert results[0][0][1].dtype == dtype


def nnx_pair(**options):
    options = {"num_heads": 4, "in_features": 8, "decode": False, **options}
    return tuple(
        nnx.MultiHeadAttention(**options, rngs=nnx.Rngs(3), **more)
        for more in ({"attention_fn": nnx_attention_fn()}, {})
    )


@pytest.mark.parametrize("mask", [None, jnp.arange(5)[None, None, None, :] < jnp.array([3, 5])[:, None, None, None]])
def test_nnx_causal(mask):
    mask = None if mask is None else jnp.broadcast_to(mask, (2, 4, 5, 5))
    ours, theirs = nnx_pair()
    query = INPUTS["self"]
    result, expected = (nnx.jit(lambda m: m(query, mask=mask, is_causal=True))(module) for module in (ours, theirs))
    assert_same(result, expected, 1e-5)


def test_nnx_sows_the_weights():
    result, expected = (
        nnx.capture(lambda m: m(INPUTS["self"], sow_weights=True, is_causal=True), nnx.Intermediate)(module)
        for module in nnx_pair()
    )
    assert_same(jax.tree.leaves(result), jax.tree.leaves(expected), 1e-5)


def test_nnx_decodes_with_its_cache():
    tokens, outputs = draw(2, 5, 8), []
    for module in nnx_pair():
        module.init_cache((2, 5, 8))
        step = nnx.jit(lambda m, token: m(token, decode=True))
        outputs.append([step(module, tokens[:, at : at + 1]) for at in range(5)])
    assert_same(*outputs, 1e-5)


# What both take


FUNCTIONS = {
    "linen": (linen_attention_fn, linen.dot_product_attention),
    "nnx": (nnx_attention_fn, nnx.dot_product_attention),
}
QUERY, KEY, VALUE = draw(2, 5, 4, 8), draw(2, 6, 4, 8, seed=1), draw(2, 6, 4, 8, seed=2)


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


def test_jax_nn_lengths_past_the_end_are_all():
    """As in jax.nn; `masks.lengths` refuses them."""
    options = {"key_value_seq_lengths": jnp.array([9, 3], jnp.int32), "query_seq_lengths": jnp.array([5, 7], jnp.int32)}
    result, expected = (
        f(QUERY, KEY, VALUE, **options) for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
    )
    assert_same(result, expected, 1e-5)


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


# jax.nn


def test_the_signature_is_that_of_jax_nn():
    result, expected = (
        inspect.signature(f).parameters for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
    )
    extra = [name for name in expected if name not in result]
    if jax.__version__.startswith("0.10."):
        assert not extra
    assert list(result) == [name for name in expected if name in result]
    for name in result:
        assert result[name].default == expected[name].default, f"the default of {name} changed; new arguments: {extra}"
        assert result[name].kind == expected[name].kind


LAST = jnp.array([6, 3], jnp.int32)
CASES = {
    "plain": {},
    "scale": {"scale": 0.3},
    "bias": {"bias": draw(1, 4, 5, 6, seed=3)},
    "bias_of_rank_2": {"bias": draw(5, 6, seed=3)},
    "mask": {"mask": (draw(2, 1, 5, 6, seed=4) > -0.5).at[..., 0].set(True)},
    "causal": {"is_causal": True},
    "causal_and_mask": {"is_causal": True, "mask": (draw(2, 4, 5, 6, seed=4) > -0.5).at[..., 0].set(True)},
    "lengths": {"key_value_seq_lengths": LAST},
    "window": {"local_window_size": 2},
    "window_left": {"local_window_size": (3, 0), "is_causal": True},
    "window_right": {"local_window_size": (1, 2), "scale": 1.0, "bias": draw(2, 1, 5, 6, seed=3)},
}


@pytest.mark.parametrize(("case", "key_heads"), [*((case, 2) for case in CASES), ("window_right", 1), ("bias", 4)])
@pytest.mark.quick("bias-2", "causal_and_mask-2", "lengths-2", "window_right-1")
def test_jax_nn_is_the_same(case, key_heads):
    inputs = QUERY, KEY[:, :, :key_heads], VALUE[:, :, :key_heads]

    def run(function):
        def loss(*inputs):
            output, residual = function(*inputs, **CASES[case], return_residual=True)
            return jnp.sum(jnp.sin(output)) + jnp.sum(residual), (output, residual)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)

    assert_same(run(jax_nn_dot_product_attention), run(jax.nn.dot_product_attention), 1e-5)


def test_jax_nn_without_batch():
    for options in ({}, {"key_value_seq_lengths": LAST[1:], "query_seq_lengths": LAST[1:]}):
        result, expected = (
            jax.jit(functools.partial(f, **options, return_residual=True))(QUERY[0], KEY[0], VALUE[0])
            for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
        )
        assert_same(result[0], expected[0], 1e-5)
        real = slice(None) if not options else slice(0, 3)
        assert_same(result[1][real], expected[1][real], 1e-5)


def test_jax_nn_query_lengths_give_zero():
    options = {"query_seq_lengths": jnp.array([5, 2], jnp.int32), "key_value_seq_lengths": LAST}
    result, expected = (
        f(QUERY, KEY, VALUE, **options) for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
    )
    assert_same(result, expected, 1e-5)
    assert not result[1, 2:].any()


def test_jax_nn_differs_on_purpose_in_a_row_without_keys():
    options = {"mask": jnp.zeros((1, 1, 5, 6), bool), "return_residual": True}
    output, residual = jax_nn_dot_product_attention(QUERY, KEY, VALUE, **options)
    theirs, _ = jax.nn.dot_product_attention(QUERY, KEY, VALUE, **options)
    assert not output.any()
    assert (residual == -jnp.inf).all()
    assert_same(theirs, jnp.broadcast_to(VALUE.mean(axis=1, keepdims=True), QUERY.shape), 1e-5)


def test_jax_nn_differs_on_purpose_in_float64(x64):
    query, key, value = (draw(1, 9, 1, 4, seed=seed, dtype="float64") for seed in (0, 1, 2))
    result, theirs = (f(query, key, value) for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention))
    logits = np.einsum("btnd,bsnd->bnts", query, key) / 2.0
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    exact = np.einsum("bnts,bsnv->btnv", weights, value)
    assert_same(result, exact, 1e-12)
    assert np.abs(theirs - exact).max() > 1e-10


def test_the_weights_of_a_module_are_those_of_the_library():
    fn = nnx_attention_fn()
    seen = {}

    class Holder:
        def sow(self, kind, name, value):
            seen[name] = value

    fn(QUERY, KEY, VALUE, module=Holder())
    assert_same(seen["attention_weights"], attention_weights(QUERY, KEY), 1e-6)


@pytest.mark.parametrize("module", [adapters, jax_nn])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted >= 1
    assert results.failed == 0


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
