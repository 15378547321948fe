"""Weights of BERT's family (Devlin et al. 2019) as parameters of `TransformerEncoder`: which tensor is which.

y = x Wᵀ + b    in the files, as PyTorch has it; here y = x W + b, and W_q, W_k and W_v are one matrix side by side.
"""

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from attnlab.config.errors import UserError
from attnlab.config.models.transformer import SELF, TransformerEncoder
from attnlab.data.pretrained.source import Pretrained

SIZES = {
    "width": "hidden_size", "heads": "num_attention_heads", "layers": "num_hidden_layers",
    "feed_forward": "intermediate_size", "activation": "hidden_act", "token_types": "type_vocab_size",
    "norm.epsilon": "layer_norm_eps",
}  # fmt: skip
"""Setting of the encoder -> its name in config.json."""
DEFAULTS = {"hidden_act": "gelu", "type_vocab_size": 2, "layer_norm_eps": 1e-12, "max_position_embeddings": 512}
"""What BERT's own config.json may leave out."""
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def find(model: Any, data_dir: Path | None) -> Pretrained | None:
    """Find the weights that a model's config starts from, and see that they fit; None where it draws its own."""
    if getattr(model, "pretrained", None) is None:
        return None
    source = Pretrained.find(model.pretrained, data_dir)
    refuse_other_sizes(model.encoder, source)
    return source


def refuse_other_sizes(encoder: TransformerEncoder, source: Pretrained) -> None:
    """Refuse weights of another size or kind than the encoder; one line names both numbers."""
    given, path = DEFAULTS | source.config, source.folder / "config.json"
    kind = given.get("model_type", "bert")
    if kind != "bert" or given.get("position_embedding_type", "absolute") != "absolute":
        found = kind if kind != "bert" else f"position_embedding_type {given['position_embedding_type']}"
        raise UserError(f"{path}: {found}; only bert with absolute positions can be loaded")
    for place, name in SIZES.items():
        ours: Any = encoder
        for part in place.split("."):
            ours = getattr(ours, part)
        theirs = given.get(name)
        theirs = ACTIVATIONS.get(str(theirs), theirs)
        if ours != theirs:
            raise UserError(f"model.encoder.{place} {ours} differs from {name} {theirs} of {path}")
    if encoder.max_length > given["max_position_embeddings"]:
        raise UserError(
            f"model.encoder.max_length {encoder.max_length} exceeds max_position_embeddings "
            f"{given['max_position_embeddings']} of {path}"
        )


def read(encoder: TransformerEncoder, source: Pretrained) -> tuple[PyTree, list[str]]:
    """Read an encoder's parameters, and name the tensors of the file that have no place in it.

    Args:
        encoder: with `max_length` positions, at most as many as the file has.
        source: names of its tensors may begin with `bert.`; norms may have gamma and beta, as of old.
    """
    refuse_other_sizes(encoder, source)
    tensors = _Tensors(source)
    width, inner = encoder.width, encoder.feed_forward

    def linear(name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {
            "kernel": tensors.take(f"{name}.weight", outputs, inputs).T,
            "bias": tensors.take(f"{name}.bias", outputs),
        }

    def norm(name: str) -> dict[str, np.ndarray]:
        return {
            "scale": tensors.take(f"{name}.LayerNorm.weight", width),
            "bias": tensors.take(f"{name}.LayerNorm.bias", width),
        }

    def layer(at: str) -> dict[str, Any]:
        parts = [linear(f"{at}.attention.self.{name}", width, width) for name in ("query", "key", "value")]
        return {
            "self_attention": {
                "qkv": {name: np.concatenate([part[name] for part in parts], axis=-1) for name in ("kernel", "bias")},
                "output": linear(f"{at}.attention.output.dense", width, width),
            },
            "self_norm": norm(f"{at}.attention.output"),
            "feed_forward": {
                "hidden": linear(f"{at}.intermediate.dense", width, inner),
                "output": linear(f"{at}.output.dense", inner, width),
            },
            "feed_forward_norm": norm(f"{at}.output"),
        }

    words = tensors.take("embeddings.word_embeddings.weight", None, width)
    if len(words) <= source.rows.max():
        raise UserError(f"{source.folder}: {source.rows.max() + 1} tokens, but {len(words)} rows in the embedding")
    entry: dict[str, Any] = {
        "positions": tensors.take("embeddings.position_embeddings.weight", None, width)[: encoder.max_length],
        "norm": norm("embeddings"),
    }
    if encoder.token_types:
        types = tensors.take("embeddings.token_type_embeddings.weight", encoder.token_types, width)
        entry["token_types"] = {"embedding": types}
    layers = {f"layer_{n}": layer(f"encoder.layer.{n}") for n in range(encoder.layers)}
    return {"embedding": {"embedding": words[source.rows]}, "body": {"entry": entry, **layers}}, tensors.left()


def describe(encoder: TransformerEncoder, source: Pretrained) -> str:
    """Describe pretrained weights: file, fingerprint, ignored tensors, and layers whose attention is not BERT's."""
    _, ignored = read(encoder, source)
    rest = f"; ignored: {', '.join(ignored)}" if ignored else ""
    others = [place for place, attention in encoder.attentions().items() if attention != SELF]
    unlike = f"; not what the weights were trained with: {', '.join(others)}" if others else ""
    return f"pretrained: {source.weights}, sha256 {source.fingerprint[:12]}{rest}{unlike}"


def placed(drawn: PyTree, encoder: TransformerEncoder, source: Pretrained) -> PyTree:
    """Put pretrained parameters in the place of drawn ones; what a file has not (a score's own, say) stays drawn."""
    ours: dict[tuple[str, ...], Any] = flatten_dict(drawn)  # pyright: ignore[reportAssignmentType]
    theirs: dict[tuple[str, ...], Any] = flatten_dict(read(encoder, source)[0])  # pyright: ignore[reportAssignmentType]
    for path, value in theirs.items():
        if path not in ours or ours[path].shape != value.shape:
            raise ValueError(f"{'/'.join(path)} {value.shape}: no such parameter of the encoder")
    return unflatten_dict({**ours, **theirs})


class _Tensors:
    """The tensors of a file by their names in today's BERT, each to be taken once."""

    def __init__(self, source: Pretrained) -> None:
        self._path = source.weights
        found = source.tensors()
        prefix = "bert." if any(name.startswith("bert.") for name in found) else ""
        self._names: Mapping[str, str] = {_today(name.removeprefix(prefix)): name for name in found}
        self._found = found

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Take a tensor of a shape, None for any length."""
        if name not in self._names:
            raise UserError(f"{self._path}: no tensor {name}")
        value = self._found.pop(self._names[name])
        if value.shape != tuple(have if want is None else want for want, have in zip_longest(shape, value.shape)):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise UserError(f"{self._path}: {name} is {list(value.shape)}, expected [{wanted}]")
        return value.astype(np.float32)

    def left(self) -> list[str]:
        """Name what nobody took."""
        return sorted(self._found)


def _today(name: str) -> str:
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return name
