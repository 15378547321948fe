"""Accuracy of answers about stories, and the attention weight on the supporting facts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from attnlab.tasks.bootstrap import RESAMPLES, SEED, interval


def story_scores(
    correct: Bool[np.ndarray, " n"],
    weights: Sequence[Float[np.ndarray, "h s"]],
    facts: Sequence[Sequence[int]],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """Return the metrics of answers and attention, in percent, with bootstrap 95% intervals (None for few stories).

    fact_mass_h = mean over stories of Σ weights of hop h on the supporting facts;
    fact_mass_max = mean over stories of the largest of them;
    fact_mass_uniform = mean over stories of the share of sentences that are supporting facts, which is the fact_mass of
        uniform weights;
    facts_found = share of supporting facts to which some hop gives its largest weight.

    Args:
        correct: whether each answer is correct.
        weights: of each hop over the sentences of a story.
        facts: indices of the supporting facts of each story; the metrics of the attention are of the stories that
            have any.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples.
    Returns: the metrics, and `per_example`, a row for each story, of the metrics that are defined for all stories.

    >>> scores = story_scores(np.array([True]), [np.array([[0.25, 0.75]])], [(1,)])
    >>> scores["accuracy"], scores["fact_mass_1"], scores["facts_found"]
    (100.0, 75.0, 100.0)
    """
    values = {"accuracy": np.asarray(correct, float)}
    annotated = [(w, list(indices)) for w, indices in zip(weights, facts, strict=True) if indices]
    if annotated:
        mass = np.array([w[:, indices].sum(axis=1) for w, indices in annotated], float)
        values |= {f"fact_mass_{hop + 1}": mass[:, hop] for hop in range(mass.shape[1])}
        values["fact_mass_max"] = mass.max(axis=1)
        values["fact_mass_uniform"] = np.array([len(set(indices)) / w.shape[1] for w, indices in annotated])
        values["facts_found"] = np.array([np.isin(indices, w.argmax(axis=1)).mean() for w, indices in annotated])
    complete = {name: 100.0 * rows for name, rows in values.items() if len(rows) == len(correct)}
    scores: dict[str, Any] = {"per_example": complete}
    for name, rows in values.items():
        scores[name] = 100.0 * float(rows.mean())
        scores[f"{name}_ci95"] = interval(100.0 * rows, resamples=resamples, seed=seed)
    return scores
