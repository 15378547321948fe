"""Files of other people: what would take endless time or memory to read is refused in a line, and read by no reader."""

import gzip
import json
import pickle
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_torch_file import saved, state, tensor
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from attnlab.config import Bpe, Words
from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.config.json_text import MAX_DEPTH, loads
from attnlab.config.load import load
from attnlab.data.captioning import flickr8k
from attnlab.data.classification import trees
from attnlab.data.classification.labeled_text import read_examples
from attnlab.data.extractive_qa import squad, subjqa
from attnlab.data.extractive_qa.encoder import PassageEncoder
from attnlab.data.images import arrays
from attnlab.data.images.arrays import read_arrays
from attnlab.data.pretrained import torch_file
from attnlab.data.pretrained.source import Pretrained
from attnlab.data.story_qa import babi
from attnlab.data.story_qa.encoder import Vocabulary
from attnlab.data.text import lines
from attnlab.data.text import tokenizer as text_tokenizer
from attnlab.data.translation.numerals import GERMAN_PARTS
from attnlab.data.translation.records import ParallelCorpus, SentencePair
from attnlab.data.visual_qa import easy_vqa
from attnlab.results.run_files import read_environment
from attnlab.tasks.classification.task import ClassificationTask
from attnlab.tasks.visual_qa.task import VisualQATask

ROOT = Path(__file__).parents[1]
SLOWEST = 10.0
"""Seconds that any refusal may take; what is refused here took minutes, or all memory."""
SPANS = ExtractiveQA.model_validate({"data": {"kind": "squad", "train": "t", "dev": "d", "test": {"test": "e"}}})


def refusal(call: Callable[[], object]) -> str:
    """The one line that a call ends in, soon and short."""
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        call()
    assert time.monotonic() - began < SLOWEST
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


# Numbers and nesting, in every reader of JSON


def first(path: Path, text: str) -> Path:
    """A file of JSON."""
    path.write_text(text, encoding="utf-8")
    return path


def second(path: Path, good: dict, text: str) -> Path:
    """Lines of JSON, of which the second is bad."""
    return first(path, f"{json.dumps(good)}\n{text}\n")


def vqa(folder: Path, text: str) -> Path:
    np.savez(folder / "a_images.npz", images=np.zeros((1, 2, 2, 3), np.uint8))
    return second(folder / "a_questions.jsonl", {"question": "q", "answer": "a", "image": 0}, text)


def task(name: str) -> Callable[[Path], object]:
    """Read what a run of a task keeps of its vocabulary."""
    kind, experiment = {
        "labels": (ClassificationTask, "classification/imdb_additive.yaml"),
        "answers": (VisualQATask, "visual_qa/scenes_cross_attention.yaml"),
    }[name]
    config = load(ROOT / "experiments" / experiment, [])
    return lambda path: kind.restore(config, path.parent)


READERS: dict[str, tuple[Callable[[Path, str], Path], Callable[[Path], object]]] = {
    "squad": (lambda f, t: first(f / "d.json", f'{{"data": {t}}}'), squad.read_file),
    "subjqa": (
        lambda f, t: second(f / "d.jsonl", {"question": "q", "context": "c", "answer": "c", "answer_start": 0}, t),
        subjqa.read_file,
    ),
    "labeled_text": (
        lambda f, t: second(f / "d.jsonl", {"text": "a", "label": 1}, f'{{"text": "a", "label": {t}}}'),
        lambda path: read_examples(path, "text", "label"),
    ),
    "flickr8k": (
        lambda f, t: second(f / "d.jsonl", {"image": "i", "split": "train", "captions": ["c"]}, f'{{"image": {t}}}'),
        flickr8k._json_rows,
    ),
    "easy_vqa": (vqa, lambda path: easy_vqa._split(path.parent, "a")),
    "easy_vqa, a folder": (lambda f, t: first(f / "questions.json", t), lambda path: easy_vqa._folder(path.parent)),
    "words of stories": (lambda f, t: first(f / "words.json", t), Vocabulary.load),
    "letters of passages": (
        lambda f, t: first(f / "letters.json", t), lambda path: PassageEncoder.load(SPANS, 3, path.parent),
    ),
    "labels": (lambda f, t: first(f / "labels.json", t), task("labels")),
    "answers": (lambda f, t: first(f / "answers.json", t), task("answers")),
    "tokenizer": (lambda f, t: first(f / "tokenizer.json", t), text_tokenizer.Tokenizer.load),
    "pretrained": (lambda f, t: first(f / "config.json", t), lambda path: Pretrained(path.parent).config),
    "environment": (lambda f, t: first(f / "environment.json", t), lambda path: read_environment(path.parent)),
}  # fmt: skip
HOSTILE = {
    "nested": "[" * 40_000 + "]" * 40_000,
    "nested without an end": '{"a":' * 15_000,
    "nested less deeply": "[" * 150 + "]" * 150,
    "a number of 5,000 digits": "9" * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_json_refuses_it_by_its_place(tmp_path: Path, name: str, text: str):
    write, read = READERS[name]
    path = write(tmp_path, text)
    message = refusal(lambda: read(path))
    assert message.startswith(str(path))
    if path.suffix == ".jsonl":
        assert message.startswith(f"{path}:2: ")


def test_json_is_read_as_it_was():
    deep = "[" * MAX_DEPTH + "1.5" + "]" * MAX_DEPTH
    for text in (deep, '{"a": [1, "b", null, {"c": true}]}', "9" * 4_000, '""'):
        assert loads(text) == json.loads(text)


@pytest.mark.parametrize("text", ["{", '{"a": [[]]}', '["a", 1]', '"text"', "3"])
def test_what_a_run_keeps_is_checked_before_it_is_used(tmp_path: Path, text: str):
    for name in ("words of stories", "labels"):
        write, read = READERS[name]
        path = write(tmp_path, text)
        assert refusal(lambda path=path, read=read: read(path)).startswith(str(path))


@pytest.mark.parametrize(
    "text", [f"{'9' * 5_000} Mary moved.", "² Mary moved.", f"1 Mary moved.\n2 Where?\tx\t{'9' * 5_000}"]
)
def test_numbers_of_stories(tmp_path: Path, text: str):
    path = first(tmp_path / "story.txt", f"{text}\n")
    assert refusal(lambda: babi.read_file(path)).startswith(f"{path}:{text.count(chr(10)) + 1}: ")


@pytest.mark.parametrize("text", [f"({'9' * 5_000} a)", "(1 " * 600 + "a" + ")" * 600])
def test_trees(tmp_path: Path, text: str):
    path = first(tmp_path / "trees.txt", f"(3 (2 a) (4 hit))\n{text}\n")
    assert refusal(lambda: trees.read_trees(path)).startswith(f"{path}:2: ")


# Packed files


@pytest.mark.parametrize(
    ("name", "read"), [("d.json", squad.read_file), ("d.txt", lines.read_lines), ("d.jsonl", subjqa.read_file)]
)
def test_a_small_file_that_unpacks_to_a_huge_one(tmp_path: Path, name: str, read: Callable[[Path], object]):
    """100 MB of blanks in 100 kB: refused at 64 MiB, wherever files are read."""
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(b" \n" * 50_000_000, 1))
    message = refusal(lambda: read(path))
    assert message.startswith(f"{path}: ")
    assert "gunzip d." in message


def test_a_member_after_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "LARGEST", 1_000_000)
    (tmp_path / "d.gz").write_bytes(gzip.compress(b"a\n") * 3 + gzip.compress(b"a\n" * 1_000_000))
    assert "unpack to more than 1,000,000" in refusal(lambda: lines.read_lines(tmp_path / "d.gz"))


def test_text_that_packs_well_is_read_and_so_is_anything_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "LARGEST", 1_000)
    draw = np.random.default_rng(0)
    text = "".join(f"question {n} of {draw.integers(10)}: what is it?\n" for n in range(2_000)).encode()
    (tmp_path / "d.gz").write_bytes(packed := gzip.compress(text))
    assert len(text) > 8 * len(packed)
    (tmp_path / "d").write_bytes(b"a\n" * 100_000)
    assert (len(lines.read_lines(tmp_path / "d.gz")), len(lines.read_lines(tmp_path / "d"))) == (2_000, 100_000)


@pytest.mark.parametrize("shape", [(10**13,), (2**62, 4), (3, 4)])
def test_arrays_that_are_larger_than_their_file(
    tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """A header of 13 terabytes, and zeros that pack a thousand times."""
    path, header = tmp_path / "images.npz", np.zeros((0,), np.uint8)
    with zipfile.ZipFile(path, "w") as packed, packed.open("images.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(header) | {"shape": shape})
    assert refusal(lambda: read_arrays(path, ["images"])).startswith(f"{path}: not a .npz with images (")
    np.savez_compressed(path, images=np.zeros((400, 5, 500, 3), np.uint8))
    assert read_arrays(path, ["images"])[0].shape == (400, 5, 500, 3)
    monkeypatch.setattr(arrays, "LARGEST", 1_000_000)
    assert "unpack to 3,000,1" in refusal(lambda: read_arrays(path, ["images"]))


# Tokenizers


def ours() -> dict:
    return json.loads(text_tokenizer.train(Words(), ["a b", "c"], "source").to_json())


def with_normalizer(*parts: dict) -> dict:
    return ours() | {"normalizer": {"type": "Sequence", "normalizers": list(parts)}}


def replace(pattern: dict, content: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


FOREIGN = {
    "an exponential expression": with_normalizer(replace({"Regex": "(a+)+b"}, "")),
    "alternatives that are alike": with_normalizer(replace({"Regex": "▁?(?:a|a)(?:a|a)"}, "")),
    "many optional letters": with_normalizer(replace({"Regex": f"▁?(?:{'a?' * 40}{'a' * 40})"}, "")),
    "an expression that cuts words": ours() | {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"(\w*)*\d"}, "behavior": "Isolated", "invert": False}
    },
    "an expression that refers back": with_normalizer(replace({"Regex": r"▁?(?:a\g<0>)"}, "")),
    "replacements that grow": with_normalizer(*[replace({"String": "a"}, "aaaaaaaaaa")] * 20),
    "a replacement of blanks that grows": with_normalizer(replace({"Regex": r"\s+"}, "b" * 1_000_000)),
    "padding": ours() | {"padding": {
        "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }},
    "long words": ours() | {"model": {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                                      "max_input_chars_per_word": 10**9, "vocab": {"a": 0}}},
}  # fmt: skip


@pytest.mark.parametrize("plain", FOREIGN.values(), ids=FOREIGN)
def test_a_tokenizer_without_bound_is_refused_unread(tmp_path: Path, plain: dict):
    path = first(tmp_path / "tokenizer.json", json.dumps(plain))
    assert refusal(lambda: text_tokenizer.Tokenizer.load(path)).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "name", ["an exponential expression", "an expression that cuts words", "replacements that grow"]
)
def test_nor_is_that_of_pretrained_weights(tmp_path: Path, name: str):
    words = {word: n for n, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a"])}
    model = {"type": "WordPiece", "vocab": words, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100}  # fmt: skip
    first(tmp_path / "tokenizer.json", json.dumps(FOREIGN[name] | {"model": model}))
    message = refusal(lambda: Pretrained(tmp_path).tokenizer)
    assert message.startswith(str(tmp_path))
    assert ("normalizer" in message) or ("pre_tokenizer" in message)


@pytest.mark.parametrize("config", [Words(joint=True, lowercase="both"), Bpe(vocabulary=200)])
@pytest.mark.parametrize("split", [None, GERMAN_PARTS, r"\d"])
def test_our_own_tokenizers_are_read(tmp_path: Path, config: Words | Bpe, split: str | None):
    pairs = (SentencePair("zweiundvierzig  12", "forty-two 12"),) * 3
    made = text_tokenizer.train_tokenizers(config, ParallelCorpus(pairs, (), {}, "de", "en", split, split))
    made.save(tmp_path)
    again = text_tokenizer.Tokenizers.load(tmp_path)
    assert again.files() == made.files()


# Files of torch


def nested(depth: int) -> bytes:
    """A tuple that holds one twice, which holds one twice, and so on."""
    return b")" + b"q\x00h\x00\x86" * depth


def programs() -> Iterator[tuple[str, bytes]]:
    deep = nested(60)
    yield "as a key", b"\x80\x02}" + deep + b"K\x01s."
    yield "as a key among several", b"\x80\x02}(" + deep + b"K\x01u."
    yield "as what is called", b"\x80\x02" + deep + b")R."
    yield "as the arguments", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + deep + b"R."
    yield "as a storage", b"\x80\x02" + deep + b"Q."
    yield "as a value", b"\x80\x02}X\x01\x00\x00\x00a" + deep + b"s."
    yield "lists that hold one another", b"\x80\x02]q\x00" + b"](h\x00h\x00eq\x00" * 60 + b")R."
    yield "a name of a megabyte", b"\x80\x02c" + b"a" * 1_000_000 + b"\nb\n."
    yield "marks on a large stack", b"\x80\x02" + b"K\x01" * 100_000 + b"(t" * 20_000 + b"."
    number = lambda n: b"J" + struct.pack("<i", n)  # noqa: E731
    huge = b"\x8a\xff" + b"\x7f" * 255
    flat = tensor("7", 6, (2,), (1,))
    yield "a shape of 10,000 huge numbers", state(a=flat.replace(b"(" + number(2) + b"t", b"(" + huge * 10_000 + b"t"))
    yield "a storage of 2^60 numbers", state(a=flat.replace(number(6), b"\x8a\x08" + struct.pack("<q", 2**60)))


@pytest.mark.parametrize("program", [program for _, program in programs()], ids=[name for name, _ in programs()])
def test_a_torch_file_that_hangs(tmp_path: Path, program: bytes):
    path = tmp_path / "weights.pth"
    numbers = {"7": np.arange(6, dtype=np.float32)}
    path.write_bytes(saved(program, numbers))
    assert refusal(lambda: torch_file.read(path)).startswith(f"{path}: ")
    head = saved(b"", {})
    for place in (0, len(pickle.dumps(torch_file.MAGIC, 2))):
        path.write_bytes(head[:place] + program + head[place:])
        assert refusal(lambda: torch_file.read(path)).startswith(f"{path}: ")


def test_a_torch_file_whose_storage_is_larger_than_the_file(tmp_path: Path):
    path = tmp_path / "weights.pth"
    made = tensor("7", 6, (2,), (1,)).replace(b"J" + struct.pack("<i", 6), b"\x8a\x08" + struct.pack("<q", 2**60))
    content = saved(state(a=made), {"7": np.arange(6, dtype=np.float32)})
    path.write_bytes(content[:-32] + struct.pack("<q", 2**60) + content[-24:])
    assert "the file is truncated" in refusal(lambda: torch_file.read(path))


def test_a_torch_file_whose_tensors_repeat_a_storage_is_refused(tmp_path: Path):
    path, numbers = tmp_path / "weights.pth", {"7": np.arange(100, dtype=np.float32)}
    names = [f"t{n}" for n in range(5_000)]
    path.write_bytes(saved(state(**{name: tensor("7", 100, (100,), (1,)) for name in names}), numbers))
    assert "500,000 numbers, but only 100 are in the file" in refusal(lambda: torch_file.read(path))
    path.write_bytes(saved(state(**{name: tensor("7", 100, (100,), (1,)) for name in names[:8]}), numbers))
    assert len(torch_file.read(path)) == 8


def test_the_library_does_run_such_expressions():
    """What is refused above is no made-up danger: 24 letters take time, and each more doubles it."""
    inner = Tokenizer(models.WordLevel({"a": 0}, "a"))
    inner.normalizer = normalizers.Replace(Regex("(a+)+b"), "")
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    took = []
    for letters in (16, 22):
        began = time.perf_counter()
        inner.encode("a" * letters)
        took.append(time.perf_counter() - began)
    assert took[1] > 4 * took[0]
