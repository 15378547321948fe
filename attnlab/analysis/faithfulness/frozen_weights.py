"""The diagnostic of Wiegreffe & Pinter 2019: attention weights of another model guide a classifier without context."""

from typing import Any

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int


class FrozenWeightsMLP(nn.Module):
    """Classify a text from its tokens one by one, pooled by attention weights that are given and not learned.

    logits = W_o Σ_i α_i tanh(W_h e(x_i) + b_h) + b_o

    The tokens do not see each other, so the weights α are all that it learns about the context. If weights of a trained
    model classify better than uniform weights or those of an adversary, they tell which tokens matter.

    Reference: Wiegreffe & Pinter 2019, section 3.4.
    """

    vocabulary: int
    """Number of token ids."""
    embedding: int
    """Features of the embeddings. (For pretrained embeddings, replace the parameter `embed`.)"""
    hidden: int
    """Features of the hidden layer."""
    classes: int

    @nn.compact
    def __call__(self, tokens: Int[Array, "*b n"], weights: Float[Array, "*b n"]) -> Float[Array, "*b c"]:
        """Return the logits of the classes.

        Args:
            tokens: token ids.
            weights: attention weights over the tokens, 0 for padding. No gradient is needed through them.
        """
        embedded = nn.Embed(self.vocabulary, self.embedding, name="embed")(tokens)
        states = nn.tanh(nn.Dense(self.hidden, name="hidden")(embedded))
        return nn.Dense(self.classes, name="output")(jnp.einsum("...n,...nh->...h", weights, states))


def frozen_weights_loss(
    model: FrozenWeightsMLP,
    params: Any,
    tokens: Int[Array, "b n"],
    weights: Float[Array, "b n"],
    labels: Int[Array, " b"],
) -> Float[Array, ""]:
    """Compute the cross-entropy of a `FrozenWeightsMLP`, averaged over texts.

    loss = −(1/b) Σ log softmax(logits)[label]

    Args:
        model: the classifier.
        params: its parameters, as `model.init` returns them.
        tokens: token ids of each text, padded.
        weights: attention weights that guide it: uniform over the real tokens, of a trained model, of an adversary, or
            of this module trained with a softmax over scores of its own. 0 for padding.
        labels: the class of each text.
    Returns: in nats, at least 0.
    Reference: Wiegreffe & Pinter 2019, section 3.4.

    >>> import jax
    >>> model = FrozenWeightsMLP(vocabulary=5, embedding=2, hidden=3, classes=2)
    >>> tokens, weights = jnp.array([[1, 2]]), jnp.array([[0.5, 0.5]])
    >>> params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), tokens, weights))
    >>> round(float(frozen_weights_loss(model, params, tokens, weights, jnp.array([1]))), 4)
    0.6931
    """
    logits = model.apply(params, tokens, weights)
    assert isinstance(logits, jnp.ndarray)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
