"""The Transformer of `models/transformer.py` in plain PyTorch: the baseline of `bench training`.

It has the same sizes and equations, and dropout in the same places. It is idiomatic PyTorch in its fastest plain form:
one projection for queries, keys and values, the fused `scaled_dot_product_attention`, and logits of all positions at
once. It supports scaled dot-product attention with softmax, sinusoidal positions or none, pre- or post-norm, and ReLU
or GELU.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnlab.config.errors import UserError
from attnlab.config.models.transformer import TransformerSeq2Seq as Config

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


class Attention(nn.Module):
    """Multi-head attention; self-attention uses one projection for queries, keys and values."""

    def __init__(self, config: Config, cross: bool):
        super().__init__()
        self.heads, width = config.heads, config.width
        if cross:
            self.query = nn.Linear(width, width, config.biases)
            self.key_value = nn.Linear(width, 2 * width, config.biases)
        else:
            self.qkv = nn.Linear(width, 3 * width, config.biases)
        self.output = nn.Linear(width, width, config.biases)
        self.cross, self.rate = cross, config.attention_dropout

    def forward(self, states: Tensor, memory: Tensor, where: Tensor | None, causal: bool) -> Tensor:
        """Attend from states [b t d] to memory [b s d]; `where` [b 1 1 s] is True at keys that may be attended to."""
        if self.cross:
            parts = self.query(states), *self.key_value(memory).chunk(2, dim=-1)
        else:
            parts = self.qkv(states).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        rate = self.rate if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, where, dropout_p=rate, is_causal=causal)
        return self.output(context.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A Transformer layer: self-attention, in a decoder cross-attention to the memory, and a feed-forward network."""

    def __init__(self, config: Config, decoder: bool):
        super().__init__()
        norms = lambda: nn.LayerNorm(config.width, eps=config.norm.epsilon)  # noqa: E731
        self.self_attention, self.self_norm = Attention(config, cross=False), norms()
        self.cross_attention = Attention(config, cross=True) if decoder else nn.Identity()
        self.cross_norm = norms() if decoder else nn.Identity()
        self.hidden = nn.Linear(config.width, config.feed_forward, config.biases)
        self.output = nn.Linear(config.feed_forward, config.width, config.biases)
        self.feed_forward_norm = norms()
        self.activate = ACTIVATIONS[config.activation]
        self.dropout, self.inner_dropout = nn.Dropout(config.dropout), nn.Dropout(config.activation_dropout)
        self.pre = config.norm_position == "pre"

    def forward(
        self, states: Tensor, where: Tensor | None, memory: Tensor | None, memory_where: Tensor | None
    ) -> Tensor:
        decoder = memory is not None
        states = self._residual(self.self_norm, states, lambda x: self.self_attention(x, x, where, decoder))
        if decoder:
            attend = lambda x: self.cross_attention(x, memory, memory_where, False)  # noqa: E731
            states = self._residual(self.cross_norm, states, attend)
        feed = lambda x: self.output(self.inner_dropout(self.activate(self.hidden(x))))  # noqa: E731
        return self._residual(self.feed_forward_norm, states, feed)

    def _residual(self, norm, states: Tensor, sublayer) -> Tensor:
        if self.pre:
            return states + self.dropout(sublayer(norm(states)))
        return norm(states + self.dropout(sublayer(states)))


class Transformer(nn.Module):
    """An encoder-decoder Transformer that maps source and target tokens to next-token logits (teacher forcing)."""

    def __init__(self, config: Config, source_vocabulary: int, target_vocabulary: int):
        super().__init__()
        _refuse(config)
        self.config = config
        self.target_embedding = nn.Embedding(target_vocabulary, config.width)
        tied = config.tie_embeddings == "all"
        self.source_embedding = self.target_embedding if tied else nn.Embedding(source_vocabulary, config.width)
        self.encoder = nn.ModuleList(Layer(config, decoder=False) for _ in range(config.encoder.layers))
        self.decoder = nn.ModuleList(Layer(config, decoder=True) for _ in range(config.decoder.layers))
        last = config.encoder_config().has_final_norm
        final = lambda: nn.LayerNorm(config.width, eps=config.norm.epsilon) if last else nn.Identity()  # noqa: E731
        self.encoder_norm, self.decoder_norm = final(), final()
        self.readout = nn.Linear(config.width, target_vocabulary)
        if config.tie_embeddings != "none":
            self.readout.weight = self.target_embedding.weight
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("positions", _sinusoids(config.max_length, config.width), persistent=False)
        self._initialize()

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> Tensor:
        """Return logits [b t v]; `source_lengths` must be on the CPU, whatever the device of the other tensors."""
        where = torch.arange(source.shape[1]) < source_lengths.clamp(min=1)[:, None]
        where = where[:, None, None, :].to(source.device, non_blocking=True)
        memory = self._embed(self.source_embedding(source))
        for layer in self.encoder:
            memory = layer(memory, where, None, None)
        memory = self.encoder_norm(memory)
        states = self._embed(self.target_embedding(target))
        for layer in self.decoder:
            states = layer(states, None, memory, where)
        return self.readout(self.decoder_norm(states))

    def _embed(self, embedded: Tensor) -> Tensor:
        if self.config.scale_embeddings:
            embedded = embedded * math.sqrt(self.config.width)
        if self.config.positions.kind == "sinusoidal":
            embedded = embedded + self.positions[: embedded.shape[1]]
        return self.dropout(embedded)

    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                nn.init.normal_(parameter, std=self.config.width**-0.5)
            elif parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


def _sinusoids(length: int, width: int) -> Tensor:
    speeds = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float32) * 2 / width)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * speeds
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def _refuse(config: Config) -> None:
    """Raise an error that names a setting which the PyTorch model does not support."""
    supported = {"score": {"kind": "scaled_dot"}, "normalizer": {"kind": "softmax"}}
    stacks = {"encoder": config.encoder_config(), "decoder": config.decoder_config()}
    attentions = [
        (f"{name}.{layer}", attention)
        for name, stack in stacks.items()
        for layer, attention in stack.attentions().items()
    ]
    attentions.append(("decoder.cross_attention", config.decoder.cross_attention))
    for place, attention in attentions:
        settings = attention.model_dump()
        if (
            any(settings[part]["kind"] != kind["kind"] for part, kind in supported.items())
            or settings["mods"]
            or settings["mask"]
        ):
            raise UserError(f"bench training: model.{place}: the PyTorch model supports only scaled_dot with softmax")
    refused = {
        "positions": config.positions.kind not in ("sinusoidal", "none"),
        "norm": config.norm.kind != "layer_norm",
        "activation": config.activation not in ACTIVATIONS,
        "kv_heads": config.kv_heads not in (None, config.heads),
        "head_width": config.head_width not in (None, config.width // config.heads),
        "embedding_norm": config.embedding_norm,
        "decoder.cross_per_layer": bool(config.decoder.cross_per_layer),
    }
    for place, wrong in refused.items():
        if wrong:
            raise UserError(f"bench training: model.{place}: the PyTorch model does not support this value")
