"""Every kind of score, mod, mask and normalizer in a config can be built, run and trained, with one head and several.

A row combines one kind of each family, so that all kinds are tested in few compilations.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter
from weights import drawn

from attnlab.config import attention as attentions
from attnlab.config import masks as mask_configs
from attnlab.config import normalizers as normalizer_configs
from attnlab.config.custom import Custom
from attnlab.config.explain import models_of
from attnlab.config.models.recurrent import RecurrentSeq2Seq as RecurrentConfig
from attnlab.config.models.transformer import Block
from attnlab.functional import masks
from attnlab.layers.decoder_attention import DecoderAttention
from attnlab.layers.masks import mask
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import CrossAttention, SelfAttention
from attnlab.layers.scores import Score

STATES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
NEAR = 0.3 * STATES
"""Keys so near to each other that no sparse normalizer picks a single one."""
LENGTHS = jnp.array([5, 3])
BLOCK = Block(width=8, heads=4, kv_heads=2, max_length=6)
CUSTOM = """
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def score(query, key, *, w: Float[Array, "d e"]):
    return query @ w @ key.T


def mods(logits, positions, *, slope: Float[Array, ""]):
    return logits - slope * jnp.abs(positions.rows - positions.columns)


def mask(positions):
    return jnp.abs(positions.rows - positions.columns) <= 1


def normalizer(logits, where, *, shift: Float[Array, ""]):
    positive = jnp.where(where, jax.nn.softplus(jnp.where(where, logits, 0.0) + shift), 0.0)
    return positive / (1.0 + positive.sum(axis=-1, keepdims=True))
"""
NEEDED = {
    "additive": {"hidden": 3},
    "multiplicative": {"hidden": 3},
    "concat": {"hidden": 3},
    "cosine": {"scale": 1.0},
    "soft_cap": {"cap": 2.0},
    "relative_bias": {"distance": 2},
    "t5_bias": {"buckets": 4, "max_distance": 8},
    "location": {"positions": 5},
    "sliding_window": {"left": 1, "right": 1},
    "prefix": {"n": 2},
    "dilated": {"window": 2, "dilation": 2},
    "strided": {"stride": 2},
    "fixed": {"stride": 2},
    "global_tokens": {"tokens": 1},
    "random_blocks": {"block": 2, "count": 2},
    "big_bird": {"block": 2},
    "any_of": {"masks": (mask_configs.Prefix(n=1), mask_configs.SlidingWindow(left=1, right=1))},
    "all_of": {"masks": (mask_configs.Prefix(n=3), mask_configs.SlidingWindow(left=1, right=1))},
    "top_k": {"k": 2},
    "local_p": {"width": 2.0, "hidden": 3},
}
"""What a kind needs, or should be smaller here."""


def every(union, extra: bool = True) -> list:
    """Return a config of each kind of a union, with a learned number if the kind allows it."""
    result = []
    for model in models_of(union):
        kind = model.model_fields["kind"].default
        if issubclass(model, Custom):
            result.append(model(function=f"mine.py:{model.part}", source=CUSTOM))
            continue
        result.append(model(**NEEDED.get(kind, {})))
        if "learned" in model.model_fields and extra:
            result.append(model(**NEEDED.get(kind, {}), learned=True))
    return result


SCORES, MODS = every(attentions.Score), every(attentions.Mod)
MASKS, NORMALIZERS = every(mask_configs.Mask), every(normalizer_configs.Normalizer)


@pytest.mark.parametrize("config", SCORES, ids=lambda config: config.kind)
def test_scores_declare_whether_they_are_rotation_invariant(config):
    query, key, square = (
        jnp.asarray(np.random.default_rng(seed).normal(size=(3, 3)), jnp.float32) for seed in (0, 1, 2)
    )
    rotation = jnp.asarray(np.linalg.qr(square)[0])
    module = Score(config, heads=1, query_width=3, key_width=3)

    @jax.jit
    def difference(query, key):
        score, _ = module.init_with_output(jax.random.key(0))
        return jnp.abs(score(query @ rotation, key @ rotation) - score(query, key)).max()

    assert (difference(query, key) < 1e-5) == config.rotation_invariant


def rows(mods: list, chosen_masks: list, normalizers: list) -> list:
    """Return the fewest attention configs that contain every kind once."""
    count = max(map(len, (SCORES, mods, chosen_masks, normalizers)))
    pick = lambda kinds, n: kinds[n % len(kinds)] if kinds else None  # noqa: E731
    return [
        attentions.Attention(
            score=pick(SCORES, n), mods=(pick(mods, n),), mask=pick(chosen_masks, n), normalizer=pick(normalizers, n)
        )
        for n in range(count)
    ]


def name(attention) -> str:
    return "-".join(
        [attention.score.kind, attention.mods[0].kind, getattr(attention.mask, "kind", ""), attention.normalizer.kind]
    )


def learned(output, variables, *arguments) -> set[str]:
    """Assert that output and gradients are finite, and return the paths of the leaves with a nonzero gradient."""

    def total(variables):
        result = output(variables, *arguments)
        return jnp.sum(result**2), result

    slopes, result = jax.jit(jax.grad(total, has_aux=True))(variables)
    chex.assert_tree_all_finite((result, slopes))
    return {jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(slopes) if np.any(leaf)}


def learnable(variables, attention) -> set[str]:
    """Return the paths of all arrays that have a gradient: all but those of a score that `location` replaces."""
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(variables)}
    return {path for path in paths if attention.mods[0].kind != "location" or "score" not in path}


@pytest.mark.parametrize("attention", rows(MODS, MASKS, NORMALIZERS), ids=name)
def test_every_kind_in_many_heads(attention):
    module, context = SelfAttention(BLOCK, attention), Context(LENGTHS, masks.lengths(LENGTHS))
    variables = drawn(functools.partial(module.init, train=True), STATES, context)

    @jax.jit
    def output(variables, states):
        return module.apply(variables, states, context, train=False)

    result = output(variables, STATES)
    moved = output(variables, jnp.concatenate([STATES[:, :3], STATES[:, 3:] + 1.0], axis=1))
    chex.assert_shape(result, (2, 5, 8))
    np.testing.assert_allclose(moved[1, :3], result[1, :3], atol=1e-5)


@pytest.mark.parametrize(
    "attention",
    [
        pytest.param(row, marks=pytest.mark.slow if n % 3 else ())
        for n, row in enumerate(rows(MODS, MASKS, NORMALIZERS))
    ],
    ids=name,
)
def test_every_kind_learns_in_many_heads(attention):
    module, context = SelfAttention(BLOCK, attention), Context(LENGTHS, masks.lengths(LENGTHS))
    variables = drawn(functools.partial(module.init, train=True), STATES, context)
    rngs = {"dropout": jax.random.key(0)}
    leaves = learned(lambda v: module.apply(v, STATES, context, train=True, rngs=rngs), variables)
    assert leaves == learnable(variables, attention)


ABOUT = [mod for mod in MODS if mod.kind not in attentions.BETWEEN_POSITIONS]


def accepted_by_a_recurrent_decoder(attention: attentions.Attention) -> attentions.Attention:
    return TypeAdapter(attentions.CrossAttention).validate_python(attention)


@pytest.mark.parametrize(
    "attention",
    [pytest.param(row, marks=pytest.mark.slow if n % 3 else ()) for n, row in enumerate(rows(ABOUT, [], NORMALIZERS))],
    ids=name,
)
def test_every_kind_in_a_recurrent_decoder(attention):
    module = DecoderAttention(accepted_by_a_recurrent_decoder(attention), 8, 8)

    def ask(self):
        memory = self.project_memory(NEAR, LENGTHS, NEAR[:, 0])
        return self.function()(memory, NEAR[:, 1] + 0.1)

    variables = drawn(functools.partial(module.init, method=ask))
    context, weights = jax.jit(functools.partial(module.apply, method=ask))(variables)
    chex.assert_shape([context, weights], [(2, 8), (2, 5)])
    assert not weights[1, 3:].any()
    np.testing.assert_allclose(context, jnp.einsum("bs,bsd->bd", weights, NEAR), atol=1e-5)
    if variables:
        leaves = learned(lambda variables: module.apply(variables, method=ask)[0], variables)
        assert leaves == learnable(variables, attention)


def test_weights_are_returned_and_change_no_bit():
    module = CrossAttention(BLOCK, attentions.Attention(score=attentions.ScaledDot()))

    def ask(self, weights):
        return self(STATES, *self.project_memory(STATES), LENGTHS, train=False, weights=weights)

    variables = drawn(functools.partial(module.init, method=functools.partial(ask, weights=True)))
    requested, plain = (
        jax.jit(functools.partial(module.apply, method=functools.partial(ask, weights=weights)))(variables)
        for weights in (True, False)
    )
    np.testing.assert_array_equal(requested[0], plain[0])
    assert plain[1] is None
    np.testing.assert_allclose(requested[1].sum(-1), 1.0, atol=1e-6)


def test_gumbel_noise_is_drawn_only_in_training():
    normalizer = normalizer_configs.GumbelSoftmax()
    module = SelfAttention(BLOCK, attentions.Attention(score=attentions.Dot(), normalizer=normalizer))
    context = Context(LENGTHS, masks.lengths(LENGTHS))
    variables = drawn(functools.partial(module.init, train=True), STATES, context)

    @functools.partial(jax.jit, static_argnums=0)
    def output(train: bool, seed: int):
        return module.apply(variables, STATES, context, train=train, rngs={"dropout": jax.random.key(seed)})

    assert (output(True, 0) != output(True, 1)).any()
    np.testing.assert_array_equal(output(False, 0), output(False, 1))


@pytest.mark.parametrize("chosen", MASKS, ids=lambda mask: mask.kind)
def test_masks_equal_those_of_their_configs(chosen):
    where = np.asarray(mask(chosen, 6, longest=6).dense(6, 6))
    np.testing.assert_array_equal(mask(chosen, 4, longest=6).dense(4, 4), where[:4, :4])
    i, j = np.arange(6)[:, None], np.arange(6)[None, :]
    near = abs(i - j) <= 1
    expected = {
        "sliding_window": near,
        "prefix": (j < 2) | (i < 0),
        "dilated": (abs(i - j) <= 2) & ((i - j) % 2 == 0),
        "strided": (i >= j) & ((i - j <= 2) | ((i - j) % 2 == 0)),
        "fixed": (i >= j) & ((i // 2 == j // 2) | (j % 2 == 1)),
        "global_tokens": (i < 1) | (j < 1),
        "any_of": near | (j < 1),
        "all_of": near & (j < 3),
        "custom": near,
    }
    if chosen.kind in expected:
        np.testing.assert_array_equal(where, expected[chosen.kind])
    else:
        assert where.any()
        assert where.reshape(3, 2, 3, 2).any(axis=(1, 3)).sum() >= 6


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("normalizer: local_p", {"normalizer": normalizer_configs.LocalP(width=1.0, hidden=2)}),
        ("mods: location", {"mods": (attentions.Location(positions=6),)}),
    ],
)
def test_a_step_refuses_parts_that_depend_on_the_whole_sequence(message, parts):
    """They index the queries of the call from position 0 on, so a later step would use the wrong query or none."""
    layer = SelfAttention(BLOCK, attentions.Attention(score=attentions.ScaledDot(), **parts))
    state = layer.init_state(2, jnp.float32)
    context = Context(LENGTHS, masks.lengths(LENGTHS))
    variables = layer.init(jax.random.key(0), STATES, context, train=False)
    with pytest.raises(ValueError, match=rf"^attention\.{message} needs the length"):
        layer.apply(variables, state, STATES[:, :1], method="step")


def test_a_config_with_score_and_normalizer_only_is_valid():
    old = '{"score": {"kind": "additive", "hidden": 4}, "normalizer": {"kind": "softmax"}}'
    assert attentions.Attention.model_validate_json(old) == attentions.Attention(score=attentions.Additive(hidden=4))


def refused(**parts) -> None:
    RecurrentConfig(attention=attentions.Attention(**{"score": attentions.General(), **parts}))


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (r"attention\n.*mods: alibi compares positions within one sequence", {"mods": (attentions.Alibi(),)}),
        (r"attention\n.*mask: prefix compares positions", {"mask": mask_configs.Prefix(n=1)}),
        ("cosine needs decoder.hidden", {"score": attentions.Cosine()}),
        ("trilinear needs decoder.hidden", {"score": attentions.Trilinear()}),
        ("location replaces the logits", {"mods": (attentions.SoftCap(cap=1.0), attentions.Location(positions=2))}),
    ],
)
def test_a_recurrent_model_refuses_by_name(message, parts):
    with pytest.raises(ValueError, match=message):
        refused(**parts)


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (lambda: normalizer_configs.Entmax(alpha=2.0, learned=True), r"alpha 2.0"),
        (lambda: mask_configs.Fixed(stride=2, summary=3), r"summary.*3.*2"),
        (lambda: mask_configs.BigBird(window=2), r"window.*2"),
        (lambda: mask_configs.Dilated(window=3, dilation=1), r"window\n.*multiple of 2.*3"),
        (lambda: attentions.T5Bias(max_distance=16), r"max_distance.*16"),
        (lambda: mask_configs.AnyOf(masks=()), r"masks(.|\n)*at least 1"),
    ],
)
def test_invalid_numbers_are_refused_with_the_setting_and_its_value(invalid, message):
    with pytest.raises(ValueError, match=message):
        invalid()
