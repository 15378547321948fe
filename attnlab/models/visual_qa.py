"""Visual question answering: encoders of question and image, and a fusion of both.

q_1 … q_n are the states of the question's words, q its summary (the last states), v_1 … v_m the image's cells.

concat                 f = [q; mean v; q ⊙ mean v]
co_attention           v̂ = attend(q; v), q̂ = attend(v̂; q_1 … q_n), f = [q̂; v̂; q̂ ⊙ v̂]   (Lu et al. 2016, section 3.3)
cross_attention        x_i = q_i, then in every layer x ← x + cross(norm(x); v), x ← x + ffn(norm(x));
                       x̂ = norm(mean x), f = [q; x̂; q ⊙ x̂]
gated_cross_attention  the same with x + tanh(α) cross(…) and x + tanh(β) ffn(…), α = β = 0 at first
                       (Alayrac et al. 2022, section 2.2): at initialization the image has no influence
question_only, image_only   f = q, f = mean v

logits = W₂ relu(W₁ f)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, Num

from attnlab.config.models import visual_qa as config
from attnlab.config.models.transformer import Block
from attnlab.layers.attention import Attention
from attnlab.layers.multi_head import CrossAttention
from attnlab.layers.recurrent import Bidirectional
from attnlab.layers.transformer import FeedForward, record_residual
from attnlab.models.image_encoder import ImageEncoder
from attnlab.models.seq2seq import EMBEDDING_INIT


class VisualEmbeddings(NamedTuple):
    """The embedded inputs of a batch."""

    image: Float[Array, "b m c"]
    """Features of the image's cells."""
    question: Float[Array, "b n e"]
    """Embeddings of the question's words."""


@struct.dataclass
class Answers:
    """Output of the model for a batch."""

    logits: Float[Array, "b a"] | Any
    """Logits of the answers."""
    weights: Float[Array, "b n m"] | Any
    """Attention weights of each word of the question over the image, of the last layer, averaged over its heads. With
    co_attention the question attends as a whole, so that all words have the same weights. Zeros without attention."""
    words: Float[Array, "b n"] | Any
    """Attention weights over the words of the question with co_attention; otherwise zeros."""


class VisualAnswerer(nn.Module):
    """A classifier over the known answers: maps an image and a question to their logits."""

    config: config.VisualAnswerer
    vocabulary: int
    answers: int
    """Number of known answers."""

    def setup(self) -> None:
        self.image = ImageEncoder(self.config.image)
        self.embedding = nn.Embed(self.vocabulary, self.config.question.embedding, embedding_init=EMBEDDING_INIT)

    def embed(
        self, image: Num[Array, "b ..."], cells: Int[Array, " b"], question: Int[Array, "b n"], *_: Any
    ) -> VisualEmbeddings:
        """Return the features of the image and the embeddings of the question; takes the arguments of `__call__`."""
        return VisualEmbeddings(self.image(image), self.embedding(question))

    @nn.compact
    def __call__(
        self,
        image: Num[Array, "b ..."],
        cells: Int[Array, " b"],
        question: Int[Array, "b n"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: VisualEmbeddings | None = None,
    ) -> Answers:
        """Return logits of the answers.

        Args:
            image: pixels or features, as for `ImageEncoder`.
            cells: cells of each image; 0 for a padding row.
            question: words of each question, padding included.
            lengths: words of each question that are not padding.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the features of the image and the embeddings of the question; see `embed`.
        """
        config, width = self.config, self.config.hidden
        dropout = nn.Dropout(config.dropout, deterministic=not train)
        features, words = self.embed(image, cells, question) if embedded is None else embedded
        grid = nn.Dense(width, name="grid")(features)
        valid = jnp.arange(question.shape[1])[None, :] < lengths[:, None]
        reader = config.question
        states, summary = Bidirectional(reader.cell, reader.hidden, name="question")(dropout(words), valid)
        states, summary = nn.Dense(width, name="states")(states), nn.Dense(width, name="summary")(summary)
        fused, weights, words = self._fused(dropout(grid), cells, states, summary, lengths, valid, train)
        hidden = dropout(jax.nn.relu(nn.Dense(width, name="hidden")(fused)))
        return Answers(nn.Dense(self.answers, name="answer")(hidden), weights, words)

    def _fused(
        self, grid: Array, cells: Array, states: Array, summary: Array, lengths: Array, valid: Array, train: bool
    ) -> tuple[Array, Array, Array]:
        fusion, mean = self.config.fusion, jnp.mean(grid, axis=1)
        weights, words = jnp.zeros((*states.shape[:2], grid.shape[1])), jnp.zeros(states.shape[:2])
        match fusion:
            case config.QuestionOnly():
                return summary, weights, words
            case config.ImageOnly():
                return mean, weights, words
            case config.Concat():
                return _joined(summary, mean), weights, words
            case config.CoAttention(attention=attention):
                width = self.config.hidden
                sizes: Any = {"heads": 1, "query_width": width, "key_width": width, "stack": "fusion"}
                to_image = Attention(attention, **sizes, kind="question_to_image", name="to_image")
                to_words = Attention(attention, **sizes, kind="image_to_question", name="to_words")
                image, over_cells = _attend(to_image, summary, grid, cells, train)
                question, words = _attend(to_words, image, states, lengths, train)
                return _joined(question, image), jnp.broadcast_to(over_cells[:, None, :], weights.shape), words
            case _:
                gated = isinstance(fusion, config.GatedCrossAttention)
                block = Block(
                    width=self.config.hidden, heads=fusion.heads, feed_forward=2 * self.config.hidden,
                    dropout=self.config.dropout,
                )  # fmt: skip
                for n in range(fusion.layers):
                    layer = _CrossLayer(block, fusion.attention, gated, n + 1, name=f"layer_{n}")
                    states, heads = layer(states, grid, cells, train=train)
                    weights = jnp.mean(heads, axis=1)
                states = jnp.where(valid[..., None], states, 0.0)
                pooled = jnp.sum(states, axis=1) / jnp.maximum(lengths, 1)[:, None]
                return _joined(summary, nn.LayerNorm(name="norm")(pooled)), weights, words


class _CrossLayer(nn.Module):
    """Pre-norm cross-attention of the words to the image, then a feed-forward network, with optional tanh gates."""

    block: Block
    attention: Any
    gated: bool
    layer: int
    """Number of the layer, from 1."""

    @nn.compact
    def __call__(
        self, states: Float[Array, "b n d"], grid: Float[Array, "b m d"], cells: Int[Array, " b"], *, train: bool
    ) -> tuple[Float[Array, "b n d"], Float[Array, "b h n m"]]:
        dropout = nn.Dropout(self.block.dropout, deterministic=not train)
        cross = CrossAttention(self.block, self.attention, stack="fusion", layer=self.layer, name="cross")
        norm = nn.LayerNorm(name="cross_norm")
        output, weights = cross(norm(states), *cross.project_memory(grid), cells, train=train, weights=True)
        assert weights is not None
        gate = self._gate("cross_gate")
        place: Any = {"kind": "cross", "stack": "fusion", "layer": self.layer}
        total = states + gate * dropout(output)
        record_residual(self, norm, states, total, pre=True, gate=gate, **place)
        feed, norm, states = FeedForward(self.block, name="feed_forward"), nn.LayerNorm(name="feed_norm"), total
        output, gate = feed(norm(states), train=train), self._gate("feed_gate")
        total = states + gate * dropout(output)
        record_residual(self, norm, states, total, pre=True, gate=gate, feed_forward=True, **place)
        return total, weights

    def _gate(self, name: str) -> Array | float:
        return jnp.tanh(self.param(name, nn.initializers.zeros_init(), ())) if self.gated else 1.0


def _attend(attention: Attention, query: Array, values: Array, lengths: Array, train: bool) -> tuple[Array, Array]:
    """Return the context [b d] and the weights [b k] of a single query per example."""
    result: Any = attention(
        query[:, None], values, values, lengths, returns=("weights",), implementation="dense", train=train
    )
    return result.output[:, 0], result.weights[:, 0]


def _joined(question: Float[Array, "b d"], image: Float[Array, "b d"]) -> Float[Array, "b 3*d"]:
    """Return [q; v; q ⊙ v]; the product lets the question select features of the image, and vice versa."""
    return jnp.concatenate([question, image, question * image], axis=-1)
