"""Properties of every model: it accepts embeddings instead of its inputs, and returns the attention of its layers."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import drawn

from attnlab.config import models as configs
from attnlab.config.attention import Additive, Attention, ScaledDot, Trilinear
from attnlab.config.explain import models_of
from attnlab.config.models import captioner, classifier, extractive_qa, image_encoder, recurrent, transformer
from attnlab.config.models import visual_qa as vqa
from attnlab.layers.capture import apply_with_attention
from attnlab.models.bidaf import BidafReader
from attnlab.models.captioner import ShowAttendTell, TransformerCaptioner
from attnlab.models.classifier import MlpClassifier, RecurrentClassifier, TransformerClassifier
from attnlab.models.memory_network import MemoryNetwork
from attnlab.models.seq2seq import RecurrentSeq2Seq
from attnlab.models.transformer import TransformerEncoder, TransformerSeq2Seq
from attnlab.models.transformer_reader import TransformerReader
from attnlab.models.transformer_story_reader import SentenceStoryReader, TransformerStoryReader
from attnlab.models.visual_qa import VisualAnswerer

VOCABULARY = 11
ADDITIVE, DOTS = Attention(score=Additive(hidden=3)), Attention(score=ScaledDot())
TOKENS = jnp.array([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]])
LENGTHS = jnp.array([5, 3])
TARGET = jnp.array([[1, 4, 5, 6], [1, 7, 8, 9]])
STORY = jnp.array([[[5, 6], [7, 8], [9, 0]], [[4, 5], [6, 0], [0, 0]]])
SENTENCES = jnp.array([3, 2])
QUESTION = jnp.array([[4, 5], [6, 0]])
LETTERS = jnp.ones((2, 5, 3), jnp.int32)
MATCH = jnp.array([[1.0, 0, 0, 1, 0], [0, 0, 1, 0, 0]])
FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
IMAGE = image_encoder.EfficientNetLite0(width=8)
BLOCK: Any = {"width": 8, "heads": 2, "feed_forward": 8, "layers": 2}
ENCODER, DECODER = transformer.TransformerEncoder(**BLOCK), transformer.TransformerDecoder(**BLOCK)
STACKS: Any = {"encoder": transformer.Stack(layers=2), "decoder": transformer.DecoderStack(layers=2)}
RECURRENT: Any = {
    "embedding": 4,
    "encoder": recurrent.Encoder(hidden=3),
    "decoder": recurrent.Decoder(hidden=6),
    "attention": ADDITIVE,
}
READER: Any = {"embedding": 4, "hidden": 3, "attention": Attention(score=Trilinear())}
ANSWERER: Any = {"image": IMAGE, "question": vqa.QuestionEncoder(embedding=4, hidden=3), "hidden": 8}


def self_attention(stack: str, kind: str = "self") -> list[str]:
    return [f"{stack}/layer_{n}/{kind}_attention" for n in (1, 2)]


def answerer(fusion: Any) -> VisualAnswerer:
    return VisualAnswerer(vqa.VisualAnswerer(fusion=fusion, **ANSWERER), VOCABULARY, 5)


TEXTS, SOURCES, STORIES = (TOKENS, LENGTHS), (TOKENS, LENGTHS, TARGET), (STORY, SENTENCES, QUESTION)
PASSAGES = (TOKENS, LENGTHS, TARGET, jnp.array([4, 2]), LETTERS, LETTERS[:, :4], MATCH)
IMAGES, CELLS = FEATURES, jnp.array([4, 4])
MODELS: dict[str, tuple[Any, tuple[Any, ...], list[str]]] = {
    "recurrent_seq2seq": (
        RecurrentSeq2Seq(configs.RecurrentSeq2Seq(**RECURRENT), VOCABULARY, VOCABULARY),
        SOURCES,
        ["decoder/decoder_attention"],
    ),
    "transformer_seq2seq": (
        TransformerSeq2Seq(
            configs.TransformerSeq2Seq(width=8, heads=2, feed_forward=8, **STACKS), VOCABULARY, VOCABULARY
        ),
        SOURCES,
        self_attention("encoder") + self_attention("decoder") + self_attention("decoder", "cross"),
    ),
    "transformer_encoder": (TransformerEncoder(ENCODER, VOCABULARY), TEXTS, self_attention("encoder")),
    "recurrent_classifier": (
        RecurrentClassifier(
            configs.RecurrentClassifier(
                embedding=4,
                encoder=classifier.Encoder(hidden=3),
                pooling=classifier.Attentive(attention=ADDITIVE, hops=2),
                word_dropout=0.5,
            ),
            VOCABULARY,
            3,
        ),
        TEXTS,
        ["encoder/pooling_attention"],
    ),
    "transformer_classifier": (
        TransformerClassifier(configs.TransformerClassifier(encoder=ENCODER), VOCABULARY, 3),
        TEXTS,
        [*self_attention("encoder"), "encoder/pooling_attention"],
    ),
    "mlp_classifier": (
        MlpClassifier(
            configs.MlpClassifier(embedding=4, hidden=3, pooling=classifier.Attentive(attention=ADDITIVE)),
            VOCABULARY,
            3,
        ),
        TEXTS,
        ["encoder/pooling_attention"],
    ),
    "show_attend_tell": (
        ShowAttendTell(captioner.ShowAttendTell(image=IMAGE, embedding=4, hidden=6, attention=ADDITIVE), VOCABULARY),
        (IMAGES, CELLS, TARGET),
        ["decoder/decoder_attention"],
    ),
    "show_attend_tell with hard attention": (
        ShowAttendTell(
            captioner.ShowAttendTell(image=IMAGE, embedding=4, hidden=6, attention=ADDITIVE, attention_type="hard"),
            VOCABULARY,
        ),
        (IMAGES, CELLS, TARGET),
        ["decoder/decoder_attention"],
    ),
    "transformer_captioner": (
        TransformerCaptioner(captioner.TransformerCaptioner(image=IMAGE, decoder=DECODER), VOCABULARY),
        (IMAGES, CELLS, TARGET),
        self_attention("decoder") + self_attention("decoder", "cross"),
    ),
    "visual_answerer": (
        answerer(vqa.CoAttention(attention=ADDITIVE)),
        (IMAGES, CELLS, TOKENS, LENGTHS),
        ["fusion/question_to_image_attention", "fusion/image_to_question_attention"],
    ),
    "visual_answerer of layers": (
        answerer(vqa.GatedCrossAttention(attention=DOTS, heads=2)),
        (IMAGES, CELLS, TOKENS, LENGTHS),
        self_attention("fusion", "cross"),
    ),
    "memory_network": (
        MemoryNetwork(configs.MemoryNetwork(width=4, hops=2), VOCABULARY, 3),
        STORIES,
        self_attention("memory", "hop"),
    ),
    "transformer_story_reader": (
        TransformerStoryReader(configs.TransformerStoryReader(encoder=ENCODER), VOCABULARY),
        (TOKENS, jnp.zeros_like(TOKENS), LENGTHS),
        self_attention("encoder"),
    ),
    "transformer_story_reader of sentences": (
        SentenceStoryReader(configs.TransformerStoryReader(encoder=ENCODER), VOCABULARY),
        STORIES,
        self_attention("encoder"),
    ),
    "bidaf_reader": (
        BidafReader(
            configs.BidafReader(characters=extractive_qa.Characters(embedding=2, filters=2, kernel_size=2), **READER),
            VOCABULARY,
            5,
        ),
        PASSAGES,
        ["reader/context_to_query_attention", "reader/query_to_context_attention"],
    ),
    "transformer_reader": (
        TransformerReader(configs.TransformerReader(encoder=ENCODER, exact_match=True), VOCABULARY),
        (TOKENS, LENGTHS, jnp.array([2, 1]), MATCH),
        self_attention("encoder"),
    ),
}
"""Each model with its arguments and the names of its layers that attend."""


def test_every_model_that_a_config_can_name_is_here():
    kinds = {model.model_fields["kind"].default for model in models_of(configs.Model)}
    assert kinds <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.quick(
    "recurrent_seq2seq",
    "transformer_seq2seq",
    "recurrent_classifier",
    "mlp_classifier",
    "show_attend_tell",
    "transformer_captioner",
    "visual_answerer",
    "visual_answerer of layers",
    "memory_network",
    "transformer_story_reader of sentences",
    "bidaf_reader",
    "transformer_reader",
)
def test_a_model_takes_its_embeddings_and_returns_its_attention(name):
    model, arguments, names = MODELS[name]
    variables = drawn(functools.partial(model.init, train=False), *arguments)
    expected = jax.jit(functools.partial(model.apply, train=False))(variables, *arguments)

    output, layers = jax.jit(functools.partial(apply_with_attention, model, train=False))(variables, *arguments)
    chex.assert_trees_all_equal(output, expected)
    assert [layer.name for layer in layers] == names
    for layer in layers:
        assert layer.name.startswith(layer.stack)
        assert layer.kind in layer.name
        assert layer.layer is None or f"layer_{layer.layer}/" in layer.name
        chex.assert_rank(layer.weights, 4)
        assert len(layer.weights) == 2
        np.testing.assert_allclose(layer.weights[0].sum(axis=-1), 1.0, atol=1e-5)

    embedded = jax.jit(functools.partial(model.apply, method="embed"))(variables, *arguments)

    @jax.jit
    @functools.partial(jax.grad, argnums=1, has_aux=True)
    def slopes(variables, embedded):
        output = model.apply(variables, *arguments, train=False, embedded=embedded)
        finite = [jnp.where(jnp.isfinite(leaf), leaf, 0.0) for leaf in jax.tree.leaves(output)]
        return sum(jnp.sum(leaf[0] ** 2) for leaf in finite), output

    result, of_embedded = slopes(variables, embedded)
    # Another program, whose compiler may round elsewhere.
    chex.assert_trees_all_close(of_embedded, expected, rtol=1e-5, atol=1e-6)
    chex.assert_tree_all_finite(result)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(result))
