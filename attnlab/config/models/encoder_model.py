"""Models on a Transformer encoder, which may start from pretrained weights (BERT's family)."""

from typing import Any, Self

from pydantic import model_validator

from attnlab.config.base import Config
from attnlab.config.models.transformer import TransformerEncoder
from attnlab.config.pretrained import Source

NEEDED = {
    "positions.kind": "learned", "norm.kind": "layer_norm", "norm_position": "post", "has_final_norm": False,
    "embedding_norm": True, "scale_embeddings": False, "biases": True, "kv_heads": None, "head_width": None,
}  # fmt: skip
"""What the architecture of BERT requires of an encoder's config; the numbers stand in the weights' own config.json."""


def bert_mismatch(encoder: TransformerEncoder) -> str | None:
    """Return which setting of an encoder does not fit pretrained weights, or None.

    >>> bert_mismatch(TransformerEncoder())
    'encoder.positions.kind sinusoidal: pretrained weights need learned'
    """
    for place, needed in NEEDED.items():
        found: Any = encoder
        for name in place.split("."):
            found = getattr(found, name)
        if found != needed:
            return f"encoder.{place.replace('has_', '')} {_yaml(found)}: pretrained weights need {_yaml(needed)}"
    return None


class EncoderModel(Config):
    """A model on a Transformer's encoder that may start from pretrained weights."""

    kind: str
    encoder: TransformerEncoder = TransformerEncoder()
    """The Transformer encoder that reads the input."""
    pretrained: Source | None = None
    """Weights that the encoder starts from; null draws them. With them [CLS] stands before the text, as they were
    trained so."""
    append_sep: bool | None = None
    """[SEP] follows the text; null: where weights are pretrained, as they were trained so."""

    @property
    def special_tokens_after(self) -> int:
        """Number of special tokens after the text."""
        return int(self.pretrained is not None if self.append_sep is None else self.append_sep)

    @model_validator(mode="after")
    def _takes_the_weights(self) -> Self:
        if self.pretrained is not None and (reason := bert_mismatch(self.encoder)):
            raise ValueError(reason)
        return self

    def tiny(self) -> Self:
        """Keep pretrained weights whole."""
        return self if self.pretrained is not None else self.replace(encoder=self.encoder.tiny())


def distinct_token_types(model: Any) -> Any:
    """Raise where question and text would share a single token type."""
    if model.encoder.token_types == 1:
        raise ValueError("encoder.token_types 1 does not separate the question from the text; valid: 2, or 0 for none")
    return model


def _yaml(value: object) -> str:
    return "null" if value is None else str(value).lower()
