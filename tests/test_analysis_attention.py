"""Attribution methods on attention weights: raw, times gradient, rollout, flow, relevance; what each method needs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled

from attnlab.analysis import attribution
from attnlab.analysis.attribution import ATTRIBUTION_METHODS, attention_flow, check_method
from attnlab.analysis.attribution.flow import max_flow
from attnlab.analysis.attribution.requirements import DESCRIPTIONS

pytestmark = pytest.mark.usefixtures("strict")
methods = Compiled(attribution)
attention_relevance, attention_rollout, raw_attention, rollout = (
    methods.attention_relevance, methods.attention_rollout, methods.raw_attention, methods.rollout,
)  # fmt: skip
gradient_x_attention, positive_gradient_x_attention = (
    methods.gradient_x_attention, methods.positive_gradient_x_attention,
)  # fmt: skip
cross_attention_relevance, self_attention_relevance = (
    methods.cross_attention_relevance, methods.self_attention_relevance,
)  # fmt: skip
encoder_decoder_relevance, initial_relevance = methods.encoder_decoder_relevance, methods.initial_relevance


def random_weights(seed, *shape, sharpness=2.0, causal=False):
    logits = sharpness * np.random.default_rng(seed).normal(size=shape)
    if causal:
        logits = np.where(np.tril(np.ones(shape[-2:], bool)), logits, -np.inf)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype("float32")


def padded(weights, length):
    """Weights of `length` real tokens: padded keys get none, the rows of padded queries mean nothing."""
    weights = np.where(np.arange(weights.shape[-1]) < length, weights, 0)
    return weights / weights.sum(axis=-1, keepdims=True)


def test_raw_attention_by_hand():
    weights = np.array([[[[1.0, 0.0]], [[0.5, 0.5]]], [[[0.0, 1.0]], [[0.25, 0.75]]]])  # 2 layers, 2 heads, 1 query
    assert raw_attention(weights).tolist() == [[0.4375, 0.5625]]
    assert raw_attention(weights, layer=1).tolist() == [[0.75, 0.25]]
    assert raw_attention(weights, layer=2, head=1).tolist() == [[0.25, 0.75]]
    assert raw_attention(weights, head=0).tolist() == [[0.5, 0.5]]
    assert raw_attention(weights, key_valid=np.array([True, False])).tolist() == [[0.4375, 0]]
    assert raw_attention(weights, query_valid=np.array([False])).tolist() == [[0, 0]]


def test_raw_attention_refuses_layers_that_do_not_exist():
    weights = np.ones((2, 3, 1, 1))
    with pytest.raises(ValueError, match=r"raw_attention: layer 3 does not exist; there are 2, numbered from 1"):
        raw_attention(weights, layer=3)
    with pytest.raises(ValueError, match="raw_attention: layer 0 does not exist"):
        raw_attention(weights, layer=0)
    with pytest.raises(ValueError, match=r"raw_attention: head -4 does not exist; there are 3, from 0 to 2"):
        raw_attention(weights, head=-4)
    with pytest.raises(ValueError, match="have no layer"):
        raw_attention(weights[:0])


def test_gradient_x_attention_by_hand():
    # two heads: [0.5·2, 0.5·−4] and [1·1, 0·9], mean [1, −1]
    weights, gradients = np.array([[[0.5, 0.5]], [[1.0, 0.0]]]), np.array([[[2.0, -4.0]], [[1.0, 9.0]]])
    assert gradient_x_attention(weights, gradients).tolist() == [[1, -1]]
    assert gradient_x_attention(weights, gradients, key_valid=np.array([False, True])).tolist() == [[0, -1]]
    # their positive parts: [1, 0] and [1, 0]
    assert positive_gradient_x_attention(weights, gradients).tolist() == [[1, 0]]


def test_rollout_by_hand():
    # A = [[0, 1], [0, 1]] in both layers; Â = [[½, ½], [0, 1]], Â² = [[¼, ¾], [0, 1]]
    weights = np.broadcast_to(np.array([[0.0, 1.0], [0.0, 1.0]]), (2, 1, 2, 2))
    assert attention_rollout(weights).tolist() == [[0.25, 0.75], [0, 1]]


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_rollout_is_a_loop_over_layers(layers):
    weights = random_weights(0, layers, 3, 6, 6)
    expected = np.eye(6)
    for layer in weights:
        matrix = np.zeros((6, 6))
        for i, j in itertools.product(range(6), repeat=2):
            matrix[i, j] = 0.5 * np.mean([head[i, j] for head in layer]) + 0.5 * (i == j)
        expected = matrix / matrix.sum(axis=1, keepdims=True) @ expected
    result = attention_rollout(np.asarray(weights))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)


def test_rollout_normalizes_rows_that_do_not_sum_to_1():
    # sigmoid attention [[1, 1], [0, 0]]: ½ A + ½ I = [[1, ½], [0, ½]], rows divided by 1.5 and 0.5
    weights = np.array([[[[1.0, 1.0], [0.0, 0.0]]]])
    np.testing.assert_allclose(attention_rollout(weights), [[2 / 3, 1 / 3], [0, 1]], rtol=1e-6)


@pytest.mark.parametrize("method", [attention_rollout, attention_flow])
def test_padding_changes_nothing(method):
    weights, valid = padded(random_weights(1, 3, 2, 5, 5), 3), np.arange(5) < 3
    result = method(np.asarray(weights), valid=valid)
    np.testing.assert_allclose(result[:3, :3], method(np.asarray(weights[..., :3, :3])), rtol=1e-5)
    assert not result[3:].any()
    assert not result[:, 3:].any()
    nothing = method(np.asarray(weights), valid=np.zeros(5, bool))
    assert not nothing.any()


@pytest.mark.parametrize("method", [attention_rollout, attention_flow])
def test_no_token_and_one_token(method):
    assert method(np.ones((2, 1, 0, 0))).shape == (0, 0)
    assert method(np.ones((3, 2, 1, 1))).tolist() == [[1]]


@pytest.mark.parametrize("method", [attention_rollout, attention_flow])
def test_a_query_that_may_attend_to_nothing_keeps_itself(method):
    weights = np.array([[[[0.0, 0.0], [0.5, 0.5]]]] * 2)
    assert method(weights)[0].tolist() == [1, 0]


@pytest.mark.parametrize("method", [attention_rollout, attention_flow])
def test_cross_attention_and_no_layer_are_refused(method):
    with pytest.raises(ValueError, match=r"needs self-attention, .* not 2 queries and 3 keys; .* use raw_attention"):
        method(np.ones((1, 1, 2, 3)))
    with pytest.raises(ValueError, match=r"needs at least one layer of self-attention.* use integrated_gradients"):
        method(np.ones((0, 1, 2, 2)))
    with pytest.raises(ValueError, match="at least one layer"):
        rollout(np.ones((0, 2, 2)))


@pytest.mark.parametrize("method", [attention_rollout, attention_flow])
def test_nan_at_padding_stays_there(method):
    weights, valid = padded(random_weights(1, 3, 2, 5, 5), 3), np.arange(5) < 3
    broken = weights.copy()
    broken[:, :, 3:], broken[..., 3:] = np.nan, np.nan
    result = method(np.asarray(broken), valid=valid)
    np.testing.assert_allclose(result, method(np.asarray(weights), valid=valid), rtol=1e-6)


@pytest.mark.parametrize("layer", [0, 1])
def test_flow_has_nan_where_rollout_has(layer):
    weights = random_weights(1, 2, 2, 3, 3)
    weights[layer, 0, 1] = np.nan
    rolled, flow = attention_rollout(np.asarray(weights)), attention_flow(weights)
    assert np.isnan(rolled)[1].all()
    np.testing.assert_array_equal(np.isnan(flow), np.isnan(rolled))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_computed_in_float32(dtype):
    weights = random_weights(15, 12, 4, 8, 8).astype(jnp.dtype(dtype))
    gradients = gradients_like(16, weights).astype(jnp.dtype(dtype))
    for method, arguments in (
        (attention_rollout, (weights,)), (attention_relevance, (weights, gradients)), (raw_attention, (weights,)),
        (lambda w, g: gradient_x_attention(w[0], g[0]), (weights, gradients)),
    ):  # fmt: skip
        result = method(*arguments)
        assert result.dtype == dtype
        exact = method(*(argument.astype("float32") for argument in arguments))
        assert result.tolist() == exact.astype(jnp.dtype(dtype)).tolist()


def test_gradients_of_another_shape_are_refused():
    weights = jnp.ones((1, 2, 2, 2))
    for method in (attention_relevance, positive_gradient_x_attention):
        with pytest.raises(ValueError, match=r"gradients must have the shape of weights, \[1, 2, 2, 2\], not \[1, 1"):
            method.__wrapped__.__wrapped__(weights, weights[:, :1])
    with pytest.raises(ValueError, match="gradients must have the shape of weights"):
        gradient_x_attention.__wrapped__.__wrapped__(weights[0], weights[0, :1])
    with pytest.raises(ValueError, match=r"raw_attention: key_valid must be booleans \[2\]"):
        raw_attention.__wrapped__.__wrapped__(weights, key_valid=jnp.ones(3, bool))


def test_encoder_decoder_relevance_ignores_padding():
    encoder, decoder, cross = (
        np.random.default_rng(n).random(shape).astype("float32")
        for n, shape in enumerate(((2, 4, 4), (2, 3, 3), (2, 3, 4)))
    )
    expected = encoder_decoder_relevance(*map(jnp.asarray, (encoder[:, :3, :3], decoder[:, :2, :2], cross[:, :2, :3])))
    encoder[:, 3], encoder[:, :, 3], decoder[:, 2], decoder[:, :, 2] = (np.nan,) * 4
    cross[:, 2], cross[:, :, 3] = np.nan, np.nan
    valid = {"source_valid": np.arange(4) < 3, "target_valid": np.arange(3) < 2}
    result = encoder_decoder_relevance(*map(jnp.asarray, (encoder, decoder, cross)), **valid)
    sizes = {"aa": (2, 2), "ab": (2, 3), "ba": (3, 2), "bb": (3, 3)}
    for name, (rows, columns) in sizes.items():
        part = np.asarray(getattr(result, name))
        np.testing.assert_allclose(part[:rows, :columns], getattr(expected, name), rtol=1e-5)
        assert not part[rows:].any()
        assert not part[:, columns:].any()


def min_cut(graph, source, sink):
    """The minimum cut over all sets of inner nodes, which is the maximum flow."""
    layers, n, _ = graph.shape
    smallest = np.inf
    for bits in itertools.product([False, True], repeat=(layers - 1) * n):
        above = np.zeros((layers + 1, n), bool)  # which nodes are on the source's side
        above[0] = np.arange(n) != sink  # input tokens other than the sink lead nowhere
        above[1:-1] = np.reshape(bits, (layers - 1, n))
        above[-1] = np.arange(n) == source
        cut = sum(graph[k][above[k + 1]][:, ~above[k]].sum() for k in range(layers))
        smallest = min(smallest, cut)
    return smallest


def test_flow_by_hand():
    # A = [[0, 1], [0, 1]]: Â = [[½, ½], [0, 1]]. From 0 to 0: ½ through (1, 0). From 0 to 1: ½ by (1, 0), ½ by (1, 1).
    weights = np.broadcast_to(np.array([[0.0, 1.0], [0.0, 1.0]]), (2, 1, 2, 2))
    assert attention_flow(weights).tolist() == [[0.5, 1], [0, 1]]
    assert attention_flow(weights, queries=[1]).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("layers", "n", "causal"), [(1, 3, False), (2, 4, False), (3, 3, True), (4, 3, False), (3, 4, False)]
)
@pytest.mark.parametrize("sharpness", [1.0, 8.0])
def test_flow_is_the_minimum_cut(layers, n, causal, sharpness):
    weights = random_weights(layers + n, layers, 2, n, n, sharpness=sharpness, causal=causal).astype("float64")
    graph = 0.5 * weights.mean(axis=1) + 0.5 * np.eye(n)
    graph /= graph.sum(axis=-1, keepdims=True)
    expected = [[min_cut(graph, i, j) for j in range(n)] for i in range(n)]
    np.testing.assert_allclose(attention_flow(weights), expected, rtol=1e-9, atol=1e-9)


def test_flow_of_graphs_with_missing_edges_is_the_minimum_cut():
    # capacities that need flow to be taken back: no residual connection, half of the edges missing
    rng = np.random.default_rng(0)
    for _ in range(10):
        graph = rng.random((4, 3, 3)) * (rng.random((4, 3, 3)) < 0.6)
        pairs = np.array(list(itertools.product(range(3), repeat=2)))
        expected = [min_cut(graph, *pair) for pair in pairs]
        np.testing.assert_allclose(max_flow(graph, *pairs.T), expected, rtol=1e-9, atol=1e-9)


def test_flow_in_chunks(monkeypatch):
    weights = random_weights(5, 3, 1, 5, 5).astype("float64")
    whole = attention_flow(weights)
    monkeypatch.setattr("attnlab.analysis.attribution.flow.CHUNK", 100)
    np.testing.assert_allclose(attention_flow(weights), whole, rtol=1e-12)


def test_flow_refuses_queries_that_do_not_exist():
    with pytest.raises(ValueError, match=r"attention_flow: queries must be numbers of tokens from 0 to 1, not \[2\]"):
        attention_flow(np.ones((1, 1, 2, 2)), queries=[2])


def test_relevance_by_hand():
    # Ā = [[½, ½], [0, 1]] in both layers (gradients of 1): R = I + Ā = [[1.5, .5], [0, 2]];
    # R + Ā R = [[1.5 + .75, .5 + .25 + 1], [0, 2 + 2]]
    weights = np.array([[[[0.5, 0.5], [0.0, 1.0]]]] * 2)
    assert attention_relevance(weights, np.ones_like(weights)).tolist() == [[2.25, 1.75], [0, 4]]
    assert attention_relevance(weights, -np.ones_like(weights)).tolist() == [[1, 0], [0, 1]]


def gradients_like(seed, weights):
    return np.random.default_rng(seed).normal(size=weights.shape).astype("float32")


def averaged(weights, gradients):
    """Ā by a loop over heads."""
    return sum(np.clip(w * g, 0, None) for w, g in zip(weights, gradients, strict=True)) / len(weights)


def test_relevance_is_a_loop_over_layers():
    weights, expected = random_weights(2, 4, 3, 5, 5), np.eye(5)
    gradients = gradients_like(3, weights)
    for layer, slope in zip(weights, gradients, strict=True):
        expected = expected + averaged(layer, slope) @ expected
    np.testing.assert_allclose(attention_relevance(np.asarray(weights), np.asarray(gradients)), expected, rtol=1e-5)


def test_relevance_ignores_padding():
    weights = padded(random_weights(4, 3, 2, 5, 5), 3)
    gradients = gradients_like(5, weights).astype(weights.dtype)
    result = attention_relevance(np.asarray(weights), np.asarray(gradients), valid=np.arange(5) < 3)
    shorter = attention_relevance(np.asarray(weights[..., :3, :3]), np.asarray(gradients[..., :3, :3]))
    np.testing.assert_allclose(result[:3, :3], shorter, rtol=1e-5)
    assert not result[3:].any()
    assert not result[:, 3:].any()


def test_relevance_refuses_cross_attention():
    with pytest.raises(ValueError, match=r"attention_relevance: needs self-attention.* use encoder_decoder_relevance"):
        attention_relevance(np.ones((1, 1, 2, 3)), np.ones((1, 1, 2, 3)))


def normalized(relevance):
    """R̄ by a loop over rows: (R − I) with each row divided by its sum, plus I."""
    rows = []
    for i, row in enumerate(relevance - np.eye(len(relevance))):
        rows.append((row / row.sum() if row.sum() > 0 else row) + np.eye(len(relevance))[i])
    return np.array(rows)


def test_encoder_decoder_relevance_is_a_loop_over_layers():
    encoder, decoder = random_weights(6, 2, 2, 4, 4), random_weights(7, 3, 2, 5, 5, causal=True)
    cross = random_weights(8, 3, 2, 5, 4)
    slopes = [
        gradients_like(seed, weights) for seed, weights in zip((9, 10, 11), (encoder, decoder, cross), strict=True)
    ]
    ss, tt, ts = np.eye(4), np.eye(5), np.zeros((5, 4))
    for weights, gradients in zip(encoder, slopes[0], strict=True):
        ss = ss + averaged(weights, gradients) @ ss
    for own, own_slope, other, other_slope in zip(decoder, slopes[1], cross, slopes[2], strict=True):
        step = averaged(own, own_slope)
        tt, ts = tt + step @ tt, ts + step @ ts
        ts = ts + normalized(tt).T @ averaged(other, other_slope) @ normalized(ss)
    arrays = [
        positive_gradient_x_attention(np.asarray(weights), np.asarray(gradients))
        for weights, gradients in zip((encoder, decoder, cross), slopes, strict=True)
    ]
    result = encoder_decoder_relevance(*arrays)
    np.testing.assert_allclose(result.bb, ss, rtol=1e-5)
    np.testing.assert_allclose(result.aa, tt, rtol=1e-5)
    np.testing.assert_allclose(result.ab, ts, rtol=1e-5)
    assert not result.ba.any()
    with pytest.raises(ValueError, match="decoder has 2 layers, cross 3"):
        encoder_decoder_relevance(arrays[0], arrays[1][:2], arrays[2])


def test_co_attention_relevance_is_a_loop_over_layers():
    # as in LXMERT: both cross-attentions of a layer from the same relevance, then both self-attentions
    sizes, layers = {"a": 3, "b": 4}, 2
    matrix = {
        key: np.random.default_rng(n).random((layers, sizes[key[0]], sizes[key[1]])).astype("float32")
        for n, key in enumerate(("aa", "bb", "ab", "ba"))
    }
    aa, bb, ab, ba = np.eye(3), np.eye(4), np.zeros((3, 4)), np.zeros((4, 3))
    state = initial_relevance(3, 4)
    for m in range(layers):
        new_ab = ab + normalized(aa).T @ matrix["ab"][m] @ normalized(bb)
        new_ba = ba + normalized(bb).T @ matrix["ba"][m] @ normalized(aa)
        aa, bb = aa + matrix["ab"][m] @ ba, bb + matrix["ba"][m] @ ab
        ab, ba = new_ab, new_ba
        aa, ab = aa + matrix["aa"][m] @ aa, ab + matrix["aa"][m] @ ab
        bb, ba = bb + matrix["bb"][m] @ bb, ba + matrix["bb"][m] @ ba
        state = cross_attention_relevance(state, ab=np.asarray(matrix["ab"][m]), ba=np.asarray(matrix["ba"][m]))
        state = self_attention_relevance(state, a=np.asarray(matrix["aa"][m]), b=np.asarray(matrix["bb"][m]))
    for result, expected in zip(state, (aa, ab, ba, bb), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_vmap_and_jit_give_what_a_loop_gives():
    weights = np.asarray(random_weights(12, 3, 2, 2, 4, 4))
    gradients = np.asarray(gradients_like(13, weights))
    for method, arguments in ((attention_rollout, (weights,)), (attention_relevance, (weights, gradients))):
        together = jax.jit(jax.vmap(method))(*arguments)
        for index in range(3):
            alone = method.__wrapped__(*(jnp.asarray(argument[index]) for argument in arguments))
            np.testing.assert_allclose(together[index], alone, rtol=1e-5, atol=1e-7)


def test_float64_stays_float64(x64):
    weights = np.asarray(random_weights(14, 2, 2, 3, 3).astype("float64"))
    assert attention_rollout(weights).dtype == "float64"
    assert attention_relevance(weights, weights).dtype == "float64"
    assert raw_attention(weights).dtype == "float64"


def test_every_method_is_public_and_names_one_that_works():
    for name, requirement in ATTRIBUTION_METHODS.items():
        assert callable(getattr(attribution, name))
        assert requirement.needs <= set(DESCRIPTIONS)
        assert set(requirement.instead) <= set(ATTRIBUTION_METHODS) - {name}
    check_method("random_attribution", set())
    check_method("alti", {"self_attention", "values"})
    check_method("raw_attention", {"cross_attention"})
    check_method("block_norms", {"self_attention_layer", "values"})
    check_method("cross_attention_relevance", {"cross_attention", "weight_gradients"})
    with pytest.raises(ValueError, match="needs self-attention in every layer of a decoder; use gradient_x_attention"):
        check_method("encoder_decoder_relevance", {"cross_attention", "weight_gradients", "embedded"})


def test_a_recurrent_model_is_refused_rollout_by_name():
    has = {"embedded", "removal", "attention", "weight_gradients"}
    for method, works in {
        "attention_rollout": "raw_attention", "attention_flow": "raw_attention", "globenc": "raw_attention",
        "attention_relevance": "gradient_x_attention", "attention_norms": "raw_attention", "value_zeroing": "occlusion",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"^{method} needs .*; use {works}$"):
            check_method(method, has)


def test_all_methods_are_searched_before_none_is_said_to_work():
    for method in ("saliency", "leave_one_out"):
        with pytest.raises(ValueError, match=f"^{method} needs .*; use raw_attention$"):
            check_method(method, {"cross_attention"})


def test_what_no_model_has_is_said():
    with pytest.raises(ValueError, match="no method of attribution but random_attribution works"):
        check_method("saliency", set())
    with pytest.raises(ValueError, match="there is no attribution method 'gloenc'; did you mean globenc"):
        check_method("gloenc", set())
    with pytest.raises(ValueError, match="there is no need 'gradients'"):
        check_method("saliency", {"gradients"})
