"""Weights of the hub: the types that are read, shards, and files that are no weights but often stand in their place."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from attnlab.config.errors import UserError
from attnlab.data.images.arrays import read_arrays
from attnlab.data.images.pixels import as_bytes, pixels
from attnlab.data.pretrained import weights
from attnlab.data.pretrained.source import Pretrained
from attnlab.data.text.lines import read_lines

VALUES = np.array([[0.0, -0.0, 1.0], [-3.140625, 2.0**-120, np.inf]], np.float32)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133466304\n"
NAMES = {
    "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}  # fmt: skip


def stored(folder: Path, **types: str) -> Path:
    """Write VALUES once for each name, in a type: the length of a header, the header, the numbers."""
    header, data = {}, b""
    for name, kind in types.items():
        numbers = VALUES.astype(getattr(ml_dtypes, kind, kind)).tobytes()
        place = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": NAMES[kind], "shape": list(VALUES.shape), "data_offsets": place}
        data += numbers
    text = json.dumps(header).encode()
    (folder / weights.FILE).write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float32", "float64"])
def test_every_wide_type_is_read(tmp_path: Path, kind: str):
    array = weights.read(stored(tmp_path, a=kind))["a"]
    expected = VALUES.astype(getattr(ml_dtypes, kind, kind)).astype(np.float64)
    np.testing.assert_array_equal(array.astype(np.float64), expected)
    np.testing.assert_array_equal(np.signbit(array), np.signbit(expected))
    assert array.dtype == (np.float32 if kind == "bfloat16" else kind)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_is_refused_by_name(tmp_path: Path, kind: str):
    with pytest.raises(UserError, match=rf"model\.safetensors: b is {NAMES[kind]}: float8 .*F32, F16 or BF16"):
        weights.read(stored(tmp_path, a="float32", b=kind))


def sharded(folder: Path) -> Path:
    save_file({"a": VALUES, "b": 2 * VALUES}, folder / "model-00001-of-00002.safetensors")
    save_file({"c": 3 * VALUES}, folder / "model-00002-of-00002.safetensors")
    names = {"a": 1, "b": 1, "c": 2}
    shards = {name: f"model-{shard:05d}-of-00002.safetensors" for name, shard in names.items()}
    (folder / weights.INDEX).write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": shards}))
    return folder


def test_two_shards_are_read_as_one(tmp_path: Path):
    tensors = weights.read(sharded(tmp_path))
    assert sorted(tensors) == ["a", "b", "c"]
    np.testing.assert_array_equal(tensors["c"], 3 * VALUES)
    source = Pretrained(tmp_path)
    assert source.weights == tmp_path / weights.INDEX
    before = source.fingerprint
    assert before == weights.fingerprint(tmp_path)
    save_file({"c": 4 * VALUES}, tmp_path / "model-00002-of-00002.safetensors")
    assert weights.fingerprint(tmp_path) != before
    stored(tmp_path, a="float32")  # one file goes before shards, as it does elsewhere
    assert list(weights.read(tmp_path)) == ["a"]


SECOND = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / SECOND).unlink(), rf"{SECOND}: no such file, but model\.safetensors\.index\.json lists it"),
        (lambda f: save_file({"d": VALUES}, f / SECOND), rf"{SECOND}: no tensor c, which .*index\.json lists"),
        (lambda f: (f / SECOND).write_text(POINTER), rf"{SECOND}: a Git LFS pointer, .*git lfs pull"),
        (
            lambda f: (f / SECOND).write_bytes((f / SECOND).read_bytes()[:-3]),
            rf"{SECOND}: not a valid safetensors file",
        ),
        (lambda f: (f / weights.INDEX).write_text("{}"), r"index\.json: weight_map must name"),
        (
            lambda f: (f / weights.INDEX).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
            "weight_map .*in this folder",
        ),
        (
            lambda f: (f / weights.INDEX).write_text('{"weight_map": {"a": 1}}'),
            r"weight_map .*\.safetensors file in this folder",
        ),
        (lambda f: (f / weights.INDEX).write_text(POINTER), r"index\.json: a Git LFS pointer"),
    ],
)
def test_inconsistent_shards_are_reported(tmp_path: Path, spoil, message: str):
    spoil(sharded(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        weights.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"])
def test_weights_in_another_format_are_refused_with_advice(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"x")
    for ask in (weights.read, weights.fingerprint):
        with pytest.raises(
            UserError, match=rf"model\.safetensors: no such file, and {name} is not .* transformers"
        ) as error:
            ask(tmp_path)
        assert "\n" not in str(error.value)


def test_git_lfs_pointers_are_refused_with_advice(tmp_path: Path):
    for name in (weights.FILE, "tokenizer.json", "vocab.txt", "config.json", "train.tsv", "images.npz"):
        (tmp_path / name).write_text(POINTER)
    source = Pretrained(tmp_path)
    asked = {
        weights.FILE: source.tensors,
        "config.json": lambda: source.config,
        "tokenizer.json": lambda: source.tokenizer,
        "train.tsv": lambda: read_lines(tmp_path / "train.tsv"),
        "images.npz": lambda: read_arrays(tmp_path / "images.npz", ["images"]),
        "x.jpg": lambda: pixels(as_bytes(POINTER.encode()), 8, "x.jpg"),
    }
    for name, ask in asked.items():
        with pytest.raises(UserError, match=rf"{name}: a Git LFS pointer, .*git lfs pull"):
            ask()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"vocab\.txt: a Git LFS pointer"):
        _ = source.tokenizer
