"""A Transformer decoder and beam search depend only on the protocol of a sequence mixer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jaxtyping import Array
from weights import drawn

from attnlab.config import Decoding
from attnlab.config.models import transformer as config
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import SelfAttention
from attnlab.models.transformer import TransformerSeq2Seq
from attnlab.training.decoding import make_decode

SOURCE, LENGTHS = jnp.array([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]]), jnp.array([5, 3])
TARGET = jnp.array([[1, 4, 5, 6], [1, 7, 8, 9]])


class CumulativeMean(nn.Module):
    """A mixer that averages a learned projection of all tokens so far; its state is the sum and the count."""

    config: config.Block
    attention: Any
    bidirectional: bool = True
    stack: str = "encoder"
    layer: int | None = None

    def setup(self) -> None:
        self.value = nn.Dense(self.config.width)

    def __call__(self, states: Array, context: Context, *, train: bool) -> Array:
        return jnp.cumsum(self.value(states), axis=1) / jnp.arange(1.0, states.shape[1] + 1)[:, None]

    def init_state(self, rows: int, dtype: Any) -> tuple[Array, Array]:
        return jnp.zeros((rows, self.config.width), dtype), jnp.zeros((rows, 1), dtype)

    def step(self, state: tuple[Array, Array], states: Array, mods: tuple = ()) -> tuple[tuple[Array, Array], Array]:
        values = self.value(states)
        totals = state[0][:, None] + jnp.cumsum(values, axis=1)
        counts = state[1][:, None] + jnp.arange(1.0, states.shape[1] + 1)[:, None]
        return (totals[:, -1], counts[:, -1]), totals / counts


@pytest.mark.parametrize("mixer", [SelfAttention, CumulativeMean])
@pytest.mark.quick("CumulativeMean")
def test_steps_equal_the_whole_and_beam_search_reorders_the_state(mixer):
    stacks: Any = {"encoder": config.Stack(layers=1), "decoder": config.DecoderStack(layers=2)}
    chosen = config.TransformerSeq2Seq(width=8, heads=2, feed_forward=8, max_length=8, **stacks)
    model = TransformerSeq2Seq(chosen, 11, 11, mixer)
    variables = drawn(lambda rngs, *args: model.init(rngs, *args, train=False), SOURCE, LENGTHS, TARGET)

    @jax.jit
    def whole(target):
        return model.apply(variables, SOURCE, LENGTHS, target, train=False)

    @jax.jit
    def in_steps(variables):
        memory, state = model.apply(variables, SOURCE, LENGTHS, method="encode")
        outputs = []
        for tokens in (TARGET[:, :1], TARGET[:, 1:]):
            state, output = model.apply(variables, memory, state, tokens, method="decode")
            outputs.append(output.logits)
        return jnp.concatenate(outputs, axis=1), state

    logits, state = in_steps(variables)
    np.testing.assert_allclose(logits, whole(TARGET).logits, atol=2e-5)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(state))

    search = Decoding(beam=3, n_best=3, max_length=4, length_penalty=0.0, min_length=4)
    result = make_decode(model, search)(variables["params"], SOURCE, LENGTHS)
    for rank in range(3):
        tokens = np.asarray(result.tokens)[:, rank]
        written = jnp.concatenate([jnp.ones((2, 1), jnp.int32), jnp.asarray(tokens[:, :4])], axis=1)
        following = np.concatenate([tokens[:, :4], np.full((2, 1), 2)], axis=1)
        log_probs = np.asarray(jax.nn.log_softmax(whole(written).logits))
        expected = np.take_along_axis(log_probs, following[..., None], axis=-1).sum((1, 2))
        np.testing.assert_allclose(np.asarray(result.scores)[:, rank], expected, atol=1e-4)
