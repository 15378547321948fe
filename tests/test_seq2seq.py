"""Recurrent sequence-to-sequence model: padding has no influence, steps equal the whole, gradients are finite."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import drawn

from attnlab.config.models.recurrent import RecurrentSeq2Seq as Config
from attnlab.models.seq2seq import RecurrentSeq2Seq

SCORES = {
    "none": None,
    "additive": {"score": {"kind": "additive", "hidden": 6}},
    "general": {"score": {"kind": "general"}},
    "dot": {"score": {"kind": "dot"}},
    "scaled_dot": {"score": {"kind": "scaled_dot"}},
}
SOURCE = jnp.array([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]])
LENGTHS = jnp.array([5, 3])
TARGET = jnp.array([[1, 4, 5, 6], [1, 7, 8, 9]])


def build(score="additive", variant="bahdanau", cell="gru", **more) -> tuple[RecurrentSeq2Seq, dict]:
    data = {"attention": SCORES[score], "embedding": 6, "encoder": {"cell": cell, "hidden": 4},
            "decoder": {"cell": cell, "hidden": 8, "variant": variant}, **more}  # fmt: skip
    return initialized(Config.model_validate(data))


@functools.cache
def initialized(config: Config) -> tuple[RecurrentSeq2Seq, dict]:
    model = RecurrentSeq2Seq(config, 11, 11)
    return model, drawn(functools.partial(model.init, train=False), SOURCE, LENGTHS, TARGET)


@functools.partial(jax.jit, static_argnames=("model", "train", "method"))
def apply(model, variables, *arguments, train=False, method="__call__", rngs=None):
    return model.apply(variables, *arguments, train=train, method=method, rngs=rngs)


SOME = [("additive", "bahdanau"), ("general", "luong"), ("none", "luong")]
FEW = pytest.mark.parametrize(
    ("score", "variant"),
    [
        pytest.param(*pair, marks=() if pair in SOME else pytest.mark.slow)
        for pair in itertools.product(SCORES, ["bahdanau", "luong"])
    ],
)
EVERY = pytest.mark.parametrize(("score", "variant"), list(itertools.product(SCORES, ["bahdanau", "luong"])))


@EVERY
@pytest.mark.quick("additive-bahdanau", "dot-luong", "none-luong")
def test_weights_are_of_real_source_tokens_and_add_up_to_one(score, variant):
    model, variables = build(score, variant)
    out = apply(model, variables, SOURCE, LENGTHS, TARGET)
    chex.assert_shape([out.logits, out.weights], [(2, 4, 11), (2, 4, 5)])
    if score == "none":
        assert not out.weights.any()
    else:
        np.testing.assert_allclose(out.weights.sum(-1), 1.0, atol=1e-6)
        assert not out.weights[1, :, 3:].any()


@EVERY
@pytest.mark.quick("additive-bahdanau", "general-luong", "none-luong", "scaled_dot-bahdanau")
def test_padding_and_filler_rows_change_nothing(score, variant):
    model, variables = build(score, variant)
    alone = apply(model, variables, SOURCE[1:, :3], LENGTHS[1:], TARGET[1:])
    filler = jnp.concatenate([SOURCE, jnp.zeros((1, 5), int)])
    target = jnp.concatenate([TARGET, jnp.zeros((1, 4), int)])
    among = apply(model, variables, filler, jnp.array([5, 3, 0]), target)
    np.testing.assert_allclose(among.logits[1], alone.logits[0], atol=1e-5)
    np.testing.assert_allclose(among.weights[1, :, :3], alone.weights[0], atol=1e-6)
    chex.assert_tree_all_finite(among)


@pytest.mark.parametrize(
    ("score", "variant", "cell"),
    [*((*every, "gru") for every in itertools.product(SCORES, ["bahdanau", "luong"])), ("additive", "luong", "lstm")],
)
@pytest.mark.quick("additive-luong-lstm", "none-bahdanau-gru", "dot-bahdanau-gru", "general-luong-gru")
def test_one_token_at_a_time_equals_all_at_once(score, variant, cell):
    model, variables = build(score, variant, cell)
    together = apply(model, variables, SOURCE, LENGTHS, TARGET)
    memory, state = apply(model, variables, SOURCE, LENGTHS, method="encode")
    for position in range(TARGET.shape[1]):
        token = TARGET[:, position : position + 1]
        state, out = apply(model, variables, memory, state, token, method="decode")
        np.testing.assert_allclose(out.logits[:, 0], together.logits[:, position], atol=1e-5)
        np.testing.assert_allclose(out.weights[:, 0], together.weights[:, position], atol=1e-6)


@FEW
def test_every_parameter_gets_a_finite_gradient_and_a_filler_batch_none_that_is_not(score, variant):
    model, variables = build(score, variant)

    @jax.jit
    @jax.grad
    def gradient(variables, lengths):
        return jnp.sum(apply(model, variables, SOURCE, lengths, TARGET).logits ** 2)

    gradients = gradient(variables, LENGTHS)
    chex.assert_tree_all_finite(gradients)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients["params"]))
    chex.assert_tree_all_finite(gradient(variables, jnp.array([0, 0])))


@pytest.mark.parametrize(("tied", "embeddings"), [("none", 2), ("output", 2), ("all", 1)])
def test_tied_embeddings_are_one_array(tied, embeddings):
    _, variables = build(tie_embeddings=tied)
    names = set(variables["params"])
    assert sum("embedding" in name for name in names) == embeddings
    assert ("output" in names) == (tied == "none")


def test_dropout_acts_in_training_alone():
    model, variables = build(dropout=0.5)

    def logits(train: bool, seed: int) -> jax.Array:
        rngs = {"dropout": jax.random.key(seed)}
        return apply(model, variables, SOURCE, LENGTHS, TARGET, train=train, rngs=rngs).logits

    assert (logits(True, 0) != logits(True, 1)).any()
    np.testing.assert_array_equal(logits(False, 0), logits(False, 1))


def test_layers_are_stacked():
    _, variables = build(encoder={"cell": "gru", "hidden": 4, "layers": 3})
    assert set(variables["params"]["encoder"]) == {"layer_0", "layer_1", "layer_2"}
