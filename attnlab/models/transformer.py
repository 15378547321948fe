"""Transformers: an encoder, a decoder, and both together (Vaswani et al. 2017), of layers that attend by any `Attention`.

Signatures, announced; the bodies follow.
"""

from typing import Any

from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config import transformer as config


@struct.dataclass
class Output:
    """What a decoder says of a batch."""

    logits: Float[Array, "b t v"]
    weights: Float[Array, "b t s"] | None
    """Attention of each target position over the memory (one layer's, the mean of its heads); None when not asked for."""


@struct.dataclass
class Memory:
    """What a decoder attends to: keys and values of every layer, and how many of each row are real."""

    keys: tuple[Float[Array, "b s k e"], ...]
    values: tuple[Float[Array, "b s k e"], ...]
    lengths: Int[Array, " b"]

    def repeat(self, times: int) -> "Memory":
        """Every row `times` times in a row, as beam search asks for."""
        raise NotImplementedError


@struct.dataclass
class DecoderState:
    """Keys and values of the tokens written so far, rows first in every array; all rows are equally long."""

    keys: tuple[Float[Array, "b l k e"], ...]
    values: tuple[Float[Array, "b l k e"], ...]
    length: Int[Array, " b"]


class TransformerEncoder(nn.Module):
    """Tokens in, states out."""

    config: config.TransformerEncoder
    vocabulary: int

    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        token_types: Int[Array, "b s"] | None = None,
        segments: Int[Array, "b s"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b s d"]:
        """Read each row: a state for every token; those of padding mean nothing.

        The weights of every layer and head: `with_attention(model, variables, ...)`, the same states to the bit.

        Args:
            lengths: real tokens of each row; 0 for filler.
            token_types: in 0 … config.token_types − 1; None is all 0.
            segments: several sequences in a row: a token attends to those of its own number. None: one sequence.
            train: drop out (needs the rng "dropout").
        """
        raise NotImplementedError


class TransformerDecoder(nn.Module):
    """Tokens written so far and a memory [b s c] (an encoder's states, features of a picture) in, logits out."""

    config: config.TransformerDecoder
    vocabulary: int

    def __call__(
        self,
        memory: Float[Array, "b s c"],
        lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        weights: bool | None = None,
    ) -> Output:
        """Teacher forcing: `target` begins with the start token; logits[:, i] are of the token after target[:, i].

        Args:
            weights: compute Output.weights; None: when not training.
        """
        raise NotImplementedError

    def start(self, memory: Float[Array, "b s c"], lengths: Int[Array, " b"]) -> tuple[Memory, DecoderState]:
        """Prepare the memory for a search, and an empty cache of config.max_length tokens."""
        raise NotImplementedError

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool
    ) -> tuple[DecoderState, Output]:
        """Read the next target tokens (one of them when searching) and say what may follow each, with its weights."""
        raise NotImplementedError


class TransformerSeq2Seq(nn.Module):
    """Source tokens and target tokens in, logits of the next target token out: as `seq2seq.RecurrentSeq2Seq`."""

    config: config.TransformerSeq2Seq
    source_vocabulary: int
    target_vocabulary: int

    def __call__(
        self,
        source: Int[Array, "b s"],
        source_lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        weights: bool | None = None,
    ) -> Output:
        """Teacher forcing, as `TransformerDecoder.__call__`."""
        raise NotImplementedError

    def encode(
        self, source: Int[Array, "b s"], source_lengths: Int[Array, " b"], *, train: bool
    ) -> tuple[Memory, DecoderState]:
        """Read the source: what the decoder attends to, and where it starts."""
        raise NotImplementedError

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool
    ) -> tuple[DecoderState, Output]:
        """Read target tokens (one of them when searching) and say what may follow each."""
        raise NotImplementedError


def with_attention(model: nn.Module, variables: Any, *arguments: Any, **options: Any) -> tuple[Any, dict[str, Array]]:
    """Apply a model, and return besides its output the weights of every layer and head in it, [b h t s] by path.

    Works with any model that holds these layers (a classifier around an encoder, say); the output does not change by a
    bit. Options are those of `model.apply`, as method= and rngs=, and keyword arguments of the method, as train=.
    """
    raise NotImplementedError
