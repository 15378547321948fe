"""The effects of a claim, estimated from its evidence."""

from collections.abc import Iterator

from attnlab.claims import costs
from attnlab.claims.evidence import Evidence, Measured, Sample, sample, total
from attnlab.claims.verdict import Effect
from attnlab.config.claim import Claim
from attnlab.config.claim_effects import AnyEffect, Difference, Exponent, Ratio, Term
from attnlab.config.errors import UserError


def effects(claim: Claim, evidence: Evidence) -> list[Effect]:
    """Return the effects of a claim; those of settings or sizes that only the full version has are left out.

    Raises:
        UserError: an effect names a setting that its study does not have, or a metric that its runs do not have.
    """
    return [_effect(effect, evidence) for effect in claim.effects if _is_of(effect, evidence)]


def _effect(config: AnyEffect, evidence: Evidence) -> Effect:
    match config:
        case Difference():
            measured = _difference(config, evidence)
        case Ratio():
            report = evidence.costs.get(config.cost)
            measured = report and costs.ratio(config, report)
        case Exponent():
            report = evidence.costs.get(config.cost)
            measured = report and costs.growth(config, report)
    shown = {"unit": config.unit, "digits": config.digits, "claimed": config.claimed}
    shown |= {"two_sided": isinstance(config, Difference) and config.two_sided}
    if measured is None:
        return Effect(config.label, None, None, config.at_least, **shown)
    return Effect(
        config.label, measured.value, measured.interval, config.at_least, measured.replicates, measured.basis, **shown
    )


def _difference(config: Difference, evidence: Evidence) -> Measured | None:
    """Estimate a sum of metrics; None if a setting has no runs.

    Terms of the same runs are added within each run, the groups of other runs are independent of each other.
    """
    by_runs: dict[str, Sample] = {}
    for term in config.terms:
        group = evidence.studies[term.study].groups.get(term.setting)
        if group is None:
            return None
        found = sample(group, term.metric, term.file, term.split).times(term.times)
        by_runs[term.of] = by_runs[term.of] + found if term.of in by_runs else found
    return total(list(by_runs.values()))


def _is_of(effect: AnyEffect, evidence: Evidence) -> bool:
    """Return whether an effect is one of the version of the evidence.

    Raises:
        UserError: the full version does not have it either.
    """
    if isinstance(effect, Difference):
        for term in _unknown(effect, evidence):
            if not evidence.quick:
                valid = ", ".join(evidence.studies[term.study].settings)
                raise UserError(f"{effect.label}: the study {term.study} has no setting {term.setting}; valid: {valid}")
            return False
    elif evidence.quick and isinstance(effect, Ratio) and (report := evidence.costs.get(effect.cost)):
        shapes = [result.case.shape for result in report.results]
        lengths, widths = {shape.length for shape in shapes}, {shape.width for shape in shapes}
        return effect.length in {None, *lengths} and effect.width in {None, *widths}
    return True


def _unknown(effect: Difference, evidence: Evidence) -> Iterator[Term]:
    return (term for term in effect.terms if term.setting not in evidence.studies[term.study].settings)
