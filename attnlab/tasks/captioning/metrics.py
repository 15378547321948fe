"""Metrics of captions with several references: BLEU by sacrebleu, CIDEr-D, ROUGE-L, and exact match.

All compare words in lower case without punctuation (see `words`), as the COCO tools do, except that their tokenizer
(Stanford's, in Java) splits a few contractions differently. BLEU-n is the geometric mean of the precisions of 1-grams
to n-grams times the brevity penalty over the whole corpus, with the closest reference length.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from sacrebleu.metrics.bleu import BLEU

from attnlab.data.text.letters import MARKS, composed
from attnlab.tasks.bootstrap import RESAMPLES, interval
from attnlab.tasks.notes import replace_undefined

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
"""Standard deviation of CIDEr-D's Gaussian penalty on the difference in length."""
BETA = 1.2
"""Weight of recall relative to precision in ROUGE-L, as in the COCO tools."""
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{MARKS}])*(?:['’-](?:[^\W_]|[{MARKS}])+)*")

References = Sequence[Sequence[str]]
"""All references of each caption."""
Ngram = tuple[str, ...]
NgramCounts = Counter[Ngram]


def words(text: str) -> str:
    """Normalize a text to its words in lower case, separated by single spaces.

    >>> words("A man's dog , running .")
    "a man's dog running"
    """
    return " ".join(re.findall(_WORD, composed(text).lower()))


def caption_scores(hypotheses: Sequence[str], references: References, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Return all metrics of a test set.

    Args:
        hypotheses: captions as plain text.
        references: at least one for each caption.
        resamples: number of bootstrap resamples of the images for the intervals, which reflect the choice of test set.

    Returns: `bleu_1` … `bleu_4`, `rouge_l` and `exact_match` (with any of the references) in percent; `cider_d` times
        100 (108.9 is 1.089 in the COCO tools); `bleu_4_ci95`, `cider_d_ci95`, `rouge_l_ci95`, `exact_match_ci95` =
        [low, high] (None for fewer than `bootstrap.MIN_EXAMPLES` images); `bleu_signature`; `per_example`, a row for
        each image of these four metrics. An undefined metric (see `undefined`) is None and not in `per_example`, and
        `<name>_note` gives the reason.

    >>> scores = caption_scores(["a red cross"] * 2, [["A red cross."], ["a red cross", "a thing"]], resamples=10)
    >>> scores["bleu_1"], scores["rouge_l"], scores["exact_match"]
    (100.0, 100.0, 100.0)
    """
    per_image = image_rows(hypotheses, references)
    hypotheses, references = _clean(hypotheses, references)
    counts = per_image.pop("bleu_4")
    per_image["cider_d"] = 100 * cider_d(hypotheses, references)
    scores: dict[str, Any] = {f"bleu_{order}": bleu(hypotheses, references, order) for order in ORDERS}
    scores |= {name: round(float(values.mean()), 6) for name, values in per_image.items()}
    scores["bleu_4_ci95"] = interval(counts, bleu_of_counts, resamples)
    scores |= {f"{name}_ci95": interval(values, resamples=resamples) for name, values in per_image.items()}
    signature = {"bleu_signature": _signature(hypotheses, references)}
    scores |= signature | {"images": len(hypotheses), "per_example": {"bleu_4": counts, **per_image}}
    return replace_undefined(scores, undefined(references))


def image_rows(hypotheses: Sequence[str], references: References) -> dict[str, np.ndarray]:
    """Return what each image contributes to the metrics: counts for BLEU-4, and ROUGE-L and exact match in percent.

    Args:
        hypotheses: captions as plain text.
        references: at least one for each caption.
    """
    hypotheses, references = _clean(hypotheses, references)
    exact = [100.0 * (hypothesis in texts) for hypothesis, texts in zip(hypotheses, references, strict=True)]
    return {
        "bleu_4": np.asarray(_metric(4)._extract_corpus_statistics(list(hypotheses), _streams(references))),
        "rouge_l": 100 * rouge_l(hypotheses, references),
        "exact_match": np.array(exact),
    }


def undefined(references: References) -> dict[str, str]:
    """Return the metrics that are the same for all captions, with the reason; this depends on the references alone.

    BLEU-n is 0 if no reference has n words. CIDEr-D is 0 if every n-gram of every reference occurs in the references
    of all images, for example with a single image, or with the same references for all images. If no reference has
    any word, all metrics are undefined.

    Returns: {metric: reason}.

    >>> undefined([["A red cross."]])["cider_d"]
    'CIDEr-D of one image is 0 even for perfect captions: no n-gram distinguishes images'
    >>> undefined([["a red cross on white"], ["two dogs"]])
    {}
    """
    cleaned = [[words(text) for text in texts] for texts in references]
    longest = max(len(text.split()) for texts in cleaned for text in texts)
    if longest == 0:
        names = [*(f"bleu_{order}" for order in ORDERS), "rouge_l", "cider_d", "exact_match"]
        return dict.fromkeys(names, "no reference has a word")
    short = [order for order in ORDERS if order > longest]
    reasons = {f"bleu_{n}": f"no reference has {n} words, so BLEU-{n} is 0 even for perfect captions" for n in short}
    counts = _document_frequencies([list(map(_ngrams, texts)) for texts in cleaned])
    if all(count == len(cleaned) for count in counts.values()):
        images = "one image" if len(cleaned) == 1 else "images with equal references"
        reasons["cider_d"] = f"CIDEr-D of {images} is 0 even for perfect captions: no n-gram distinguishes images"
    return reasons


def bleu_of_counts(rows: Shaped[np.ndarray, "n k"]) -> float:
    """Compute BLEU-4, in percent, from sacrebleu's counts for each caption."""
    return _percent(_metric(4)._compute_score_from_stats(rows.sum(axis=0).tolist()).score)


def bleu(hypotheses: Sequence[str], references: References, order: int = 4) -> float:
    """Return corpus BLEU-`order` in percent (sacrebleu without tokenization and smoothing).

    >>> round(bleu(["a b c d"], [["a b c d e", "x"]]), 1)
    77.9
    """
    hypotheses, references = _clean(hypotheses, references)
    metric = _metric(order)
    return _percent(metric.corpus_score(list(hypotheses), _streams(references)).score)


def rouge_l(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """Return ROUGE-L of each caption, from the longest common subsequence with its references.

    ROUGE-L = (1 + β²) P R / (R + β² P),  P = max LCS / words of the caption,  R = max LCS / words of the reference

    with maxima over references and β = 1.2.

    Returns: [captions], in [0, 1].
    Reference: Lin 2004; the maxima and β as in the COCO tools.

    >>> rouge_l(["a b c"], [["a x c", "b"]]).round(3).tolist()
    [0.83]
    """
    scores = []
    for hypothesis, texts in zip(*_clean(hypotheses, references), strict=True):
        tokens = hypothesis.split()
        common = [(_common_subsequence(tokens, text.split()), len(text.split())) for text in texts]
        precision = max(length / max(len(tokens), 1) for length, _ in common)
        recall = max(length / max(total, 1) for length, total in common)
        both = precision > 0 and recall > 0
        scores.append((1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if both else 0.0)
    return np.array(scores)


def cider_d(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """Return CIDEr-D of each caption: the cosine similarity of its tf-idf weighted n-grams with its references.

    CIDEr-D = 10/4 Σ_n mean over references r of exp(−(l_c − l_r)² / 2σ²) · min(g_n(c), g_n(r)) · g_n(r) / (‖·‖ ‖·‖)

    g_n are the counts of all n-grams, weighted by log(images / images with the n-gram in a reference); σ = 6; l is the
    number of 2-grams, as in the COCO tools.

    Returns: [captions], in [0, 10].
    Reference: Vedantam, Zitnick & Parikh 2015, section 4 and appendix.

    >>> cider_d(["a red cross", "a blue box"], [["a red cross"], ["a blue box"]]).round(2).tolist()
    [7.5, 7.5]
    """
    hypotheses, references = _clean(hypotheses, references)
    reference_counts = [[_ngrams(text) for text in texts] for texts in references]
    frequencies = _document_frequencies(reference_counts)
    log_images = math.log(len(hypotheses))

    def tf_idf(counts: NgramCounts) -> list[dict[Ngram, float]]:
        weights: list[dict[Ngram, float]] = [{} for _ in ORDERS]
        for ngram, count in counts.items():
            weights[len(ngram) - 1][ngram] = count * (log_images - math.log(max(frequencies[ngram], 1)))
        return weights

    scores = []
    for hypothesis, texts in zip(hypotheses, reference_counts, strict=True):
        counts = _ngrams(hypothesis)
        score = sum(_similarity(counts, tf_idf(counts), reference, tf_idf(reference)) for reference in texts)
        scores.append(10.0 * score / len(ORDERS) / len(texts))
    return np.array(scores)


def _clean(hypotheses: Sequence[str], references: References) -> tuple[list[str], list[list[str]]]:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} captions for {len(references)} images")
    if not hypotheses or not all(references):
        raise ValueError("no captions to score, or an image without a reference")
    return [words(text) for text in hypotheses], [[words(text) for text in texts] for texts in references]


def _metric(order: int) -> BLEU:
    return BLEU(max_ngram_order=order, tokenize="none", smooth_method="none", force=True)


def _streams(references: References) -> list[Any]:
    """Return the references in sacrebleu's format: all first references, all second ones, ...; None if missing."""
    count = max(map(len, references))
    return [[texts[n] if n < len(texts) else None for texts in references] for n in range(count)]


def _signature(hypotheses: Sequence[str], references: References) -> str:
    metric = _metric(4)
    metric.corpus_score(list(hypotheses), _streams(references))
    return f"{metric.get_signature()}|words:lower-case, no punctuation"


def _percent(score: float) -> float:
    """Round to six digits, at most 100: 100.00000000000004 is 100."""
    return min(100.0, round(score, 6))


def _ngrams(text: str) -> NgramCounts:
    tokens = text.split()
    return Counter(tuple(tokens[i : i + n]) for n in ORDERS for i in range(len(tokens) - n + 1))


def _document_frequencies(counts: Sequence[Sequence[NgramCounts]]) -> NgramCounts:
    """Return for each n-gram the number of images with the n-gram in a reference."""
    return Counter(ngram for texts in counts for ngram in set().union(*texts))


def _similarity(
    counts: NgramCounts,
    weights: list[dict[Ngram, float]],
    reference: NgramCounts,
    reference_weights: list[dict[Ngram, float]],
) -> float:
    """Return the sum over n of the clipped cosine similarity, times the penalty on the difference in length."""
    length, reference_length = (
        sum(count for ngram, count in c.items() if len(ngram) == 2) for c in (counts, reference)
    )
    penalty = math.exp(-((length - reference_length) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for mine, theirs in zip(weights, reference_weights, strict=True):
        norms = math.sqrt(sum(w * w for w in mine.values()) * sum(w * w for w in theirs.values()))
        shared = sum(min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in mine.items() if ngram in theirs)
        total += shared / norms if norms else 0.0
    return penalty * total


def _common_subsequence(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    previous = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for index, other in enumerate(second):
            row.append(previous[index] + 1 if word == other else max(previous[index + 1], row[-1]))
        previous = row
    return previous[-1]
