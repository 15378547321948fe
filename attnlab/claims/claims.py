"""Examine claims about attention: train what they need, estimate their effects, and write their pages."""

from collections.abc import Callable, Sequence
from pathlib import Path

from attnlab.bench.results import read
from attnlab.claims import costs
from attnlab.claims.effects import effects
from attnlab.claims.figure import draw
from attnlab.claims.page import Finding, write_index, write_page
from attnlab.claims.plans import Version, find_claims
from attnlab.claims.training import Runner
from attnlab.claims.verdict import verdict
from attnlab.config import catalog
from attnlab.config.claim import Claim
from attnlab.results.archive import archive


def train(claims: Sequence[Claim], runner: Runner) -> bool:
    """Train and measure what claims need; return whether all of it is complete.

    Raises:
        Interrupted: raised by the runner's `poll`; the state of every run is saved, and the same command goes on.
    """
    complete = True
    for claim in claims:
        runner.log(f"{claim.number}. {claim.name}: {claim.claim}")
        complete = runner.run(claim) and complete
    return complete


def report(
    claims: Sequence[Claim], version: Version, out: Path, wrote: Callable[[Path], None] = lambda path: None
) -> list[Finding]:
    """Write the page and the figure of every claim, and a list of them and of those with a page already; train nothing.

    Args:
        claims: the claims.
        version: where the runs are, and of which version they are.
        out: directory of NAME.md, NAME.png and index.md.
        wrote: called with every file.
    """
    out.mkdir(parents=True, exist_ok=True)
    findings = [find(claim, version, out) for claim in claims]
    for finding in findings:
        wrote(write_page(finding, out))
    names = {claim.name for claim in claims}
    earlier = [
        path.stem for path, _ in catalog.claims() if path.stem not in names and (out / f"{path.stem}.md").exists()
    ]
    others = [find(claim, version, out) for claim in (find_claims(earlier) if earlier else ())]
    wrote(write_index(sorted([*findings, *others], key=lambda finding: finding.claim.number), out))
    return findings


def find(claim: Claim, version: Version, out: Path) -> Finding:
    """Return what was found for a claim, and draw its figure."""
    evidence = version.evidence(claim)
    found = effects(claim, evidence)
    picture = out / f"{claim.name}.png"
    drawn = draw(claim, evidence, found, picture)
    command = f"attnlab claims {claim.name}" + (" --quick" if version.quick else "")
    return Finding(claim, evidence, found, verdict(found, version.quick), command, drawn)


def save(claims: Sequence[Claim], version: Version, folder: Path, wrote: Callable[[Path], None]) -> None:
    """Archive the runs of claims and their measurements of cost, in a folder for each study and measurement.

    Runs that are archived already, by the `archive` of their study, are left where they are.
    """
    for claim in claims:
        evidence = version.evidence(claim)
        for name, study in claim.studies.items():
            if study.archive is None:
                for group in evidence.studies[name].groups.values():
                    for run in group.runs:
                        wrote(archive(run, folder / name))
        for name in evidence.costs:
            costs.archive(read(version.directory / name), folder / name)
            wrote(folder / name)
