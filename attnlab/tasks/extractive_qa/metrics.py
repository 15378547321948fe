"""Exact match and F1 as SQuAD's own program counts them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_PUNCTUATION = set(string.punctuation)


def normalize(text: str) -> str:
    """Lower the case; take away punctuation, the articles, and all white space but single spaces between words.

    >>> normalize("The  U.S. (a country)")
    'us country'
    """
    kept = "".join(letter for letter in text.lower() if letter not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def exact(gold: str, answer: str) -> float:
    """Tell whether two answers are equal after `normalize`: 1 or 0."""
    return float(normalize(gold) == normalize(answer))


def f1(gold: str, answer: str) -> float:
    """Score the words two answers have in common: the harmonic mean of precision and recall.

    Where either has no words (no answer is the empty one) it is 1 if both have none, else 0.

    >>> f1("the big cat", "a cat"), f1("", ""), f1("", "cat")
    (0.6666666666666666, 1.0, 0.0)
    """
    right, given = normalize(gold).split(), normalize(answer).split()
    if not (right and given):
        return float(right == given)
    common = sum((Counter(right) & Counter(given)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(right)
    return 2 * precision * recall / (precision + recall)


def per_question_scores(gold: Sequence[Sequence[str]], answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return exact match [n] and F1 [n] of every answer, between 0 and 1: the best over its reference answers.

    Args:
        gold: right answers of each question, none where there is no answer. Of several those without a word ("The"
            has none) do not count; where all are such, the answer "" is right, as is every other one without a word.
        answers: the answer to each question; the empty one means there is none.
    """
    if len(gold) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(gold)} questions")
    rows = [
        (max(exact(one, answer) for one in _right(texts)), max(f1(one, answer) for one in _right(texts)))
        for texts, answer in zip(gold, answers, strict=True)
    ]
    scores = np.array(rows, float).reshape(-1, 2)
    return scores[:, 0], scores[:, 1]


def squad_scores(gold: Sequence[Sequence[str]], answers: Sequence[str]) -> dict[str, float | int]:
    """Score a test set as evaluate-v2.0.py does, in percent.

    Args:
        gold: right answers of each question, none where there is no answer.
        answers: the answer to each question, "" for none.
    Returns: exact, f1, total; the same of the questions that have an answer and of those that have none
        (`HasAns_…`, `NoAns_…`, where there are any of both).
    Reference: Rajpurkar et al. 2016; Rajpurkar, Jia & Liang 2018 (evaluate-v2.0.py).

    >>> squad_scores([["1976"]], ["1976"])
    {'exact': 100.0, 'f1': 100.0, 'total': 1}
    """
    if not answers:
        raise ValueError("no questions to score")
    exacts, f1s = per_question_scores(gold, answers)
    has = _have_answers(gold)
    scores: dict[str, float | int] = {"exact": _percent(exacts), "f1": _percent(f1s), "total": len(answers)}
    if has.any() and not has.all():
        for name, rows in (("HasAns", has), ("NoAns", ~has)):
            scores |= {f"{name}_exact": _percent(exacts[rows]), f"{name}_f1": _percent(f1s[rows])}
            scores |= {f"{name}_total": int(rows.sum())}
    return scores


def best_by_threshold(
    gold: Sequence[Sequence[str]], answers: Sequence[str], no_answer: Sequence[float]
) -> dict[str, float]:
    """Find the threshold on `no_answer` with which the scores are best, and those scores, in percent.

    Args:
        gold: as `squad_scores` takes them.
        answers: the best answer to each question that is no empty one, whatever threshold the system has.
        no_answer: how sure the system is of each question that there is none; an answer whose number is above the
            threshold counts as none.
    Returns: `best_exact`, `best_exact_thresh`, `best_f1`, `best_f1_thresh`.
    Reference: Rajpurkar, Jia & Liang 2018 (evaluate-v2.0.py).

    >>> best_by_threshold([["1976"], []], ["1976", "1980"], [-1.0, 2.0])["best_exact"]
    100.0
    """
    exacts, f1s = per_question_scores(gold, answers)
    has, sure = _have_answers(gold), np.asarray(no_answer, float)
    if sure.shape != has.shape:
        raise ValueError(f"{len(sure)} numbers in no_answer for {len(has)} questions")
    found: dict[str, float] = {}
    for name, values in (("exact", exacts), ("f1", f1s)):
        found[f"best_{name}"], found[f"best_{name}_thresh"] = _best_threshold(values, has, answers, sure)
    return found


def _have_answers(gold: Sequence[Sequence[str]]) -> np.ndarray:
    """Say which questions have an answer: those that one is given for, be it without a word when normalized."""
    return np.array([len(texts) > 0 for texts in gold], bool)


def _right(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if normalize(text)] or [""]


def _percent(values: np.ndarray) -> float:
    return 100.0 * float(values.mean())


def _best_threshold(
    values: np.ndarray, has: np.ndarray, answers: Sequence[str], sure: np.ndarray
) -> tuple[float, float]:
    """Go through the questions from the least sure of no answer on, and give the answers to ever more of them."""
    now = best = int(np.sum(~has))
    threshold = 0.0
    for at in np.argsort(sure, kind="stable"):
        now = now + (values[at] if has[at] else -1.0 if answers[at] else 0.0)
        if now > best:
            best, threshold = now, float(sure[at])
    return 100.0 * float(best) / max(len(has), 1), threshold
