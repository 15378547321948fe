"""Capture of everything an explanation needs, and weights that replace those of a model, for every model."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from flax import linen as nn
from jax.tree_util import Partial
from test_models import BLOCK, MODELS, SOURCES, STACKS, TEXTS, VOCABULARY
from weights import drawn

from attnlab.analysis import interventions
from attnlab.analysis.heads import mean_output
from attnlab.config import models as configs
from attnlab.config.attention import Attention as Config
from attnlab.config.attention import ScaledDot
from attnlab.config.models import classifier, transformer
from attnlab.layers.attention import Attention
from attnlab.layers.capture import Queries, Replacement, apply_with_attention
from attnlab.layers.layer_attention import LayerAttention, Residual
from attnlab.models.classifier import MlpClassifier, RecurrentClassifier
from attnlab.models.transformer import TransformerEncoder, TransformerSeq2Seq


def classifier_with(pooling: Any) -> Any:
    options: Any = {"embedding": 4, "encoder": classifier.Encoder(hidden=3), "pooling": pooling}
    return RecurrentClassifier(configs.RecurrentClassifier(**options), VOCABULARY, 3)


def encoder(**settings: Any) -> TransformerEncoder:
    return TransformerEncoder(transformer.TransformerEncoder(**BLOCK, **settings), VOCABULARY)


FROZEN = classifier.Frozen(run="another run")
NOT_REPLACEABLE = {
    "pooling by the maximum": (classifier_with(classifier.Max()), TEXTS),
    "pooling by the last state": (classifier_with(classifier.Last()), TEXTS),
}
ALL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    **{name: (model, arguments) for name, (model, arguments, _) in MODELS.items()},
    **NOT_REPLACEABLE,
    "pooling by the mean": (classifier_with(classifier.Mean()), TEXTS),
    "pooling with frozen weights": (
        MlpClassifier(classifier.MlpClassifier(embedding=4, hidden=3, pooling=FROZEN), VOCABULARY, 3),
        (*TEXTS, jnp.full(TEXTS[0].shape, 0.25)),
    ),
    "structured pooling": (classifier_with(classifier.Structured(hops=2, hidden=3)), TEXTS),
    "transformer_encoder with remat": (encoder(remat=True), TEXTS),
    "transformer_encoder with shared key heads": (encoder(kv_heads=1), TEXTS),
    "transformer_encoder with RMS norm behind": (encoder(norm={"kind": "rms_norm"}, norm_position="post"), TEXTS),
    "transformer_seq2seq with remat": (
        TransformerSeq2Seq(
            configs.TransformerSeq2Seq(width=8, heads=2, feed_forward=8, remat=True, **STACKS), VOCABULARY, VOCABULARY
        ),
        SOURCES,
    ),
}


@functools.cache
def initialized(name: str) -> Any:
    model, arguments = ALL[name]
    return drawn(functools.partial(model.init, train=False), *arguments)


@functools.cache
def applied(name: str) -> Any:
    return jax.jit(functools.partial(apply_with_attention, ALL[name][0], train=False), static_argnames="details")


def captured(name: str, **options: Any) -> tuple[Any, Any, list[LayerAttention]]:
    variables = initialized(name)
    return variables, *applied(name)(variables, *ALL[name][1], **options)


def unchanged(layer: LayerAttention, queries: Queries) -> jax.Array:
    return layer.weights


allowed = compiled(interventions.allowed)


@compiled
def residual_total(layer: LayerAttention, residual: Residual) -> jax.Array:
    """states + gate · (Σ_h output_h kernel_h + bias), from the record."""
    bias = 0.0 if layer.projection.bias is None else layer.projection.bias
    output = jnp.einsum("bqhv,hvd->bqd", interventions.head_outputs(layer), layer.projection.kernel) + bias
    return residual.states + residual.gate * output


@compiled
def normed(states: jax.Array, residual: Residual) -> jax.Array:
    if residual.norm == "layer_norm":
        states = states - states.mean(axis=-1, keepdims=True)
    states = states / jnp.sqrt((states**2).mean(axis=-1, keepdims=True) + residual.epsilon) * residual.scale
    return states if residual.bias is None else states + residual.bias


@pytest.mark.parametrize("name", ALL)
def test_initialization_makes_parameters_only(name):
    model, arguments = ALL[name]
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *arguments)
    assert set(shapes) == {"params"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.quick(
    "recurrent_seq2seq",
    "transformer_seq2seq",
    "show_attend_tell with hard attention",
    "visual_answerer",
    "memory_network",
    "bidaf_reader",
    "pooling by the maximum",
    "transformer_encoder with remat",
    "transformer_encoder with RMS norm behind",
)
def test_details_change_no_bit_and_are_what_the_layers_computed(name):
    model, arguments = ALL[name]
    variables, output, layers = captured(name, details=True)
    chex.assert_trees_all_equal(output, jax.jit(functools.partial(model.apply, train=False))(variables, *arguments))
    for layer in layers:
        assert layer.replaceable == (layer.pooled is not None)
        if layer.pooled is None:
            assert layer.name == "encoder/pooling_attention"
            continue
        assert not np.any(np.asarray(layer.weights)[~np.asarray(allowed(layer))])
        if "hard" in name:
            hard = np.asarray(layer.pooled.weights_after_dropout)
            np.testing.assert_allclose(hard, np.eye(hard.shape[-1])[hard.argmax(axis=-1)], atol=1e-6)
        else:
            chex.assert_trees_all_equal(layer.pooled.weights_after_dropout, layer.weights)
        assert layer.pooled.value.shape[:2] == (2, layer.weights.shape[3])
        assert (layer.projection is None) == (layer.residual is None)
        if layer.residual is not None:
            np.testing.assert_allclose(residual_total(layer, layer.residual), layer.residual.total, atol=1e-5)
        if layer.kind == "cross" or (layer.stack == "encoder" and layer.kind == "self"):
            before, after = layer.residual, layer.feed_forward
            result = before.total if before.position == "pre" else normed(before.total, before)
            np.testing.assert_allclose(after.states, result, atol=1e-5)
            assert after.total.shape == after.states.shape
        else:
            assert layer.feed_forward is None


@pytest.mark.parametrize(
    "name", ["transformer_encoder", "transformer_encoder with RMS norm behind", "transformer_seq2seq"]
)
def test_what_is_captured_of_a_layer_gives_the_input_of_the_next(name):
    """Behind the feed-forward network: total (pre-norm), or norm(total) (post-norm)."""
    _, _, layers = captured(name, details=True)
    by_name = {layer.name: layer for layer in layers}
    for stack, last in (("encoder", "self"), ("decoder", "cross")):
        if f"{stack}/layer_1/self_attention" not in by_name:
            continue
        residual = by_name[f"{stack}/layer_1/{last}_attention"].feed_forward
        result = residual.total if residual.position == "pre" else normed(residual.total, residual)
        np.testing.assert_allclose(by_name[f"{stack}/layer_2/self_attention"].residual.states, result, atol=1e-5)


def logits_of(output: Any) -> jax.Array:
    """The output without the weights that a model reports; of a reader with two pointers the first."""
    return getattr(output, "logits", getattr(output, "start", output))


@pytest.mark.parametrize("name", [name for name in ALL if name not in NOT_REPLACEABLE])
@pytest.mark.quick(
    "recurrent_seq2seq",
    "transformer_classifier",
    "show_attend_tell",
    "visual_answerer",
    "memory_network",
    "structured pooling",
)
def test_a_model_computes_the_same_with_its_own_weights_and_something_else_with_others(name):
    _, output, layers = captured(name, details=True)
    everywhere = interventions.everywhere(Partial(unchanged), layers)
    _, same, same_layers = captured(name, intervene=everywhere)
    chex.assert_trees_all_close(logits_of(same), logits_of(output), rtol=1e-5, atol=1e-6)
    for layer, before in zip(layers, same_layers, strict=True):
        expected = layer.weights if layer.pooled is None else layer.pooled.weights_after_dropout
        np.testing.assert_allclose(before.weights, expected, atol=1e-6)
    for layer in layers:
        if not layer.replaceable:
            continue
        _, other, replaced = captured(name, intervene={layer.name: Partial(interventions.uniform)})
        if name != "pooling by the mean":  # whose weights are uniform already
            assert not np.allclose(logits_of(other), logits_of(output), atol=1e-4, equal_nan=True), layer.name
        (found,) = (record for record in replaced if record.name == layer.name)
        where = np.asarray(allowed(layer))
        expected = where / np.maximum(where.sum(axis=-1, keepdims=True), 1)
        np.testing.assert_allclose(found.weights, expected, atol=1e-6)


@pytest.mark.parametrize("name", NOT_REPLACEABLE)
def test_pooling_without_an_average_takes_no_intervention(name):
    _, _, layers = captured(name, details=True)
    assert interventions.everywhere(unchanged, layers) == {}
    with pytest.raises(ValueError, match="encoder/pooling_attention does not average"):
        captured(name, intervene={"encoder/pooling_attention": Partial(unchanged)})


@pytest.mark.parametrize("name", [name for name in MODELS if name != "recurrent_classifier"])
@pytest.mark.quick("recurrent_seq2seq", "transformer_seq2seq", "memory_network")
def test_given_weights_replace_those_of_each_query(name):
    """Weights that another pass computed are arrays; a recurrent decoder takes them row by row."""
    _, expected, layers = captured(name)
    _, expected, layers = captured(name, intervene=interventions.everywhere(Partial(interventions.uniform), layers))
    given = {a.name: Partial(interventions.given, weights=a.weights) for a in layers if a.replaceable}
    _, output, replaced = captured(name, intervene=given)
    chex.assert_trees_all_close(output, expected, rtol=1e-5, atol=1e-6)
    for layer, before in zip(replaced, layers, strict=True):
        np.testing.assert_allclose(layer.weights, before.weights, atol=1e-6)


STEPWISE = [
    "recurrent_seq2seq", "transformer_seq2seq", "show_attend_tell", "show_attend_tell with hard attention",
    "transformer_captioner",
]  # fmt: skip


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.quick("recurrent_seq2seq", "transformer_seq2seq")
def test_a_decoder_takes_given_weights_step_by_step_as_with_teacher_forcing(name):
    """Rows that differ from query to query, for the decoder's self-attention and its attention to the memory."""
    model, arguments = ALL[name]
    source, lengths, target = arguments
    variables, _, layers = captured(name, details=True)
    permute = Partial(interventions.permuted, rng=jax.random.key(3))
    of_decoder = [layer for layer in layers if layer.stack == "decoder"]
    _, expected, layers = captured(name, intervene=interventions.everywhere(permute, of_decoder))
    weights = {layer.name: layer.weights for layer in layers if layer.stack == "decoder"}
    encode = jax.jit(functools.partial(model.apply, train=False, method="encode"))
    memory, state = encode(variables, source, lengths)
    capacity = jax.tree.leaves(state)[0].shape[1]  # of the cache, for self-attention
    given = {}
    for layer, rows in weights.items():
        if "self" in layer:
            rows = jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (0, capacity - rows.shape[-1])))
        given[layer] = Partial(interventions.given, weights=rows)
    step = jax.jit(functools.partial(apply_with_attention, model, train=False, method="decode"))
    for number in range(target.shape[1]):
        (state, output), _ = step(variables, memory, state, target[:, number : number + 1], intervene=given)
        np.testing.assert_allclose(output.logits[:, 0], expected.logits[:, number], rtol=1e-4, atol=1e-5)
    (state, output), _ = step(variables, memory, state, target[:, :1], intervene=given)
    assert np.isnan(output.logits).all(), "there are no weights for a further token"


@pytest.mark.parametrize("name", ["recurrent_seq2seq", "transformer_seq2seq", "recurrent_classifier"])
@pytest.mark.quick("recurrent_seq2seq", "recurrent_classifier")
def test_the_output_is_differentiated_by_the_weights(name):
    """A change of one weight by 1e-3 changes the output as the gradient says."""
    model, arguments = ALL[name]
    variables, _, layers = captured(name)
    zeros = {layer.name: jnp.zeros_like(layer.weights) for layer in layers}

    @jax.jit
    def total(shifts: Any) -> jax.Array:
        intervene = {name: Partial(interventions.shifted, by=by) for name, by in shifts.items()}
        output, _ = apply_with_attention(model, variables, *arguments, train=False, intervene=intervene)
        return jnp.sum(jnp.sin(output.logits[0]))

    gradients = jax.grad(total)(zeros)
    for layer in layers:
        place = (0, 0, layer.weights.shape[2] - 1, 1)
        plus, minus = ({**zeros, layer.name: zeros[layer.name].at[place].set(step)} for step in (1e-2, -1e-2))
        slope = (total(plus) - total(minus)) / 2e-2
        np.testing.assert_allclose(gradients[layer.name][place], slope, rtol=2e-2, atol=2e-4)


@pytest.mark.parametrize("name", ["transformer_seq2seq", "show_attend_tell"])
@pytest.mark.quick("show_attend_tell")
def test_a_head_can_have_its_mean_output(name):
    """With the gate at 0 the outputs of a head are the mean; with all gates at 1 the model is unchanged."""
    _, output, layers = captured(name, details=True)
    layer = layers[-1]
    heads = layer.weights.shape[1]
    mean = mean_output(interventions.head_outputs(layer))
    for gates in (jnp.ones(heads), jnp.zeros(heads).at[1:].set(1.0)):
        replace = Partial(interventions.replaced_by_mean, gates=gates, mean=mean)
        _, other, _ = captured(name, intervene={layer.name: replace})
        same = np.allclose(other.logits, output.logits, atol=1e-5)
        assert same == bool(gates.all())


def test_weights_after_dropout_are_those_that_pooled():
    layer = Attention(Config(score=ScaledDot()), 2, 4, 4, dropout=0.5)
    query, value = jax.random.normal(jax.random.key(0), (2, 2, 5, 2, 4))
    options: Any = {"train": True, "rngs": {"dropout": jax.random.key(1)}}
    arguments = query, query, value, jnp.array([5, 3])
    apply = functools.partial(apply_with_attention, layer, details=True, **options)
    result, (record,) = jax.jit(apply)({}, *arguments)
    assert np.mean(np.asarray(record.pooled.weights_after_dropout) == 0) > np.mean(np.asarray(record.weights) == 0)
    np.testing.assert_allclose(jax.jit(interventions.head_outputs)(record), result.output, atol=1e-6)
    intervene = {record.name: unchanged}
    with pytest.raises(ValueError, match=r"decoder/cross_attention.*train=False"):
        apply_with_attention(layer, {}, *arguments, intervene=intervene, **options)


def test_details_in_training_are_those_of_a_whole_model():
    model = encoder(dropout=0.5, attention_dropout=0.5)
    variables = drawn(functools.partial(model.init, train=False), *TEXTS)
    options: Any = {"train": True, "rngs": {"dropout": jax.random.key(1)}}
    output, layers = jax.jit(functools.partial(apply_with_attention, model, details=True, **options))(variables, *TEXTS)
    chex.assert_trees_all_equal(output, jax.jit(functools.partial(model.apply, **options))(variables, *TEXTS))
    for layer in layers:
        after = np.asarray(layer.pooled.weights_after_dropout)
        assert np.mean(after == 0) > np.mean(np.asarray(layer.weights) == 0)
        np.testing.assert_allclose(after[after > 0], 2 * np.asarray(layer.weights)[after > 0], rtol=1e-6)
        before = np.asarray(layer.residual.states)
        kept, change = residual_total(layer, layer.residual) - before, np.asarray(layer.residual.total) - before
        np.testing.assert_allclose(change[change != 0], 2 * kept[change != 0], rtol=1e-3, atol=1e-5)


X = jnp.ones((2, 3, 4))
SMALL = Attention(Config(score=ScaledDot()), 1, 4, 4)


@pytest.mark.parametrize(
    ("intervene", "words"),
    [
        ({"decoder/cross_attention": lambda layer, queries: layer.weights[..., :1]}, r"\(2, 1, 3, 1\).*\(2, 1, 3, 3\)"),
        (
            {"decoder/cross_attention": lambda layer, queries: Replacement(layer.weights, X)},
            r"outputs \(2, 3, 4\).*\(2, 3, 1, 4\)",
        ),
        ({"decoder/attention": unchanged}, "decoder/attention takes no.*the layers are decoder/cross_attention"),
        (unchanged, "intervene"),
    ],
)
def test_an_intervention_that_does_not_fit_is_refused(intervene, words):
    with pytest.raises((ValueError, TypeError), match=words):
        apply_with_attention(SMALL, {}, X, X, X, jnp.array([3, 3]), train=False, intervene=intervene)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_recurrent_decoder_needs_weights_for_all_its_queries(rows):
    name, (layer,) = "recurrent_seq2seq", captured("recurrent_seq2seq")[2]
    given = Partial(interventions.given, weights=layer.weights[:, :, :rows])
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 5\)"):
        captured(name, intervene={layer.name: given})


def test_replaced_weights_pool_the_values_of_hard_attention():
    """Uniform attention to the cells is their mean, and not a cell that is drawn from it."""
    name = "show_attend_tell with hard attention"
    _, _, (layer,) = captured(
        name, details=True, intervene={"decoder/decoder_attention": Partial(interventions.uniform)}
    )
    np.testing.assert_allclose(layer.weights, 0.25)
    np.testing.assert_allclose(layer.pooled.weights_after_dropout, 0.25)
    soft, hard = (initialized(n) for n in ("show_attend_tell", name))
    chex.assert_trees_all_equal_shapes(soft, hard)
    uniform = {layer.name: Partial(interventions.uniform)}
    expected, _ = applied("show_attend_tell")(hard, *ALL[name][1], intervene=uniform)
    np.testing.assert_allclose(captured(name, intervene=uniform)[1].logits, expected.logits, atol=1e-6)


def test_two_layers_with_one_name_are_refused():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for number in range(2):
                attend = Attention(Config(score=ScaledDot()), 1, 4, 4, name=f"attend_{number}")
                x = attend(x, x, x, jnp.array([3, 3]), train=False).output
            return x

    with pytest.raises(ValueError, match="two layers are named decoder/cross_attention"):
        apply_with_attention(Twice(), {}, X)


def test_an_intervention_ends_with_the_call():
    arguments = X, X, X, jnp.array([3, 3])
    before = SMALL.apply({}, *arguments, train=False).output
    with pytest.raises(ZeroDivisionError):
        apply_with_attention(
            SMALL, {}, *arguments, train=False, intervene={"decoder/cross_attention": lambda layer, queries: 1 / 0}
        )
    chex.assert_trees_all_equal(SMALL.apply({}, *arguments, train=False).output, before)
