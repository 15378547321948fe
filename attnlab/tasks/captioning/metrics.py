"""Scores of captions against several references: BLEU by sacrebleu, CIDEr-D, ROUGE-L, exact match; and pointing.

All compare words: lower case, punctuation marks taken away (`words`). So do the COCO tools but for their tokenizer
(Stanford's, a Java program), which cuts a few contractions otherwise. BLEU-n is the geometric mean of the precisions of
1-grams to n-grams times the brevity penalty, over the whole corpus, the length of the nearest reference counted.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from sacrebleu.metrics.bleu import BLEU

from attnlab.data.images.pixels import Box
from attnlab.data.text.letters import MARKS, composed
from attnlab.tasks.bootstrap import RESAMPLES, interval
from attnlab.tasks.notes import without

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
"""Of CIDEr-D's penalty for another length than the reference's."""
BETA = 1.2
"""Weight of recall beside precision in ROUGE-L, as in the COCO tools."""
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{MARKS}])*(?:['’-](?:[^\W_]|[{MARKS}])+)*")

References = Sequence[Sequence[str]]
"""All references of each caption."""


def words(text: str) -> str:
    """Write a text as its words, one space between: what all scores here compare.

    >>> words("A man's dog , running .")
    "a man's dog running"
    """
    return " ".join(re.findall(_WORD, composed(text).lower()))


def caption_scores(hypotheses: Sequence[str], references: References, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Score a test set by all measures.

    Args:
        hypotheses: captions as plain text.
        references: at least one for each.
        resamples: of the images, behind the intervals; they tell how much another test set would differ.

    Returns: `bleu_1` … `bleu_4`, `rouge_l` and `exact_match` (equal to one of the references) in percent; `cider_d`,
        times 100 (what the COCO tools print as 1.089 is 108.9); `bleu_4_ci95`, `cider_d_ci95`, `rouge_l_ci95`,
        `exact_match_ci95` = [low, high] (None of fewer than `resampling.FEWEST` images); `bleu_signature`;
        `per_example`, what these four are made of, a row an image. A score that is the same whatever the captions are
        (see `undefined`) is None, `<name>_note` says why, and it is not in `per_example`.

    >>> found = caption_scores(["a red cross"] * 2, [["A red cross."], ["a red cross", "a thing"]], resamples=10)
    >>> found["bleu_1"], found["rouge_l"], found["exact_match"]
    (100.0, 100.0, 100.0)
    """
    hypotheses, references = _clean(hypotheses, references)
    per_image = {
        "rouge_l": 100 * rouge_l(hypotheses, references),
        "cider_d": 100 * cider_d(hypotheses, references),
        "exact_match": np.array([100.0 * (h in r) for h, r in zip(hypotheses, references, strict=True)]),
    }
    scores: dict[str, Any] = {f"bleu_{order}": bleu(hypotheses, references, order) for order in ORDERS}
    scores |= {name: round(float(values.mean()), 6) for name, values in per_image.items()}
    counts = np.asarray(_metric(4)._extract_corpus_statistics(list(hypotheses), _streams(references)))
    scores["bleu_4_ci95"] = interval(counts, bleu_of_counts, resamples)
    scores |= {f"{name}_ci95": interval(values, resamples=resamples) for name, values in per_image.items()}
    signature = {"bleu_signature": _signature(hypotheses, references)}
    scores |= signature | {"images": len(hypotheses), "per_example": {"bleu_4": counts, **per_image}}
    return without(scores, undefined(references))


def undefined(references: References) -> dict[str, str]:
    """Say which scores are the same whatever the captions are, and why; it depends on the references alone.

    BLEU-n is 0 where no reference has n words. CIDEr-D is 0 where every n-gram of every reference is in the references
    of all images, as where there is one image, or where all have the same references: none tells images apart. All
    are where no reference has a word.

    Returns: {score: why}.

    >>> undefined([["A red cross."]])["cider_d"]
    'of one image CIDEr-D is 0 even if all is right: no n-gram tells images apart'
    >>> undefined([["a red cross on white"], ["two dogs"]])
    {}
    """
    cleaned = [[words(text) for text in several] for several in references]
    longest = max(len(text.split()) for several in cleaned for text in several)
    if longest == 0:
        names = [*(f"bleu_{order}" for order in ORDERS), "rouge_l", "cider_d", "exact_match"]
        return dict.fromkeys(names, "no reference has a word")
    short = [order for order in ORDERS if order > longest]
    found = {f"bleu_{n}": f"no reference has {n} words, so BLEU-{n} is 0 even if all is right" for n in short}
    if all(
        count == len(cleaned) for count in _images_with([list(map(_grams, several)) for several in cleaned]).values()
    ):
        of = "of one image" if len(cleaned) == 1 else "of images whose references are all alike"
        found["cider_d"] = f"{of} CIDEr-D is 0 even if all is right: no n-gram tells images apart"
    return found


def bleu_of_counts(rows: Shaped[np.ndarray, "n k"]) -> float:
    """Make BLEU-4, in percent, of sacrebleu's counts for each caption."""
    return _percent(_metric(4)._compute_score_from_stats(rows.sum(axis=0).tolist()).score)


def bleu(hypotheses: Sequence[str], references: References, order: int = 4) -> float:
    """Score a corpus by BLEU-`order`, in percent (sacrebleu; words as they stand between spaces; no smoothing).

    >>> round(bleu(["a b c d"], [["a b c d e", "x"]]), 1)
    77.9
    """
    hypotheses, references = _clean(hypotheses, references)
    metric = _metric(order)
    return _percent(metric.corpus_score(list(hypotheses), _streams(references)).score)


def rouge_l(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """Score each caption by the longest common subsequence with its references.

    ROUGE-L = (1 + β²) P R / (R + β² P), P = max over references of LCS / words of the caption, R of LCS / words of the
    reference, β = 1.2

    Returns: [captions], in [0, 1].
    Reference: Lin 2004; the maxima and β as in the COCO tools.

    >>> rouge_l(["a b c"], [["a x c", "b"]]).round(3).tolist()
    [0.83]
    """
    found = []
    for hypothesis, several in zip(*_clean(hypotheses, references), strict=True):
        tokens = hypothesis.split()
        common = [(_subsequence(tokens, reference.split()), len(reference.split())) for reference in several]
        precision = max(length / max(len(tokens), 1) for length, _ in common)
        recall = max(length / max(total, 1) for length, total in common)
        both = precision > 0 and recall > 0
        found.append((1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if both else 0.0)
    return np.array(found)


def cider_d(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """Score each caption by the cosine of its tf-idf weighted n-grams with each reference's.

    CIDEr-D = 10/4 Σ_n mean over references r of exp(−(l_c − l_r)² / 2σ²) · min(g_n(c), g_n(r)) · g_n(r) / (‖·‖ ‖·‖)

    g_n counts every n-gram, weighted by log(images / images one of whose references holds it); σ = 6; l is the number
    of 2-grams, as in the COCO tools.

    Returns: [captions], in [0, 10].
    Reference: Vedantam, Zitnick & Parikh 2015, section 4 and appendix.

    >>> cider_d(["a red cross", "a blue box"], [["a red cross"], ["a blue box"]]).round(2).tolist()
    [7.5, 7.5]
    """
    hypotheses, references = _clean(hypotheses, references)
    cooked = [[_grams(reference) for reference in several] for several in references]
    seen = _images_with(cooked)
    images = math.log(len(hypotheses))

    def weigh(grams: Counter[tuple[str, ...]]) -> list[dict[tuple[str, ...], float]]:
        weighed: list[dict[tuple[str, ...], float]] = [{} for _ in ORDERS]
        for gram, count in grams.items():
            weighed[len(gram) - 1][gram] = count * (images - math.log(max(seen[gram], 1)))
        return weighed

    found = []
    for hypothesis, several in zip(hypotheses, cooked, strict=True):
        grams = _grams(hypothesis)
        score = sum(_similarity(grams, weigh(grams), reference, weigh(reference)) for reference in several)
        found.append(10.0 * score / len(ORDERS) / len(several))
    return np.array(found)


def pointing(
    weights: np.ndarray, regions: Sequence[Box | None], grid: tuple[int, int], image: tuple[int, int]
) -> tuple[list[bool], list[float]]:
    """Tell for each word that has a gold region whether the model looked there when it wrote it.

    Args:
        weights: [words cells], cells in reading order.
        regions: of each word, in pixels; None for words of no place, which are left out.
        grid: rows and columns of cells.
        image: height and width in pixels.

    Returns: for each word with a region, whether the middle of its heaviest cell lies in the region (Zhang et al. 2016,
        the pointing game); and the share of its weight on cells whose middle lies there. A word without any weight
        points nowhere.

    >>> pointing(np.array([[0.125, 0.5, 0.25, 0.125]]), [(32, 0, 64, 32)], (2, 2), (64, 64))
    ([True], [0.5])
    """
    hits, masses = [], []
    for row, region in zip(weights, regions, strict=False):
        if region is None:
            continue
        cells = inside(region, grid, image)
        total = float(row.sum())
        hits.append(bool(cells[int(np.argmax(row))]) and total > 0)
        masses.append(float(row[cells].sum()) / total if total > 0 else 0.0)
    return hits, masses


def inside(region: Box, grid: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
    """Tell which cells, in reading order, have their middle in a region.

    >>> inside((32, 0, 64, 32), (2, 2), (64, 64)).tolist()
    [False, True, False, False]
    """
    left, top, right, bottom = region
    down = (np.arange(grid[0]) + 0.5) * image[0] / grid[0]
    across = (np.arange(grid[1]) + 0.5) * image[1] / grid[1]
    return (((down >= top) & (down < bottom))[:, None] & ((across >= left) & (across < right))[None, :]).ravel()


def _clean(hypotheses: Sequence[str], references: References) -> tuple[list[str], list[list[str]]]:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} captions for {len(references)} images")
    if not hypotheses or not all(references):
        raise ValueError("no captions to score, or an image without a reference")
    return [words(text) for text in hypotheses], [[words(text) for text in several] for several in references]


def _metric(order: int) -> BLEU:
    return BLEU(max_ngram_order=order, tokenize="none", smooth_method="none", force=True)


def _streams(references: References) -> list[Any]:
    """References as sacrebleu takes them: first ones, second ones …, None where there are fewer."""
    most = max(map(len, references))
    return [[several[n] if n < len(several) else None for several in references] for n in range(most)]


def _signature(hypotheses: Sequence[str], references: References) -> str:
    metric = _metric(4)
    metric.corpus_score(list(hypotheses), _streams(references))
    return f"{metric.get_signature()}|words:lower-case, no punctuation"


def _percent(score: float) -> float:
    """Keep what can be told apart from rounding (100.00000000000004 is 100)."""
    return min(100.0, round(score, 6))


def _grams(text: str) -> Counter[tuple[str, ...]]:
    tokens = text.split()
    return Counter(tuple(tokens[i : i + n]) for n in ORDERS for i in range(len(tokens) - n + 1))


def _images_with(cooked: Sequence[Sequence[Counter[tuple[str, ...]]]]) -> Counter[tuple[str, ...]]:
    """Count for every n-gram the images one of whose references holds it."""
    return Counter(gram for several in cooked for gram in set().union(*several))


def _similarity(
    grams: Counter[tuple[str, ...]],
    weighed: list[dict[tuple[str, ...], float]],
    reference: Counter[tuple[str, ...]],
    other: list[dict[tuple[str, ...], float]],
) -> float:
    length, wanted = (sum(count for gram, count in c.items() if len(gram) == 2) for c in (grams, reference))
    penalty = math.exp(-((length - wanted) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for mine, theirs in zip(weighed, other, strict=True):
        norms = math.sqrt(sum(w * w for w in mine.values()) * sum(w * w for w in theirs.values()))
        shared = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in mine.items() if gram in theirs)
        total += shared / norms if norms else 0.0
    return penalty * total


def _subsequence(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for index, other in enumerate(second):
            row.append(before[index] + 1 if word == other else max(before[index + 1], row[-1]))
        before = row
    return before[-1]
