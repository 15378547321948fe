"""Attribution methods on vectors: the exact decomposition of a block, norms, GlobEnc, ALTI, ALTI+, value zeroing."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from flax import linen as nn
from weights import drawn

from attnlab.analysis import attribution
from attnlab.analysis.attribution import AttentionBlock, Decomposition, EncoderBlock, NormParameters, decomposition
from attnlab.analysis.attribution.value_zeroing import cosine_distance
from attnlab.config.attention import Attention as AttentionConfig
from attnlab.config.attention import ScaledDot
from attnlab.config.models.transformer import Block, LayerNorm, RmsNorm
from attnlab.functional import masks
from attnlab.layers.capture import apply_with_attention
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import CrossAttention, SelfAttention
from attnlab.layers.transformer import EncoderLayer

alti, alti_contributions, alti_plus = map(
    compiled, (attribution.alti, attribution.alti_contributions, attribution.alti_plus)
)
attention_norms, block_norms, head_attention_norms = map(
    compiled, (attribution.attention_norms, attribution.block_norms, attribution.head_attention_norms)
)
decompose_cross_attention, decompose_self_attention = map(
    compiled, (attribution.decompose_cross_attention, attribution.decompose_self_attention)
)
encoder_norms, globenc = map(compiled, (attribution.encoder_norms, attribution.globenc))
mixing_ratio, rollout = map(compiled, (attribution.mixing_ratio, attribution.rollout))
value_zeroing, weighted_values = map(compiled, (attribution.value_zeroing, attribution.weighted_values))
apply_linear_norm, cosine_distance = map(compiled, (decomposition.apply_linear_norm, cosine_distance))
ATTENTION = AttentionConfig(score=ScaledDot())
TWO_TOKENS = AttentionBlock(
    weights=jnp.array([[[0.5, 0.5], [0.25, 0.75]]]),
    values=jnp.array([[[2.0, 0.0]], [[2.0, 4.0]]]),
    output_kernel=jnp.asarray(np.eye(2)[None]),
    residual=jnp.array([[1.0, 1.0], [0.0, -1.0]]),
)
"""By hand: token 0 is [1, 0] + [1, 1] = [2, 1] of itself and [1, 2] of token 1; token 1 is [0.5, 0] of token 0 and
[1.5, 3] + [0, −1] = [1.5, 2] of itself."""


def config(**options):
    return Block(width=12, heads=4, feed_forward=16, dropout=0.0, **options)


total = compiled(Decomposition.total)


def norm_parameters(params, norm):
    kind = "layer_norm" if isinstance(norm, LayerNorm) else "rms_norm"
    return NormParameters(params["scale"], params.get("bias"), norm.epsilon, kind)


def captured(params, settings, inputs, residual, weights, norm=None):
    """The arrays of the first example of a `SelfAttention` whose inputs are `inputs`."""
    params = jax.tree.map(np.asarray, params)
    kernel = params["qkv"]["kernel"]
    value = np.asarray(inputs)[0] @ kernel + params["qkv"].get("bias", 0)
    heads, features = settings.key_heads, settings.head_features
    values = value[:, -heads * features :].reshape(-1, heads, features)
    output = params["output"]["kernel"].reshape(settings.heads, features, settings.width)
    arrays = np.asarray(weights)[0], values, output, np.asarray(residual)[0], params["output"].get("bias")
    return AttentionBlock(*jax.tree.map(jnp.asarray, arrays), norm)


def states(seed=1, tokens=5):
    return np.random.default_rng(seed).normal(size=(1, tokens, 12)).astype("float32")


def capturing(module, x, *arguments, **options):
    """Return parameters of a module with its output and the records of its attention, compiled as one program."""
    params = drawn(partial(module.init, **options), x, *arguments)["params"]
    run = jax.jit(lambda params, x: apply_with_attention(module, {"params": params}, x, *arguments, **options))
    output, records = run(params, x)
    return params, jax.tree.map(np.asarray, output), records


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"kv_heads": 1, "biases": False}, {"head_width": 5}], ids=str)
@pytest.mark.parametrize("mask", [masks.lengths(jnp.array([5])), masks.causal()], ids=["full", "causal"])
def test_the_weighted_values_of_self_attention_sum_to_its_output(options, mask):
    settings, x = config(**options), states()
    layer, context = SelfAttention(settings, ATTENTION), Context(jnp.array([5]), mask)
    params, output, (record,) = capturing(layer, x, context, train=False)
    block = captured(params, settings, x, x, record.weights)
    vectors = weighted_values(block.weights, block.values, block.output_kernel)
    without_bias = output[0] - params["output"].get("bias", 0)
    np.testing.assert_allclose(vectors.sum(axis=1), without_bias, rtol=1e-4, atol=1e-5)


def test_the_weighted_values_of_cross_attention_and_its_residual_sum_to_the_block():
    settings, x, memory = config(), states(), jnp.asarray(states(2, tokens=3))
    layer, lengths = CrossAttention(settings, ATTENTION), jnp.array([3])
    attend = lambda layer, x: layer(x, *layer.project_memory(memory), lengths, train=False)  # noqa: E731
    params, (output, _), (record,) = capturing(layer, x, method=attend)
    params = jax.tree.map(np.asarray, params)
    values = (np.asarray(memory)[0] @ params["key_value"]["kernel"] + params["key_value"]["bias"])[:, 12:].reshape(
        3, 4, 3
    )
    kernel = params["output"]["kernel"].reshape(4, 3, 12)
    norm = NormParameters(*(jnp.asarray(np.linspace(*ends, 12, dtype="float32")) for ends in ((0.5, 2), (-1, 1))))
    arrays = np.asarray(record.weights)[0], values, kernel, x[0], params["output"]["bias"]
    block = AttentionBlock(*map(jnp.asarray, arrays))
    parts = decompose_cross_attention(block)
    assert parts.vectors.shape == (5, 4, 12)
    np.testing.assert_allclose(total(parts), (x + output)[0], rtol=1e-4, atol=1e-5)
    post = decompose_cross_attention(replace(block, norm=norm))
    expected = jax.jit(nn.LayerNorm(epsilon=1e-5).apply)(
        {"params": {"scale": norm.scale, "bias": norm.bias}}, (x + output)[0]
    )
    np.testing.assert_allclose(total(post), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", [LayerNorm(), RmsNorm()], ids=lambda norm: norm.kind)
@pytest.mark.parametrize("position", ["pre", "post"])
def test_a_block_of_the_labs_encoder_layer_is_the_sum_of_its_parts(norm, position):
    settings, x, context = config(norm=norm, norm_position=position), states(), Context(jnp.array([5]), masks.causal())
    layer = EncoderLayer(settings, ATTENTION)
    params, _, (record,) = capturing(layer, x, context, train=False)

    @jax.jit
    def parts(params, x):
        output, captures = layer.apply({"params": params}, x, context, False, capture_intermediates=True)
        names = "self_norm", "self_attention", "feed_forward"
        return output, *(captures["intermediates"][name]["__call__"][0] for name in names)

    output, first, attended, fed = map(np.asarray, parts(params, x))
    weights = record.weights
    if position == "pre":  # x + f(norm(x)): values of the normed input, nothing behind the sum
        block = captured(params["self_attention"], settings, first, x, weights)
        expected, whole = x + attended, EncoderBlock(block)
        assert np.allclose(output, x + attended + fed, atol=1e-5)
    else:  # norm(x + f(x))
        parameters = norm_parameters(params["self_norm"], norm)
        block = captured(params["self_attention"], settings, x, x, weights, parameters)
        expected = first
        whole = EncoderBlock(block, norm_parameters(params["feed_forward_norm"], norm), (first + fed)[0])
    np.testing.assert_allclose(total(decompose_self_attention(block)), expected[0], rtol=1e-3, atol=1e-4)
    # GlobEnc leaves out the feed-forward network: with its part and the biases added back, the layer's output is whole
    vectors = decompose_self_attention(block).vectors
    if position == "post":
        whole_sum = whole.feed_forward_sum
        vectors = apply_linear_norm(whole.feed_forward_norm, vectors, whole_sum)
        rest = fed[0] + decompose_self_attention(block).constant
        rest = apply_linear_norm(whole.feed_forward_norm, rest, whole_sum)
        bias = 0 if whole.feed_forward_norm.bias is None else np.asarray(whole.feed_forward_norm.bias)
        np.testing.assert_allclose(vectors.sum(axis=1) + rest + bias, output[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(encoder_norms(whole), np.linalg.norm(vectors, axis=-1), rtol=1e-5)


def test_norms_by_hand():
    parts = decompose_self_attention(TWO_TOKENS)
    assert parts.vectors.tolist() == [[[2, 1], [1, 2]], [[0.5, 0], [1.5, 2]]]
    # ‖α f(x)‖ without the residual connection: [1, 0], [1, 2] and [0.5, 0], [1.5, 3]
    norms = attention_norms(TWO_TOKENS.weights, TWO_TOKENS.values, TWO_TOKENS.output_kernel)
    np.testing.assert_allclose(norms, [[1, 5**0.5], [0.5, 11.25**0.5]], rtol=1e-6)
    np.testing.assert_allclose(block_norms(TWO_TOKENS), [[5**0.5, 5**0.5], [0.5, 2.5]], rtol=1e-6)
    # token 0: √5 of the other, √5 of its own; token 1: 0.5 of the other, 2.5 of its own
    np.testing.assert_allclose(mixing_ratio(parts.vectors), [0.5, 1 / 6], rtol=1e-6)


def test_heads_may_cancel():
    # two heads with opposite output projections: each has norm 1, their sum 0
    weights, values = np.ones((2, 1, 1), "float32"), np.ones((1, 2, 1), "float32")
    output = jnp.array([[[1.0]], [[-1.0]]])
    assert head_attention_norms(weights, values, output).tolist() == [[[1]], [[1]]]
    assert attention_norms(weights, values, output).tolist() == [[0]]


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_a_norm_is_linear_given_its_total(kind):
    # layer_norm of [4, 0]: mean 2, deviation 2; [3, 1] becomes [1, −1]/2 ⊙ [2, 1]. rms_norm: root mean square √8
    norm = NormParameters(jnp.array([2.0, 1.0]), None, 0.0, kind)
    result = apply_linear_norm(norm, jnp.array([[3.0, 1.0]]), jnp.array([[4.0, 0.0]]))
    expected = {"layer_norm": [[1, -0.5]], "rms_norm": [[6 / 8**0.5, 1 / 8**0.5]]}[kind]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_mixing_ratio_edges():
    assert mixing_ratio(np.zeros((2, 2, 3))).tolist() == [0, 0]
    assert mixing_ratio(np.ones((1, 1, 3))).tolist() == [0]
    assert mixing_ratio(np.zeros((0, 0, 3))).shape == (0,)
    # without the padded token 1 nothing is mixed into token 0
    assert mixing_ratio(np.ones((2, 2, 3)), valid=np.array([True, False])).tolist() == [0, 0]


def test_globenc_by_hand():
    # N = [[√5, √5], [0.5, 2.5]]; N N
    root = 5**0.5
    expected = [[5 + root / 2, 5 + 2.5 * root], [root / 2 + 1.25, root / 2 + 6.25]]
    np.testing.assert_allclose(globenc([EncoderBlock(TWO_TOKENS)] * 2), expected, rtol=1e-6)


def test_globenc_of_a_post_norm_layer_by_hand():
    # g₂ of rms_norm with ε 0, γ 1 and a sum of root mean square 2 halves all vectors
    norm = NormParameters(jnp.array([1.0, 1.0]), None, 0.0, "rms_norm")
    layer = EncoderBlock(TWO_TOKENS, norm, np.full((2, 2), 2.0))
    np.testing.assert_allclose(globenc([layer]), block_norms(TWO_TOKENS) / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="pass feed_forward_norm together with feed_forward_sum"):
        encoder_norms(EncoderBlock(TWO_TOKENS, norm))


def test_alti_by_hand():
    # token 0: y = [3, 3], ‖y‖₁ = 6, both distances 3: shares 3 : 3. Token 1: y = [2, 2], ‖y‖₁ = 4, distances 3.5 and
    # 0.5: shares 0.5 : 3.5
    once = [[0.5, 0.5], [0.125, 0.875]]
    assert alti_contributions(decompose_self_attention(TWO_TOKENS)).tolist() == once
    assert alti([TWO_TOKENS]).tolist() == once
    # C C = [[.25 + .0625, .25 + .4375], [.0625 + .109375, .0625 + .765625]]
    assert alti([TWO_TOKENS] * 2).tolist() == [[0.3125, 0.6875], [0.171875, 0.828125]]


def test_alti_cuts_off_what_points_away():
    # y = [1, 3]: [−1, 0] lies at distance 5 > ‖y‖₁ = 4 and gets nothing
    parts = Decomposition(jnp.array([[[-1.0, 0.0], [2.0, 3.0]]]), np.zeros((1, 2)))
    assert alti_contributions(parts).tolist() == [[0, 1]]
    # a constant can outweigh all vectors: then no token contributes
    parts = Decomposition(jnp.array([[[-1.0], [-2.0]]]), jnp.array([[9.0]]))
    assert alti_contributions(parts).tolist() == [[0, 0]]


def random_block(seed, queries, keys, heads=2, width=6, causal=False, norm=True):
    rng = np.random.default_rng(seed)
    normal = lambda spread, *shape: jnp.asarray(spread * rng.normal(size=shape), "float32")  # noqa: E731
    exponentials = np.exp(2 * rng.normal(size=(heads, queries, keys)))
    exponentials = np.tril(exponentials) if causal else exponentials
    weights = jnp.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), "float32")
    parameters = NormParameters(jnp.asarray(1 + 0.3 * rng.normal(size=width), "float32"), normal(0.3, width))
    values, output, residual = normal(1, keys, heads, 3), normal(1, heads, 3, width), normal(3, queries, width)
    return AttentionBlock(weights, values, output, residual, normal(0.2, width), parameters if norm else None)


def changed(block, **arrays):
    return replace(block, **{name: jnp.asarray(array) for name, array in arrays.items()})


def contributions_by_loops(block, cross=False):
    """ALTI's shares by loops in NumPy: vectors, norm, distances, clipping, normalization."""
    weights, values, output = (np.asarray(x, "float64") for x in (block.weights, block.values, block.output_kernel))
    residual, bias = np.asarray(block.residual, "float64"), np.asarray(block.output_bias, "float64")
    heads, queries, keys = weights.shape
    shares = np.zeros((queries, keys + cross))
    for i in range(queries):
        vectors = [sum(weights[h, i, j] * values[j, h] @ output[h] for h in range(heads)) for j in range(keys)]
        if cross:
            vectors.append(residual[i])
        else:
            vectors[i] = vectors[i] + residual[i]
        whole = sum(vectors) + bias
        if block.norm is not None:
            scale, shift = np.asarray(block.norm.scale, "float64"), np.asarray(block.norm.bias, "float64")
            deviation = np.sqrt(whole.var() + block.norm.epsilon)
            vectors = [(v - v.mean()) / deviation * scale for v in vectors]
            whole = (whole - whole.mean()) / deviation * scale + shift
        for j, vector in enumerate(vectors):
            shares[i, j] = max(0, np.abs(whole).sum() - np.abs(whole - vector).sum())
        shares[i] /= shares[i].sum() or 1
    return shares


@pytest.mark.parametrize("norm", [True, False])
def test_alti_is_a_loop(norm):
    blocks = [random_block(seed, 5, 5, norm=norm) for seed in range(3)]
    expected = np.eye(5)
    for block in blocks:
        expected = contributions_by_loops(block) @ expected
    np.testing.assert_allclose(alti(blocks), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", [True, False])
def test_alti_plus_is_a_loop(norm):
    encoder = [random_block(seed, 4, 4, norm=norm) for seed in range(2)]
    own = [random_block(10 + seed, 5, 5, causal=True, norm=norm) for seed in range(3)]
    cross = [random_block(20 + seed, 5, 4, norm=norm) for seed in range(3)]
    memory = np.eye(4)
    for block in encoder:
        memory = contributions_by_loops(block) @ memory
    source, target = np.zeros((5, 4)), np.eye(5)
    for self_block, cross_block in zip(own, cross, strict=True):
        inner, outer = contributions_by_loops(self_block), contributions_by_loops(cross_block, cross=True)
        new_source, new_target = np.zeros((5, 4)), np.zeros((5, 5))
        for i in range(5):
            new_source[i] = sum(outer[i, j] * memory[j] for j in range(4))
            for j in range(5):  # the residual carries what self-attention made of the states below
                new_source[i] += outer[i, 4] * inner[i, j] * source[j]
                new_target[i] += outer[i, 4] * inner[i, j] * target[j]
        total = new_source.sum(axis=1, keepdims=True) + new_target.sum(axis=1, keepdims=True)
        source, target = new_source / total, new_target / total
    result = alti_plus(encoder, own, cross)
    np.testing.assert_allclose(result.source, source, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.target, target, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.source.sum(axis=1) + result.target.sum(axis=1), 1, rtol=1e-5)
    assert not np.triu(result.target, 1).any()  # nothing of later target tokens


def test_alti_plus_of_padded_sequences():
    own, cross, encoder = random_block(1, 5, 5, causal=True), random_block(2, 5, 4), random_block(3, 4, 4)

    def cut(block, keys):
        """Padded keys get no weight."""
        return changed(block, weights=np.where(np.arange(block.weights.shape[-1]) < keys, block.weights, 0))

    def short(block, queries, keys):
        weights, values, residual = map(np.asarray, (cut(block, keys).weights, block.values, block.residual))
        return changed(block, weights=weights[:, :queries, :keys], values=values[:keys], residual=residual[:queries])

    padded = alti_plus(
        [cut(encoder, 3)], [own], [cut(cross, 3)], source_valid=np.arange(4) < 3, target_valid=np.arange(5) < 4
    )
    expected = alti_plus([short(encoder, 3, 3)], [short(own, 4, 4)], [short(cross, 4, 3)])
    np.testing.assert_allclose(padded.source[:4, :3], expected.source, rtol=1e-5)
    np.testing.assert_allclose(padded.target[:4, :4], expected.target, rtol=1e-5)
    assert not padded.source[4:].any()
    assert not padded.source[:, 3:].any()
    assert not padded.target[4:].any()


def test_methods_of_blocks_ignore_padding():
    block = random_block(4, 4, 4)
    weights = np.where(np.arange(4) < 3, block.weights, 0)
    padded = changed(block, weights=weights)
    values, residual = np.asarray(block.values)[:3], np.asarray(block.residual)[:3]
    short = changed(block, weights=weights[:, :3, :3], values=values, residual=residual)
    valid = np.arange(4) < 3
    sums = np.random.default_rng(9).normal(size=(4, 6))
    for method in (
        lambda block, sums, **kw: block_norms(block, **kw),
        lambda block, sums, **kw: alti([block, block], **kw),
        lambda block, sums, **kw: globenc([EncoderBlock(block, block.norm, sums)] * 2, **kw),
    ):
        result = method(padded, sums, valid=valid)
        np.testing.assert_allclose(result[:3, :3], method(short, sums[:3]), rtol=1e-5)
        assert not result[3:].any()
        assert not result[:, 3:].any()


def test_no_token_and_one_token():
    for n in (0, 1):
        block = random_block(5, n, n)
        assert block_norms(block).shape == (n, n)
        assert globenc([EncoderBlock(block)]).shape == (n, n)
        assert alti([block] * 2).shape == (n, n)
    assert alti([random_block(5, 1, 1)]).tolist() in ([[1]], [[0]])


def test_vmap_and_jit_over_blocks():
    blocks = [random_block(seed, 4, 4) for seed in range(3)]
    together = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *blocks)
    result = jax.jit(jax.vmap(lambda block: alti([block, block])))(together)
    for index, block in enumerate(blocks):
        np.testing.assert_allclose(result[index], attribution.alti([block, block]), rtol=1e-4, atol=1e-6)


def test_wrong_blocks_are_refused():
    with pytest.raises(ValueError, match="2 queries and 3 keys; for cross-attention use decompose_cross_attention"):
        decompose_self_attention(random_block(0, 2, 3))
    with pytest.raises(ValueError, match=r"4 heads of output_kernel .* must be a multiple of 3 heads"):
        weighted_values(np.ones((4, 1, 1)), np.ones((1, 3, 2)), np.ones((4, 2, 2)))
    with pytest.raises(ValueError, match="alti: needs at least one layer of self-attention; use integrated_gradients"):
        alti([])
    with pytest.raises(ValueError, match="globenc: needs at least one encoder layer"):
        globenc([])
    with pytest.raises(ValueError, match="decoder_self has 0 blocks, decoder_cross 1"):
        alti_plus([], [], [random_block(0, 2, 2)])


def test_cosine_distance():
    x = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    y = jnp.array([[-3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [7.0, 0.0]])
    np.testing.assert_allclose(cosine_distance(x, y), [2, 1 - 0.5**0.5, 0.5, 0, 0], rtol=1e-6)
    # 1 − cos of a small angle is angle²/2, which float32 loses in 1 − cos
    np.testing.assert_allclose(cosine_distance(jnp.array([[1.0, 1e-5]]), jnp.array([[1.0, 0.0]])), [5e-11], rtol=1e-4)


def test_value_zeroing_is_a_loop():
    block = random_block(6, 4, 4, norm=False)

    def layer(zeroed):
        values = jnp.where(zeroed[:, None, None], 0, block.values)
        attended = jnp.einsum("hqk,khv,hvd->qd", block.weights, values, block.output_kernel)
        return jnp.tanh(block.residual + attended)

    one = compiled(layer)
    expected, whole = np.zeros((4, 4)), one(np.zeros(4, bool)).astype("float64")
    for i, k in itertools.product(range(4), repeat=2):
        without = one(np.arange(4) == k).astype("float64")[i]
        expected[i, k] = 1 - without @ whole[i] / np.linalg.norm(without) / np.linalg.norm(whole[i])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value_zeroing(layer, 4), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(value_zeroing(layer, 4, internal_batch_size=3), expected, rtol=1e-3, atol=1e-5)
    layers = np.stack([value_zeroing(layer, 4)] * 2)
    np.testing.assert_allclose(rollout(layers), expected @ expected, rtol=1e-3, atol=1e-5)


def test_value_zeroing_of_keys_without_influence():
    # key 0 has no part in the output, so key 1 has all of it; query 1 depends on no key
    def layer(zeroed):
        return jnp.array([[1.0, 0.0], [0.0, 1.0]]) + jnp.where(zeroed[1], 0, 1) * jnp.array([[0.0, 1.0], [0.0, 0.0]])

    result = value_zeroing(layer, 2)
    np.testing.assert_allclose(result, [[0, 1], [0, 0]], rtol=1e-6)
    valid = jnp.array([True, False])
    assert value_zeroing(layer, 2, key_valid=valid).tolist() == [[0, 0], [0, 0]]
    np.testing.assert_allclose(value_zeroing(layer, 2, query_valid=valid), [[0, 1], [0, 0]], rtol=1e-6)
    assert value_zeroing(lambda zeroed: jnp.ones((3, 2)), 0).shape == (3, 0)
    with pytest.raises(ValueError, match=r"value_zeroing: layer must return \[queries, features\]"):
        value_zeroing(lambda zeroed: jnp.ones(3), 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.quick("bfloat16")
def test_low_precision_is_computed_in_float32(dtype):
    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), random_block(3, 5, 5))
    wide = jax.tree.map(lambda leaf: leaf.astype("float32"), narrow)
    cross = jax.tree.map(lambda leaf: leaf.astype(dtype), random_block(4, 5, 4))
    for method in (
        lambda block: alti([block] * 6),
        lambda block: globenc([EncoderBlock(block)]),
        block_norms,
        lambda block: attention_norms(block.weights, block.values, block.output_kernel),
        lambda block: head_attention_norms(block.weights, block.values, block.output_kernel),
    ):
        result = method(narrow)
        assert result.dtype == dtype
        assert result.tolist() == method(wide).astype(dtype).tolist()
    result = alti_plus([], [narrow], [cross])
    assert result.source.dtype == dtype


def test_value_zeroing_in_bfloat16_sees_small_changes():
    # Each key moves one feature of the output by 1/8 and 1/4, distances of about 0.008 and 0.03.
    def layer(zeroed, dtype="bfloat16"):
        moves = jnp.where(zeroed, 0.0, jnp.array([0.125, 0.25])).astype(dtype)
        return jnp.concatenate([jnp.ones(1, dtype), moves])[None]

    result = value_zeroing(layer, 2)
    assert result.dtype == "bfloat16"
    exact = value_zeroing(lambda zeroed: layer(zeroed, "float32"), 2)
    np.testing.assert_allclose(result.astype("float32"), exact, rtol=1e-2)
    assert 0.1 < float(result[0, 0]) < 0.3


@pytest.mark.parametrize("filling", [1e30, jnp.nan])
def test_vectors_of_padded_keys_do_not_enter(filling):
    valid, real = np.arange(5) < 3, random_block(7, 3, 3)
    grown = lambda leaf, axes: np.pad(leaf, axes, constant_values=filling)  # noqa: E731
    block = changed(
        real,
        weights=grown(real.weights, ((0, 0), (0, 2), (0, 2))),
        values=grown(real.values, ((0, 2), (0, 0), (0, 0))),
        residual=grown(real.residual, ((0, 2), (0, 0))),
    )
    norm = NormParameters(jnp.asarray(np.ones(6)))
    whole = [EncoderBlock(b, norm, b.residual) for b in (real, block)]
    for expected, result in (
        (alti([real] * 2), alti([block] * 2, valid=valid)),
        (block_norms(real), block_norms(block, valid=valid)),
        (globenc(whole[:1]), globenc(whole[1:], valid=valid)),
    ):
        np.testing.assert_allclose(result[:3, :3], expected, rtol=1e-4, atol=1e-6)
        assert not result[3:].any()
        assert not result[:, 3:].any()
    parts, short = decompose_self_attention(real), decompose_self_attention(real).vectors
    longer = Decomposition(np.pad(short, ((0, 0), (0, 2), (0, 0)), constant_values=filling), parts.constant)
    shares = alti_contributions(longer, key_valid=valid)
    np.testing.assert_allclose(shares[:, :3], alti_contributions(parts), rtol=1e-5)
    other = random_block(8, 3, 4)
    cross = changed(
        other,
        weights=grown(other.weights, ((0, 0), (0, 2), (0, 1))),
        values=grown(other.values, ((0, 1), (0, 0), (0, 0))),
        residual=grown(other.residual, ((0, 2), (0, 0))),
    )
    expected = alti_plus([], [real], [other])
    result = alti_plus([], [block], [cross], source_valid=np.arange(5) < 4, target_valid=valid)
    np.testing.assert_allclose(result.source[:3, :4], expected.source, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.target[:3, :3], expected.target, rtol=1e-4, atol=1e-6)


def test_masks_of_another_length_are_refused():
    block = random_block(9, 3, 3)
    for method in (lambda valid: alti([block], valid=valid), lambda valid: block_norms(block, valid=valid)):
        with pytest.raises(ValueError, match=r"query_valid must be booleans \[3\]"):
            method(np.ones(2, bool))
