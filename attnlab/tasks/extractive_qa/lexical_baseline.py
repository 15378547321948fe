"""Lexical baseline: the span of a passage whose neighborhood shares most words with the question; nothing is learned.

For a candidate answer A, a question Q and the words p_1 … p_n of the passage, with S the set of their words,

    score(A) = max_j Σ_{w = 1 … |S|} IC(p_{j+w}) if p_{j+w} ∈ S,    IC(p) = log(1 + 1 / count of p in the passage)

Candidates here are the runs of up to `LONGEST` words that neither begin nor end with a function word, hold no
punctuation and no word of the question, in the sentence that shares most with the question (SQuAD's authors took
constituents of parsed sentences). Of candidates that score alike the first, and of those the longest, is the answer.

Reference: Richardson, Burges & Renshaw 2013, algorithm 1 (called sliding window there); Rajpurkar et al. 2016,
section 5.1.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.text.letters import WORD, composed

LONGEST = 4
"""Words in a candidate."""
_FUNCTION_WORDS = (
    "a an the of in on at to for from by with and or but nor as is are was were be been being it its he she they them "
    "his her their this that these those which who whom whose what when where why how did do does has have had not no "
    "than then there so such also can could may might will would shall should into over under about after before "
    "between during through against among while if because both each more most other some any all only own same too "
    "very s t"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_PIECE = re.compile(rf"{WORD}|[^\w\s]")


def answer(question: PassageQuestion) -> str:
    """Return the lexical baseline's answer to a question, the empty text if the passage has no candidate."""
    words = [(composed(found.group()).lower(), *found.span()) for found in re.finditer(_PIECE, question.passage)]
    question_words = set(re.findall(WORD, composed(question.question).lower()))
    counts = Counter(word for word, _, _ in words)
    content = {word: math.log(1 + 1 / count) for word, count in counts.items()}
    best, found = -1.0, ""
    for first, last in _sentences([word for word, _, _ in words], question_words - FUNCTION_WORDS):
        for start, end in _candidates([word for word, _, _ in words], first, last, question_words):
            chosen = {word for word, _, _ in words[start:end]} | question_words
            near = max(start - len(chosen), 0), min(end + len(chosen), len(words))
            values = [content[word] if word in chosen else 0.0 for word, _, _ in words[near[0] : near[1]]]
            score = _largest(values, len(chosen), start - near[0], end - near[0])
            if score > best:
                best, found = score, question.passage[words[start][1] : words[end - 1][2]]
    return found


def _sentences(words: Sequence[str], question_words: set[str]) -> list[tuple[int, int]]:
    """Start and end of the sentences with the most words of the question."""
    ends = [number + 1 for number, word in enumerate(words) if word in ".?!"] + [len(words)]
    found = [(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]
    shared = [len(question_words & set(words[start:end])) for start, end in found]
    return [one for one, share in zip(found, shared, strict=True) if share == max(shared)]


def _candidates(words: Sequence[str], first: int, last: int, question_words: set[str]) -> list[tuple[int, int]]:
    """Start and end of the candidates in a sentence: earlier ones first, longer ones before shorter."""
    return [
        (start, end)
        for start in range(first, last)
        for end in range(min(start + LONGEST, last), start, -1)
        if not {words[start], words[end - 1]} & FUNCTION_WORDS
        and all(word[0].isalnum() and word not in question_words for word in words[start:end])
    ]


def _largest(values: Sequence[float], size: int, start: int, end: int) -> float:
    """The largest sum of `size` neighbors among those that touch the candidate."""
    places = range(max(end - size, 0), min(start, max(len(values) - size, 0)) + 1)
    return max((sum(values[place : place + size]) for place in places), default=sum(values))
