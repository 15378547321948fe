"""Base config of models with a Transformer encoder, which may start from pretrained weights (BERT's family)."""

from typing import Any, Self

from pydantic import model_validator

from attnlab.config.base import Config
from attnlab.config.models.transformer import TransformerEncoder
from attnlab.config.pretrained import Source

NEEDED = {
    "positions.kind": "learned", "norm.kind": "layer_norm", "norm_position": "post", "has_final_norm": False,
    "embedding_norm": True, "scale_embeddings": False, "biases": True, "kv_heads": None, "head_width": None,
}  # fmt: skip
"""Settings of an encoder that BERT's architecture requires; its sizes come from the weights' config.json."""


def bert_mismatch(encoder: TransformerEncoder) -> str | None:
    """Return which setting of an encoder does not match pretrained weights, or None.

    >>> bert_mismatch(TransformerEncoder())
    'encoder.positions.kind sinusoidal: pretrained weights need learned'
    """
    for place, needed in NEEDED.items():
        value: Any = encoder
        for name in place.split("."):
            value = getattr(value, name)
        if value != needed:
            return f"encoder.{place.replace('has_', '')} {_yaml(value)}: pretrained weights need {_yaml(needed)}"
    return None


class EncoderModel(Config):
    """A model with a Transformer encoder that may start from pretrained weights."""

    kind: str
    encoder: TransformerEncoder = TransformerEncoder()
    """The Transformer encoder."""
    pretrained: Source | None = None
    """Pretrained weights of the encoder, which add [CLS] before the text, as in their training; null initializes the
    encoder randomly."""
    append_sep: bool | None = None
    """Add [SEP] after the text; null adds it only if `pretrained` is set."""

    @property
    def special_tokens_after(self) -> int:
        """Return the number of special tokens after the text."""
        return int(self.pretrained is not None if self.append_sep is None else self.append_sep)

    @model_validator(mode="after")
    def _matches_pretrained_weights(self) -> Self:
        if self.pretrained is not None and (reason := bert_mismatch(self.encoder)):
            raise ValueError(reason)
        return self

    def tiny(self) -> Self:
        """Shrink the encoder; with pretrained weights it keeps its size."""
        return self if self.pretrained is not None else super().tiny()


def distinct_token_types(model: Any) -> Any:
    """Raise if question and text would share a single token type."""
    if model.encoder.token_types == 1:
        raise ValueError("encoder.token_types 1 does not separate question and text; valid: 2, or 0 for none")
    return model


def _yaml(value: object) -> str:
    return "null" if value is None else str(value).lower()
