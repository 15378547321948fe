"""Word alignments of one's own sentence pairs, from files in the format Pharaoh."""

from collections.abc import Sequence
from pathlib import Path

from attnlab.data.text.letters import composed
from attnlab.data.text.lines import find
from attnlab.data.translation.alignment_files import read_pharaoh
from attnlab.data.translation.records import Link, SentencePair
from attnlab.data.translation.word_alignment import AlignedSentence, word_spans


def with_alignments(pairs: Sequence[SentencePair], file: str | None, data_dir: Path) -> tuple[SentencePair, ...]:
    """Return sentence pairs with the alignments of a file, line i for pair i; None leaves them without.

    Args:
        pairs: the pairs, whose words are separated by single spaces.
        file: path of the file in the data directory, plain or gzip.
        data_dir: the data directory.

    Raises:
        UserError: the number of lines differs, a link is malformed, a word does not exist or is empty; names the file
            of alignments, the line and what would be right.
    """
    if file is None:
        return tuple(pairs)
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    golds = read_pharaoh(find(data_dir, file), 0, sources, targets)
    return tuple(AlignedSentence(*sentence).pair() for sentence in zip(sources, targets, golds, strict=True))


def composed_pair(pair: SentencePair) -> SentencePair:
    """Return a pair with composed characters (NFC), and its alignment between the same words.

    >>> pair = SentencePair("Zoe\\u0308 !", "Zoe !", (Link((5, 6), (4, 5)),))
    >>> composed_pair(pair).alignment
    (Link(source=(4, 5), target=(4, 5), sure=True),)
    """
    source, target = composed(pair.source), composed(pair.target)
    if pair.alignment is None or (source, target) == (pair.source, pair.target):
        return SentencePair(source, target, pair.alignment)
    moved = [
        dict(zip(word_spans(before), word_spans(after), strict=True))
        for before, after in ((pair.source, source), (pair.target, target))
    ]
    links = tuple(Link(moved[0][link.source], moved[1][link.target], link.sure) for link in pair.alignment)
    return SentencePair(source, target, links)
