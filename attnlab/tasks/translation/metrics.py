"""Scores of translations: BLEU and chrF by sacrebleu on plain (detokenised) text, and exact match. All in percent."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Shaped
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import _bootstrap_resample

from attnlab.tasks.bootstrap import FEWEST
from attnlab.tasks.notes import without

METRICS = {"bleu": BLEU, "bleu_lowercase": partial(BLEU, lowercase=True), "chrf": CHRF}
BOOTSTRAP = 1000
"""Resamples of the test set behind a confidence interval (sacrebleu's default)."""


def bleu(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> float:
    """Score a corpus by BLEU (sacrebleu, 13a tokens), without an interval: the quick one for dev during training.

    Args:
        hypotheses: translations as plain text, one a sentence; an empty one counts as a translation of no words.
        references: one reference a sentence, in the same order.
        lowercase: compare without case.

    Returns: percent, in [0, 100].

    Reference: Papineni et al. 2002; Post 2018.

    >>> bleu(["the cat sat on the mat"], ["The cat sat on the mat"], lowercase=True)
    100.0
    """
    _same_count(hypotheses, references)
    return _percent(BLEU(lowercase=lowercase).corpus_score(hypotheses, [references]).score)


def exact_match_by_length(
    hypotheses: Sequence[str], references: Sequence[str], lengths: Sequence[int], parts: int = 3
) -> list[float]:
    """Return the exact match of `parts` equal shares of the corpus, from the shortest sentences to the longest.

    Args:
        lengths: what sentences are ordered by (e.g. source tokens); equal lengths keep the order of the corpus.
        parts: number of shares; their sizes differ by at most one sentence.

    Returns: one percentage a share.

    >>> exact_match_by_length(["a", "b", "c"], ["a", "b", "x"], lengths=[2, 1, 9])
    [100.0, 100.0, 0.0]
    """
    matches = _matches(hypotheses, references)
    if len(lengths) != len(matches):
        raise ValueError(f"{len(lengths)} lengths for {len(matches)} sentences")
    if not 1 <= parts <= len(matches):
        raise ValueError(f"{len(matches)} sentences cannot be cut into {parts} parts")
    order = np.argsort(np.asarray(lengths), kind="stable")
    return [100.0 * float(np.mean(matches[share])) for share in np.array_split(order, parts)]


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], *, bootstrap: int = BOOTSTRAP
) -> dict[str, Any]:
    """Score a test set by all measures, with signatures and 95% confidence intervals.

    An interval is the central 95% of the scores of sacrebleu's own resamples of the sentences; half its width is the
    `±` that sacrebleu prints. It tells how much another test set of this kind would differ, not how much another seed
    of the training would.

    Args:
        hypotheses: translations as plain text.
        references: one reference a sentence, in the same order.
        bootstrap: number of resamples, at least 2.

    Returns: `bleu`, `bleu_lowercase`, `chrf` (chrF2) in percent; for each, `<name>_ci95` = [low, high] (None of fewer
        than `FEWEST` sentences) and `<name>_signature`; `exact_match` in percent; `sentences`; `per_example`,
        what these four are made of, a row for each sentence. A score that is the same whatever the translations
        are (see `undefined`) is None, `<name>_note` says why, and it is not in `per_example`.

    Reference: Papineni et al. 2002 (BLEU); Popović 2015 (chrF); Koehn 2004 (bootstrap); Post 2018 (signatures).

    >>> translation_scores(["a b c d e"] * 20, ["a b c d e"] * 20, bootstrap=10)["bleu_ci95"]
    [100.0, 100.0]
    """
    _same_count(hypotheses, references)
    if bootstrap < 2:
        raise ValueError(f"bootstrap must be at least 2, not {bootstrap}")
    notes, scores = undefined(references), dict[str, Any]()
    per_sentence = {"exact_match": 100.0 * _matches(hypotheses, references)}
    for name, make in METRICS.items():
        metric = make()
        score = _percent(metric.corpus_score(hypotheses, [references]).score)
        per_sentence[name] = np.asarray(metric._extract_corpus_statistics(hypotheses, [references]))
        found = _interval(metric, per_sentence[name].tolist(), bootstrap)
        scores |= {name: score, f"{name}_ci95": found, f"{name}_signature": str(metric.get_signature())}
    scores |= {
        "exact_match": float(per_sentence["exact_match"].mean()),
        "sentences": len(hypotheses),
        "per_example": per_sentence,
    }
    return without(scores, notes)


def undefined(references: Sequence[str]) -> dict[str, str]:
    """Say which scores are the same whatever the translations are, and why; it depends on the references alone.

    BLEU is 0 where no reference has as many tokens as the longest n-gram counted, which is 4. All are where no
    reference has a word: chrF is 0 and exact match rewards saying nothing.

    Returns: {score: why}.

    >>> undefined(["July 27", "March 3"])["bleu"]
    'no reference has 4 tokens, so BLEU is 0 even if all is right'
    >>> undefined(["July 27", "the cat sat on the mat"])
    {}
    """
    if not any(reference.split() for reference in references):
        return dict.fromkeys([*METRICS, "exact_match"], "no reference has a word")
    metric = BLEU()
    order, counts = metric.max_ngram_order, metric._extract_corpus_statistics(references, [references])
    if any(length >= order for _, length, *_ in counts):
        return {}
    why = f"no reference has {order} tokens, so BLEU is 0 even if all is right"
    return {"bleu": why, "bleu_lowercase": why}


def score_of_counts(name: str, rows: Shaped[np.ndarray, "n k"]) -> float:
    """Make one of `METRICS`, in percent, of sacrebleu's counts for each sentence."""
    return _percent(METRICS[name]()._compute_score_from_stats(rows.sum(axis=0).tolist()).score)


def _interval(metric: BLEU | CHRF, sentences: list[list[float]], bootstrap: int) -> list[float] | None:
    """Do what `corpus_score(n_bootstrap=...)` does; that one crashes (2.6.0) when only some resamples score 0."""
    if len(sentences) < FEWEST:
        return None
    metric.seed, resampled = _bootstrap_resample(sentences, metric, bootstrap)
    metric.n_bootstrap = bootstrap
    scores = sorted(float(score.score) for score in resampled)
    outside = bootstrap // 40
    return [_percent(scores[outside]), _percent(scores[bootstrap - outside - 1])]


def _matches(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    _same_count(hypotheses, references)
    return np.array([h.split() == r.split() for h, r in zip(hypotheses, references, strict=True)])


def _same_count(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} translations for {len(references)} references")
    if not references:
        raise ValueError("no sentences to score")


def _percent(score: float) -> float:
    """Keep what can be told apart from rounding (100.00000000000004 is 100), inside the scale."""
    return min(max(round(score, 6), 0.0), 100.0)
