"""Loading of BERT's weights (Devlin et al. 2019) as parameters of `TransformerEncoder`.

Files store matrices for y = x Wᵀ + b, as PyTorch does; here y = x W + b, and W_q, W_k and W_v are concatenated.
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
"""Values of settings that BERT's own config.json may omit."""
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def find_weights(model: Any, data_dir: Path | None) -> Pretrained | None:
    """Return the pretrained weights that a model's config names, or None if it names none.

    Raises:
        UserError: they are missing, or their sizes differ from the encoder's.
    """
    if getattr(model, "pretrained", None) is None:
        return None
    source = Pretrained.find(model.pretrained, data_dir)
    _check_sizes(model.encoder, source)
    return source


def _check_sizes(encoder: TransformerEncoder, source: Pretrained) -> None:
    """Raise a `UserError` if the weights are of another kind or size than the encoder."""
    settings, path = DEFAULTS | source.config, source.folder / "config.json"
    kind = settings.get("model_type", "bert")
    if kind != "bert" or settings.get("position_embedding_type", "absolute") != "absolute":
        other = kind if kind != "bert" else f"position_embedding_type {settings['position_embedding_type']}"
        raise UserError(f"{path}: {other}; only bert with absolute positions can be loaded")
    for key, name in SIZES.items():
        expected: Any = encoder
        for part in key.split("."):
            expected = getattr(expected, part)
        stored = settings.get(name)
        stored = ACTIVATIONS.get(str(stored), stored)
        if expected != stored:
            raise UserError(f"model.encoder.{key} {expected} differs from {name} {stored} of {path}")
    if encoder.max_length > settings["max_position_embeddings"]:
        raise UserError(
            f"model.encoder.max_length {encoder.max_length} exceeds max_position_embeddings "
            f"{settings['max_position_embeddings']} of {path}"
        )


def read_parameters(encoder: TransformerEncoder, source: Pretrained) -> tuple[PyTree, list[str]]:
    """Read an encoder's parameters; return them with the names of the tensors that were not used.

    Args:
        encoder: config of the encoder; its `max_length` is at most the number of positions in the file.
        source: the weights; names of tensors may begin with `bert.`, and norms may have the old names gamma and beta.
    Raises:
        UserError: a tensor is missing, or its shape differs from the encoder's.
    """
    _check_sizes(encoder, source)
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

    def layer(prefix: str) -> dict[str, Any]:
        parts = [linear(f"{prefix}.attention.self.{name}", width, width) for name in ("query", "key", "value")]
        return {
            "self_attention": {
                "qkv": {name: np.concatenate([part[name] for part in parts], axis=-1) for name in ("kernel", "bias")},
                "output": linear(f"{prefix}.attention.output.dense", width, width),
            },
            "self_norm": norm(f"{prefix}.attention.output"),
            "feed_forward": {
                "hidden": linear(f"{prefix}.intermediate.dense", width, inner),
                "output": linear(f"{prefix}.output.dense", inner, width),
            },
            "feed_forward_norm": norm(f"{prefix}.output"),
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
    return {"embedding": {"embedding": words[source.rows]}, "body": {"entry": entry, **layers}}, tensors.unused()


def describe_weights(encoder: TransformerEncoder, source: Pretrained) -> str:
    """Describe pretrained weights: file, fingerprint, ignored tensors, and layers whose attention is not BERT's."""
    _, unused = read_parameters(encoder, source)
    ignored = f"; ignored: {', '.join(unused)}" if unused else ""
    changed = [layer for layer, attention in encoder.attentions().items() if attention != SELF]
    differing = f"; attention differs from the pretrained model's in: {', '.join(changed)}" if changed else ""
    return f"pretrained: {source.weights}, sha256 {source.fingerprint[:12]}{ignored}{differing}"


def replace_parameters(initial: PyTree, encoder: TransformerEncoder, source: Pretrained) -> PyTree:
    """Replace initial parameters by pretrained ones; parameters that are not in the file keep their initial values."""
    params: dict[tuple[str, ...], Any] = flatten_dict(initial)  # pyright: ignore[reportAssignmentType]
    stored: dict[tuple[str, ...], Any] = flatten_dict(read_parameters(encoder, source)[0])  # pyright: ignore[reportAssignmentType]
    for path, value in stored.items():
        if path not in params or params[path].shape != value.shape:
            raise ValueError(f"{'/'.join(path)} {value.shape}: no such parameter of the encoder")
    return unflatten_dict({**params, **stored})


class _Tensors:
    """The tensors of a file under current names of BERT; each can be taken once."""

    def __init__(self, source: Pretrained) -> None:
        self._path = source.weights
        tensors = source.tensors()
        prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
        self._names: Mapping[str, str] = {_current_name(name.removeprefix(prefix)): name for name in tensors}
        self._unused = tensors

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Return a tensor of the expected shape, in which None is any size."""
        if name not in self._names:
            raise UserError(f"{self._path}: no tensor {name}")
        value = self._unused.pop(self._names[name])
        if value.shape != tuple(size if want is None else want for want, size in zip_longest(shape, value.shape)):
            expected = ", ".join("any" if want is None else str(want) for want in shape)
            raise UserError(f"{self._path}: {name} is {list(value.shape)}, expected [{expected}]")
        return value.astype(np.float32)

    def unused(self) -> list[str]:
        """Return the names of the tensors that were not taken."""
        return sorted(self._unused)


def _current_name(name: str) -> str:
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return name
