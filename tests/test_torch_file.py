"""Tensors out of a file of torch.save: the numbers, and the refusal of everything that is no tensor."""

import importlib.util
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from attnlab.config.errors import UserError
from attnlab.data.pretrained import torch_file

MARKER = Path("/tmp/attnlab-torch-file-was-run")


def saved(state: bytes, numbers: dict[str, np.ndarray]) -> bytes:
    """A file of torch's older format around the pickle of a state_dict."""
    head = [torch_file.MAGIC, torch_file.PROTOCOL, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(part, 2) for part in head]
    content = [struct.pack("<q", a.size) + a.tobytes() for a in numbers.values()]
    return b"".join([*parts, state, pickle.dumps(list(numbers), 2), *content])


def tensor(key: str, size: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """The instructions that make one tensor, as torch writes them."""
    number = lambda n: b"J" + struct.pack("<i", n)  # noqa: E731
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()  # noqa: E731
    several = lambda values: b"(" + b"".join(map(number, values)) + b"t"  # noqa: E731
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(size) + b"NtQ"
    made = number(offset) + several(shape) + several(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + made + b"\x89ccollections\nOrderedDict\n)RtR"


def state(**tensors: bytes) -> bytes:
    items = [b"X" + struct.pack("<I", len(name)) + name.encode() + made for name, made in tensors.items()]
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u."


@pytest.fixture
def read(tmp_path):
    def reads(content: bytes):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return torch_file.read(path)

    return reads


def test_tensors_are_read_with_their_strides_and_offsets(read):
    numbers = np.arange(6, dtype=np.float32)
    made = {
        "a": tensor("7", 6, (2, 3), (3, 1)),
        "b": tensor("7", 6, (3, 2), (1, 3)),
        "c": tensor("7", 6, (2,), (1,), 4),
    }
    tensors = read(saved(state(**made), {"7": numbers}))
    np.testing.assert_array_equal(tensors["a"], numbers.reshape(2, 3))
    np.testing.assert_array_equal(tensors["b"], numbers.reshape(2, 3).T)
    np.testing.assert_array_equal(tensors["c"], [4, 5])


class Harmful:
    def __reduce__(self):
        return (MARKER.touch, ())


@pytest.mark.parametrize(
    "program",
    [
        pickle.dumps(Harmful(), 2),
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"c__builtin__\neval\n(X\x01\x00\x00\x001tR.",
        b"(X\x04\x00\x00\x00trueios\nsystem\n.",
        pickle.dumps({"a": {1, 2}}, 4),
        b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n.",
    ],
)
def test_anything_but_tensors_is_refused_and_nothing_is_run(read, program):
    MARKER.unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"weights\.pth"):
        read(saved(program, {}))
    assert not MARKER.exists()


@pytest.mark.parametrize(
    "made",
    [
        tensor("7", 6, (100, 100), (0, 0)),
        tensor("7", 6, (7,), (1,)),
        tensor("7", 6, (2,), (1,), -1),
        tensor("7", 6, (2,), (-1,), 3),
        tensor("7", 10**6, (2,), (1,)),
    ],
)
def test_a_tensor_outside_its_numbers_is_refused(read, made):
    with pytest.raises(UserError, match=r"weights\.pth"):
        read(saved(state(a=made), {"7": np.arange(6, dtype=np.float32)}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rest", b"text", pickle.dumps(1, 2)])
def test_other_files_are_refused(read, content):
    with pytest.raises(UserError, match=r"weights\.pth"):
        read(content)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_equals_torch(tmp_path):
    import torch

    content = io.BytesIO()
    given = {"a": torch.randn(3, 4).T, "b": torch.arange(5), "c": torch.randn(2, 3, 4, 5)}
    torch.save(given, content, _use_new_zipfile_serialization=False)
    path = tmp_path / "weights.pth"
    path.write_bytes(content.getvalue())
    tensors = torch_file.read(path)
    assert tensors.keys() == given.keys()
    for name, value in given.items():
        np.testing.assert_array_equal(tensors[name], value.numpy())
