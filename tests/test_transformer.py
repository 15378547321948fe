"""Transformers: equal to Flax with the same weights and to BERT in NumPy, causal, and equal with and without cache."""

import functools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from weights import drawn

from attnlab.config import Decoding
from attnlab.config import attention as attentions
from attnlab.config import masks as mask_configs
from attnlab.config import normalizers as normalizer_configs
from attnlab.config.models import transformer as config
from attnlab.data.text.tokenizer import BOS, EOS, PAD
from attnlab.functional import masks
from attnlab.layers.capture import apply_with_attention
from attnlab.layers.dropout import Dropout, keep
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import CrossAttention, SelfAttention
from attnlab.models.transformer import TransformerDecoder, TransformerEncoder, TransformerSeq2Seq
from attnlab.training.decoding import make_decode

VOCABULARY = 11
SOURCE = jnp.array([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]])
LENGTHS = jnp.array([5, 3])
TARGET = jnp.array([[1, 4, 5, 6], [1, 7, 8, 9]])
BLOCK = {"width": 8, "heads": 4, "kv_heads": 2, "feed_forward": 12, "max_length": 6, "dropout": 0.5}
POSITIONS = {
    "none": config.NoPositions(),
    "learned": config.Learned(),
    "sinusoidal": config.Sinusoidal(),
    "rotary": config.Rotary(),
    "alibi": config.Alibi(),
    "relative": config.RelativeBias(distance=2),
    "t5": config.T5Bias(buckets=4, max_distance=8),
}
MEMORY = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 8)), jnp.float32)


def weights_of(model: nn.Module, *arguments, **options) -> dict:
    return drawn(functools.partial(model.init, **options), *arguments)


@functools.partial(jax.jit, static_argnames=("model", "train", "method", "weights"))
def apply(model, variables, *arguments, rngs=None, **options):
    return model.apply(variables, *arguments, rngs=rngs, **options)


@functools.cache
def seq2seq(**more) -> tuple[TransformerSeq2Seq, dict]:
    stacks = {"encoder": config.Stack(layers=1), "decoder": config.DecoderStack(layers=2)}
    model = TransformerSeq2Seq(config.TransformerSeq2Seq(**{**BLOCK, **stacks, **more}), VOCABULARY, VOCABULARY)
    return model, weights_of(model, SOURCE, LENGTHS, TARGET, train=False)


def test_shapes():
    model, variables = seq2seq()
    out = apply(model, variables, SOURCE, LENGTHS, TARGET, train=False)
    chex.assert_shape([out.logits, out.weights], [(2, 4, VOCABULARY), (2, 4, 5)])
    np.testing.assert_allclose(out.weights.sum(-1), 1.0, atol=1e-6)
    assert not out.weights[1, :, 3:].any()


def test_training_computes_weights_only_on_request():
    model, variables = seq2seq()
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}}
    shape = lambda **more: jax.eval_shape(  # noqa: E731
        functools.partial(model.apply, **options, **more), variables, SOURCE, LENGTHS, TARGET
    )
    assert shape().weights is None
    chex.assert_shape(shape(weights=True).weights, (2, 4, 5))


def test_attention_of_every_layer_and_head_changes_no_bit():
    model, variables = seq2seq()
    plain = apply(model, variables, SOURCE, LENGTHS, TARGET, train=False, weights=False)
    show = jax.jit(functools.partial(apply_with_attention, model, train=False, weights=False))
    out, layers = show(variables, SOURCE, LENGTHS, TARGET)
    np.testing.assert_array_equal(out.logits, plain.logits)
    names = ["encoder/layer_1/self_attention"]
    names += [f"decoder/layer_{n}/{kind}_attention" for kind in ("self", "cross") for n in (1, 2)]
    result = {layer.name: layer.weights for layer in layers}
    assert list(result) == names
    chex.assert_shape([result[names[0]], result["decoder/layer_2/cross_attention"]], [(2, 4, 5, 5), (2, 4, 4, 5)])
    reported = apply(model, variables, SOURCE, LENGTHS, TARGET, train=False).weights
    np.testing.assert_allclose(result["decoder/layer_1/cross_attention"].mean(1), reported, atol=1e-6)


def test_padding_and_filler_rows_change_nothing():
    model, variables = seq2seq()
    alone = apply(model, variables, SOURCE[1:, :3], LENGTHS[1:], TARGET[1:], train=False)
    filler = jnp.concatenate([SOURCE, jnp.zeros((1, 5), int)]), jnp.array([5, 3, 0])
    among = apply(model, variables, *filler, jnp.concatenate([TARGET, jnp.zeros((1, 4), int)]), train=False)
    np.testing.assert_allclose(among.logits[1], alone.logits[0], atol=1e-5)
    np.testing.assert_allclose(among.weights[1, :, :3], alone.weights[0], atol=1e-6)
    chex.assert_tree_all_finite(among)


def test_tokens_do_not_depend_on_later_tokens():
    model, variables = seq2seq()
    before = apply(model, variables, SOURCE, LENGTHS, TARGET, train=False).logits
    after = apply(model, variables, SOURCE, LENGTHS, TARGET.at[:, 2].set(10), train=False).logits
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2] != after[:, 2]).any(axis=-1).all()


@pytest.mark.parametrize(("tied", "tables", "matrix"), [("none", 2, True), ("output", 2, False), ("all", 1, False)])
def test_tied_embeddings_are_one_array(tied, tables, matrix):
    _, variables = seq2seq(tie_embeddings=tied)
    params = variables["params"]
    assert sum("embedding" in name for part in (params, params["decoder"]) for name in part) == tables
    assert ("Dense_0" in params["decoder"]["readout"]) == matrix


def decoder(**more) -> tuple[TransformerDecoder, dict]:
    model = TransformerDecoder(config.TransformerDecoder(**{**BLOCK, "layers": 1, **more}), VOCABULARY)
    return model, weights_of(model, MEMORY, LENGTHS, TARGET, train=False)


def assert_cache_equals_full(model, variables, steps=(1, 1, 1, 1)):
    together = apply(model, variables, MEMORY, LENGTHS, TARGET, train=False)
    memory, state = apply(model, variables, MEMORY, LENGTHS, method="start")
    done = 0
    for tokens in steps:
        state, out = apply(model, variables, memory, state, TARGET[:, done : done + tokens], method="decode")
        np.testing.assert_allclose(out.logits, together.logits[:, done : done + tokens], atol=2e-5)
        np.testing.assert_allclose(out.weights, together.weights[:, done : done + tokens], atol=1e-5)
        done += tokens
    assert all(a.shape[0] == 2 for a in jax.tree.leaves(state))


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.quick("learned", "rotary", "t5")
def test_the_cache_equals_the_full_forward(kind):
    assert_cache_equals_full(*decoder(positions=POSITIONS[kind]))


def test_the_cache_takes_several_tokens_a_step():
    assert_cache_equals_full(*decoder(norm_position="post", norm=config.RmsNorm()), steps=(3, 1))


PAST = {
    0: attentions.Attention(score=attentions.General(), mask=mask_configs.SlidingWindow(left=1)),
    1: attentions.Attention(
        score=attentions.Cosine(learned=True),
        mods=(attentions.SoftCap(cap=3.0), attentions.Alibi()),
        mask=mask_configs.AnyOf(masks=(mask_configs.Dilated(window=2, dilation=2), mask_configs.Prefix(n=1))),
        normalizer=normalizer_configs.SoftmaxWithSink(),
    ),
    2: attentions.Attention(
        score=attentions.Additive(hidden=3),
        mask=mask_configs.AllOf(masks=(mask_configs.Strided(stride=2), mask_configs.GlobalTokens(tokens=2))),
        normalizer=normalizer_configs.Entmax15(),
    ),
    3: attentions.Attention(
        score=attentions.NegativeSquaredDistance(),
        mask=mask_configs.Fixed(stride=2),
        normalizer=normalizer_configs.ReluOverLength(),
    ),
}
ABOUT = {
    0: attentions.Attention(
        score=attentions.Dot(), mods=(attentions.Location(positions=5),), normalizer=normalizer_configs.Sparsemax()
    ),
    1: attentions.Attention(score=attentions.Concat(hidden=3), normalizer=normalizer_configs.LocalP(hidden=3)),
}


def test_the_cache_equals_the_full_forward_with_other_attention_in_every_layer():
    assert_cache_equals_full(*decoder(layers=4, per_layer=PAST, cross_per_layer=ABOUT, alignment_layer=3))


def test_remat_gives_the_same_gradients():
    gradients = []
    for remat in (False, True):
        model, variables = decoder(remat=remat, positions=POSITIONS["t5"])

        def loss(variables, model=model):
            rngs = {"dropout": jax.random.key(0)}
            return jnp.sum(model.apply(variables, MEMORY, LENGTHS, TARGET, train=True, rngs=rngs).logits ** 2)

        gradients.append(jax.jit(jax.grad(loss))(variables))
    chex.assert_trees_all_close(*gradients, rtol=1e-4, atol=1e-4)
    chex.assert_tree_all_finite(gradients[0])
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients[0]))


def full_greedy(model, variables, row: int, longest: int) -> list[int]:
    """Decode greedily without a cache, by a full forward pass over the padded text for each token."""
    text = [BOS]
    while len(text) <= longest:
        padded = jnp.asarray([text + [PAD] * (longest + 1 - len(text))])
        out = apply(model, variables, SOURCE[row : row + 1], LENGTHS[row : row + 1], padded, train=False)
        logits = np.array(out.logits[0, len(text) - 1])
        logits[[PAD, BOS]] = -np.inf
        text.append(int(logits.argmax()))
        if text[-1] == EOS:
            break
    return [token for token in text[1:] if token != EOS]


def test_search_equals_the_full_forward_pass():
    model, variables = seq2seq()
    params = variables["params"]
    result = make_decode(model, Decoding(beam=1, max_length=5))(params, SOURCE, LENGTHS)
    for row in range(2):
        assert result.tokens[row, 0, : result.lengths[row, 0]].tolist() == full_greedy(model, variables, row, 5)
    chex.assert_shape(result.weights, (2, 1, 6, 5))


def test_beam_search_reorders_the_cache():
    """With all beams, the best hypothesis scores at least as high as the greedy one in a full forward pass."""
    model, variables = seq2seq()
    result = make_decode(model, Decoding(beam=4, n_best=4, max_length=4, length_penalty=0.0))(
        variables["params"], SOURCE, LENGTHS
    )
    for row in range(2):
        for n in range(4):
            length = int(result.lengths[row, n])
            words = result.tokens[row, n, :length].tolist()
            text = jnp.asarray([[BOS, *words, *[PAD] * (4 - length)]])
            out = apply(model, variables, SOURCE[row : row + 1], LENGTHS[row : row + 1], text, train=False)
            logits = np.asarray(out.logits)[0]
            log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            total = sum(float(log_probs[i, token]) for i, token in enumerate([*words, EOS]))
            np.testing.assert_allclose(result.scores[row, n], total, rtol=1e-4)


# Multi-head attention


def flax_weights(variables, heads: int) -> dict:
    """Return the weights of `SelfAttention` or `CrossAttention` under the names of Flax's module."""
    params = variables["params"]
    names = ["query", "key", "value"]
    if "qkv" in params:
        cut = {k: np.split(a, 3, axis=-1) for k, a in params["qkv"].items()}
        maps = {name: {k: parts[n] for k, parts in cut.items()} for n, name in enumerate(names)}
    else:
        cut = {k: np.split(a, 2, axis=-1) for k, a in params["key_value"].items()}
        maps = {name: {k: parts[n] for k, parts in cut.items()} for n, name in enumerate(names[1:])}
        maps["query"] = params["query"]
    split = {name: {k: a.reshape(*a.shape[:-1], heads, -1) for k, a in arrays.items()} for name, arrays in maps.items()}
    kernel = params["output"]["kernel"]
    out = {"kernel": kernel.reshape(heads, -1, kernel.shape[-1]), "bias": params["output"]["bias"]}
    return {"params": {**split, "out": out}}


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_that_of_flax(causal):
    block = config.Block(width=8, heads=2)
    ours, theirs = SelfAttention(block, config.SELF), nn.MultiHeadDotProductAttention(2, qkv_features=8)
    where = masks.lengths(LENGTHS) & masks.causal() if causal else masks.lengths(LENGTHS)
    context = Context(LENGTHS, where)
    variables = weights_of(ours, MEMORY, context, train=False)
    result = apply(ours, variables, MEMORY, context, train=False)
    expected = jax.jit(theirs.apply)(flax_weights(variables, 2), MEMORY, mask=where.dense(5, 5)[:, None])
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_cross_attention_is_that_of_flax():
    block = config.Block(width=8, heads=2)
    ours, theirs = CrossAttention(block, config.SELF), nn.MultiHeadDotProductAttention(2, qkv_features=8)

    class Whole(nn.Module):
        @nn.compact
        def __call__(self, states):
            module = CrossAttention(block, config.SELF, name="cross")
            return module(states, *module.project_memory(MEMORY), LENGTHS, train=False)[0]

    states = MEMORY[:, :3] + 1.0
    variables = weights_of(Whole(), states)
    result = jax.jit(Whole().apply)(variables, states)
    weights = flax_weights({"params": variables["params"]["cross"]}, 2)
    where = (jnp.arange(5)[None] < LENGTHS[:, None])[:, None, None, :]
    np.testing.assert_allclose(result, jax.jit(theirs.apply)(weights, states, MEMORY, mask=where), atol=1e-5)
    assert ours.config == block


# The encoder

BERT = {
    "width": 8, "heads": 2, "feed_forward": 12, "activation": "gelu", "norm_position": "post",
    "norm": config.LayerNorm(epsilon=1e-12), "positions": config.Learned(), "max_length": 6, "scale_embeddings": False,
    "embedding_norm": True, "token_types": 2, "layers": 2,
}  # fmt: skip


def bert(params: dict, tokens: np.ndarray, types: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """BERT's encoder in NumPy float64 (Devlin et al. 2019), from our weights."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    body = params["body"]
    norm = lambda x, p: (  # noqa: E731
        (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * p["scale"] + p["bias"]
    )
    linear = lambda x, p: x @ p["kernel"] + p["bias"]  # noqa: E731
    erf = np.vectorize(math.erf)
    entry = body["entry"]
    x = params["embedding"]["embedding"][tokens] + entry["positions"][: tokens.shape[1]]
    x = norm(x + entry["token_types"]["embedding"][types], entry["norm"])
    for n in range(2):
        layer = body[f"layer_{n}"]
        q, k, v = np.split(linear(x, layer["self_attention"]["qkv"]), 3, axis=-1)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            logits = q[..., part] @ np.swapaxes(k[..., part], 1, 2) / 2.0
            logits = np.where(np.arange(tokens.shape[1])[None, None] < lengths[:, None, None], logits, -np.inf)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., part])
        x = norm(x + linear(np.concatenate(heads, -1), layer["self_attention"]["output"]), layer["self_norm"])
        hidden = linear(x, layer["feed_forward"]["hidden"])
        hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
        x = norm(x + linear(hidden, layer["feed_forward"]["output"]), layer["feed_forward_norm"])
    return x


def test_the_encoder_can_be_bert():
    model = TransformerEncoder(config.TransformerEncoder(**BERT), VOCABULARY)
    types = jnp.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    variables = weights_of(model, SOURCE, LENGTHS, types, train=False)
    result = apply(model, variables, SOURCE, LENGTHS, types, train=False)
    expected = bert(variables["params"], np.asarray(SOURCE), np.asarray(types), np.asarray(LENGTHS))
    real = np.arange(5)[None] < np.asarray(LENGTHS)[:, None]
    np.testing.assert_allclose(result[real], expected[real], atol=2e-5)


def test_segments_do_not_see_each_other():
    model = TransformerEncoder(
        config.TransformerEncoder(**{**BLOCK, "positions": POSITIONS["rotary"], "layers": 1}), VOCABULARY
    )
    variables = weights_of(model, SOURCE, LENGTHS, train=False)
    packed = apply(model, variables, SOURCE[:1], LENGTHS[:1], None, jnp.array([[1, 1, 1, 2, 2]]), train=False)
    alone = apply(model, variables, SOURCE[:1, 3:], jnp.array([2]), train=False)
    np.testing.assert_allclose(packed[0, 3:], alone[0], atol=1e-5)


def test_dropout_drops_at_its_rate():
    drawn = np.stack([keep(jax.random.key(seed), 0.3, (64, 64)) for seed in range(20)]).astype(float) - 0.7
    spread = 4 * 0.21 / math.sqrt(drawn.size)
    assert abs(drawn.mean()) < spread / math.sqrt(0.21)
    others = [drawn[:, 1:] * drawn[:, :-1], drawn[:, :, 1:] * drawn[:, :, :-1], drawn[1:] * drawn[:-1]]
    assert all(abs(product.mean()) < spread for product in others)
    result = Dropout(0.3).apply({}, jnp.ones((64, 64)), train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(np.unique(result), [0.0, 1 / 0.7], rtol=1e-6)


def test_dropout_acts_in_training_alone():
    model = TransformerEncoder(
        config.TransformerEncoder(**{**BLOCK, "layers": 1, "attention_dropout": 0.5}), VOCABULARY
    )
    variables = weights_of(model, SOURCE, LENGTHS, train=False)

    def states(train: bool, seed: int) -> jax.Array:
        return apply(model, variables, SOURCE, LENGTHS, train=train, rngs={"dropout": jax.random.key(seed)})

    assert (states(True, 0) != states(True, 1)).any()
    np.testing.assert_array_equal(states(False, 0), states(False, 1))


def test_more_tokens_than_learned_positions_are_refused():
    model = TransformerEncoder(config.TransformerEncoder(**BERT), VOCABULARY)
    with pytest.raises(ValueError, match="7 tokens, but there are learned positions for max_length 6"):
        jax.eval_shape(
            functools.partial(model.init, train=False), jax.random.key(0), jnp.ones((1, 7), int), LENGTHS[:1]
        )


# A small task that can be learned exactly


@pytest.mark.slow
@pytest.mark.optimized
def test_learns_to_reverse():
    """Reverse 5 of 8 words: above 0.98 of the sentences exact, by the cached search."""
    sizes = {"width": 32, "heads": 2, "feed_forward": 64, "max_length": 8, "dropout": 0.0}
    chosen = config.TransformerSeq2Seq(
        **sizes, positions=config.Learned(), encoder=config.Stack(layers=1), decoder=config.DecoderStack(layers=1)
    )
    model = TransformerSeq2Seq(chosen, 12, 12)
    rng = np.random.default_rng(0)
    lengths = jnp.full(128, 5)

    def batch() -> tuple[jax.Array, jax.Array, jax.Array]:
        source = rng.integers(4, 12, (128, 5))
        target = np.concatenate([np.full((128, 1), BOS), source[:, ::-1], np.full((128, 1), EOS)], axis=1)
        return jnp.asarray(source), jnp.asarray(target[:, :-1]), jnp.asarray(target[:, 1:])

    source, target, _ = batch()
    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), source, lengths, target)["params"]
    optimizer = optax.adam(optax.linear_schedule(5e-3, 0.0, 400))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, source, prefix, expected):
        def loss(params):
            logits = model.apply({"params": params}, source, lengths, prefix, train=True).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, expected).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    for _ in range(400):
        params, state = step(params, state, *batch())
    source, _, expected = batch()
    result = make_decode(model, Decoding(beam=1, max_length=6))(params, source, lengths)
    assert (result.tokens[:, 0, :5] == expected[:, :5]).all(axis=1).mean() > 0.98


# Configs that make no sense


REFUSED = {
    "width 10 is not a multiple of heads 4": lambda: config.Block(width=10, heads=4),
    "heads 4 is not a multiple of kv_heads 3": lambda: config.Block(width=8, heads=4, kv_heads=3),
    "an even number of features per head, not 3": lambda: config.Block(head_width=3, positions=config.Rotary()),
    "attention.score general is not invariant to rotation": lambda: config.TransformerEncoder(
        positions=config.Rotary(), attention=attentions.Attention(score=attentions.General())
    ),
    "per_layer.6: .*0 to 5": lambda: config.Stack(per_layer={6: config.SELF}),
    "alignment_layer 6: .*0 to 5": lambda: config.DecoderStack(alignment_layer=6),
    r"attention\n.*mask: big_bird needs the length of the whole sequence": lambda: config.DecoderStack(
        attention=attentions.Attention(score=attentions.Dot(), mask=mask_configs.BigBird())
    ),
    r"per_layer.1\n.*normalizer: local_p needs the length": lambda: config.DecoderStack(
        per_layer={1: attentions.Attention(score=attentions.Dot(), normalizer=normalizer_configs.LocalP())}
    ),
    r"cross_attention\n.*mods: alibi compares positions within one sequence": lambda: config.DecoderStack(
        cross_attention=attentions.Attention(score=attentions.Dot(), mods=(attentions.Alibi(),))
    ),
    r"cross_attention\n.*mask: prefix compares positions": lambda: config.DecoderStack(
        cross_attention=attentions.Attention(score=attentions.Dot(), mask=mask_configs.Prefix(n=1))
    ),
    "max_distance 16 must exceed 16": lambda: config.T5Bias(max_distance=16),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_configs_survive_json_and_shrink():
    whole = config.TransformerSeq2Seq(
        encoder=config.Stack(layers=4, per_layer={2: PAST[1]}), decoder=config.DecoderStack(per_layer=PAST)
    )
    assert config.TransformerSeq2Seq.model_validate_json(whole.model_dump_json()) == whole
    small = whole.tiny()
    assert (small.encoder.layers, small.decoder.layers, small.width) == (3, 4, 16)
    assert small.tiny() == small
    assert small.encoder.per_layer[2] == PAST[1]
    assert hash(whole.encoder_config()) != hash(small.encoder_config())
