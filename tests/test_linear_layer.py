"""Linear attention as a sequence mixer: steps equal the whole, in a Transformer decoder and in beam search too."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import drawn

from attnlab.config import Decoding
from attnlab.config import linear_attention as linear_config
from attnlab.config.models import transformer as config
from attnlab.functional import masks
from attnlab.layers.linear_attention import LinearAttention
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import SelfAttention
from attnlab.models.transformer import TransformerSeq2Seq
from attnlab.training.decoding import make_decode

BLOCK = config.Block(width=8, heads=4, kv_heads=2, max_length=8, positions=config.NoPositions())
RULES = {
    "sum_rule": linear_config.SumRule(),
    "not normalized": linear_config.SumRule(normalized=False),
    "retention": linear_config.Retention(),
    "gated": linear_config.Gated(rank=3),
    "delta_rule": linear_config.DeltaRule(),
    "gated_delta_rule": linear_config.GatedDeltaRule(),
}
MAPS = {
    "favor": linear_config.Favor(features=6),
    "cosformer": linear_config.Cosformer(),
    "hedgehog": linear_config.Hedgehog(),
    "identity": linear_config.Identity(),
}
KINDS = {name: linear_config.LinearAttention(rule=rule, chunk=2) for name, rule in RULES.items()}
KINDS |= {name: linear_config.LinearAttention(feature_map=part, output_norm=True) for name, part in MAPS.items()}
LENGTHS = jnp.array([6, 4])


def layer_and_variables(kind, block=BLOCK, bidirectional=False):
    layer = LinearAttention(block, KINDS[kind], bidirectional=bidirectional, stack="decoder", layer=1)
    states = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 8)), jnp.float32)
    mask = masks.lengths(LENGTHS) if bidirectional else masks.causal()
    context = Context(LENGTHS, mask)
    variables = drawn(lambda rngs, states: layer.init(rngs, states, context, train=False), states)
    return layer, variables, states, context


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_the_whole(kind):
    layer, variables, states, _ = layer_and_variables(kind)

    @jax.jit
    def both(variables):
        whole = layer.apply(variables, states, Context(jnp.array([6, 6]), masks.causal()), train=False)
        state, outputs = layer.apply(variables, 2, states.dtype, method="init_state"), []
        for part in (states[:, :1], states[:, 1:2], states[:, 2:]):
            state, output = layer.apply(variables, state, part, method="step")
            outputs.append(output)
        return whole, jnp.concatenate(outputs, axis=1), state

    whole, steps, state = both(variables)
    np.testing.assert_allclose(steps, whole, atol=2e-5)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(state))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient_and_padding_does_not_matter(kind):
    layer, variables, states, context = layer_and_variables(kind)

    @jax.jit
    def loss(variables, states):
        output = layer.apply(variables, states, context, train=True)
        return jnp.sum(jnp.where(jnp.arange(6)[None, :, None] < LENGTHS[:, None, None], jnp.sin(output), 0.0))

    slopes = jax.grad(loss)(variables, states)
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        assert jnp.isfinite(slope).all()
        assert slope.any(), jax.tree_util.keystr(path)
    assert loss(variables, states.at[1, 4:].set(9.0)) == loss(variables, states)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sum_rule", "not normalized", *MAPS])
def test_without_a_causal_mask_the_order_of_tokens_does_not_matter(kind):
    layer, variables, states, context = layer_and_variables(kind, bidirectional=True)
    apply = jax.jit(lambda states: layer.apply(variables, states, context, train=False))
    order = jnp.array([2, 0, 3, 1, 4, 5])
    close = np.allclose(apply(states[:, order]), apply(states)[:, order], atol=1e-5)
    assert close == (kind != "cosformer")


@pytest.mark.slow
def test_rotary_positions_go_on_with_the_state():
    block = BLOCK.replace(positions=config.Rotary())
    layer, variables, states, _ = layer_and_variables("retention", block)
    whole = layer.apply(variables, states, Context(jnp.array([6, 6]), masks.causal()), train=False)
    state, first = layer.apply(
        variables, layer.apply(variables, 2, states.dtype, method="init_state"), states[:, :4], method="step"
    )
    second = layer.apply(variables, state, states[:, 4:], method="step")[1]
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, atol=2e-5)


@pytest.mark.slow
def test_what_it_cannot_honor_is_refused():
    layer, variables, states, context = layer_and_variables("sum_rule", bidirectional=True)
    segments = masks.lengths(LENGTHS) & masks.segments(jnp.zeros((2, 6), jnp.int32))
    with pytest.raises(ValueError, match=r"decoder/layer_1: .*padding only, .*segments"):
        layer.apply(variables, states, Context(LENGTHS, segments), train=False)
    with pytest.raises(ValueError, match=r"decoder/layer_1: .*mods"):
        layer.apply(variables, states, context._replace(mods=(lambda logits, positions: logits,)), train=False)


@pytest.mark.parametrize("kind", ["favor", "hedgehog", "elu_plus_one", "cosformer"])
def test_a_delta_rule_refuses_long_keys(kind):
    with pytest.raises(ValueError, match=f"feature_map: the keys of {kind} .*delta_rule .*silu_unit"):
        linear_config.LinearAttention(rule=linear_config.DeltaRule(), feature_map=({"kind": kind}))  # pyright: ignore


def hybrid(block, attention, *, layer, **options):
    """Make two layers of linear attention, then one of softmax attention."""
    if layer == 3:
        return SelfAttention(block, attention, layer=layer, **options)
    return LinearAttention(block, KINDS["gated_delta_rule"], layer=layer, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mixer", [lambda block, _, **options: LinearAttention(block, KINDS["gated"], **options), hybrid],
    ids=["gated", "hybrid"],
)  # fmt: skip
def test_a_decoder_and_beam_search(mixer):
    source, lengths, target = jnp.array([[5, 6, 7], [9, 4, 0]]), jnp.array([3, 2]), jnp.array([[1, 4, 5, 6]] * 2)
    stacks: Any = {"encoder": config.Stack(layers=1), "decoder": config.DecoderStack(layers=3)}
    chosen = config.TransformerSeq2Seq(width=8, heads=2, feed_forward=8, max_length=8, **stacks)
    model = TransformerSeq2Seq(chosen, 11, 11, mixer)
    variables = drawn(lambda rngs, *args: model.init(rngs, *args, train=False), source, lengths, target)
    whole = jax.jit(partial(model.apply, train=False))
    memory, state = model.apply(variables, source, lengths, method="encode")
    outputs = []
    for tokens in (target[:, :1], target[:, 1:]):
        state, output = model.apply(variables, memory, state, tokens, method="decode")
        outputs.append(output.logits)
    np.testing.assert_allclose(
        jnp.concatenate(outputs, axis=1), whole(variables, source, lengths, target).logits, atol=2e-5
    )
    search = Decoding(beam=3, n_best=3, max_length=4, length_penalty=0.0, min_length=4)
    result = make_decode(model, search)(variables["params"], source, lengths)
    for rank in range(3):
        tokens = np.asarray(result.tokens)[:, rank, :4]
        written = jnp.concatenate([jnp.ones((2, 1), jnp.int32), jnp.asarray(tokens)], axis=1)
        following = np.concatenate([tokens, np.full((2, 1), 2)], axis=1)
        log_probs = np.asarray(jax.nn.log_softmax(whole(variables, source, lengths, written).logits))
        expected = np.take_along_axis(log_probs, following[..., None], axis=-1).sum((1, 2))
        np.testing.assert_allclose(np.asarray(result.scores)[:, rank], expected, atol=1e-4)
