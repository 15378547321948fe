"""Exact match and F1 as computed by SQuAD's evaluation program."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_PUNCTUATION = set(string.punctuation)


def normalize(text: str) -> str:
    """Convert to lower case; remove punctuation, articles, and extra white space.

    >>> normalize("The  U.S. (a country)")
    'us country'
    """
    text = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact(reference: str, answer: str) -> float:
    """Return 1 if two answers are equal after `normalize`, else 0."""
    return float(normalize(reference) == normalize(answer))


def f1(reference: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall of the words of an answer, after `normalize`.

    If either has no words ("no answer" is the empty text), F1 is 1 if both have none, else 0.

    >>> f1("the big cat", "a cat"), f1("", ""), f1("", "cat")
    (0.6666666666666666, 1.0, 0.0)
    """
    expected, predicted = normalize(reference).split(), normalize(answer).split()
    if not (expected and predicted):
        return float(expected == predicted)
    common = sum((Counter(expected) & Counter(predicted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def per_question_scores(references: Sequence[Sequence[str]], answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return exact match [n] and F1 [n] of every answer, in [0, 1]: the best over its references.

    Args:
        references: reference answers of each question, none if it has no answer. References without words after
            `normalize` ("The", say) are ignored; if all are, "" is correct, as is every answer without words.
        answers: the predicted answer to each question; empty for "no answer".
    """
    if len(references) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(references)} questions")
    rows = [
        tuple(max(metric(text, answer) for text in _with_words(texts)) for metric in (exact, f1))
        for texts, answer in zip(references, answers, strict=True)
    ]
    scores = np.array(rows, float).reshape(-1, 2)
    return scores[:, 0], scores[:, 1]


def squad_scores(references: Sequence[Sequence[str]], answers: Sequence[str]) -> dict[str, float | int]:
    """Return the metrics of evaluate-v2.0.py for a test set, in percent.

    Args:
        references: reference answers of each question, none if it has no answer.
        answers: the predicted answer to each question; empty for "no answer".
    Returns: exact, f1, total; the same for questions with an answer and for those without one (`HasAns_…`,
        `NoAns_…`), if the test set has both.
    Reference: Rajpurkar et al. 2016; Rajpurkar, Jia & Liang 2018 (evaluate-v2.0.py).

    >>> squad_scores([["1976"]], ["1976"])
    {'exact': 100.0, 'f1': 100.0, 'total': 1}
    """
    if not answers:
        raise ValueError("no questions to score")
    exacts, f1s = per_question_scores(references, answers)
    has = _have_answers(references)
    scores: dict[str, float | int] = {"exact": _percent(exacts), "f1": _percent(f1s), "total": len(answers)}
    if has.any() and not has.all():
        for name, rows in (("HasAns", has), ("NoAns", ~has)):
            scores |= {f"{name}_exact": _percent(exacts[rows]), f"{name}_f1": _percent(f1s[rows])}
            scores |= {f"{name}_total": int(rows.sum())}
    return scores


def best_by_threshold(
    references: Sequence[Sequence[str]], answers: Sequence[str], no_answer: Sequence[float]
) -> dict[str, float]:
    """Return the best metrics over all thresholds on the score of "no answer", in percent, and those thresholds.

    Args:
        references: as for `squad_scores`.
        answers: the best nonempty answer to each question, regardless of the threshold of the system.
        no_answer: the score of "no answer" of each question; above the threshold the prediction is "no answer".
    Returns: `best_exact`, `best_exact_thresh`, `best_f1`, `best_f1_thresh`.
    Reference: Rajpurkar, Jia & Liang 2018 (evaluate-v2.0.py).

    >>> best_by_threshold([["1976"], []], ["1976", "1980"], [-1.0, 2.0])["best_exact"]
    100.0
    """
    exacts, f1s = per_question_scores(references, answers)
    has, no_answer_scores = _have_answers(references), np.asarray(no_answer, float)
    if no_answer_scores.shape != has.shape:
        raise ValueError(f"{len(no_answer_scores)} numbers in no_answer for {len(has)} questions")
    best: dict[str, float] = {}
    for name, values in (("exact", exacts), ("f1", f1s)):
        best[f"best_{name}"], best[f"best_{name}_thresh"] = _best_threshold(values, has, answers, no_answer_scores)
    return best


def _have_answers(references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return which questions have a reference answer, be it one without words after `normalize`."""
    return np.array([len(texts) > 0 for texts in references], bool)


def _with_words(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if normalize(text)] or [""]


def _percent(values: np.ndarray) -> float:
    return 100.0 * float(values.mean())


def _best_threshold(
    values: np.ndarray, has: np.ndarray, answers: Sequence[str], no_answer: np.ndarray
) -> tuple[float, float]:
    """Return the best mean of a metric and its threshold; a higher threshold keeps the answers of more questions."""
    total = best = int(np.sum(~has))
    threshold = 0.0
    for n in np.argsort(no_answer, kind="stable"):
        total = total + (values[n] if has[n] else -1.0 if answers[n] else 0.0)
        if total > best:
            best, threshold = total, float(no_answer[n])
    return 100.0 * float(best) / max(len(has), 1), threshold
