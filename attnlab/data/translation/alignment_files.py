"""Read and write word alignments: Pharaoh, talp, NAACL and jsonl.

    format    a line                                                             indices usually count from
    Pharaoh   `0-0 1-2`: the links of a sentence, source-target                  0
    talp      `1-1 2p3`: the same; `p` instead of `-` is a possible link         1
    NAACL     `1 4 5 S`: sentence, source word, target word, S (sure) or P       1
    jsonl     `{"src": "…", "tgt": "…", "sure": [[0, 0]], "possible": [[1, 2]]}` 0

Possible links are also written `2?3` or `2-3p`. Which index the first word has is in no file, so that `base` has no
default; a wrong one is found by an index that does not exist in its sentence.

Reference: Pharaoh is the output of fast_align, eflomal and GIZA++'s symal; talp is what the scripts of Zenkel et al.
2019 and Garg et al. 2019 read; NAACL is the format of the shared task of Mihalcea & Pedersen 2003, section 2.2.
"""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from attnlab.config.errors import UserError
from attnlab.config.json_text import parse
from attnlab.data.text.lines import read_lines
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, Pairs, words_of

Base = Literal[0, 1]
"""The index of the first word of a sentence."""
LINK = re.compile(r"(\d{1,6})(?:-(\d{1,6})([pP]?)|[pP?](\d{1,6}))", re.ASCII)
CONFIDENCE = re.compile(r"\d+(\.\d*)?(e-?\d+)?|\.\d+(e-?\d+)?", re.ASCII | re.IGNORECASE)
KEYS = ("src", "tgt", "sure", "possible")


def read_pharaoh(
    path: Path,
    base: Base,
    source: Sequence[str] | None = None,
    target: Sequence[str] | None = None,
    *,
    target_first: bool = False,
) -> list[Gold]:
    """Read alignments in the format Pharaoh or talp, one sentence a line; an empty line has no links.

    Args:
        path: the file, plain or gzip.
        base: the index of the first word.
        source: the source sentences, words separated by single spaces; None does not check source indices against
            the sentence.
        target: likewise for the target.
        target_first: whether a link is written target-source.
    Returns: links (source, target) that count from 0; a hypothesis without possible links has them all as sure.

    Raises:
        UserError: a link is malformed, an index does not exist in its sentence, or the number of lines is wrong; names
            file, line and what would be right.
    """
    lines = read_lines(path)
    for name, sentences in (("source", source), ("target", target)):
        if sentences is not None and len(sentences) != len(lines):
            where = f"{path}:{1 + min(len(lines), len(sentences))}"
            raise UserError(f"{where}: {len(lines)} lines for {len(sentences)} {name} sentences; expected a line each")
    golds = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        lengths = (_length(source, number, where, "source"), _length(target, number, where, "target"))
        sure, possible = set(), set()
        for text in line.split():
            found = LINK.fullmatch(text)
            if not found:
                raise UserError(f"{where}: {text!r} is not a link; write 3-4 (sure), or 3p4, 3?4 or 3-4p (possible)")
            first, second = int(found[1]), int(found[2] or found[4])
            indices = (second, first) if target_first else (first, second)
            link = _link(indices, base, lengths, where, text)
            possible.add(link)
            if found[2] and not found[3]:
                sure.add(link)
        golds.append(Gold(frozenset(sure), frozenset(possible)))
    return golds


def read_naacl(path: Path, base: Base, source: Sequence[str], target: Sequence[str]) -> list[Gold]:
    """Read alignments in the format of the shared tasks of NAACL 2003 and ACL 2005, one link a line.

    A line has the sentence's number (from 1), the source word, the target word, then optionally S or P (without it, the
    link is sure), then optionally a confidence, a number that is ignored. With `base` 1, word 0 means that the other
    word has no counterpart: no link.

    Args:
        path: the file, plain or gzip.
        base: the index of the first word of a sentence.
        source: the source sentences, words separated by single spaces; a sentence without a line has no links.
        target: likewise for the target.

    Raises:
        UserError: see `read_pharaoh`.
    """
    if len(source) != len(target):
        raise ValueError(f"{len(source)} source sentences, but {len(target)} target sentences; pass pairs")
    links: list[tuple[set, set]] = [(set(), set()) for _ in source]
    for number, line in enumerate(read_lines(path), start=1):
        where, fields = f"{path}:{number}", line.split()
        if not fields:
            continue
        if len(fields) < 3 or not all(re.fullmatch(r"\d{1,9}", field, re.ASCII) for field in fields[:3]):
            raise UserError(f"{where}: {line!r} is not a link; write: sentence source target S, such as 1 4 5 S")
        possible_only = _is_possible(fields[3:], where, line)
        sentence, *indices = map(int, fields[:3])
        if not 1 <= sentence <= len(source):
            raise UserError(f"{where}: no sentence {sentence}; sentences are numbered 1 to {len(source)}")
        if base == 1 and 0 in indices:
            continue
        lengths = (_length(source, sentence, where, "source"), _length(target, sentence, where, "target"))
        link = _link((indices[0], indices[1]), base, lengths, where, line)
        sure, possible = links[sentence - 1]
        possible.add(link)
        if not possible_only:
            sure.add(link)
    return [Gold(frozenset(sure), frozenset(possible)) for sure, possible in links]


def _is_possible(fields: Sequence[str], where: str, line: str) -> bool:
    """Return whether a link of the format NAACL is only possible, by its fields after sentence, source and target."""
    rest = list(fields)
    mark = rest.pop(0).upper() if rest and rest[0].upper() in ("S", "P") else "S"
    if len(rest) > 1:
        raise UserError(f"{where}: {line!r} has more fields than: sentence source target S confidence")
    if rest and not CONFIDENCE.fullmatch(rest[0]):
        raise UserError(
            f"{where}: {rest[0]!r} is no confidence, which is a number, and not S (sure) or P (possible) behind the "
            "target word; write: sentence source target S confidence, such as 1 4 5 S 0.9"
        )
    return mark == "P"


def read_jsonl(path: Path, base: Base) -> list[AlignedSentence]:
    """Read sentence pairs with gold alignment, an object a line: `src`, `tgt`, `sure`, and optionally `possible`.

    Args:
        path: the file, plain or gzip.
        base: the index of the first word.
    Returns: the pairs; their possible links include the sure ones, whether or not the file repeats them.

    Raises:
        UserError: see `read_pharaoh`.
    """
    sentences = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        record = parse(line, where, 'expected {"src": "…", "tgt": "…", "sure": [[0, 0]], "possible": []}')
        if not isinstance(record, dict) or not {"src", "tgt", "sure"} <= record.keys():
            raise UserError(f"{where}: expected an object with the keys src, tgt and sure, and optionally possible")
        for key in record.keys() - KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(KEYS)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
        source, target = record["src"], record["tgt"]
        if not isinstance(source, str) or not isinstance(target, str):
            raise UserError(f"{where}: src and tgt must be strings, words separated by single spaces")
        lengths = (_length([source], 1, where, "src"), _length([target], 1, where, "tgt"))
        sure, possible = (
            frozenset(_link(_indices(pair, where, key), base, lengths, where, str(pair)) for pair in links)
            for key, links in ((key, _list(record, key, where)) for key in ("sure", "possible"))
        )
        sentences.append(AlignedSentence(source, target, Gold(sure, sure | possible)))
    return sentences


def pharaoh(links: Pairs, base: Base = 0) -> str:
    """Return the links of a sentence in the format Pharaoh, sorted.

    >>> pharaoh(frozenset({(1, 2), (0, 0)}))
    '0-0 1-2'
    """
    return " ".join(f"{s + base}-{t + base}" for s, t in sorted(links))


def write_pharaoh(path: Path, links: Sequence[Pairs], base: Base) -> None:
    """Write alignments in the format Pharaoh: `0-0 1-2`, the links of a sentence a line, sorted.

    Args:
        path: the file.
        links: links (source, target) of each sentence, from 0.
        base: the index of the first word.
    """
    _write(path, [pharaoh(pairs, base) for pairs in links])


def write_talp(path: Path, golds: Sequence[Gold], base: Base) -> None:
    """Write gold alignments in the format talp: `1-1 2p3`, where p marks a link that is only possible.

    Args:
        path: the file.
        golds: gold alignment of each sentence.
        base: the index of the first word; the scripts that read this format expect 1.
    """
    _write(path, [
        " ".join(f"{s + base}{'-' if (s, t) in gold.sure else 'p'}{t + base}" for s, t in sorted(gold.possible))
        for gold in golds
    ])  # fmt: skip


def write_naacl(path: Path, golds: Sequence[Gold], base: Base) -> None:
    """Write gold alignments in the format NAACL: `1 4 5 S`, one link a line.

    Args:
        path: the file.
        golds: gold alignment of each sentence.
        base: the index of the first word of a sentence; the format counts from 1.
    """
    _write(path, [
        f"{number} {s + base} {t + base} {'S' if (s, t) in gold.sure else 'P'}"
        for number, gold in enumerate(golds, start=1) for s, t in sorted(gold.possible)
    ])  # fmt: skip


def write_jsonl(path: Path, sentences: Sequence[AlignedSentence], base: Base) -> None:
    """Write sentence pairs with gold alignment as jsonl; `possible` does not repeat the sure links.

    Args:
        path: the file.
        sentences: the pairs.
        base: the index of the first word.
    """
    records = []
    for sentence in sentences:
        sure, possible = sentence.gold.sure, sentence.gold.possible - sentence.gold.sure
        shifted = ([[s + base, t + base] for s, t in sorted(pairs)] for pairs in (sure, possible))
        values = (sentence.source, sentence.target, *shifted)
        records.append(json.dumps(dict(zip(KEYS, values, strict=True)), ensure_ascii=False))
    _write(path, records)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _length(sentences: Sequence[str] | None, number: int, where: str, name: str) -> int | None:
    """Return the number of words of the sentence with this number, from 1; None if there are no sentences."""
    if sentences is None:
        return None
    try:
        return len(words_of(sentences[number - 1]))
    except ValueError as error:
        raise UserError(f"{where}: {name} sentence: {error}") from None


def _link(
    indices: tuple[int, int], base: Base, lengths: tuple[int | None, int | None], where: str, text: str
) -> tuple[int, int]:
    for name, index, length in zip(("source", "target"), indices, lengths, strict=True):
        if index < base:
            hint = "index 1 is the first; use base=0 if the file counts from 0"
            raise UserError(f"{where}: link {text}: no {name} word {index} with base=1, {hint}")
        if length is not None and index - base >= length:
            last = f"index {length - 1 + base} is the last" if length else "the sentence has no words"
            message = f"{where}: link {text}: no {name} word {index} with base={base}, {last}"
            if base == 0 and index == length:
                message += "; subtract 1 from all indices, or use base=1, if the file counts from 1"
            raise UserError(message)
    return indices[0] - base, indices[1] - base


def _list(record: dict, key: str, where: str) -> list:
    value = record.get(key, [])
    if not isinstance(value, list):
        raise UserError(f"{where}: {key} must be a list of [source, target]")
    return value


def _indices(pair: Any, where: str, key: str) -> tuple[int, int]:
    valid = isinstance(pair, list) and len(pair) == 2 and all(type(index) is int and index >= 0 for index in pair)
    if not valid:
        raise UserError(f"{where}: {key}: {pair!r} is not a link; write [source, target], two indices")
    return pair[0], pair[1]
