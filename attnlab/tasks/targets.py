"""Targets: the number that an attribution explains, as a function of the logits of one example.

A probability saturates, so that every target is a log-probability; a contrast is the difference of two, and says why
this was predicted rather than that.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int


def class_target(logits: Float[Array, " c"], label: Int[Array, ""] | int) -> Float[Array, ""]:
    """Return the log-probability of a class, or of an answer word.

    target = log softmax(logits)[label]

    Args:
        logits: of all classes.
        label: number of the class to explain: the predicted one, or any other.
    Returns: at most 0.
    Numerics: −inf logits have probability 0.

    >>> round(float(class_target(jnp.zeros(2), 1)), 4)
    -0.6931
    """
    return jax.nn.log_softmax(logits)[label]


def class_contrast(
    logits: Float[Array, " c"], label: Int[Array, ""] | int, other: Int[Array, ""] | int
) -> Float[Array, ""]:
    """Return by how much a class is more probable than another, as a difference of log-probabilities.

    target = log p[label] − log p[other] = logits[label] − logits[other]

    Args:
        logits: of all classes.
        label: the class to explain.
        other: the class that it is contrasted with.
    Reference: Yin & Neubig 2022, section 3 (contrastive explanations).

    >>> class_contrast(jnp.array([3.0, 1.0]), 0, 1).tolist()
    2.0
    """
    return logits[label] - logits[other]


def span_target(
    start_logits: Float[Array, " n"],
    end_logits: Float[Array, " n"],
    start: Int[Array, ""] | int,
    end: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """Return the log-probability of an answer span.

    target = log softmax(start_logits)[start] + log softmax(end_logits)[end]

    Args:
        start_logits: of each position as the first of the answer; −inf for padding.
        end_logits: of each position as the last of the answer.
        start: first position of the answer.
        end: last position of the answer, inclusive.
    Reference: Seo et al. 2017, equation 5.

    >>> round(float(span_target(jnp.zeros(2), jnp.zeros(2), 0, 1)), 4)
    -1.3863
    """
    return class_target(start_logits, start) + class_target(end_logits, end)


def token_target(
    logits: Float[Array, "t v"], tokens: Int[Array, " t"], position: Int[Array, ""] | int
) -> Float[Array, ""]:
    """Return the log-probability of one token of an output sequence, given the tokens before it.

    target = log softmax(logits[position])[tokens[position]]

    Args:
        logits: logits[i] predict tokens[i] (teacher forcing).
        tokens: the output sequence, such as the model's own translation.
        position: of the token to explain.

    >>> round(float(token_target(jnp.zeros((3, 2)), jnp.array([1, 0, 1]), 2)), 4)
    -0.6931
    """
    return class_target(logits[position], tokens[position])


def sequence_target(
    logits: Float[Array, "t v"], tokens: Int[Array, " t"], length: Int[Array, ""] | int
) -> Float[Array, ""]:
    """Return the log-probability of a whole output sequence.

    target = Σ_{i < length} log softmax(logits[i])[tokens[i]]

    Args:
        logits: logits[i] predict tokens[i] (teacher forcing).
        tokens: the output sequence; padding after `length`.
        length: number of its tokens, the end token included.
    Numerics: padding contributes exactly 0, also to the gradient.

    >>> round(float(sequence_target(jnp.zeros((3, 2)), jnp.array([1, 0, 0]), 2)), 4)
    -1.3863
    """
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], axis=1)[:, 0]
    return jnp.sum(jnp.where(jnp.arange(len(tokens)) < length, chosen, 0.0))
