"""Reads tensors from a file of `torch.save` without torch and without running what is in it.

Such a file is a pickle: a program that may call anything. Here no pickle is run. `pickletools.genops` takes the program
apart into its instructions, and the few that a dictionary of tensors is made of are acted out below; every other
instruction, and every name but those of tensors and storages, is refused.

Time and memory are bounded by the size of the file: a tuple inside a tuple holds numbers alone (of tuples that hold
each other twice, to be compared or hashed takes time exponential in their depth), keys are texts or numbers, what is
said of a value is cut short, and no more numbers are handed out than a few times those in the file.
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
"""Axes of a tensor, at most."""
_SHARED = 16
"""How many times a number of the file may be handed out, on the average (tensors may share a storage)."""


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
    """A name that the program mentions; it is never looked up."""


_MARK = object()


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a dictionary of tensors (a state_dict) in the format of torch before 1.6.

    Raises:
        UserError: the file is missing or damaged, has another format, or holds anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected a file of torch.save") from error


def _read(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    if file.read(2) == b"PK":
        raise UserError(f"{path}: torch's newer format (a zip file) is not read; save it as safetensors")
    file.seek(0)
    if [_program(file, path), _program(file, path)] != [MAGIC, PROTOCOL]:
        raise UserError(f"{path}: not a file of torch.save")
    system, found, keys = (_program(file, path) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError(f"{path}: was written on a machine of another byte order")
    if not isinstance(found, dict) or not isinstance(keys, list):
        raise UserError(f"{path}: holds no dictionary of tensors")
    tensors = {name: value for name, value in found.items() if isinstance(value, _Tensor)}
    if len(tensors) != len(found) or not all(isinstance(name, str) for name in tensors):
        raise UserError(f"{path}: holds more than named tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if len(keys) != len(storages) or set(map(str, keys)) != storages.keys():
        raise UserError(f"{path}: holds {len(keys)} storages, but its tensors name {len(storages)}")
    content = {key: _content(file, storages[key], path) for key in keys}
    wanted, there = sum(math.prod(one.shape) for one in tensors.values()), sum(map(len, content.values()))
    if wanted > _SHARED * there:
        raise UserError(f"{path}: tensors of {wanted:,} numbers of which {there:,} are in the file")
    return {name: _array(tensor, content, path) for name, tensor in tensors.items()}


def _content(file: BinaryIO, storage: _Storage, path: Path) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.size:
        raise UserError(f"{path}: a storage of {count:,} numbers that no tensor announces")
    wanted = count * np.dtype(storage.dtype).itemsize
    if wanted > path.stat().st_size - file.tell():
        raise UserError(f"{path}: ends in the middle of its numbers; fetch it again")
    return np.frombuffer(file.read(wanted), storage.dtype)


def _array(tensor: _Tensor, content: dict[str, np.ndarray], path: Path) -> np.ndarray:
    flat, shape, strides = content[tensor.storage.key], tensor.shape, tensor.strides
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min(tensor.offset, *shape, *strides, 0) < 0 or last >= len(flat) or math.prod(shape) > len(flat) or 0 in shape:
        raise UserError(f"{path}: a tensor of shape {shape} and strides {strides} does not fit its {len(flat)} numbers")
    steps = [step * flat.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps).copy()


def _program(file: BinaryIO, path: Path) -> Any:
    """Act out one pickle up to its end; the file stands behind it."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, place in pickletools.genops(file):
            if operation.name == "STOP":
                (result,) = stack
                return result
            if not _step(operation.name, argument, stack, memo):
                shown = str(argument or "")[:60]
                raise UserError(f"{path}: byte {place}: {operation.name} {shown}: only tensors are read")
    except UserError:
        raise
    except Exception as error:  # of a program that is no pickle, or handles its stack wrongly
        reason = " ".join(str(error)[:100].split())
        raise UserError(f"{path}: not a file of torch.save ({type(error).__name__}: {reason})") from error
    raise UserError(f"{path}: the pickle has no end")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> bool:
    """Act out one instruction; say whether it is one of those that tensors need."""
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
        case "BUILD":  # attributes of the dictionary (its version): nothing that is needed
            stack.pop()
        case _:
            return False
    return True


def _marked(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark."""
    start = next(place for place in reversed(range(len(stack))) if stack[place] is _MARK)
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _tuple(parts: list[Any]) -> tuple[Any, ...]:
    """Make a tuple, whose tuples hold numbers alone, as shapes and strides do."""
    if any(isinstance(one, tuple) and not all(type(number) is int for number in one) for one in parts):
        raise ValueError("a tuple of tuples that are not of numbers")
    return tuple(parts)


def _key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise ValueError(f"a key that is {type(key).__name__}")
    return key


def _storage(identity: Any) -> _Storage:
    kind, dtype, key, _, size, _ = identity
    known = isinstance(dtype, _Name) and dtype in _STORAGES and isinstance(key, str)
    if not isinstance(kind, str) or kind != "storage" or not known or not isinstance(size, int):
        raise ValueError("a reference that is no storage")
    return _Storage(_STORAGES[dtype], key, size)


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What the two functions that are allowed would make, as plain data."""
    if not isinstance(function, _Name):
        raise ValueError(f"{type(function).__name__} is called")
    if function == _DICT and not arguments:
        return {}
    if function == _TENSOR and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides = arguments[:4]
        if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= _AXES):
            raise ValueError("a tensor whose shape and strides do not fit")
        if not all(type(number) is int and abs(number) < 2**63 for number in (offset, *shape, *strides)):
            raise ValueError("a tensor whose shape and strides are no numbers")
        return _Tensor(storage, offset, shape, strides)
    raise ValueError(f"{function} of {len(arguments)} arguments")


def holds_only(content: bytes) -> bool:
    """Tell whether bytes are one pickle made of what `read` accepts (for tests of what is refused).

    >>> holds_only(b"cos\\nsystem\\n(S'true'\\ntR.")
    False
    """
    try:
        _program(io.BytesIO(content), Path("bytes"))
    except UserError:
        return False
    return True
