"""The verdict on a claim: a pure function of its effects and their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

HOLDS, FAILS, UNDECIDED, UNKNOWN = "holds", "does not hold", "undecided", "not run yet"
"""Outcomes of an effect, and verdicts."""
DEPENDS, TOO_FEW = "depends on", "too few seeds for a verdict"
"""Verdicts only."""
MIN_SEEDS = 3
"""Smallest number of seeds, or of rounds of a measurement, of a verdict."""


@dataclass(frozen=True)
class Effect:
    """An estimate of a number that is larger the more it speaks for the claim.

    Attributes:
        label: what is compared, and where.
        value: the estimate; None if it has not been measured.
        interval: its 95% interval; None if there is none, as with a single seed.
        at_least: the smallest effect that counts.
        replicates: fewest seeds of a group, or rounds of a measurement.
        basis: what the interval accounts for.
        unit: its unit.
        digits: digits after the decimal point.
        claimed: whether the verdict rests on it.
        two_sided: whether an effect of at most −`at_least` is as claimed too.
    """

    label: str
    value: float | None
    interval: tuple[float, float] | None
    at_least: float
    replicates: int = 0
    basis: str = ""
    unit: str = ""
    digits: int = 1
    claimed: bool = True
    two_sided: bool = False

    @property
    def outcome(self) -> str:
        """Whether the effect is as claimed: the interval lies beyond `at_least`, below it, or has it inside.

        >>> Effect("", 2.0, (1.0, 3.0), 0.5).outcome, Effect("", 2.0, (1.0, 3.0), 2.5).outcome
        ('holds', 'undecided')
        """
        if self.value is None:
            return UNKNOWN
        if self.interval is None:
            return UNDECIDED
        low, high = self.interval
        if low >= self.at_least or (self.two_sided and high <= -self.at_least):
            return HOLDS
        below = high < self.at_least and (not self.two_sided or low > -self.at_least)
        return FAILS if below else UNDECIDED


@dataclass(frozen=True)
class Verdict:
    """A verdict with its reason.

    Attributes:
        word: `HOLDS`, `FAILS`, `DEPENDS`, `UNDECIDED`, `TOO_FEW` or `UNKNOWN`.
        reason: a sentence that names the effects, without their numbers; empty for `UNKNOWN`.
    """

    word: str
    reason: str = ""

    def __str__(self) -> str:
        return self.word if self.word != DEPENDS else "depends"


def verdict(effects: Sequence[Effect], quick: bool = False) -> Verdict:
    """Return the verdict on a claim.

    An effect is as claimed if its interval lies at or above the smallest effect that counts, not as claimed if it lies
    below, and undecided if that effect is inside the interval. A claim holds if all effects are as claimed, does not
    hold if none is, and depends on the condition if some are and some are not. If no effect contradicts another and one
    is undecided, the claim is undecided.

    Args:
        effects: the effects; those that are not claimed are left out.
        quick: the runs are those of the quick version, on which no verdict rests.
    """
    effects = [effect for effect in effects if effect.claimed]
    if not effects or any(effect.outcome == UNKNOWN for effect in effects):
        return Verdict(UNKNOWN)
    if quick or min(effect.replicates for effect in effects) < MIN_SEEDS:
        return Verdict(TOO_FEW)
    by_outcome = {word: [e.label for e in effects if e.outcome == word] for word in (HOLDS, FAILS, UNDECIDED)}
    found = {word: labels for word, labels in by_outcome.items() if labels}
    if {HOLDS, FAILS} <= found.keys():
        word = DEPENDS
    else:
        word = UNDECIDED if UNDECIDED in found else next(iter(found))
    return Verdict(word, _reason(found, word))


def _reason(found: dict[str, list[str]], word: str) -> str:
    if len(found) == 1 and word != UNDECIDED:
        return ""
    names = {HOLDS: "As claimed", FAILS: "Not as claimed", UNDECIDED: "Undecided"}
    return ". ".join(f"{names[outcome]}: {'; '.join(labels)}" for outcome, labels in found.items()) + "."
