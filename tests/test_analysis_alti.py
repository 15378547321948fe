"""Attribution methods on vectors across layers: GlobEnc, ALTI, ALTI+."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_blocks import (
    TWO_TOKENS,
    alti,
    alti_contributions,
    alti_plus,
    attention_norms,
    block_norms,
    decompose_self_attention,
    encoder_norms,
    globenc,
    head_attention_norms,
    random_block,
    weighted_values,
)

from attnlab.analysis import attribution
from attnlab.analysis.attribution import Decomposition, EncoderBlock, NormParameters


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
