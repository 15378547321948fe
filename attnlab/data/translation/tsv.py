"""Read sentence pairs from tab-separated files with a header line, plain or gzip."""

import hashlib
from difflib import get_close_matches
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.translation import Tsv, TsvToSplit
from attnlab.data.text.letters import composed
from attnlab.data.text.lines import find, read_lines
from attnlab.data.translation.alignments import with_alignments
from attnlab.data.translation.records import ParallelCorpus, SentencePair


def read(config: Tsv, data_dir: Path) -> ParallelCorpus:
    """Read all splits; the names of the columns are the names of the languages."""

    def split(name: str, file: str) -> tuple[SentencePair, ...]:
        pairs = read_pairs(find(data_dir, file), config.source, config.target)
        return with_alignments(pairs, config.alignments.get(name), data_dir)

    test = {name: split(name, file) for name, file in config.test.items()}
    return ParallelCorpus(split("train", config.train), split("dev", config.dev), test, config.source, config.target)


def read_and_split(config: TsvToSplit, data_dir: Path) -> ParallelCorpus:
    """Read a file and split it by sentence; sentences that differ only in case or surrounding white space are equal.

    Sentences are ordered by a hash of sentence and seed, so that most sentences stay in their split when rows are added
    to the file.
    """
    path = find(data_dir, config.file)
    groups: dict[str, list[SentencePair]] = {}
    for pair in with_alignments(read_pairs(path, config.source, config.target), config.alignments, data_dir):
        sentence = pair.source if config.group_by == config.source else pair.target
        groups.setdefault(sentence.strip().casefold(), []).append(pair)

    def digest(sentence: str) -> bytes:
        return hashlib.sha256(f"{config.seed} {sentence}".encode()).digest()

    order = sorted(groups, key=digest)
    splits: dict[str, list[SentencePair]] = {"test": [], "dev": [], "train": []}
    for sentence in order:
        if len(splits["test"]) < config.test:
            split = "test"
        else:
            split = "dev" if len(splits["dev"]) < config.dev else "train"
        splits[split] += groups[sentence]
    if not splits["train"]:
        rows = sum(map(len, groups.values()))
        raise UserError(
            f"{path}: {rows} rows are too few for dev {config.dev}, test {config.test} and training examples"
        )
    train, dev, test = (tuple(splits[name]) for name in ("train", "dev", "test"))
    return ParallelCorpus(train, dev, {"test": test}, config.source, config.target)


def read_pairs(path: Path, source: str, target: str) -> tuple[SentencePair, ...]:
    """Read two columns of a file; quotation marks have no special meaning."""
    header, *rows = read_lines(path)
    names, selected = composed(header).split("\t"), (composed(source), composed(target))
    columns = [_column(name, names, path, selected) for name in selected]
    if not rows:
        raise UserError(f"{path}:1: no rows after the header; expected one pair per line")
    pairs = []
    for number, row in enumerate(rows, start=2):
        fields = row.split("\t")
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, but the header has {len(names)} columns")
        pairs.append(SentencePair(fields[columns[0]], fields[columns[1]]))
    return tuple(pairs)


def _column(name: str, names: list[str], path: Path, selected: tuple[str, str]) -> int:
    if names.count(name) == 1:
        return names.index(name)
    if name in names:
        raise UserError(f"{path}:1: the header has the column {name!r} {names.count(name)} times")
    near = get_close_matches(name, [other for other in names if other not in selected], n=1)
    columns = ", ".join(names)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{path}:1: no column {name!r} in the header ({columns[:200]}){hint}")
