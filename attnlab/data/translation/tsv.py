"""Tab-separated files with a header line (plain or gzip): one pair a row, two named columns."""

import hashlib
from difflib import get_close_matches
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.translation import Tsv, TsvToSplit
from attnlab.data.text.letters import composed
from attnlab.data.text.lines import find, read_lines
from attnlab.data.translation.records import ParallelCorpus, SentencePair


def read(config: Tsv, data_dir: Path) -> ParallelCorpus:
    """Read all splits; column names serve as names of the languages."""

    def split(name: str) -> tuple[SentencePair, ...]:
        return read_pairs(find(data_dir, name), config.source, config.target)

    test = {name: split(path) for name, path in config.test.items()}
    return ParallelCorpus(split(config.train), split(config.dev), test, config.source, config.target)


def read_and_split(config: TsvToSplit, data_dir: Path) -> ParallelCorpus:
    """Read one file and split it by sentence; white space around a sentence and its case make no other sentence.

    The order in which sentences are drawn depends on the sentence and the seed alone, so that a file with more rows
    keeps most of the split.
    """
    path = find(data_dir, config.file)
    groups: dict[str, list[SentencePair]] = {}
    for pair in read_pairs(path, config.source, config.target):
        sentence = pair.source if config.group_by == config.source else pair.target
        groups.setdefault(sentence.strip().casefold(), []).append(pair)

    def drawn(sentence: str) -> bytes:
        return hashlib.sha256(f"{config.seed} {sentence}".encode()).digest()

    order = sorted(groups, key=drawn)
    splits: dict[str, list[SentencePair]] = {"test": [], "dev": [], "train": []}
    for sentence in order:
        full = len(splits["test"]) >= config.test, len(splits["dev"]) >= config.dev
        splits["train" if all(full) else "dev" if full[0] else "test"] += groups[sentence]
    if not splits["train"]:
        rows = sum(map(len, groups.values()))
        raise UserError(f"{path}: {rows} rows leave none to train on after dev {config.dev} and test {config.test}")
    train, dev, test = (tuple(splits[name]) for name in ("train", "dev", "test"))
    return ParallelCorpus(train, dev, {"test": test}, config.source, config.target)


def read_pairs(path: Path, source: str, target: str) -> tuple[SentencePair, ...]:
    """Read two columns of one file; a quotation mark is an ordinary character."""
    header, *rows = read_lines(path)
    names, wanted = composed(header).split("\t"), (composed(source), composed(target))
    columns = [_column(name, names, path, wanted) for name in wanted]
    if not rows:
        raise UserError(f"{path}:1: no rows after the header; expected one pair a line")
    pairs = []
    for number, row in enumerate(rows, start=2):
        fields = row.split("\t")
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, but the header names {len(names)}")
        pairs.append(SentencePair(fields[columns[0]], fields[columns[1]]))
    return tuple(pairs)


def _column(name: str, names: list[str], path: Path, wanted: tuple[str, str]) -> int:
    if names.count(name) == 1:
        return names.index(name)
    if name in names:
        raise UserError(f"{path}:1: the header names the column {name!r} {names.count(name)} times; once is right")
    near = get_close_matches(name, [other for other in names if other not in wanted], n=1)
    listed = ", ".join(names)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{path}:1: no column {name!r} in the header ({listed[:200]}){hint}")
