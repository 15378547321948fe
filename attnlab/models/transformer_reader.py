"""A Transformer that reads question and passage as one sequence and points at the span that answers.

    start = w_s state,  end = w_e state        of every word of the passage, and of the first token for no answer

Reference: Devlin et al. 2019, section 4.2 and 4.3.
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
    """`<s>` question `</s>` passage (`</s>`) in, logits of the answer's first and last word out."""

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
        """Point at the answer.

        Args:
            tokens: question and passage.
            lengths: real tokens of each row, marks counted; 0 for filler.
            start: number of the passage's first token.
            match: 1 for the tokens of the passage that the question has too; used where the config says so.
            train: apply dropout (needs the rng "dropout").
            embedded: used in place of the embeddings of the tokens; see `embed`.
        """
        encoder, width = self.config.encoder, self.config.encoder.width
        states = self.embed(tokens) if embedded is None else embedded
        if self.config.exact_match:
            matches = self.param("match", nn.initializers.normal(width**-0.5), (width,))
            states += match[..., None] * matches
        place = jnp.arange(tokens.shape[1])[None, :]
        types = (place >= start[:, None]).astype(jnp.int32) if encoder.token_types else None
        states = EncoderBody(encoder, name="body")(states, lengths, types, train=train)
        logits = nn.Dense(2, name="pointers")(states)
        at = jnp.minimum(start[:, None] + place, tokens.shape[1] - 1)
        words = jnp.take_along_axis(logits, at[..., None], axis=1)
        words = jnp.where((place < (lengths - start - self.config.marks_after)[:, None])[..., None], words, -jnp.inf)
        both = jnp.concatenate([logits[:, :1], words], axis=1)
        nowhere = jnp.zeros((*tokens.shape, 0), states.dtype)
        return Pointers(both[..., 0], both[..., 1], nowhere, jnp.zeros(tokens.shape, states.dtype))
