"""A Transformer that reads question and passage as one sequence and predicts the span of the answer.

    start_t = w_s state_t,  end_t = w_e state_t    for every word t of the passage, and the first token for no answer

Reference: Devlin et al. 2019, sections 4.2 and 4.3.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.models.extractive_qa import TransformerReader as Config
from attnlab.models.bidaf import Pointers
from attnlab.models.seq2seq import EMBEDDING_INIT
from attnlab.models.transformer import EncoderBody


class TransformerReader(nn.Module):
    """A span reader: maps `<s>` question `</s>` passage (`</s>`) to logits of the answer's first and last word."""

    config: Config
    vocabulary: int

    def setup(self) -> None:
        self.embedding = nn.Embed(self.vocabulary, self.config.encoder.width, embedding_init=EMBEDDING_INIT)

    def embed(self, tokens: Int[Array, "b n"], *_: Any) -> Float[Array, "b n d"]:
        """Return the embeddings of the tokens; takes the positional arguments of `__call__`."""
        return self.embedding(tokens)

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b n"],
        lengths: Int[Array, " b"],
        start: Int[Array, " b"],
        match: Float[Array, "b n"],
        *,
        train: bool,
        embedded: Float[Array, "b n d"] | None = None,
    ) -> Pointers:
        """Return logits of the answer's first and last word.

        Args:
            tokens: question and passage with special tokens, padding included.
            lengths: tokens of each row that are not padding; 0 for a padding row.
            start: index of the passage's first token.
            match: 1 for tokens of the passage that occur in the question; used with `exact_match` in the config.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the tokens; see `embed`.
        """
        encoder, width = self.config.encoder, self.config.encoder.width
        states = self.embed(tokens) if embedded is None else embedded
        if self.config.exact_match:
            matches = self.param("match", nn.initializers.normal(width**-0.5), (width,))
            states += match[..., None] * matches
        position = jnp.arange(tokens.shape[1])[None, :]
        types = (position >= start[:, None]).astype(jnp.int32) if encoder.token_types else None
        states = EncoderBody(encoder, name="body")(states, lengths, types, train=train)
        logits = nn.Dense(2, name="pointers")(states)
        in_passage = jnp.minimum(start[:, None] + position, tokens.shape[1] - 1)
        words = jnp.take_along_axis(logits, in_passage[..., None], axis=1)
        words = jnp.where(
            (position < (lengths - start - self.config.special_tokens_after)[:, None])[..., None], words, -jnp.inf
        )
        both = jnp.concatenate([logits[:, :1], words], axis=1)
        no_weights = jnp.zeros((*tokens.shape, 0), states.dtype)
        return Pointers(both[..., 0], both[..., 1], no_weights, jnp.zeros(tokens.shape, states.dtype))
