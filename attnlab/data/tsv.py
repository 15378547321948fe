"""Tab-separated files with a header line (plain or gzip): one pair a row, two named columns."""

from difflib import get_close_matches
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.translation import Tsv
from attnlab.data.lines import find, read_lines
from attnlab.data.records import Corpus, Pair


def read(config: Tsv, data_dir: Path) -> Corpus:
    """Read all splits; column names serve as names of the languages."""

    def split(name: str) -> tuple[Pair, ...]:
        return read_pairs(find(data_dir, name), config.source, config.target)

    test = {name: split(path) for name, path in config.test.items()}
    return Corpus(split(config.train), split(config.dev), test, config.source, config.target)


def read_pairs(path: Path, source: str, target: str) -> tuple[Pair, ...]:
    """Read two columns of one file; a quotation mark is an ordinary character."""
    header, *rows = read_lines(path)
    names = header.split("\t")
    columns = [_column(name, names, path) for name in (source, target)]
    if not rows:
        raise UserError(f"{path}:1: no rows after the header; expected one pair a line")
    pairs = []
    for number, row in enumerate(rows, start=2):
        fields = row.split("\t")
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, but the header names {len(names)}")
        pairs.append(Pair(fields[columns[0]], fields[columns[1]]))
    return tuple(pairs)


def _column(name: str, names: list[str], path: Path) -> int:
    if names.count(name) == 1:
        return names.index(name)
    if name in names:
        raise UserError(f"{path}:1: the header names the column {name!r} {names.count(name)} times; once is right")
    near = get_close_matches(name, names, n=1, cutoff=0.0)
    listed = ", ".join(names)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{path}:1: no column {name!r} in the header ({listed[:200]}){hint}")
