"""Configs of Transformers: encoder, decoder, and both together. Each layer has an `Attention`, as in other models."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from attnlab.config.attention import (
    ROTATION_INVARIANT,
    Alibi,
    Attention,
    CrossAttention,
    DecoderSelfAttention,
    RelativeBias,
    ScaledDot,
    T5Bias,
)
from attnlab.config.base import Config, Probability

SELF = Attention(score=ScaledDot())


class LayerNorm(Config):
    """(x − mean) / √(variance + ε) · scale + bias (Ba et al. 2016)."""

    kind: Literal["layer_norm"] = "layer_norm"
    epsilon: PositiveFloat = 1e-5
    """ε, which is added to the variance; BERT uses 1e-12."""


class RmsNorm(Config):
    """x / √(mean of x² + ε) · scale (Zhang & Sennrich 2019)."""

    kind: Literal["rms_norm"] = "rms_norm"
    epsilon: PositiveFloat = 1e-6
    """ε, which is added to the mean square."""


Norm = Annotated[LayerNorm | RmsNorm, Field(discriminator="kind")]


class NoPositions(Config):
    """No representation of positions; a decoder infers them from its causal mask (Haviv et al. 2022)."""

    kind: Literal["none"] = "none"


class Learned(Config):
    """A learned vector for each position up to `max_length`, added to the token embeddings (Gehring et al. 2017)."""

    kind: Literal["learned"] = "learned"


class Sinusoidal(Config):
    """Sines and cosines of each position, added to the token embeddings (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal"] = "sinusoidal"


class Rotary(Config):
    """Rotary embeddings: queries and keys are rotated by angles proportional to their positions (Su et al. 2021)."""

    kind: Literal["rotary"] = "rotary"
    base: PositiveFloat = 10000.0
    """Base of the wavelengths; a larger base rotates features more slowly."""
    interleaved: bool = False
    """true rotates pairs of neighboring features (the paper, GPT-J); false rotates features m and m + d/2 (LLaMA)."""


Positions = Annotated[
    NoPositions | Learned | Sinusoidal | Rotary | Alibi | RelativeBias | T5Bias, Field(discriminator="kind")
]
"""Representations of positions. A mod of the logits is added to the mods of every layer; all layers share T5's
table."""


class Block(Config):
    """Settings that all layers of a Transformer share, and those of its token embeddings."""

    width: PositiveInt = 256
    """Width of the states between layers."""
    heads: PositiveInt = 4
    """Number of attention heads."""
    kv_heads: PositiveInt | None = None
    """Number of heads of keys and values, each shared by heads / kv_heads query heads; null uses `heads`."""
    head_width: PositiveInt | None = None
    """Number of features of a head; null uses width / heads."""
    feed_forward: PositiveInt = 1024
    """Width of the hidden layer of the feed-forward network."""
    activation: Literal["relu", "gelu", "gelu_tanh", "swiglu"] = "relu"
    """Activation of the feed-forward network: gelu is exact (BERT), gelu_tanh its approximation (GPT-2), and swiglu has
    a gate (Shazeer 2020)."""
    norm: Norm = LayerNorm()
    """Normalization of the states."""
    norm_position: Literal["pre", "post"] = "pre"
    """pre: x + f(norm(x)) (Xiong et al. 2020); post: norm(x + f(x)) (Vaswani et al. 2017)."""
    final_norm: bool | None = None
    """Normalize after the last layer; null does so only for norm_position pre."""
    biases: bool = True
    """Add biases to all linear maps of the layers."""
    positions: Positions = Sinusoidal()
    """Representation of the positions of tokens."""
    max_length: PositiveInt = 256
    """Largest number of tokens, including the start token: of a sequence with learned positions, and of the cache in
    decoding."""
    scale_embeddings: bool = True
    """Multiply token embeddings by √width (Vaswani et al. 2017, section 3.4)."""
    embedding_norm: bool = False
    """Normalize after the embeddings, as in BERT."""
    dropout: Probability = 0.1
    """Dropout rate of the embeddings and of the output of each sublayer."""
    attention_dropout: Probability = 0.0
    """Dropout rate of the attention weights."""
    activation_dropout: Probability = 0.0
    """Dropout rate of the hidden layer of the feed-forward network."""
    remat: bool = False
    """Recompute each layer in the backward pass, which saves memory and takes about a third more time."""

    @property
    def max_positions(self) -> int | None:
        """Return the length of the longest sequence; None if there is no limit."""
        return self.max_length if self.positions.kind == "learned" else None

    @property
    def head_features(self) -> int:
        """Return the number of features of a head."""
        return self.head_width or self.width // self.heads

    @property
    def key_heads(self) -> int:
        """Return the number of heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def has_final_norm(self) -> bool:
        """Return whether a norm follows the last layer."""
        return self.norm_position == "pre" if self.final_norm is None else self.final_norm

    def with_position_mods(self, attention: Attention) -> Attention:
        """Append the mod that represents positions to the mods of a layer's attention.

        T5's bias is not appended, as all layers share its table.
        """
        positions = self.positions
        if isinstance(positions, Alibi | RelativeBias):
            return attention.model_copy(update={"mods": (*attention.mods, positions)})
        return attention

    def tiny(self) -> Self:
        """Shrink the widths; keep the number of heads, and an even width of a head."""
        narrow = 4 * self.heads
        width = min(self.width, narrow) if self.head_width is None else min(self.width, 16)
        head_width = None if self.head_width is None else min(self.head_width, 4)
        return super().tiny().replace(width=width, head_width=head_width, feed_forward=min(self.feed_forward, 32))

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; set head_width")
        if self.heads % self.key_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.key_heads}")
        if self.positions.kind == "rotary" and self.head_features % 2:
            raise ValueError(f"positions rotary needs an even number of features per head, not {self.head_features}")
        return self


def _fields(config: Config) -> dict:
    return {name: getattr(config, name) for name in type(config).model_fields}


def _check_numbers(per_layer: Mapping[int, Attention], layers: int, place: str) -> None:
    for layer in per_layer:
        if layer >= layers:
            raise ValueError(f"{place}.{layer}: no such layer; valid: 0 to {layers - 1}")


class Stack(Config):
    """Layers of self-attention and feed-forward network."""

    layers: PositiveInt = 6
    """Number of layers."""
    attention: Attention = SELF
    """Self-attention of the layers."""
    per_layer: dict[NonNegativeInt, Attention] = {}
    """Self-attention of single layers instead of `attention`, by the number of the layer, from 0."""

    def self_attention(self, layer: int) -> Attention:
        """Return the self-attention of a layer."""
        return self.per_layer.get(layer, self.attention)

    def attentions(self) -> Mapping[str, Attention]:
        """Return all self-attentions by their keys in the config."""
        named = {f"per_layer.{layer}": attention for layer, attention in self.per_layer.items()}
        return {"attention": self.attention} | named

    def named_layers(self) -> tuple[int, ...]:
        """Return the numbers of the layers that the config names."""
        return tuple(self.per_layer)

    def tiny(self) -> Self:
        """Shrink to two layers, or to as many as the config names."""
        layers = min(self.layers, max((2, *(layer + 1 for layer in self.named_layers()))))
        per_layer = {layer: attention.tiny() for layer, attention in self.per_layer.items()}
        return super().tiny().replace(layers=layers, per_layer=per_layer)

    @model_validator(mode="after")
    def _layers_exist(self) -> Self:
        _check_numbers(self.per_layer, self.layers, "per_layer")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class DecoderStack(Stack):
    """Layers of causal self-attention, cross-attention to the memory (a sequence or an image), and feed-forward
    network."""

    attention: DecoderSelfAttention = SELF
    """Self-attention of the layers."""
    per_layer: dict[NonNegativeInt, DecoderSelfAttention] = {}
    """Self-attention of single layers instead of `attention`, by the number of the layer, from 0."""
    cross_attention: CrossAttention = SELF
    """Cross-attention of the layers to the memory."""
    cross_per_layer: dict[NonNegativeInt, CrossAttention] = {}
    """Cross-attention of single layers instead of `cross_attention`, by the number of the layer, from 0."""
    alignment_layer: NonNegativeInt | None = None
    """Number of the layer whose cross-attention, averaged over heads, is reported as the attention of each token; null
    uses the second to last layer (Garg et al. 2019), or the only one."""

    def memory_attention(self, layer: int) -> Attention:
        """Return the cross-attention of a layer."""
        return self.cross_per_layer.get(layer, self.cross_attention)

    @property
    def reported_layer(self) -> int:
        """Return the number of the layer whose attention is reported."""
        return max(self.layers - 2, 0) if self.alignment_layer is None else self.alignment_layer

    def named_layers(self) -> tuple[int, ...]:
        aligning = () if self.alignment_layer is None else (self.alignment_layer,)
        return (*super().named_layers(), *self.cross_per_layer, *aligning)

    def tiny(self) -> Self:
        per_layer = {layer: attention.tiny() for layer, attention in self.cross_per_layer.items()}
        return super().tiny().replace(cross_per_layer=per_layer)

    @model_validator(mode="after")
    def _memory_layers_exist(self) -> Self:
        _check_numbers(self.cross_per_layer, self.layers, "cross_per_layer")
        if self.reported_layer >= self.layers:
            raise ValueError(f"alignment_layer {self.reported_layer}: no such layer; valid: 0 to {self.layers - 1}")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def _check_rotary(block: Block, stack: Stack, place: str) -> None:
    """Raise if a score with rotary positions changes when query and key are rotated by the same angle."""
    if block.positions.kind != "rotary":
        return
    for name, attention in stack.attentions().items():
        if not attention.score.rotation_invariant:
            raise ValueError(
                f"{place}{name}.score {attention.score.kind} is not invariant to rotation; rotary needs one of "
                f"{', '.join(ROTATION_INVARIANT)}"
            )


class TransformerEncoder(Block, Stack):
    """Transformer encoder. With post-norm, learned positions, token types, embedding norm, exact gelu and ε = 1e-12 it
    is BERT's encoder."""

    token_types: NonNegativeInt = 0
    """Number of token types with a learned embedding (BERT: 2, for sentences A and B); 0 uses none."""

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        _check_rotary(self, self, "")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class TransformerDecoder(Block, DecoderStack):
    """Transformer decoder: computes the logits of the next token from the previous tokens and the memory."""

    memory_width: PositiveInt | None = None
    """Width of the memory, such as that of an image encoder; null uses `width`."""
    tie_embeddings: bool = True
    """Use the token embedding as output projection too."""

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        _check_rotary(self, self, "")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class TransformerSeq2Seq(Block):
    """Transformer encoder and decoder of the same width (Vaswani et al. 2017)."""

    kind: Literal["transformer_seq2seq"] = "transformer_seq2seq"
    encoder: Stack = Stack()
    """Layers of the encoder."""
    decoder: DecoderStack = DecoderStack()
    """Layers of the decoder."""
    tie_embeddings: Literal["none", "output", "all"] = "output"
    """Embeddings that share their weights. none: no sharing; output: target embedding and output projection; all:
    source embedding too, which needs a joint vocabulary."""

    def encoder_config(self) -> TransformerEncoder:
        """Return the config of the encoder, with the settings that it shares with the decoder."""
        return TransformerEncoder(**self._shared(), **_fields(self.encoder))

    def decoder_config(self) -> TransformerDecoder:
        """Return the config of the decoder, with the settings that it shares with the encoder."""
        return TransformerDecoder(
            **self._shared(), **_fields(self.decoder), tie_embeddings=self.tie_embeddings != "none"
        )

    def _shared(self) -> dict:
        return {name: getattr(self, name) for name in Block.model_fields}

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        _check_rotary(self, self.encoder, "encoder.")
        _check_rotary(self, self.decoder, "decoder.")
        return self
