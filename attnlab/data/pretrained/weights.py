"""Read weights in safetensors format, in the layout of the Hugging Face hub: a single file, or shards with an index."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from attnlab.config.errors import UserError
from attnlab.config.json_text import read as read_json
from attnlab.data.git_lfs import refuse_pointer

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack", "model.onnx")
"""Weights in formats that are not supported (the first is a pickle, which executes code on loading)."""
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U64": "<u8", "I32": "<i4", "U32": "<u4", "I16": "<i2",
    "U16": "<u2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def path_of(folder: Path) -> Path:
    """Return the file with the weights of a folder, or the index of its shards."""
    return folder / INDEX if not (folder / FILE).is_file() and (folder / INDEX).is_file() else folder / FILE


def read(folder: Path) -> dict[str, np.ndarray]:
    """Read all tensors; bfloat16 is converted to float32 without loss.

    Raises:
        UserError: a file is missing, damaged or a Git LFS pointer, the shards do not match the index, the weights are
            in another format, or a tensor has an unsupported type such as float8.
    """
    if path_of(folder).name == FILE:
        return _tensors(_file(folder, FILE))
    tensors: dict[str, np.ndarray] = {}
    shards = _shards(folder)
    for name in dict.fromkeys(shards.values()):
        shard = _tensors(_file(folder, name))
        tensors |= {tensor: value for tensor, value in shard.items() if shards.get(tensor) == name}
    if missing := [tensor for tensor in shards if tensor not in tensors]:
        raise UserError(f"{folder / shards[missing[0]]}: no tensor {missing[0]}, which {INDEX} lists for this file")
    return tensors


def fingerprint(folder: Path) -> str:
    """Return the sha256 of the weights: of the file, or of the hashes of the shards in the order of their names."""
    if path_of(folder).name == FILE:
        return _hash(_file(folder, FILE))
    names = sorted(set(_shards(folder).values()))
    return hashlib.sha256("".join(_hash(_file(folder, name)) for name in names).encode()).hexdigest()


def _shards(folder: Path) -> dict[str, str]:
    """Return the name of the file of each tensor, from the index."""
    path = _file(folder, INDEX)
    files = read_json(path, dict, "index of the weights").get("weight_map")
    valid = isinstance(files, dict) and all(
        isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors") for name in files.values()
    )
    if not (files and valid):
        raise UserError(f"{path}: weight_map must name a .safetensors file in this folder for each tensor")
    return files


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        with path.open("rb") as file:
            refuse_pointer(file.read(100), path)
        return path
    if name != FILE:
        raise UserError(f"{path}: no such file, but {INDEX} lists it; download the folder again")
    if other := next((other for other in OTHER if (folder / other).is_file()), None):
        raise UserError(
            f"{path}: no such file, and {other} is not supported; convert it with torch and transformers: python -c "
            f"\"from transformers import AutoModel; AutoModel.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
    raise UserError(f"{path}: no such file; expected {FILE}, or shards with {INDEX}")


def _tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return {name: _array(path, name, stored) for name, stored in deserialize(path.read_bytes())}
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a valid safetensors file ({error})") from error


def _array(path: Path, name: str, stored: Mapping[str, Any]) -> np.ndarray:
    kind, data = stored["dtype"], stored["data"]
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(stored["shape"])
    if kind not in _TYPES:
        type_name = "float8" if kind.startswith("F8") else kind
        raise UserError(f"{path}: {name} is {kind}: {type_name} is not supported; save the weights as F32, F16 or BF16")
    return np.frombuffer(data, _TYPES[kind]).reshape(stored["shape"])


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
