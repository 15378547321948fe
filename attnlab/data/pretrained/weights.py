"""Weights in the format safetensors, as the Hugging Face hub lays them out: in one file, or in shards with an index."""

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
"""Weights in formats that are not read (the first is a pickle, which runs code when it is read)."""
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U64": "<u8", "I32": "<i4", "U32": "<u4", "I16": "<i2",
    "U16": "<u2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def path_of(folder: Path) -> Path:
    """Return the file that stands for the weights of a folder: the one of them all, or the index of the shards."""
    return folder / INDEX if not (folder / FILE).is_file() and (folder / INDEX).is_file() else folder / FILE


def read(folder: Path) -> dict[str, np.ndarray]:
    """Read all tensors; bfloat16 as float32, which holds each of its numbers.

    Raises:
        UserError: a file is missing, damaged or a pointer of Git LFS, the shards are not those of the index, the
            weights are there in another format only, or a tensor has a type that is not read, such as float8.
    """
    if path_of(folder).name == FILE:
        return _tensors(_file(folder, FILE))
    found: dict[str, np.ndarray] = {}
    shards = _shards(folder)
    for name in dict.fromkeys(shards.values()):
        held = _tensors(_file(folder, name))
        found |= {tensor: value for tensor, value in held.items() if shards.get(tensor) == name}
    if missing := [tensor for tensor in shards if tensor not in found]:
        raise UserError(f"{folder / shards[missing[0]]}: no tensor {missing[0]}, which {INDEX} says is there")
    return found


def fingerprint(folder: Path) -> str:
    """Hash the weights (sha256): the file, or the hashes of the shards in the order of their names."""
    if path_of(folder).name == FILE:
        return _hash(_file(folder, FILE))
    names = sorted(set(_shards(folder).values()))
    return hashlib.sha256("".join(_hash(_file(folder, name)) for name in names).encode()).hexdigest()


def _shards(folder: Path) -> dict[str, str]:
    """Tensor -> the file that holds it, as the index says."""
    path = _file(folder, INDEX)
    found = read_json(path, dict, "object of JSON").get("weight_map")
    plain = isinstance(found, dict) and all(
        isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors") for name in found.values()
    )
    if not (found and plain):
        raise UserError(f"{path}: weight_map must name, for each tensor, a .safetensors file of this folder")
    return found


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        with path.open("rb") as file:
            refuse_pointer(file.read(100), path)
        return path
    if name != FILE:
        raise UserError(f"{path}: no such file, but {INDEX} names it; fetch the folder again")
    if other := next((other for other in OTHER if (folder / other).is_file()), None):
        raise UserError(
            f"{path}: no such file, and {other} is not read; write it once, with torch and transformers: python -c "
            f"\"from transformers import AutoModel; AutoModel.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
    raise UserError(f"{path}: no such file; expected {FILE}, or shards with {INDEX}")


def _tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        found = deserialize(path.read_bytes())
        return {name: _array(path, name, stored) for name, stored in found}
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a whole file of safetensors ({error})") from error


def _array(path: Path, name: str, stored: Mapping[str, Any]) -> np.ndarray:
    kind, data = stored["dtype"], stored["data"]
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(stored["shape"])
    if kind not in _TYPES:
        known = "float8" if kind.startswith("F8") else "a type"
        raise UserError(f"{path}: {name} is {kind}, {known} that is not read; save the weights as F32, F16 or BF16")
    return np.frombuffer(data, _TYPES[kind]).reshape(stored["shape"])


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
