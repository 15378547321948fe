"""The alignments of statistical aligners for words of gold alignments: IBM model 1, fast_align, eflomal."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from attnlab.analysis.alignment.aligners import eflomal, fast_align, find_program
from attnlab.analysis.alignment.ibm1 import train_ibm1
from attnlab.analysis.alignment.symmetrization import transposed
from attnlab.config.errors import UserError
from attnlab.data.text.letters import composed
from attnlab.data.translation.word_alignment import AlignedSentence, Pairs, by_word, split_punctuation

ALIGNERS = {"ibm1": "IBM model 1", "fast_align": "fast_align", "eflomal": "eflomal"}
"""Value of `attnlab align --aligners` -> the aligner's name."""
PROGRAMS = {"fast_align": "fast_align", "eflomal": "eflomal-align"}
Texts = Sequence[tuple[str, str]]
"""Sentence pairs: (source, target)."""


@dataclass(frozen=True)
class Bidirectional:
    """Links between words (source, target) of each sentence; `backward` is None if only one direction was aligned."""

    forward: list[Pairs]
    backward: list[Pairs] | None = None


def available() -> list[str]:
    """Return the keys of `ALIGNERS` that can run here: IBM model 1, and those whose program is on PATH."""
    return [name for name in ALIGNERS if name not in PROGRAMS or shutil.which(PROGRAMS[name])]


def check_aligners(names: Sequence[str]) -> list[str]:
    """Return the names of aligners without repetitions.

    Raises:
        UserError: there is no such aligner, or its program is not on PATH.
    """
    for name in names:
        if name not in ALIGNERS:
            raise UserError(f"--aligners {name}: must be one of {', '.join(ALIGNERS)}, or none")
        if name in PROGRAMS:
            find_program(PROGRAMS[name])
    return list(dict.fromkeys(names))


def statistical_alignment(
    name: str, sentences: Sequence[AlignedSentence], text: Texts, *, both: bool = False
) -> Bidirectional:
    """Train an aligner on text and on sentence pairs with gold alignment, and align the latter.

    All words are lower-cased, and split into letters and digits on the one hand and single other characters on the
    other, because text as it is written and tokenized text then agree. Links between the parts of words become links
    between words. The gold alignment is not used.

    Args:
        name: a key of `ALIGNERS`.
        sentences: the pairs to align.
        text: other pairs to train on, the model's training pairs for a fair comparison.
        both: also align in the other direction, in which each source word has at most one link.

    Raises:
        UserError: there is no such aligner, or it is not installed.
    """
    check_aligners([name])
    sources = [_parts(sentence.source) for sentence in sentences]
    targets = [_parts(sentence.target) for sentence in sentences]
    trained = [_parts(line)[0] for line, _ in text], [_parts(line)[0] for _, line in text]
    source, target = ([*trained[side], *(parts for parts, _ in own)] for side, own in enumerate((sources, targets)))
    words = [(s, t) for (_, s), (_, t) in zip(sources, targets, strict=True)]

    def of_words(links: Sequence[Pairs]) -> list[Pairs]:
        return [by_word(pairs, *sides) for pairs, sides in zip(links[len(text) :], words, strict=True)]

    if name == "ibm1":
        return Bidirectional(
            of_words(_ibm1(source, target, len(text))),
            of_words([transposed(links) for links in _ibm1(target, source, len(text))]) if both else None,
        )
    directions = (fast_align if name == "fast_align" else eflomal)(source, target)
    return Bidirectional(of_words(directions.forward), of_words(directions.backward) if both else None)


def _ibm1(source: Sequence[Sequence[str]], target: Sequence[Sequence[str]], skipped: int) -> list[Pairs]:
    """Return the links of each pair; the first `skipped` are only trained on."""
    model = train_ibm1(source, target)
    aligned = [model.align(s, t) for s, t in zip(source[skipped:], target[skipped:], strict=True)]
    return [frozenset()] * skipped + aligned


def _parts(line: str) -> tuple[list[str], list[int]]:
    """Return the parts of a line's words, and the index of the word of each.

    They are lower-cased, and composed (NFC) as training data are.
    """
    return split_punctuation([word.lower() for word in composed(line).split(" ") if word])
