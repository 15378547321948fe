"""The training step: its objective and learning rates; sharding a batch over devices changes nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attnlab.config import AdamW, RecurrentSeq2Seq, Sgd, Training
from attnlab.config import attention as attentions
from attnlab.layers.scores import Score
from attnlab.models.seq2seq import RecurrentSeq2Seq as Model
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.optimizer import optimizer, schedule
from attnlab.training.steps import initial_state, make_train_step, shard_batch

CONFIG = {"embedding": 6, "encoder": {"hidden": 4}, "decoder": {"hidden": 8}, "dropout": 0.0}
BATCH = {
    "source": np.array([[5, 6, 7, 2], [9, 4, 2, 0], [3, 2, 0, 0], [0, 0, 0, 0]], np.int32),
    "source_lengths": np.array([4, 3, 2, 0], np.int32),
    "target_in": np.array([[1, 4, 5], [1, 7, 0], [1, 8, 9], [0, 0, 0]], np.int32),
    "target_out": np.array([[4, 5, 2], [7, 2, 0], [8, 9, 2], [0, 0, 0]], np.int32),
    "target_lengths": np.array([3, 2, 3, 0], np.int32),
}


def model_of(**more) -> Model:
    attention = {"score": {"kind": "additive", "hidden": 5}}
    return Model(RecurrentSeq2Seq.model_validate({**CONFIG, "attention": attention, **more}), 11, 11)


def initialize(model: Model):
    inputs = (jnp.asarray(BATCH[name]) for name in ("source", "source_lengths", "target_in"))
    return lambda rng: model.init(rng, *inputs, train=False)["params"]


def loss_of(model: Model, label_smoothing: float = 0.0):
    def loss(params, batch, rng) -> Loss:
        inputs = (batch[name] for name in ("source", "source_lengths", "target_in"))
        logits = model.apply({"params": params}, *inputs, train=True, rngs={"dropout": rng}).logits
        lengths = batch["target_lengths"]
        smoothed, nll = cross_entropy(logits, batch["target_out"], lengths, label_smoothing=label_smoothing)
        return Loss(smoothed, jnp.sum(lengths), {"nll": nll})

    return loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_definition(smoothing):
    rng = np.random.default_rng(0)
    logits, labels, lengths = rng.normal(size=(3, 4, 5)), rng.integers(0, 5, (3, 4)), np.array([4, 2, 0])
    loss, nll = cross_entropy(jnp.float32(logits), jnp.asarray(labels), jnp.asarray(lengths), label_smoothing=smoothing)
    expected = expected_nll = 0.0
    for row, length in enumerate(lengths):
        for position in range(length):
            p = np.exp(logits[row, position]) / np.exp(logits[row, position]).sum()
            target = np.full(5, smoothing / 5)
            target[labels[row, position]] += 1 - smoothing
            expected -= target @ np.log(p)
            expected_nll -= np.log(p[labels[row, position]])
    np.testing.assert_allclose([loss, nll], [expected, expected_nll], rtol=1e-5)


def test_a_step_over_two_devices_is_the_step_of_the_whole_batch():
    model, training = model_of(), Training(steps=10)
    assert jax.device_count() == 2
    state = initial_state(initialize(model), training, seed=3)
    before = jax.tree.map(np.asarray, state)
    state, metrics = make_train_step(loss_of(model, 0.1), training, seed=3)(state, shard_batch(BATCH))

    def loss(params):
        inputs = (jnp.asarray(BATCH[name]) for name in ("source", "source_lengths", "target_in"))
        logits = model.apply({"params": params}, *inputs, train=False).logits
        total, _ = cross_entropy(logits, BATCH["target_out"], BATCH["target_lengths"], label_smoothing=0.1)
        return total / BATCH["target_lengths"].sum()

    @jax.jit
    def expected(before):
        value, gradients = jax.value_and_grad(loss)(before.params)
        updates, _ = optimizer(training.optimizer, training.steps).update(gradients, before.optimizer, before.params)
        return value, optax.tree.norm(gradients), optax.apply_updates(before.params, updates)

    value, norm, params = expected(before)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    assert int(metrics["count"]) == BATCH["target_lengths"].sum()
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
    # One step of Adam has the size of the learning rate whatever the gradient, so its rounding shows.
    chex.assert_trees_all_close(state.params, params, atol=2e-5)
    assert int(state.step) == 1


def test_the_same_seed_and_step_draw_the_same_dropout():
    model, training = model_of(dropout=0.5), Training(steps=10)
    start = initial_state(initialize(model), training, seed=1)

    def losses(step) -> list[float]:
        state, result = jax.tree.map(jnp.copy, start), []
        for _ in range(2):
            state, metrics = step(state, shard_batch(BATCH))
            result.append(float(metrics["loss"]))
        return result

    first, second = (make_train_step(loss_of(model), training, seed) for seed in (1, 2))
    assert losses(first) == losses(first)
    assert losses(first) != losses(second)


def test_a_batch_shape_is_compiled_once():
    model, training = model_of(dropout=0.5), Training(steps=10)
    step = make_train_step(loss_of(model), training, 1)
    state = initial_state(initialize(model), training, 1)
    for _ in range(3):
        state, _ = step(state, shard_batch(BATCH))
    assert step.func._cache_size() == 1


def test_the_program_of_a_step_is_the_same_for_every_seed():
    model, training = model_of(dropout=0.5), Training(steps=10)
    state, batch = initial_state(initialize(model), training, 1), shard_batch(BATCH)
    steps = [make_train_step(loss_of(model), training, seed) for seed in (1, 2)]
    first, second = (step.func.lower(state, batch, **step.keywords).as_text() for step in steps)
    assert first == second


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
        ("inverse_sqrt", [0.5, 1.0, 1.0, 0.816497, 0.707107, 0.632456]),
    ],
)
def test_schedules(name, rates):
    config = AdamW(learning_rate=1.0, schedule=name, warmup_steps=2)
    result = jax.jit(jax.vmap(schedule(config, 6)))(jnp.arange(6))
    np.testing.assert_allclose(result, rates, atol=1e-6)


def test_vectors_are_not_decayed_and_large_gradients_are_clipped():
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, params)
    update = optimizer(AdamW(learning_rate=0.1, schedule="constant", weight_decay=0.5), 10)
    updates, _ = jax.jit(update.update)(zero, update.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)
    assert not updates["b"].any()
    clipped = optimizer(AdamW(clip_norm=1.0), 10)
    _, state = jax.jit(clipped.update)(jax.tree.map(lambda p: 100 * p, params), clipped.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if getattr(leaf, "ndim", 0) == 2]
    np.testing.assert_allclose(moments[0], 0.1 / 6**0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("score", "vectors"),
    [
        (attentions.Additive(hidden=3), {"v"}),
        (attentions.Concat(hidden=3), {"v"}),
        (attentions.Trilinear(), {"w_query", "w_key", "w_product"}),
        (attentions.General(), set()),
        (
            attentions.CustomScore(
                function="mine.py:diagonal",
                source="from jaxtyping import Array, Float\n"
                'def diagonal(query, key, *, w: Float[Array, "d"]):\n'
                "    return (query * w) @ key.T\n",
            ),
            {"w"},
        ),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_vectors_of_a_score_decay_only_with_many_heads(score, vectors: set[str]):
    for heads in (1, 2):
        params = Score(score, heads, 4, 4).init(jax.random.key(0))["params"]
        update = optimizer(AdamW(learning_rate=0.1, schedule="constant", weight_decay=0.5), 10)
        updates, _ = jax.jit(update.update)(jax.tree.map(jnp.zeros_like, params), update.init(params), params)
        still = {name for name, change in updates.items() if not np.any(change)}
        assert still == (vectors if heads == 1 else set())


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_has_momentum_and_decays_matrices_by_their_gradient(nesterov: bool):
    """By definition: g ← ∇ + λ p, v ← μ v + g, p ← p − η v, or with Nesterov p ← p − η (g + μ v)."""
    params = {"w": jnp.full((2, 2), 2.0), "b": jnp.ones(2)}
    config = Sgd(
        learning_rate=0.1, schedule="constant", momentum=0.5, weight_decay=0.25, clip_norm=None, nesterov=nesterov
    )
    update = optimizer(config, 10)
    state, w, b, v_w, v_b = update.init(params), 2.0, 1.0, 0.0, 0.0
    move = jax.jit(update.update)
    for _ in range(3):
        updates, state = move(jax.tree.map(jnp.ones_like, params), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        g_w = 1 + 0.25 * w
        v_w, v_b = 0.5 * v_w + g_w, 0.5 * v_b + 1
        w -= 0.1 * (g_w + 0.5 * v_w if nesterov else v_w)
        b -= 0.1 * (1 + 0.5 * v_b if nesterov else v_b)
    np.testing.assert_allclose(params["w"], w, rtol=1e-6)
    np.testing.assert_allclose(params["b"], b, rtol=1e-6)
