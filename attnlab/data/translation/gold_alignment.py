"""Read sentence pairs with gold alignment from one file, or from a file of alignments and two files of text."""

from pathlib import Path
from typing import Literal

from attnlab.config.errors import UserError
from attnlab.data.translation.alignment_files import Base, read_jsonl, read_naacl, read_pharaoh
from attnlab.data.translation.parallel_text import read_pairs
from attnlab.data.translation.word_alignment import AlignedSentence

Format = Literal["pharaoh", "talp", "naacl", "jsonl"]
BASES: dict[Format, Base] = {"pharaoh": 0, "talp": 1, "naacl": 1, "jsonl": 0}
"""The index that the first word of a sentence usually has in each format."""


def read_gold(
    path: Path,
    source: Path | None = None,
    target: Path | None = None,
    *,
    format: Format | None = None,
    base: Base | None = None,
) -> list[AlignedSentence]:
    """Read sentence pairs with gold alignment.

    Args:
        path: the alignments, plain or gzip.
        source: the source sentences, one a line, words separated by single spaces; None for jsonl, which holds them.
        target: likewise for the target.
        format: None to tell it from the name of the file: .jsonl, .talp or .naacl, otherwise Pharaoh.
        base: index of the first word; None for that of `BASES`.

    Raises:
        UserError: a file is missing or a line invalid; names file, line and what would be right.
    """
    chosen = format_of(path) if format is None else format
    first = BASES[chosen] if base is None else base
    if chosen == "jsonl":
        if source or target:
            raise UserError(f"{path}: a jsonl file holds the sentences; leave out the files of source and target")
        return read_jsonl(path, first)
    if source is None or target is None:
        raise UserError(f"{path}: the format {chosen} holds no sentences; give the files of source and of target too")
    pairs = read_pairs(source, target)
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    read = read_naacl if chosen == "naacl" else read_pharaoh
    golds = read(path, first, sources, targets)
    return [AlignedSentence(*pair) for pair in zip(sources, targets, golds, strict=True)]


def format_of(path: Path) -> Format:
    """Return the format that the name of a file suggests.

    >>> format_of(Path("de-en.jsonl.gz")), format_of(Path("test.align"))
    ('jsonl', 'pharaoh')
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.removeprefix(".")
    return suffix if suffix in BASES else "pharaoh"
