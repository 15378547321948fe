"""Metrics of translations: BLEU and chrF by sacrebleu on plain (detokenized) text, and exact match; all in percent."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Shaped
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import _bootstrap_resample

from attnlab.tasks.bootstrap import MIN_EXAMPLES
from attnlab.tasks.notes import replace_undefined

METRICS = {"bleu": BLEU, "bleu_lowercase": partial(BLEU, lowercase=True), "chrf": CHRF}
BOOTSTRAP = 1000
"""Number of bootstrap resamples of the test set for a confidence interval (sacrebleu's default)."""


def bleu(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> float:
    """Return corpus BLEU (sacrebleu, 13a tokens) without an interval, for validation during training.

    Args:
        hypotheses: translations as plain text; an empty one counts as a translation without words.
        references: the reference of each translation.
        lowercase: ignore case.

    Returns: percentage in [0, 100].

    Reference: Papineni et al. 2002; Post 2018.

    >>> bleu(["the cat sat on the mat"], ["The cat sat on the mat"], lowercase=True)
    100.0
    """
    _same_count(hypotheses, references)
    return _percent(BLEU(lowercase=lowercase).corpus_score(hypotheses, [references]).score)


def exact_match_by_length(
    hypotheses: Sequence[str], references: Sequence[str], lengths: Sequence[int], parts: int = 3
) -> list[float]:
    """Return the exact match of `parts` equal parts of the corpus, from the shortest sentences to the longest.

    Args:
        lengths: the lengths to sort by, in source tokens, say; the sort is stable.
        parts: number of parts; their sizes differ by at most one sentence.

    Returns: a percentage for each part.

    >>> exact_match_by_length(["a", "b", "c"], ["a", "b", "x"], lengths=[2, 1, 9])
    [100.0, 100.0, 0.0]
    """
    matches = _matches(hypotheses, references)
    return [100.0 * float(np.mean(matches[part])) for part in _parts_by_length(len(matches), lengths, parts)]


def bleu_by_length(
    hypotheses: Sequence[str], references: Sequence[str], lengths: Sequence[int], parts: int = 3
) -> list[float]:
    """Return corpus BLEU of `parts` equal parts of the corpus, as in `exact_match_by_length`.

    >>> bleu_by_length(["a b c d e", "b b c d e", "x"], ["a b c d e", "b b c d e", "y"], lengths=[2, 1, 9])
    [100.0, 100.0, 0.0]
    """
    return [
        bleu([hypotheses[int(n)] for n in part], [references[int(n)] for n in part])
        for part in _parts_by_length(len(hypotheses), lengths, parts)
    ]


def _parts_by_length(number: int, lengths: Sequence[int], parts: int) -> list[np.ndarray]:
    """Return the indices of sentences in equal parts, from the shortest sentences to the longest."""
    if len(lengths) != number:
        raise ValueError(f"{len(lengths)} lengths for {number} sentences")
    if not 1 <= parts <= number:
        raise ValueError(f"{number} sentences cannot be split into {parts} parts")
    return np.array_split(np.argsort(np.asarray(lengths), kind="stable"), parts)


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], *, bootstrap: int = BOOTSTRAP
) -> dict[str, Any]:
    """Return all metrics of a test set, with signatures and 95% confidence intervals.

    An interval is the central 95% of the scores of sacrebleu's own bootstrap resamples of the sentences; half its width
    is the `±` of sacrebleu. It reflects the choice of test set, not that of the seed of training.

    Args:
        hypotheses: translations as plain text.
        references: the reference of each translation.
        bootstrap: number of resamples, at least 2.

    Returns: `bleu`, `bleu_lowercase`, `chrf` (chrF2) in percent; for each, `<name>_ci95` = [low, high] (None for fewer
        than `MIN_EXAMPLES` sentences) and `<name>_signature`; `exact_match` in percent; `sentences`; `per_example`,
        a row for each sentence of these four metrics. An undefined metric (see `undefined`) is None and not in
        `per_example`, and `<name>_note` gives the reason.

    Reference: Papineni et al. 2002 (BLEU); Popović 2015 (chrF); Koehn 2004 (bootstrap); Post 2018 (signatures).

    >>> translation_scores(["a b c d e"] * 20, ["a b c d e"] * 20, bootstrap=10)["bleu_ci95"]
    [100.0, 100.0]
    """
    _same_count(hypotheses, references)
    if bootstrap < 2:
        raise ValueError(f"bootstrap must be at least 2, not {bootstrap}")
    reasons, scores = undefined(references), dict[str, Any]()
    per_sentence = sentence_rows(hypotheses, references)
    for name, make in METRICS.items():
        metric = make()
        score = _percent(metric.corpus_score(hypotheses, [references]).score)
        bounds = _interval(metric, per_sentence[name].tolist(), bootstrap)
        scores |= {name: score, f"{name}_ci95": bounds, f"{name}_signature": str(metric.get_signature())}
    scores |= {
        "exact_match": float(per_sentence["exact_match"].mean()),
        "sentences": len(hypotheses),
        "per_example": per_sentence,
    }
    return replace_undefined(scores, reasons)


def sentence_rows(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what each sentence contributes to the metrics: 100 or 0 for exact match, counts for `METRICS`.

    Args:
        hypotheses: translations as plain text.
        references: the reference of each translation.
    """
    rows = {"exact_match": 100.0 * _matches(hypotheses, references)}
    for name, make in METRICS.items():
        rows[name] = np.asarray(make()._extract_corpus_statistics(hypotheses, [references]))
    return rows


def undefined(references: Sequence[str]) -> dict[str, str]:
    """Return the metrics that are the same for all translations, with the reason; this depends on the references alone.

    BLEU is 0 if no reference has 4 tokens, the length of the longest n-gram counted. If no reference has any word, all
    metrics are undefined: chrF is 0, and exact match rewards empty translations.

    Returns: {metric: reason}.

    >>> undefined(["July 27", "March 3"])["bleu"]
    'no reference has 4 tokens, so BLEU is 0 even for perfect translations'
    >>> undefined(["July 27", "the cat sat on the mat"])
    {}
    """
    if not any(reference.split() for reference in references):
        return dict.fromkeys([*METRICS, "exact_match"], "no reference has a word")
    metric = BLEU()
    order, counts = metric.max_ngram_order, metric._extract_corpus_statistics(references, [references])
    if any(length >= order for _, length, *_ in counts):
        return {}
    reason = f"no reference has {order} tokens, so BLEU is 0 even for perfect translations"
    return {"bleu": reason, "bleu_lowercase": reason}


def score_of_counts(name: str, rows: Shaped[np.ndarray, "n k"]) -> float:
    """Compute one of `METRICS`, in percent, from sacrebleu's counts for each sentence."""
    return _percent(METRICS[name]()._compute_score_from_stats(rows.sum(axis=0).tolist()).score)


def _interval(metric: BLEU | CHRF, sentences: list[list[float]], bootstrap: int) -> list[float] | None:
    """Return the interval of `corpus_score(n_bootstrap=...)`, which crashes (2.6.0) if only some resamples score 0."""
    if len(sentences) < MIN_EXAMPLES:
        return None
    metric.seed, resampled = _bootstrap_resample(sentences, metric, bootstrap)
    metric.n_bootstrap = bootstrap
    scores = sorted(float(score.score) for score in resampled)
    tail = bootstrap // 40
    return [_percent(scores[tail]), _percent(scores[bootstrap - tail - 1])]


def _matches(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    _same_count(hypotheses, references)
    return np.array([text.split() == reference.split() for text, reference in zip(hypotheses, references, strict=True)])


def _same_count(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} translations for {len(references)} references")
    if not references:
        raise ValueError("no sentences to score")


def _percent(score: float) -> float:
    """Round to six digits in [0, 100]: 100.00000000000004 is 100."""
    return min(max(round(score, 6), 0.0), 100.0)
