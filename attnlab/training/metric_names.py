"""Display names of metrics, for the terminal, tables and the README; docs/metrics.md explains each."""

import re

NAMES = {
    "accuracy": "accuracy",
    "accuracy_image_only": "question empty",
    "accuracy_question_only": "image blank",
    "accuracy_shuffled_images": "images shuffled",
    "aer": "alignment error rate",
    "alignment_precision": "alignment precision",
    "alignment_recall": "alignment recall",
    "best_exact": "exact match, best threshold",
    "best_exact_thresh": "threshold of the best exact match",
    "best_f1": "F1, best threshold",
    "best_f1_thresh": "threshold of the best F1",
    "bleu": "BLEU, cased",
    "bleu_long": "BLEU, longest third",
    "bleu_middle": "BLEU, middle third",
    "bleu_short": "BLEU, shortest third",
    "bleu_lowercase": "BLEU, lower case",
    "chrf": "chrF2",
    "cider_d": "CIDEr-D",
    "ece": "calibration error",
    "ece_bins": "bins of the calibration error",
    "exact": "exact match",
    "exact_match": "exact match",
    "exact_match_long": "exact match, longest third",
    "exact_match_middle": "exact match, middle third",
    "exact_match_short": "exact match, shortest third",
    "exact_over_baseline": "exact match beyond lexical baseline",
    "f1": "F1",
    "f1_over_baseline": "F1 beyond lexical baseline",
    "fact_mass_max": "weight on gold facts (best hop)",
    "fact_mass_uniform": "gold facts among all facts",
    "facts_found": "gold facts found",
    "images": "images",
    "loss": "loss",
    "macro_f1": "macro-F1",
    "majority": "most frequent class",
    "nll": "negative log-likelihood",
    "pointing": "pointing",
    "pointing_center": "pointing, center of the image",
    "prediction_tvd": "distance of predictions from base",
    "questions": "questions",
    "rationale_hit": "largest weight on rationale",
    "rationale_mass": "weight on rationale",
    "rationale_share": "tokens in rationale",
    "region_mass": "weight on gold region",
    "rouge_l": "ROUGE-L",
    "sentences": "sentences",
    "lexical_baseline_exact": "exact match, lexical baseline",
    "lexical_baseline_f1": "F1, lexical baseline",
    "stories": "stories",
    "stories_cut": "stories cut",
    "texts": "texts",
    "total": "questions",
    "trained_to": "trained to step",
    "weight_kl": "divergence of weights from base",
    "most_frequent_answer": "most frequent answer",
    "most_frequent_answer_to_question": "most frequent answer to the question",
}
"""Key in results.json and metrics.jsonl -> display name; variants of these are handled by `name`."""
_VARIANTS = (
    (r"dev_bleu", "dev BLEU"),
    (r"dev_(\w+)", "dev {}"),
    (r"HasAns_(\w+)", "{}, answerable"),
    (r"NoAns_(\w+)", "{}, unanswerable"),
    (r"bleu_([1-4])", "BLEU-{}"),
    (r"fact_mass_(\d+)", "weight on gold facts (hop {})"),
)


def name(key: str) -> str:
    """Return the display name of a metric; an unknown key is returned unchanged.

    >>> name("f1"), name("dev_f1"), name("HasAns_f1"), name("bleu_4"), name("my_own")
    ('F1', 'dev F1', 'F1, answerable', 'BLEU-4', 'my_own')
    """
    if key in NAMES:
        return NAMES[key]
    for pattern, words in _VARIANTS:
        if match := re.fullmatch(pattern, key):
            return words.format(*(name(part) for part in match.groups()))
    return key


def known(key: str) -> bool:
    """Return whether a key has a display name, or is a variant of such a key.

    >>> known("dev_f1"), known("my_own")
    (True, False)
    """
    return key in NAMES or any(re.fullmatch(pattern, key) for pattern, _ in _VARIANTS)
