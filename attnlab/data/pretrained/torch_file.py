"""Read tensors from a file of `torch.save` without torch and without executing the file.

Such a file is a pickle: a program that can call any function. Here no pickle is executed. `pickletools.genops` parses
the program, and the few instructions that a dictionary of tensors needs are interpreted below; every other instruction,
and every name except those of tensors and storages, is refused.

Time and memory are bounded by the size of the file: a tuple in a tuple contains only numbers (comparing or hashing
tuples that contain each other twice takes time exponential in their depth), keys are strings or integers, values in
messages are shortened, and the tensors have at most a small multiple of the numbers in the file.
"""

import io
import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from attnlab.config.errors import UserError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_STORAGES = {
    "torch FloatStorage": "<f4", "torch DoubleStorage": "<f8", "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8", "torch IntStorage": "<i4", "torch ByteStorage": "u1", "torch BoolStorage": "?",
}  # fmt: skip
_PUSHED = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MADE = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_AXES = 32
"""Largest number of axes of a tensor."""
_SHARED = 16
"""Largest ratio of numbers in tensors to numbers in the file, as tensors may share a storage."""


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Name(str):
    """A name in the program, which is never resolved."""


_MARK = object()


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a dictionary of tensors (a state_dict) in the format of torch before 1.6.

    Raises:
        UserError: the file is missing or damaged, has another format, or contains anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected a file of torch.save") from error


def _read(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    if file.read(2) == b"PK":
        raise UserError(
            f"{path}: the zip format of torch 1.6 and later is not supported; save the weights as safetensors"
        )
    file.seek(0)
    if [_program(file, path), _program(file, path)] != [MAGIC, PROTOCOL]:
        raise UserError(f"{path}: not a file of torch.save")
    system, state, keys = (_program(file, path) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError(f"{path}: was written on a machine with another byte order")
    if not isinstance(state, dict) or not isinstance(keys, list):
        raise UserError(f"{path}: not a dictionary of tensors")
    tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
    if len(tensors) != len(state) or not all(isinstance(name, str) for name in tensors):
        raise UserError(f"{path}: contains more than named tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if len(keys) != len(storages) or set(map(str, keys)) != storages.keys():
        raise UserError(f"{path}: contains {len(keys)} storages, but its tensors use {len(storages)}")
    content = {key: _content(file, storages[key], path) for key in keys}
    used, stored = sum(math.prod(tensor.shape) for tensor in tensors.values()), sum(map(len, content.values()))
    if used > _SHARED * stored:
        raise UserError(f"{path}: tensors of {used:,} numbers, but only {stored:,} are in the file")
    return {name: _array(tensor, content, path) for name, tensor in tensors.items()}


def _content(file: BinaryIO, storage: _Storage, path: Path) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.size:
        raise UserError(f"{path}: a storage has {count:,} numbers, but {storage.size:,} are declared")
    size = count * np.dtype(storage.dtype).itemsize
    if size > path.stat().st_size - file.tell():
        raise UserError(f"{path}: the file is truncated; download it again")
    return np.frombuffer(file.read(size), storage.dtype)


def _array(tensor: _Tensor, content: dict[str, np.ndarray], path: Path) -> np.ndarray:
    flat, shape, strides = content[tensor.storage.key], tensor.shape, tensor.strides
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min(tensor.offset, *shape, *strides, 0) < 0 or last >= len(flat) or math.prod(shape) > len(flat) or 0 in shape:
        raise UserError(f"{path}: a tensor of shape {shape} and strides {strides} does not fit its {len(flat)} numbers")
    steps = [step * flat.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps).copy()


def _program(file: BinaryIO, path: Path) -> Any:
    """Interpret a pickle and return its result; the file is then positioned after its end."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, place in pickletools.genops(file):
            if operation.name == "STOP":
                (result,) = stack
                return result
            if not _step(operation.name, argument, stack, memo):
                instruction = f"{operation.name} {str(argument or '')[:60]}"
                raise UserError(f"{path}: byte {place}: {instruction}: only tensors are allowed")
    except UserError:
        raise
    except Exception as error:  # not a pickle, or one that uses its stack incorrectly
        reason = " ".join(str(error)[:100].split())
        raise UserError(f"{path}: not a file of torch.save ({type(error).__name__}: {reason})") from error
    raise UserError(f"{path}: the pickle has no end")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> bool:
    """Interpret an instruction; return False if it is not allowed."""
    match name:
        case "PROTO":
            pass
        case _ if name in _PUSHED:
            stack.append(argument)
        case _ if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        case _ if name in _MADE:
            stack.append(_MADE[name]())
        case "MARK":
            stack.append(_MARK)
        case "TUPLE":
            stack.append(_tuple(_marked(stack)))
        case _ if name in _TUPLES:
            parts = stack[-_TUPLES[name] :]
            del stack[-_TUPLES[name] :]
            stack.append(_tuple(parts))
        case "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        case "APPENDS":
            items = _marked(stack)
            stack[-1].extend(items)
        case "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][_key(key)] = value
        case "SETITEMS":
            items = _marked(stack)
            stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
        case "BINPUT" | "LONG_BINPUT":
            memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(memo[argument])
        case "GLOBAL" if argument in (_DICT, _TENSOR, *_STORAGES):
            stack.append(_Name(argument))
        case "BINPERSID":
            stack.append(_storage(stack.pop()))
        case "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        case "BUILD":  # attributes of the dictionary (its version), which are not needed
            stack.pop()
        case _:
            return False
    return True


def _marked(stack: list[Any]) -> list[Any]:
    """Remove the last mark and the items above it from the stack; return the items."""
    start = next(place for place in reversed(range(len(stack))) if stack[place] is _MARK)
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _tuple(parts: list[Any]) -> tuple[Any, ...]:
    """Return a tuple; tuples in it must contain only integers, as shapes and strides do."""
    if any(isinstance(part, tuple) and not all(type(number) is int for number in part) for part in parts):
        raise ValueError("a nested tuple with items other than integers")
    return tuple(parts)


def _key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise ValueError(f"a key of type {type(key).__name__}")
    return key


def _storage(identity: Any) -> _Storage:
    kind, dtype, key, _, size, _ = identity
    known = isinstance(dtype, _Name) and dtype in _STORAGES and isinstance(key, str)
    if not isinstance(kind, str) or kind != "storage" or not known or not isinstance(size, int):
        raise ValueError("a reference to something other than a storage")
    return _Storage(_STORAGES[dtype], key, size)


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the result of one of the two allowed functions as plain data."""
    if not isinstance(function, _Name):
        raise ValueError(f"a call of {type(function).__name__}")
    if function == _DICT and not arguments:
        return {}
    if function == _TENSOR and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides = arguments[:4]
        if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= _AXES):
            raise ValueError("a tensor whose shape and strides do not match")
        if not all(type(number) is int and abs(number) < 2**63 for number in (offset, *shape, *strides)):
            raise ValueError("a tensor whose shape and strides are not integers")
        return _Tensor(storage, offset, shape, strides)
    raise ValueError(f"{function} of {len(arguments)} arguments")


def holds_only(content: bytes) -> bool:
    """Return whether bytes are a pickle with only the instructions that `read` accepts (for tests).

    >>> holds_only(b"cos\\nsystem\\n(S'true'\\ntR.")
    False
    """
    try:
        _program(io.BytesIO(content), Path("bytes"))
    except UserError:
        return False
    return True
