"""Transformers that read question and story as one sequence; the first position's state says the answer.

    logits = W tanh(V state_0 + b) + c

`TransformerStoryReader` reads word by word. `SentenceStoryReader` has one position for the question and one for each
sentence, Σ_j l_j ∘ E x_ij of its words as in a memory network, the latest sentence first: so the distance to the
question tells how long ago a sentence was.

Reference: Dehghani et al. 2019, section 3.1, for sentences as positions.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.models.story_qa import TransformerStoryReader as Config
from attnlab.models.memory_network import position_encoding
from attnlab.models.seq2seq import EMBEDDING_INIT
from attnlab.models.transformer import EncoderBody, TransformerEncoder


class TransformerStoryReader(nn.Module):
    """Tokens in, logits of the answer's word out."""

    config: Config
    vocabulary: int

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], types: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool
    ) -> Float[Array, "b v"]:
        """Answer; what the first token attends to is `with_attention(model, ...)`, row 0 of every layer."""
        encoder = self.config.encoder
        told = types if encoder.token_types else None
        states: Any = TransformerEncoder(encoder, self.vocabulary, name="encoder")(tokens, lengths, told, train=train)
        return _answered(states, self.vocabulary)


class SentenceStoryReader(nn.Module):
    """Sentences and a question in, logits of the answer's word out."""

    config: Config
    vocabulary: int

    @nn.compact
    def __call__(
        self,
        story: Int[Array, "b n w"],
        sentences: Int[Array, " b"],
        question: Int[Array, "b w"],
        *,
        train: bool,
    ) -> Float[Array, "b v"]:
        """Answer; words of number 0 are padding, as are the sentences beyond `sentences`."""
        encoder = self.config.encoder
        order = latest_first(sentences, story.shape[1])
        texts = jnp.concatenate([question[:, None], jnp.take_along_axis(story, order[..., None], axis=1)], axis=1)
        words = nn.Embed(self.vocabulary, encoder.width, embedding_init=EMBEDDING_INIT, name="embedding")(texts)
        lengths = jnp.sum(texts > 0, axis=-1)
        shares = position_encoding(lengths, texts.shape[-1], encoder.width) * (texts > 0)[..., None]
        told = jnp.broadcast_to(jnp.arange(texts.shape[1]) > 0, texts.shape[:2]).astype(jnp.int32)
        read = EncoderBody(encoder, name="body")
        vectors = jnp.sum(words * shares, axis=2)
        states = read(vectors, sentences + 1, told if encoder.token_types else None, train=train)
        return _answered(states, self.vocabulary)


def latest_first(sentences: Int[Array, " b"], places: int) -> Int[Array, "b n"]:
    """Tell which sentence comes n-th when each story is read from its end; padding stays where it is.

    It is its own inverse.

    >>> latest_first(jnp.array([2, 3]), 3).tolist()
    [[1, 0, 2], [2, 1, 0]]
    """
    place, count = jnp.arange(places)[None, :], sentences[:, None]
    return jnp.where(place < count, count - 1 - place, place)


def _answered(states: Float[Array, "b t d"], vocabulary: int) -> Float[Array, "b v"]:
    """Weigh the words by the first state; called inside a module, whose layers these become."""
    hidden = jnp.tanh(nn.Dense(states.shape[-1], name="hidden")(states[:, 0]))
    return nn.Dense(vocabulary, name="answer")(hidden)
