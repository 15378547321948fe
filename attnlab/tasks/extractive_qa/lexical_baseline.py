"""Lexical baseline: the span of a passage whose context shares the most words with the question; without training.

For a candidate answer A, a question Q and the words p_1 … p_n of the passage, with S the set of their words,

    score(A) = max_j Σ_{w = 1 … |S|} IC(p_{j+w}) if p_{j+w} ∈ S,    IC(p) = log(1 + 1 / count of p in the passage)

Candidates are the spans of up to `MAX_WORDS` words that neither begin nor end with a function word and contain neither
punctuation nor a word of the question, in the sentence that shares the most words with the question (SQuAD's authors
took constituents of parsed sentences). Of equally scored candidates the first is predicted, and of those the longest.

Reference: Richardson, Burges & Renshaw 2013, algorithm 1 (called sliding window there); Rajpurkar et al. 2016,
section 5.1.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.text.letters import WORD, composed

MAX_WORDS = 4
"""Most words in a candidate."""
_FUNCTION_WORDS = (
    "a an the of in on at to for from by with and or but nor as is are was were be been being it its he she they them "
    "his her their this that these those which who whom whose what when where why how did do does has have had not no "
    "than then there so such also can could may might will would shall should into over under about after before "
    "between during through against among while if because both each more most other some any all only own same too "
    "very s t"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_PIECE = re.compile(rf"{WORD}|[^\w\s]")


def predict(question: PassageQuestion) -> str:
    """Return the lexical baseline's answer to a question; empty if the passage has no candidate."""
    tokens = [(composed(match.group()).lower(), *match.span()) for match in re.finditer(_PIECE, question.passage)]
    words = [word for word, _, _ in tokens]
    question_words = set(re.findall(WORD, composed(question.question).lower()))
    content = {word: math.log(1 + 1 / count) for word, count in Counter(words).items()}
    best, answer = -1.0, ""
    for first, last in _sentences(words, question_words - FUNCTION_WORDS):
        for start, end in _candidates(words, first, last, question_words):
            counted = set(words[start:end]) | question_words
            left, right = max(start - len(counted), 0), min(end + len(counted), len(words))
            values = [content[word] if word in counted else 0.0 for word in words[left:right]]
            score = _largest_sum(values, len(counted), start - left, end - left)
            if score > best:
                best, answer = score, question.passage[tokens[start][1] : tokens[end - 1][2]]
    return answer


def _sentences(words: Sequence[str], question_words: set[str]) -> list[tuple[int, int]]:
    """Return start and end of the sentences with the most words of the question."""
    ends = [number + 1 for number, word in enumerate(words) if word in ".?!"] + [len(words)]
    sentences = [(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]
    shared = [len(question_words & set(words[start:end])) for start, end in sentences]
    return [sentence for sentence, count in zip(sentences, shared, strict=True) if count == max(shared)]


def _candidates(words: Sequence[str], first: int, last: int, question_words: set[str]) -> list[tuple[int, int]]:
    """Return start and end of the candidates in a sentence: by start, longer ones first."""
    return [
        (start, end)
        for start in range(first, last)
        for end in range(min(start + MAX_WORDS, last), start, -1)
        if not {words[start], words[end - 1]} & FUNCTION_WORDS
        and all(word[0].isalnum() and word not in question_words for word in words[start:end])
    ]


def _largest_sum(values: Sequence[float], size: int, start: int, end: int) -> float:
    """Return the largest sum of `size` neighbors among those that overlap the candidate."""
    starts = range(max(end - size, 0), min(start, max(len(values) - size, 0)) + 1)
    return max((sum(values[first : first + size]) for first in starts), default=sum(values))
