"""The gold alignment of a test set as a file for `attnlab align`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.data.translation.alignment_files import write_jsonl
from attnlab.data.translation.records import SentencePair
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, word_spans
from attnlab.tasks.registry import task_class

Span = tuple[int, int]


def write_gold(experiment: Experiment, data_dir: Path | None, path: Path) -> int:
    """Write the gold alignment of the words of an experiment's first test set; return the number of sentences.

    Args:
        experiment: an experiment of translation.
        data_dir: directory of datasets.
        path: the file, in the format jsonl of `attnlab align`.

    Raises:
        UserError: the test set has no gold alignment.
    """
    splits = task_class(experiment).load(experiment, data_dir)
    sentences = list(aligned(next(iter(splits.test.values()))))
    if not sentences:
        raise UserError(f"{experiment.name}: its test set has no gold alignment")
    write_jsonl(path, sentences, 0)
    return len(sentences)


def aligned(pairs: Sequence[SentencePair]) -> Iterator[AlignedSentence]:
    """Yield sentence pairs with links between words, which are sure: two words are linked if a link touches both.

    Links of punctuation marks are left out, which would link the words that they are written to. So is a pair without
    links, or with spaces other than single ones between its words.

    >>> from attnlab.data.translation.records import Link
    >>> list(aligned([SentencePair("ein Haus", "house", (Link((4, 8), (0, 5)),))]))[0].gold.sure
    frozenset({(1, 0)})
    """
    for pair in pairs:
        if pair.alignment and all(text == " ".join(text.split()) for text in (pair.source, pair.target)):
            spans = word_spans(pair.source), word_spans(pair.target)
            links = frozenset(
                (source, target)
                for link in pair.alignment
                if _has_letters(pair.source, link.source) and _has_letters(pair.target, link.target)
                for source in _touched(spans[0], link.source)
                for target in _touched(spans[1], link.target)
            )
            yield AlignedSentence(pair.source, pair.target, Gold(links, links))


def _has_letters(text: str, span: Span) -> bool:
    return any(character.isalnum() for character in text[span[0] : span[1]])


def _touched(words: Sequence[Span], span: Span) -> list[int]:
    return [number for number, (begin, end) in enumerate(words) if begin < span[1] and span[0] < end]
