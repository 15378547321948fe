"""Readers: what is harmless is repaired, all else is refused with file and line, and nothing is dropped."""

import gzip
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from attnlab.config import Dates, ParallelText, TranslationHub, Tsv
from attnlab.config.errors import UserError
from attnlab.data.text.lines import LONGEST_LINE, read_lines
from attnlab.data.translation.load import load
from attnlab.data.translation.parallel_text import read_pairs as read_two
from attnlab.data.translation.records import ParallelCorpus, SentencePair
from attnlab.data.translation.tsv import read_pairs as read_tsv

TSV = Tsv(source="de", target="en", train="train.tsv", dev="dev.tsv", test={"test": "test.tsv"})
PARALLEL = ParallelText(source="de", target="en", train="train", dev="dev", test={"test": "test"})


def write(path: Path, content: bytes | str) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    content = 'a "b\tc\n\n  d  \n\u2028e\x0bf\x85g\n#"\nlast'
    assert read_lines(write(tmp_path / "x", content)) == ['a "b\tc', "", "  d  ", "\u2028e\x0bf\x85g", '#"', "last"]
    assert read_lines(write(tmp_path / "y", "a\n\n")) == ["a", ""]
    assert read_lines(write(tmp_path / "z", "\n")) == [""]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff")), min_size=1))
def test_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("lines")
    for path in (folder / "x", folder / "x.gz"):
        assert read_lines(write(path, "".join(f"{line}\n" for line in lines))) == lines


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_cr_lf_and_bom_are_taken_away(tmp_path: Path, name: str) -> None:
    assert read_lines(write(tmp_path / name, b"\xef\xbb\xbfein\r\n\r\nzwei\r\n")) == ["ein", "", "zwei"]
    assert read_lines(write(tmp_path / name, b"ein\r\nzwei\nlast\r")) == ["ein", "zwei", "last"]


@pytest.mark.parametrize(
    ("content", "line", "expected"),
    [
        (b"ein\nM\xe4nner\n", 2, "byte 2 of the line (0xe4) is not UTF-8"),
        (b"ein\nzwei\ndrei \xc3", 3, "not UTF-8"),
        (b"ein\n\xed\xa0\x80\n", 2, "not UTF-8"),
        ("ein\n".encode("utf-16"), 1, "UTF-16"),
        (b"ein\nzw\0ei\n", 2, "NUL character inside the line (character 3)"),
        (b"ein\rzwei\rdrei\n", 1, "carriage return"),
        (b"ein\nzwei\r\r\n", 2, "carriage return"),
        (b"ein\n" + b"a" * 1_000_000 + b"\nzwei\n", 2, "1,000,000 characters"),
        (b"ein\n" + "ä ".encode() * 500_000, 2, "1,000,000 characters"),
    ],
)
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_bad_line_is_refused_by_file_and_line(
    tmp_path: Path, name: str, content: bytes, line: int, expected: str
) -> None:
    path = write(tmp_path / name, content)
    message = refusal(lambda: read_lines(path))
    assert message.startswith(f"{path}:{line}: ")
    assert expected in message


def test_the_longest_line_is_read(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path / "x", "ä" * LONGEST_LINE)) == ["ä" * LONGEST_LINE]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("x", "x.gz"):
        path = write(tmp_path / name, content)
        assert refusal(partial(read_lines, path)).startswith(f"{path}: the file is empty")


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"ein\nzwei\n" * 1000)
    path = tmp_path / "x.gz"
    flipped = bytearray(whole)
    flipped[-6] ^= 1
    for content in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:3],
        bytes(flipped),
        whole[:12] + b"\xff\xff" + whole[14:],
    ):
        path.write_bytes(content)
        message = refusal(lambda: read_lines(path))
        assert message.startswith(f"{path}: damaged gzip file")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(lambda: read_lines(tmp_path)).startswith(f"{tmp_path}: cannot be read")


def test_parallel_text_pairs_line_with_line(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.de", f"ein {split}\n\nzwei\n")
        write(tmp_path / f"{split}.en.gz", f"one {split}\r\nx\r\ntwo")
    corpus = load(PARALLEL, tmp_path)
    assert corpus.train == (SentencePair("ein train", "one train"), SentencePair("", "x"), SentencePair("zwei", "two"))
    assert corpus.dev[0] == SentencePair("ein dev", "one dev")
    assert corpus.test["test"][0] == SentencePair("ein test", "one test")
    assert (corpus.source_language, corpus.target_language) == ("de", "en")


@pytest.mark.parametrize(
    ("source", "target", "short", "line"), [("a\nb\nc\n", "a\nb\n", "en", 3), ("a", "a\n\n", "de", 2)]
)
def test_unequal_line_counts_are_refused(tmp_path: Path, source: str, target: str, short: str, line: int) -> None:
    de, en = write(tmp_path / "x.de", source), write(tmp_path / "x.en", target)
    message = refusal(lambda: read_two(de, en))
    assert message.startswith(f"{tmp_path / 'x'}.{short}:{line}: ")
    for path in (de, en):
        assert f"{path} has {len(read_lines(path))}" in message


def test_tsv_reads_two_columns_by_name(tmp_path: Path) -> None:
    rows = b'\xef\xbb\xbfid\ten\tde\r\n1\tone "dog\tein "Hund\r\n2\t\tzwei'
    for split in ("train.tsv.gz", "dev.tsv", "test.tsv.gz"):
        write(tmp_path / split, rows)
    corpus = load(TSV, tmp_path)
    assert (
        corpus.train
        == corpus.dev
        == corpus.test["test"]
        == (SentencePair('ein "Hund', 'one "dog'), SentencePair("zwei", ""))
    )


@pytest.mark.parametrize(
    ("content", "where", "expected"),
    [
        ("id\ten\n1\tone\n", ":1", "no column 'de' in the header (id, en)"),
        ("id\tde \ten\n1\tein\tone\n", ":1", "did you mean 'de '?"),
        ("de\ten\tde\nein\tone\tein\n", ":1", "has the column 'de' 2 times"),
        ("de\ten\n", ":1", "no rows after the header"),
        ("de\ten\nein\tone\nzwei\n", ":3", "1 fields, but the header has 2 columns"),
        ("de\ten\nein\tone\textra\n", ":2", "3 fields, but the header has 2 columns"),
        ("de\ten\nein\tone\n\n", ":3", "1 fields, but the header has 2 columns"),
        ("de\ten\nein\tone\nz\0\ttwo\n", ":3", "NUL"),
        ("de\ten\nein\tone\n" + "a" * 1_000_000 + "\ttwo\n", ":3", "1,000,004 characters"),
        (b"de\ten\nein\tone\nM\xe4nner\tmen\n", ":3", "not UTF-8"),
        ("", "", "the file is empty"),
    ],
)
def test_a_broken_tsv_is_refused_by_file_and_line(
    tmp_path: Path, content: str | bytes, where: str, expected: str
) -> None:
    path = write(tmp_path / "x.tsv", content)
    message = refusal(lambda: read_tsv(path, "de", "en"))
    assert message.startswith(f"{path}{where}: ")
    assert expected in message


def test_a_missing_file_or_directory_is_an_error_with_advice(tmp_path: Path) -> None:
    message = refusal(lambda: load(TSV, None))
    assert "--data DIR" in message
    assert "ATTNLAB_DATA" in message
    assert "DIR/train.tsv" in message
    assert "DIR/train.de" in refusal(lambda: load(PARALLEL, None))
    assert "no such data directory" in refusal(lambda: load(TSV, tmp_path / "none"))
    assert refusal(lambda: load(PARALLEL, tmp_path)).startswith(f"{tmp_path / 'test.de'}: no such file, nor test.de.gz")


@pytest.mark.parametrize("name", ["train", "dev"])
def test_a_test_set_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} is the name of another split"):
        TSV.replace(test={name: "test.tsv"})


def test_generated_data_need_no_directory() -> None:
    assert len(load(Dates(train=3, dev=2, test=1), None).train) == 3


def test_the_fingerprint_tells_any_change() -> None:
    def corpus(*train: SentencePair, dev: str = "d", test: str = "t") -> str:
        return ParallelCorpus(
            train, (SentencePair(dev, dev),), {test: (SentencePair("x", "y"),)}, "de", "en"
        ).fingerprint()

    pair = SentencePair
    base = corpus(pair("a", "b"), pair("c", "d"))
    assert base == corpus(pair("a", "b"), pair("c", "d"))
    changed = [
        corpus(pair("c", "d"), pair("a", "b")), corpus(pair("ab", ""), pair("c", "d")), corpus(pair("a", "b")),
        corpus(pair("a", "b"), pair("c", "d"), dev="e"), corpus(pair("a", "b"), pair("c", "d"), test="u"),
        corpus(pair("a ", "b"), pair("c", "d")), corpus(pair("b", "a"), pair("c", "d")),
    ]  # fmt: skip
    assert len({base, *changed}) == 1 + len(changed)


def test_a_missing_package_of_the_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install -e '.[hub]'" in refusal(lambda: load(TranslationHub(path="x", source="de", target="en"), None))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a data directory with a folder in the hub's layout; nothing is asked of the network."""
    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_CACHE", str(tmp_path / "cache"))):
        monkeypatch.setenv(name, value)
    pytest.importorskip("datasets", reason="the extra hub is not installed")
    (tmp_path / "set").mkdir()
    rows = (
        '{"translation": {"de": "ein\\u00e4", "en": "one"}, "id": 1}\n{"translation": {"de": "", "en": "x"}, "id": 2}\n'
    )
    for split in ("train", "validation", "test"):
        write(tmp_path / "set" / f"{split}.jsonl", rows)
    return tmp_path


@pytest.mark.filterwarnings("default")
def test_a_local_folder_in_the_hubs_layout_is_read(hub: Path) -> None:
    corpus = load(TranslationHub(path="set", source="translation.de", target="translation.en"), hub)
    assert corpus.train == corpus.dev == corpus.test["test"] == (SentencePair("einä", "one"), SentencePair("", "x"))
    assert (corpus.source_language, corpus.target_language) == ("de", "en")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"source": "translation.dd"}, "row 1: no column 'translation.dd'; did you mean 'de'?"),
        ({"source": "de"}, "row 1: no column 'de'"),
        ({"source": "id"}, "row 1: column 'id' is int, not text"),
        ({"dev": "nothing"}, "split nothing"),
        ({"path": "nowhere"}, "nowhere (split "),
    ],
)
def test_a_missing_column_or_split_of_the_hub_is_named(hub: Path, change: dict[str, str], expected: str) -> None:
    config = TranslationHub(path="set", source="translation.de", target="translation.en").model_copy(update=change)
    assert expected in refusal(lambda: load(config, hub))
