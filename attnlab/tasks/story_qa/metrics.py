"""What answers about stories are worth, and whether the attention lay on the facts that decide."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from attnlab.tasks.bootstrap import RESAMPLES, SEED, interval


def story_scores(
    right: Bool[np.ndarray, " n"],
    weights: Sequence[Float[np.ndarray, "h s"]],
    facts: Sequence[Sequence[int]],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """Score answers and attention, in percent, with bootstrap 95% intervals (None of a few stories).

    fact_mass_h = mean over stories of Σ weights of hop h on the gold facts;
    fact_mass_max = mean over stories of the largest of them;
    facts_found = share of gold facts that some hop weighs more than any other sentence.

    Args:
        right: whether each answer is.
        weights: of every hop over the sentences of a story.
        facts: gold facts of each story; stories without any say nothing of the attention.
        resamples: draws of the test set behind the intervals.
        seed: of the draws.
    Returns: the scores, and `per_example`, what those that are known of every story are made of, a row a story.

    >>> found = story_scores(np.array([True]), [np.array([[0.25, 0.75]])], [(1,)])
    >>> found["accuracy"], found["fact_mass_1"], found["facts_found"]
    (100.0, 75.0, 100.0)
    """
    values = {"accuracy": np.asarray(right, float)}
    known = [(w, list(gold)) for w, gold in zip(weights, facts, strict=True) if gold]
    if known:
        mass = np.array([w[:, gold].sum(axis=1) for w, gold in known], float)
        values |= {f"fact_mass_{hop + 1}": mass[:, hop] for hop in range(mass.shape[1])}
        values["fact_mass_max"] = mass.max(axis=1)
        values["facts_found"] = np.array([np.isin(gold, w.argmax(axis=1)).mean() for w, gold in known])
    whole = {name: 100.0 * found for name, found in values.items() if len(found) == len(right)}
    scores: dict[str, Any] = {"per_example": whole}
    for name, found in values.items():
        scores[name] = 100.0 * float(found.mean())
        scores[f"{name}_ci95"] = interval(100.0 * found, resamples=resamples, seed=seed)
    return scores
