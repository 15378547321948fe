"""Transformers: encoder, decoder and both together. What each layer attends with is an `Attention`, as everywhere."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from attnlab.config.attention import ONE_WIDTH, Alibi, Attention, RelativeBias, ScaledDot, T5Bias
from attnlab.config.base import Config, Probability

SELF = Attention(score=ScaledDot())


class LayerNorm(Config):
    """(x − mean) / √(variance + ε) · scale + bias (Ba et al. 2016)."""

    kind: Literal["layer_norm"] = "layer_norm"
    epsilon: PositiveFloat = 1e-5
    """ε; BERT has 1e-12."""


class RmsNorm(Config):
    """x / √(mean of x² + ε) · scale (Zhang & Sennrich 2019)."""

    kind: Literal["rms_norm"] = "rms_norm"
    epsilon: PositiveFloat = 1e-6
    """ε, which keeps the denominator above 0."""


Norm = Annotated[LayerNorm | RmsNorm, Field(discriminator="kind")]


class NoPositions(Config):
    """No positions; a decoder infers order from its causal mask (Haviv et al. 2022)."""

    kind: Literal["none"] = "none"


class Learned(Config):
    """A learned vector for each position up to `max_length` is added to the embeddings (Gehring et al. 2017)."""

    kind: Literal["learned"] = "learned"


class Sinusoidal(Config):
    """Sines and cosines of each position are added to the embeddings (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal"] = "sinusoidal"


class Rotary(Config):
    """Queries and keys are turned by their positions (Su et al. 2021)."""

    kind: Literal["rotary"] = "rotary"
    base: PositiveFloat = 10000.0
    """Base of the wavelengths; a larger one turns features more slowly."""
    interleaved: bool = False
    """Pair neighboring features (the paper, GPT-J), not feature m with m + d/2 (LLaMA)."""


Positions = Annotated[
    NoPositions | Learned | Sinusoidal | Rotary | Alibi | RelativeBias | T5Bias, Field(discriminator="kind")
]
"""Positions by a mod of the logits are that mod: it is added to every layer's own; all layers share T5's table."""


class Block(Config):
    """What all layers of a Transformer have in common, and how tokens enter it."""

    width: PositiveInt = 256
    """Of the states between layers."""
    heads: PositiveInt = 4
    """Number of attention heads."""
    kv_heads: PositiveInt | None = None
    """Heads of keys and values, each shared by heads / kv_heads of the queries; null: as many as heads."""
    head_width: PositiveInt | None = None
    """Features of a head; null is width / heads."""
    feed_forward: PositiveInt = 1024
    """Width of the hidden layer between attentions."""
    activation: Literal["relu", "gelu", "gelu_tanh", "swiglu"] = "relu"
    """gelu is the exact one (BERT), gelu_tanh its approximation (GPT-2); swiglu has a gate (Shazeer 2020)."""
    norm: Norm = LayerNorm()
    """Kind of normalization of the states."""
    norm_position: Literal["pre", "post"] = "pre"
    """pre: x + f(norm(x)) (Xiong et al. 2020); post: norm(x + f(x)) (Vaswani et al. 2017)."""
    final_norm: bool | None = None
    """Norm after the last layer; null: with pre, not with post."""
    biases: bool = True
    """Of all linear maps in the layers."""
    positions: Positions = Sinusoidal()
    """How the model represents the order of tokens."""
    max_length: PositiveInt = 256
    """Longest sequence of learned positions, and of a search (its start token counted): the cache holds as many."""
    scale_embeddings: bool = True
    """Multiply embeddings by √width (Vaswani et al. 2017, section 3.4)."""
    embedding_norm: bool = False
    """Norm after the embeddings (BERT)."""
    dropout: Probability = 0.1
    """Of embeddings and of what each sublayer adds."""
    attention_dropout: Probability = 0.0
    """Of attention weights."""
    activation_dropout: Probability = 0.0
    """Of the hidden layer of the feed-forward network."""
    remat: bool = False
    """Compute a layer again in the backward pass: less memory, about a third more time."""

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that can be read; None: any."""
        return self.max_length if self.positions.kind == "learned" else None

    @property
    def head_features(self) -> int:
        """Features of a head."""
        return self.head_width or self.width // self.heads

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last layer."""
        return self.norm_position == "pre" if self.final_norm is None else self.final_norm

    def with_position_mods(self, attention: Attention) -> Attention:
        """Append the mod by which the model represents positions to a layer's own mods.

        T5's bias is not appended: its table belongs to all layers together.
        """
        positions = self.positions
        if isinstance(positions, Alibi | RelativeBias):
            return attention.model_copy(update={"mods": (*attention.mods, positions)})
        return attention

    def tiny(self) -> Self:
        """Keep the heads, and a head's width even."""
        narrow = 4 * self.heads
        width = min(self.width, narrow) if self.head_width is None else min(self.width, 16)
        head_width = None if self.head_width is None else min(self.head_width, 4)
        return super().tiny().replace(width=width, head_width=head_width, feed_forward=min(self.feed_forward, 32))

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; give head_width")
        if self.heads % self.key_heads:
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.key_heads}")
        if self.positions.kind == "rotary" and self.head_features % 2:
            raise ValueError(
                f"positions rotary turns pairs of features; a head has {self.head_features}, an odd number"
            )
        return self


def _fields(config: Config) -> dict:
    return {name: getattr(config, name) for name in type(config).model_fields}


def _exist(chosen: Mapping[int, Attention], layers: int, place: str) -> None:
    for layer in chosen:
        if layer >= layers:
            raise ValueError(f"{place}.{layer}: the layers go from 0 to {layers - 1}")


class Stack(Config):
    """Layers that attend to their own sequence."""

    layers: PositiveInt = 6
    """Number of layers."""
    attention: Attention = SELF
    """Of every layer to its own sequence."""
    per_layer: dict[NonNegativeInt, Attention] = {}
    """In its place in the layers of these numbers, from 0 on."""

    def self_attention(self, layer: int) -> Attention:
        """Return the self-attention of a layer."""
        return self.per_layer.get(layer, self.attention)

    def attentions(self) -> Mapping[str, Attention]:
        """List the attentions to the own sequence, by where they stand."""
        return {"attention": self.attention} | {f"per_layer.{n}": one for n, one in self.per_layer.items()}

    def named_layers(self) -> tuple[int, ...]:
        """List the layers that the config names by number."""
        return tuple(self.per_layer)

    def tiny(self) -> Self:
        """Keep two layers, or as many as are named."""
        layers = min(self.layers, max((2, *(layer + 1 for layer in self.named_layers()))))
        kept = {layer: one.tiny() for layer, one in self.per_layer.items()}
        return super().tiny().replace(layers=layers, attention=self.attention.tiny(), per_layer=kept)

    @model_validator(mode="after")
    def _layers_exist(self) -> Self:
        _exist(self.per_layer, self.layers, "per_layer")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class DecoderStack(Stack):
    """Layers that attend to what was written so far, and then to another sequence or a picture: the memory."""

    cross_attention: Attention = SELF
    """Of every layer to the memory."""
    cross_per_layer: dict[NonNegativeInt, Attention] = {}
    """In its place in the layers of these numbers, from 0 on."""
    alignment_layer: NonNegativeInt | None = None
    """Whose attention to the memory, averaged over heads, is reported as that of each token; null: the last but one
    (Garg et al. 2019), or the only one."""

    def memory_attention(self, layer: int) -> Attention:
        """Return the cross-attention of a layer."""
        return self.cross_per_layer.get(layer, self.cross_attention)

    @property
    def reported_layer(self) -> int:
        """Number of the layer whose attention is reported."""
        return max(self.layers - 2, 0) if self.alignment_layer is None else self.alignment_layer

    def named_layers(self) -> tuple[int, ...]:
        aligning = () if self.alignment_layer is None else (self.alignment_layer,)
        return (*super().named_layers(), *self.cross_per_layer, *aligning)

    def tiny(self) -> Self:
        kept = {layer: one.tiny() for layer, one in self.cross_per_layer.items()}
        return super().tiny().replace(cross_attention=self.cross_attention.tiny(), cross_per_layer=kept)

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        _exist(self.cross_per_layer, self.layers, "cross_per_layer")
        if self.reported_layer >= self.layers:
            raise ValueError(f"alignment_layer {self.reported_layer}: the layers go from 0 to {self.layers - 1}")
        for place, attention in self.attentions().items():
            attention.over_the_past(place)
        self.cross_attention.over_another_sequence("cross_attention")
        for layer, attention in self.cross_per_layer.items():
            attention.over_another_sequence(f"cross_per_layer.{layer}")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def _turned(block: Block, stack: Stack, place: str) -> None:
    """Rotary positions mean something to scores that do not change when query and key are turned alike."""
    if block.positions.kind != "rotary":
        return
    for at, attention in stack.attentions().items():
        if attention.score.kind not in ONE_WIDTH:
            raise ValueError(
                f"{place}{at}.score {attention.score.kind} is not invariant to turning; positions rotary need one of "
                f"{', '.join(ONE_WIDTH)}"
            )


class TransformerEncoder(Block, Stack):
    """Tokens in, one state a token out. With post-norm, learned positions, token types, embedding norm, exact gelu and
    ε = 1e-12 it is BERT's encoder."""

    token_types: NonNegativeInt = 0
    """Kinds of tokens with embeddings of their own (BERT: 2 for sentences A and B); 0: none."""

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        _turned(self, self, "")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class TransformerDecoder(Block, DecoderStack):
    """Tokens written so far and a memory in, logits of the next token out."""

    memory_width: PositiveInt | None = None
    """Features of the memory (of a picture's, say); null is the decoder's own width."""
    tie_embeddings: bool = True
    """The embedding is the output projection too."""

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        _turned(self, self, "")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class TransformerSeq2Seq(Block):
    """Encoder and decoder of the same width (Vaswani et al. 2017)."""

    kind: Literal["transformer_seq2seq"] = "transformer_seq2seq"
    encoder: Stack = Stack()
    """The layers of the encoder."""
    decoder: DecoderStack = DecoderStack()
    """The layers of the decoder."""
    tie_embeddings: Literal["none", "output", "all"] = "output"
    """output: target embedding = output projection; all: the source embedding too (needs a joint vocabulary)."""

    def encoder_config(self) -> TransformerEncoder:
        """The encoder with all that it shares with the decoder."""
        return TransformerEncoder(**self._shared(), **_fields(self.encoder))

    def decoder_config(self) -> TransformerDecoder:
        """The decoder with all that it shares with the encoder."""
        return TransformerDecoder(
            **self._shared(), **_fields(self.decoder), tie_embeddings=self.tie_embeddings != "none"
        )

    def _shared(self) -> dict:
        return {name: getattr(self, name) for name in Block.model_fields}

    def tiny(self) -> Self:
        return super().tiny().replace(encoder=self.encoder.tiny(), decoder=self.decoder.tiny())

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        _turned(self, self.encoder, "encoder.")
        _turned(self, self.decoder, "decoder.")
        return self
