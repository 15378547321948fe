"""Files of weights: the supported types, shards, and errors for files in other formats."""

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
    """Write VALUES under each name in a dtype: the length of the header, the header, the numbers."""
    header, data = {}, b""
    for name, kind in types.items():
        numbers = VALUES.astype(getattr(ml_dtypes, kind, kind)).tobytes()
        place = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": NAMES[kind], "shape": list(VALUES.shape), "data_offsets": place}
        data += numbers
    message = json.dumps(header).encode()
    (folder / weights.FILE).write_bytes(struct.pack("<Q", len(message)) + message + data)
    return folder


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float32", "float64"])
def test_every_wide_type_is_read(tmp_path: Path, kind: str):
    result = weights.read(stored(tmp_path, a=kind))["a"]
    expected = VALUES.astype(getattr(ml_dtypes, kind, kind)).astype(np.float64)
    np.testing.assert_array_equal(result.astype(np.float64), expected)
    np.testing.assert_array_equal(np.signbit(result), np.signbit(expected))
    assert result.dtype == (np.float32 if kind == "bfloat16" else kind)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_is_refused_by_name(tmp_path: Path, kind: str):
    with pytest.raises(UserError, match=rf"model\.safetensors: b is {NAMES[kind]}, float8 .*F32, F16 or BF16"):
        weights.read(stored(tmp_path, a="float32", b=kind))


def sharded(folder: Path) -> Path:
    save_file({"a": VALUES, "b": 2 * VALUES}, folder / "model-00001-of-00002.safetensors")
    save_file({"c": 3 * VALUES}, folder / "model-00002-of-00002.safetensors")
    names = {"a": 1, "b": 1, "c": 2}
    shards = {name: f"model-{shard:05d}-of-00002.safetensors" for name, shard in names.items()}
    (folder / weights.INDEX).write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": shards}))
    return folder


def test_two_shards_are_read_as_one(tmp_path: Path):
    result = weights.read(sharded(tmp_path))
    assert sorted(result) == ["a", "b", "c"]
    np.testing.assert_array_equal(result["c"], 3 * VALUES)
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
    ("spoil", "says"),
    [
        (lambda f: (f / SECOND).unlink(), rf"{SECOND}: no such file, but model\.safetensors\.index\.json names it"),
        (lambda f: save_file({"d": VALUES}, f / SECOND), rf"{SECOND}: no tensor c, which .*index\.json says is there"),
        (lambda f: (f / SECOND).write_text(POINTER), rf"{SECOND}: a pointer of Git LFS, .*git lfs pull"),
        (lambda f: (f / SECOND).write_bytes((f / SECOND).read_bytes()[:-3]), rf"{SECOND}: not a whole file"),
        (lambda f: (f / weights.INDEX).write_text("{}"), r"index\.json: weight_map must name"),
        (lambda f: (f / weights.INDEX).write_text('{"weight_map": {"a": "../x.safetensors"}}'), "of this folder"),
        (lambda f: (f / weights.INDEX).write_text('{"weight_map": {"a": 1}}'), r"\.safetensors file of this folder"),
        (lambda f: (f / weights.INDEX).write_text(POINTER), r"index\.json: a pointer of Git LFS"),
    ],
)
def test_inconsistent_shards_are_reported(tmp_path: Path, spoil, says: str):
    spoil(sharded(tmp_path))
    with pytest.raises(UserError, match=says) as error:
        weights.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"])
def test_the_error_for_another_format_of_weights_suggests_what_to_do(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"x")
    for ask in (weights.read, weights.fingerprint):
        with pytest.raises(
            UserError, match=rf"model\.safetensors: no such file, and {name} is not .* transformers"
        ) as error:
            ask(tmp_path)
        assert "\n" not in str(error.value)


def test_the_error_for_pointers_of_git_lfs_suggests_what_to_do(tmp_path: Path):
    for name in (weights.FILE, "tokenizer.json", "vocab.txt", "config.json", "train.tsv", "images.npz"):
        (tmp_path / name).write_text(POINTER)
    source = Pretrained(tmp_path)
    calls = {
        weights.FILE: source.tensors,
        "config.json": lambda: source.config,
        "tokenizer.json": lambda: source.tokenizer,
        "train.tsv": lambda: read_lines(tmp_path / "train.tsv"),
        "images.npz": lambda: read_arrays(tmp_path / "images.npz", ["images"]),
        "x.jpg": lambda: pixels(as_bytes(POINTER.encode()), 8, "x.jpg"),
    }
    for name, call in calls.items():
        with pytest.raises(UserError, match=rf"{name}: a pointer of Git LFS, .*git lfs pull"):
            call()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"vocab\.txt: a pointer of Git LFS"):
        _ = source.tokenizer
