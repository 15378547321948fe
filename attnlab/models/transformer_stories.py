"""A Transformer that reads question and story as one sequence; the first token's state says the answer."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.readers import TransformerStories as Config
from attnlab.models.transformer import TransformerEncoder


class TransformerStories(nn.Module):
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
        hidden = jnp.tanh(nn.Dense(encoder.width, name="hidden")(states[:, 0]))
        return nn.Dense(self.vocabulary, name="answer")(hidden)
