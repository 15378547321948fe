"""Simulated experiments with crossed effects, which the intervals and the correction are held to.

    python -m attnlab.analysis.significance.simulation

prints the tables of docs/compare.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from attnlab.analysis.significance.crossed import crossed_difference
from attnlab.analysis.significance.holm import holm

EXPERIMENTS = 2000
SEEDS = (3, 5, 10)
RESAMPLES = 400


@dataclass(frozen=True)
class Effects:
    """Standard deviations of the random effects of `crossed`, and the number of items.

    Attributes:
        run: of the runs of a group.
        other_run: of the runs of every further group; None for the same.
        interaction: of an item in a group.
        item: of an item in all groups.
        residual: of a single score.
        items: number of items.
        binary: an item counts 1 if its score is positive, else 0.
    """

    run: float
    interaction: float
    other_run: float | None = None
    item: float = 1.0
    residual: float = 1.0
    items: int = 100
    binary: bool = False


SETTINGS = {
    "seeds and items matter": Effects(run=0.1, interaction=0.5),
    "seeds dominate": Effects(run=1.0, interaction=0.5),
    "seeds matter little": Effects(run=0.02, interaction=0.5),
    "one group varies more": Effects(run=0.3, other_run=0.05, interaction=0.3),
    "items right or wrong": Effects(run=0.2, interaction=0.5, items=200, binary=True),
    "30 items": Effects(run=0.1, interaction=0.5, items=30),
}
"""What is simulated for the table of coverage."""


def simulate(
    effects: Effects, runs: int, groups: int, experiments: int, rng: np.random.Generator, shift: float = 0.0
) -> Float[np.ndarray, "g e n m"]:
    """Draw the scores of experiments.

    Args:
        effects: standard deviations.
        runs: seeds of a group.
        groups: number of groups.
        experiments: number of independent experiments.
        rng: of the draws.
        shift: the mean of the first group; that of every other group is 0.
    """
    items = rng.normal(0.0, effects.item, (experiments, 1, effects.items))
    scores = np.empty((groups, experiments, runs, effects.items))
    for group in range(groups):
        spread = effects.run if group == 0 or effects.other_run is None else effects.other_run
        scores[group] = items + rng.normal(0.0, effects.interaction, (experiments, 1, effects.items))
        scores[group] += rng.normal(0.0, spread, (experiments, runs, 1))
        scores[group] += rng.normal(0.0, effects.residual, scores[group].shape)
    scores[0] += shift
    return (scores > 0).astype(float) if effects.binary else scores


def true_difference(effects: Effects, shift: float) -> float:
    """Return the difference of the means of the first group and another over all seeds and items."""
    if not effects.binary:
        return shift
    spreads = (effects.run, effects.run if effects.other_run is None else effects.other_run)
    fixed = effects.interaction**2 + effects.item**2 + effects.residual**2
    first, other = (np.sqrt(fixed + spread**2) for spread in spreads)
    return float(stats.norm.cdf(shift / first) - stats.norm.cdf(0.0 / other))


def coverage(effects: Effects, runs: int, experiments: int = EXPERIMENTS, seed: int = 0) -> dict[str, float]:
    """Compute how often 95% intervals of a difference contain the true difference, in percent.

    Returns: `crossed` for `crossed_difference`, `bootstrap` for the percentile bootstrap over seeds and items, `items`
        for the percentile bootstrap over items alone.
    """
    rng, shift = np.random.default_rng([seed, runs]), 0.3
    first, second = simulate(effects, runs, 2, experiments, rng, shift)
    low, high = crossed_difference(first, second).interval()
    truth = true_difference(effects, shift)
    contained = {"crossed": (low <= truth) & (truth <= high)}
    contained |= {name: _contains(ends, truth) for name, ends in _bootstrap(first, second, rng).items()}
    return {name: 100.0 * float(found.mean()) for name, found in contained.items()}


def family_wise_error(
    effects: Effects, runs: int, groups: int = 5, experiments: int = EXPERIMENTS, seed: int = 0
) -> dict[str, float]:
    """Compute how often any of all pairs of equal groups is found to differ at 5%, in percent.

    Returns: `uncorrected`, and `holm` for p-values adjusted by `holm`.
    """
    rng = np.random.default_rng([seed, runs, groups])
    scores = simulate(effects, runs, groups, experiments, rng)
    pairs = [(first, second) for first in range(groups) for second in range(first + 1, groups)]
    p_values = np.stack([crossed_difference(scores[a], scores[b]).p_value() for a, b in pairs], axis=-1)
    found = {"uncorrected": p_values, "holm": holm(p_values)}
    return {name: 100.0 * float((values <= 0.05).any(axis=-1).mean()) for name, values in found.items()}


def _bootstrap(
    first: Float[np.ndarray, "e n m"], second: Float[np.ndarray, "e n m"], rng: np.random.Generator
) -> dict[str, Float[np.ndarray, "2 e"]]:
    """Return the ends of percentile bootstrap intervals of the difference.

    Resamples are drawn once for all experiments, whose scores are independent of them.
    """
    _, runs, items = first.shape
    of_items = rng.multinomial(items, np.full(items, 1 / items), RESAMPLES).T / items
    of_runs = [rng.multinomial(runs, np.full(runs, 1 / runs), RESAMPLES).T / runs for _ in range(2)]
    resampled = [scores @ of_items for scores in (first, second)]
    both = [np.einsum("enb,nb->eb", values, weights) for values, weights in zip(resampled, of_runs, strict=True)]
    alone = [values.mean(axis=1) for values in resampled]
    return {
        "bootstrap": np.percentile(both[0] - both[1], [2.5, 97.5], axis=-1),
        "items": np.percentile(alone[0] - alone[1], [2.5, 97.5], axis=-1),
    }


def _contains(ends: Float[np.ndarray, "2 e"], value: float) -> np.ndarray:
    return (ends[0] <= value) & (value <= ends[1])


def tables(experiments: int = EXPERIMENTS) -> Iterator[str]:
    """Yield the lines of the tables of coverage and of family-wise error."""
    names = {"crossed": "t, crossed", "bootstrap": "bootstrap, seeds and items", "items": "bootstrap, items"}
    yield "| setting | seeds | " + " | ".join(names.values()) + " |"
    yield "|---|---:|" + "---:|" * len(names)
    for setting, effects in SETTINGS.items():
        for runs in SEEDS:
            found = coverage(effects, runs, experiments)
            yield f"| {setting} | {runs} | " + " | ".join(f"{found[name]:.1f}" for name in names) + " |"
    yield ""
    yield "| groups | comparisons | seeds | uncorrected | Holm |"
    yield "|---:|---:|---:|---:|---:|"
    for groups in (3, 5):
        for runs in SEEDS:
            found = family_wise_error(SETTINGS["seeds and items matter"], runs, groups, experiments)
            pairs = groups * (groups - 1) // 2
            yield f"| {groups} | {pairs} | {runs} | {found['uncorrected']:.1f} | {found['holm']:.1f} |"


if __name__ == "__main__":
    for line in tables():
        print(line, flush=True)
