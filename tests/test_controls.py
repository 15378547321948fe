"""Controls for learned attention (uniform, random, permuted, hard-wired) in every kind of model that can have them."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from test_captioner import CELLS, IMAGE, SOFT
from test_captioner import TARGET as CAPTION
from test_layers import CUSTOM
from test_models import MODELS
from test_seq2seq import LENGTHS, SOURCE, TARGET, apply, initialized
from test_transformer import assert_cache_equals_full, decoder
from weights import drawn

from attnlab.config import attention as attentions
from attnlab.config.models.classifier import Attentive
from attnlab.config.models.extractive_qa import BidafReader
from attnlab.config.models.recurrent import RecurrentSeq2Seq as Config
from attnlab.config.models.story_qa import MemoryNetwork
from attnlab.config.models.visual_qa import CoAttention, CrossAttention
from attnlab.functional import normalizers
from attnlab.functional.types import Positions
from attnlab.layers.capture import apply_with_attention
from attnlab.models.captioner import ShowAttendTell
from attnlab.models.memory_network import MemoryNetwork as MemoryModel

CONSTANT = {"kind": "constant"}
GENERAL = {"score": {"kind": "general"}}
CONTROLS = {
    "uniform": {"score": CONSTANT},
    "random": {"score": CONSTANT, "mods": [{"kind": "random_bias", "scale": 2.0}]},
    "permuted": {**GENERAL, "normalizer": {"kind": "permuted"}},
    "diagonal": {"score": CONSTANT, "mods": [{"kind": "diagonal_bias", "width": 0.75, "ratio": 1.5, "offsets": [0.5]}]},
    "random_in_a_window": {
        "score": CONSTANT, "mods": [{"kind": "random_bias"}], "normalizer": {"kind": "local_p", "hidden": 3}
    },
    "custom_diagonal": {
        "score": CONSTANT,
        "mods": [{"kind": "diagonal_bias"}, {"kind": "custom", "function": "mine.py:mods", "source": CUSTOM}],
    },
    "location_permuted": {
        **GENERAL, "mods": [{"kind": "location", "positions": 5}, {"kind": "random_bias"}],
        "normalizer": {"kind": "permuted", "normalizer": {"kind": "sparsemax"}},
    },
}  # fmt: skip


def attention(name: str, **more: Any) -> attentions.Attention:
    return attentions.Attention.model_validate_json(json.dumps({**CONTROLS[name], **more}))


def recurrent(control: attentions.Attention, variant: str):
    sizes = {"embedding": 6, "encoder": {"cell": "gru", "hidden": 4}}
    return initialized(
        Config.model_validate(
            {"attention": control, "decoder": {"cell": "gru", "hidden": 8, "variant": variant}, **sizes}
        )
    )


def expected_weights(name: str, steps: int, keys: int) -> np.ndarray | None:
    """Return the weights of a control that depends on positions alone and is known without a random number."""
    i, j = np.arange(steps)[:, None], np.arange(keys)[None, :]
    density = {"uniform": 0.0 * i * j, "diagonal": -((j - 1.5 * i - 0.5) ** 2) / (2 * 0.75**2)}
    if name not in density:
        return None
    return np.exp(density[name]) / np.exp(density[name]).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("variant", ["bahdanau", "luong"])
@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.quick("diagonal-luong")
def test_a_recurrent_decoder_by_steps_in_a_batch_and_with_padding(name, variant):
    model, variables = recurrent(attention(name), variant)
    together = apply(model, variables, SOURCE, LENGTHS, TARGET)
    memory, state = apply(model, variables, SOURCE, LENGTHS, method="encode")
    for position in range(TARGET.shape[1]):
        token = TARGET[:, position : position + 1]
        state, out = apply(model, variables, memory, state, token, method="decode")
        np.testing.assert_allclose(out.logits[:, 0], together.logits[:, position], atol=1e-5)
        np.testing.assert_allclose(out.weights[:, 0], together.weights[:, position], atol=1e-6)
    alone = apply(model, variables, SOURCE[1:, :3], LENGTHS[1:], TARGET[1:])
    np.testing.assert_allclose(together.weights[1, :, :3], alone.weights[0], atol=1e-6)
    for row, length in enumerate(LENGTHS.tolist()):
        expected = expected_weights(name, 4, length)
        if expected is not None:
            np.testing.assert_allclose(together.weights[row, :, :length], expected, atol=1e-6)
        assert not together.weights[row, :, length:].any()


@pytest.mark.slow
def test_random_weights_depend_on_positions_and_the_seed_alone():
    model, variables = recurrent(attention("random"), "luong")
    weights = apply(model, variables, SOURCE, LENGTHS, TARGET).weights
    other = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    moved = apply(model, other, SOURCE[::-1], LENGTHS[:1].repeat(2), TARGET).weights
    np.testing.assert_array_equal(moved[0], weights[0])
    assert np.ptp(np.asarray(weights[0]), axis=0).min() > 0.01, "every step has its own"
    again = attention("random", mods=[{"kind": "random_bias", "scale": 2.0, "seed": 1}])
    assert np.abs(apply(recurrent(again, "luong")[0], variables, SOURCE, LENGTHS, TARGET).weights - weights).max() > 0.1


@pytest.mark.slow
def test_permuted_weights_are_learned_ones_in_another_order_which_training_draws_anew():
    model, variables = recurrent(attention("permuted"), "bahdanau")
    unpermuted, _ = recurrent(attentions.Attention.model_validate(GENERAL), "bahdanau")
    ordered = apply(unpermuted, variables, SOURCE, LENGTHS, TARGET)

    def first(seed: int, train: bool) -> np.ndarray:
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(apply(model, variables, SOURCE, LENGTHS, TARGET, train=train, rngs=rngs).weights[:, 0])

    fixed, drawn_weights = first(0, train=False), [first(seed, train=True) for seed in range(4)]
    np.testing.assert_array_equal(first(1, train=False), fixed)
    for weights in (fixed, *drawn_weights):
        np.testing.assert_allclose(np.sort(weights), np.sort(ordered.weights[:, 0]), atol=1e-6)
        assert not weights[1, 3:].any()
    assert len({tuple(weights[0].argsort()) for weights in drawn_weights}) > 1
    twice = jnp.concatenate([SOURCE[:1]] * 6)
    rngs = {"dropout": jax.random.key(0)}
    rows = apply(model, variables, twice, jnp.full(6, 5), TARGET[:1].repeat(6, axis=0), train=True, rngs=rngs).weights
    assert len({tuple(row.argsort().tolist()) for row in rows[:, 0]}) > 1, (
        "each example draws its own order in training"
    )


@pytest.mark.slow
def test_a_gumbel_softmax_draws_new_noise_in_every_step_of_a_recurrent_decoder():
    gumbel = attentions.Attention.model_validate({"score": CONSTANT, "normalizer": {"kind": "gumbel_softmax"}})
    model, variables = recurrent(gumbel, "luong")
    rngs = {"dropout": jax.random.key(0)}
    weights = np.asarray(apply(model, variables, SOURCE, LENGTHS, TARGET, train=True, rngs=rngs).weights)
    assert np.ptp(weights[0], axis=0).min() > 0.01
    still = np.asarray(apply(model, variables, SOURCE, LENGTHS, TARGET).weights)
    np.testing.assert_allclose(still[0], 0.2, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (3, 1)])
def test_the_cache_of_a_transformer_gives_the_same_as_the_whole_sequence(steps):
    own = {n: attention(name) for n, name in enumerate(["uniform", "random", "permuted", "diagonal"])}
    names = "random_in_a_window", "permuted", "custom_diagonal", "location_permuted"
    cross = {n: attention(name) for n, name in enumerate(names)}
    assert_cache_equals_full(*decoder(layers=4, per_layer=own, cross_per_layer=cross, alignment_layer=3), steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "permuted", "diagonal"])
def test_a_captioner_by_steps(name):
    config = SOFT.replace(attention=attention(name))
    model = ShowAttendTell(config, 11)
    variables = drawn(functools.partial(model.init, train=False), IMAGE, CELLS, CAPTION)
    whole = apply(model, variables, IMAGE, CELLS, CAPTION)
    memory, state = apply(model, variables, IMAGE, CELLS, method="encode")
    for position in range(4):
        token = CAPTION[:, position : position + 1]
        state, out = apply(model, variables, memory, state, token, method="decode")
        np.testing.assert_allclose(out.logits[:, 0], whole.logits[:, position], atol=1e-5)
    expected = expected_weights(name, 4, 16)
    if expected is not None:
        np.testing.assert_allclose(whole.weights[0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniform", "random", "permuted"])
def test_the_hops_of_a_memory_network_differ(name):
    config = MemoryNetwork(width=8, hops=3, tying="layer_wise", attention=attention(name), temporal_encoding=False)
    model = MemoryModel(config, 9, 5)
    story = np.random.default_rng(0).integers(1, 9, (2, 5, 4))
    arguments = jnp.asarray(story), jnp.array([5, 3]), jnp.array([[3, 4, 0, 0], [5, 6, 7, 0]])
    variables = drawn(functools.partial(model.init, train=False), *arguments)
    weights = apply(model, variables, *arguments).weights
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)
    assert not weights[1, :, 3:].any()
    if name == "uniform":
        np.testing.assert_allclose(weights[1, :, :3], 1 / 3, atol=1e-6)
    else:
        assert np.ptp(np.asarray(weights[0]), axis=0).max() > 0.01, "layers that share a module have their own numbers"


def with_attention(data: Any, control: dict) -> Any:
    """Replace every attention in the data of a config."""
    if not isinstance(data, dict):
        return data
    if "score" in data and "normalizer" in data:
        return control
    return {key: with_attention(value, control) for key, value in data.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_same_random_weights_in_any_batch_and_new_orders_in_training(name):
    both = {**CONTROLS["random"], "normalizer": {"kind": "permuted"}}
    model, arguments, names = MODELS[name]
    config = with_attention(model.config.model_dump(mode="json"), both)
    model = model.clone(config=type(model.config).model_validate_json(json.dumps(config)))
    variables = drawn(functools.partial(model.init, train=False), *arguments)

    @functools.partial(jax.jit, static_argnames="train")
    def weights(arguments, seed, *, train=False):
        rngs = {"dropout": jax.random.key(seed)}
        layers = apply_with_attention(model, variables, *arguments, train=train, rngs=rngs)[1]
        return {layer.name: layer.weights for layer in layers}

    fixed, alone = weights(arguments, 0), weights([a[:1] for a in arguments], 1)
    first, second = (weights(arguments, seed, train=True) for seed in (0, 1))
    assert sorted(fixed) == sorted(names)
    controlled = [
        layer for layer in names if "pooling" not in layer or name in ("recurrent_classifier", "mlp_classifier")
    ]
    for layer in controlled:
        np.testing.assert_allclose(alone[layer][0], fixed[layer][0], atol=1e-5)
        np.testing.assert_allclose(np.sort(first[layer]), np.sort(second[layer]), atol=1e-5)
        assert np.ptp(np.asarray(fixed[layer])) > 1e-3
    assert any(np.abs(first[layer] - second[layer]).max() > 1e-3 for layer in controlled)


@jax.jit
def reordered(logits, where, first_query, first_key, example):
    """Permute the weights of a softmax, which all examples share."""
    queries, keys = (jnp.arange(n, dtype=jnp.int32) for n in logits.shape)
    place = Positions(queries + first_query, keys + first_key, jnp.int32(1), example)
    return normalizers.permuted(normalizers.softmax, jax.random.key(3), shared=True)(logits, where, place)


def test_an_order_depends_on_allowed_keys_and_their_positions_alone_and_all_orders_are_as_likely():
    rows = 1200
    logits = np.log(np.tile([1.0, 2.0, 4.0], (rows, 1))).astype(np.float32)
    where = np.zeros((rows, 6), bool)
    where[:, 1:4] = True
    padded = np.where(where, np.pad(logits, ((0, 0), (1, 2))), np.nan).astype(np.float32)
    weights = np.asarray(reordered(logits, np.ones((rows, 3), bool), 0, 1, 0))
    among = np.asarray(reordered(padded, where, 0, 0, 5))
    np.testing.assert_array_equal(among[:, 1:4], weights)
    assert not among[~where].any()
    np.testing.assert_array_equal(reordered(padded, where, 7, 0, 0)[:-7], among[7:])
    np.testing.assert_allclose(np.sort(weights), np.tile(np.array([1, 2, 4]) / 7, (rows, 1)), rtol=1e-6)
    orders, counts = np.unique(weights.argsort(axis=1), axis=0, return_counts=True)
    assert len(orders) == 6
    assert np.abs(counts - rows / 6).max() < 5 * np.sqrt(rows / 6 * 5 / 6)


UNALIGNED = {
    "pooling": lambda attention: Attentive(attention=attention),
    "hops": lambda attention: MemoryNetwork(attention=attention),
    "bidaf": lambda attention: BidafReader(attention=attention),
    "co_attention": lambda attention: CoAttention(attention=attention),
    "visual_cross_attention": lambda attention: CrossAttention(attention=attention),
}


@pytest.mark.parametrize("place", UNALIGNED)
def test_a_diagonal_needs_queries_in_the_order_of_the_keys(place):
    for name in ("uniform", "random", "permuted"):
        UNALIGNED[place](attention(name))
    with pytest.raises(ValidationError, match=r"mods: diagonal_bias needs queries in the order .* with random_bias"):
        UNALIGNED[place](attention("diagonal"))


def test_a_decoder_refuses_what_is_permuted_too():
    inner = attention("permuted", normalizer={"kind": "permuted", "normalizer": {"kind": "local_p"}})
    with pytest.raises(ValidationError, match="normalizer: local_p needs the length of the whole sequence"):
        TypeAdapter(attentions.DecoderSelfAttention).validate_python(inner)
    assert inner.tiny().normalizer.normalizer.hidden == 16
