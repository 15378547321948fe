"""Recurrent layers: a cell is a pure step on arrays, a module owns its weights and runs it over time."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

State = tuple[Float[Array, "b h"], ...]
"""State of a cell; its first array is the output h."""


def gru(gates: Float[Array, "b g"], state: State, kernel: Float[Array, "h g"], bias: Float[Array, " g"]) -> State:
    """Advance a gated recurrent unit by one step.

    r = σ(x_r + W_r h), z = σ(x_z + W_z h), n = tanh(x_n + r ⊙ (W_n h + b_n)), h' = (1 − z) ⊙ n + z ⊙ h

    The reset gate acts after the product with W_n (as in cuDNN and PyTorch), not before it as in the paper.

    Args:
        gates: the input's contribution to the three pre-activations, in the order r, z, n.
        state: (h,).
        kernel: W, the recurrent weights.
        bias: b, the recurrent bias.
    Returns: (h',), every entry between −1 and 1 if those of h are.
    Numerics: in the dtype of the inputs.
    Reference: Cho et al. 2014, equations 5 to 8.

    >>> state, gates = (jnp.zeros((1, 2)),), jnp.zeros((1, 6))
    >>> gru(gates, state, jnp.zeros((2, 6)), jnp.zeros(6))[0].tolist()
    [[0.0, 0.0]]
    """
    (hidden,) = state
    recurrent = hidden @ kernel + bias
    x_reset, x_update, x_new = jnp.split(gates, 3, axis=-1)
    h_reset, h_update, h_new = jnp.split(recurrent, 3, axis=-1)
    reset, update = jax.nn.sigmoid(x_reset + h_reset), jax.nn.sigmoid(x_update + h_update)
    new = jnp.tanh(x_new + reset * h_new)
    return (new + update * (hidden - new),)


def lstm(gates: Float[Array, "b g"], state: State, kernel: Float[Array, "h g"], bias: Float[Array, " g"]) -> State:
    """Advance a long short-term memory by one step.

    i, f, g, o = split(x + W h + b); c' = σ(f + 1) ⊙ c + σ(i) ⊙ tanh(g); h' = σ(o) ⊙ tanh(c')

    Args:
        gates: the input's contribution to the four pre-activations, in the order i, f, g, o.
        state: (h, c).
        kernel: W, the recurrent weights.
        bias: b, the recurrent bias; the forget gate has 1 added (Jozefowicz et al. 2015).
    Returns: (h', c').
    Numerics: in the dtype of the inputs.
    Reference: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    >>> state, gates = (jnp.zeros((1, 2)), jnp.ones((1, 2))), jnp.full((1, 8), 20.0)
    >>> [round(float(a[0, 0]), 3) for a in lstm(gates, state, jnp.zeros((2, 8)), jnp.zeros(8))]
    [0.964, 2.0]
    """
    hidden, memory = state
    i, f, g, o = jnp.split(gates + hidden @ kernel + bias, 4, axis=-1)
    memory = jax.nn.sigmoid(f + 1.0) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory)


class Kind(NamedTuple):
    """A kind of cell: its step, number of gates and number of state arrays."""

    step: Callable[..., State]
    gates: int
    states: int


CELLS = {"gru": Kind(gru, 3, 1), "lstm": Kind(lstm, 4, 2)}
"""The kinds of cells by the name that a config uses."""


def _orthogonal_gates(rng: Array, shape: tuple[int, int]) -> Array:
    """Draw an orthogonal matrix for each gate (Saxe et al. 2014)."""
    hidden, width = shape
    orthogonal = nn.initializers.orthogonal()
    gates = [orthogonal(gate_rng, (hidden, hidden)) for gate_rng in jax.random.split(rng, width // hidden)]
    return jnp.concatenate(gates, axis=-1)


class Cell(nn.Module):
    """The recurrent weights of a cell; the caller computes the input's contribution to the gates."""

    kind: Literal["gru", "lstm"]
    hidden: int

    @nn.compact
    def __call__(self) -> Callable[[Float[Array, "b g"], State], State]:
        """Return the step as a pure function of (gates, state), safe to use in `jax.lax.scan`."""
        cell = CELLS[self.kind]
        width = cell.gates * self.hidden
        kernel = self.param("kernel", _orthogonal_gates, (self.hidden, width))
        bias = self.param("bias", nn.initializers.zeros_init(), (width,))
        return lambda gates, state: cell.step(gates, state, kernel, bias)


def initial_state(kind: Literal["gru", "lstm"], hidden: Float[Array, "b h"]) -> State:
    """Return the state with output `hidden`; an LSTM's memory starts at the same values."""
    return (hidden,) * CELLS[kind].states


class Direction(nn.Module):
    """One direction of a recurrent layer over padded sequences; padding leaves the state unchanged."""

    kind: Literal["gru", "lstm"]
    hidden: int
    reverse: bool

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b t d"], valid: Bool[Array, "b t"]
    ) -> tuple[Float[Array, "b t h"], Float[Array, "b h"]]:
        """Return the output at every position, and the output after the last token in reading order."""
        gates = nn.Dense(CELLS[self.kind].gates * self.hidden, name="input")(inputs)
        cell = Cell(self.kind, self.hidden, name="recurrent")()

        def step(state: State, inputs: tuple[Array, Array]) -> tuple[State, Array]:
            gates, valid = inputs
            new = cell(gates, state)
            state = jax.tree.map(lambda after, before: jnp.where(valid[:, None], after, before), new, state)
            return state, state[0]

        start = initial_state(self.kind, jnp.zeros((inputs.shape[0], self.hidden), inputs.dtype))
        time_major = (jnp.swapaxes(gates, 0, 1), valid.T)
        last, outputs = jax.lax.scan(step, start, time_major, reverse=self.reverse)
        return jnp.swapaxes(outputs, 0, 1), last[0]


class Bidirectional(nn.Module):
    """A forward and a backward recurrent layer side by side (Schuster & Paliwal 1997)."""

    kind: Literal["gru", "lstm"]
    hidden: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b t d"], valid: Bool[Array, "b t"]
    ) -> tuple[Float[Array, "b t c"], Float[Array, "b c"]]:
        """Return the outputs [forward; backward] at every position, and the two last outputs, concatenated too."""
        forward, last = Direction(self.kind, self.hidden, reverse=False, name="forward")(inputs, valid)
        backward, first = Direction(self.kind, self.hidden, reverse=True, name="backward")(inputs, valid)
        return jnp.concatenate([forward, backward], axis=-1), jnp.concatenate([last, first], axis=-1)
