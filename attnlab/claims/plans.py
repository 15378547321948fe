"""The studies of claims as plans of sweeps, and their complete runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.bench import results as bench_results
from attnlab.bench.results import Report
from attnlab.claims import costs
from attnlab.claims.evidence import Evidence, StudyRuns
from attnlab.config import catalog
from attnlab.config.claim import Analyses, Claim, ClaimStudy, read_claim
from attnlab.config.errors import UserError
from attnlab.results import record
from attnlab.results.groups import RunGroup, find_runs, read_groups
from attnlab.results.run_files import ALIGNMENT, CONFIG, FAITHFULNESS
from attnlab.sweep.plan import Plan, check_directory, make_plan
from attnlab.sweep.status import is_complete


@dataclass(frozen=True)
class StudyPlan:
    """A study of a claim.

    Attributes:
        study: its config, of the version that is run.
        plan: its runs; None for runs that are archived, and for a study without a quick version.
        analyses: what is computed with every run.
    """

    study: ClaimStudy
    plan: Plan | None
    analyses: Analyses


@dataclass(frozen=True)
class Version:
    """Which version of the claims is run, and where its runs are.

    Attributes:
        directory: directory with a folder for every study and every measurement.
        quick: whether it is the quick version.
        tiny: shrink all experiments.
    """

    directory: Path
    quick: bool = False
    tiny: bool = False

    def plans(self, claim: Claim) -> dict[str, StudyPlan]:
        """Return the plans of all studies on which a claim rests, by name."""
        studies = dict(claim.studies)
        for name, owner in claim.uses.items():
            shared = find_claims([owner])[0].studies
            if name not in shared:
                raise UserError(f"{claim.name}: the claim {owner} has no study {name}; valid: {', '.join(shared)}")
            studies[name] = shared[name]
        return {name: self._plan(study) for name, study in studies.items()}

    def costs(self, claim: Claim) -> Mapping[str, Report]:
        """Return the reports of a claim's measurements that exist, by name."""
        found = {name: self.directory / name for name in claim.costs}
        return {
            name: costs.named(bench_results.read(path), claim.costs[name].variants)
            for name, path in found.items()
            if (path / bench_results.FILE).is_file()
        }

    def evidence(self, claim: Claim) -> Evidence:
        """Read what has been measured for a claim.

        Raises:
            UserError: runs of a study's directory are of other settings.
        """
        studies = {name: self._runs(plan) for name, plan in self.plans(claim).items()}
        return Evidence(studies, self.costs(claim), self.quick)

    def _plan(self, study: ClaimStudy) -> StudyPlan:
        if self.quick and study.quick is None:
            return StudyPlan(study, None, Analyses())
        chosen = study.quick_study() if self.quick else study
        if chosen.archive is not None:
            return StudyPlan(chosen, None, chosen.analyses)
        directory = self.directory / study.name
        plan = make_plan(Path(chosen.base), chosen.settings(self.tiny), chosen.seeds, directory, self.tiny)
        return StudyPlan(chosen, plan, chosen.analyses)

    def _runs(self, plan: StudyPlan) -> StudyRuns:
        if plan.plan is None and self.quick:
            return StudyRuns((), {}, 0)
        if plan.plan is None:
            archived = [path for path in find_runs(Path(str(plan.study.archive))) if (path / CONFIG).is_file()]
            groups = read_groups(archived)
            if len(groups) > 1:
                raise UserError(f"{plan.study.archive}: expected runs that differ only in the seed")
            return StudyRuns(("",), dict(zip([""], groups, strict=False)), len(plan.study.seeds))
        check_directory(plan.plan)
        by_setting = {name if plan.study.axes else "": runs for name, runs in _complete(plan.plan, plan.analyses)}
        groups = {name: RunGroup.of(runs) for name, runs in by_setting.items() if runs}
        return StudyRuns(tuple(by_setting), groups, len(plan.plan.runs))


def find_claims(names: Sequence[str] = ()) -> list[Claim]:
    """Return claims by their names, ordered by number; all of the catalog without names.

    Raises:
        UserError: there is no claim with a name.
    """
    paths = {path.stem: path for path, _ in catalog.claims()}
    for name in names:
        if name not in paths:
            raise UserError(f"no claim {name}; {catalog.nearest(name, paths)}valid: {', '.join(paths)}")
    claims = [read_claim(catalog.find_config(paths[name])) for name in dict.fromkeys(names or paths)]
    return sorted(claims, key=lambda claim: claim.number)


def _complete(plan: Plan, analyses: Analyses) -> Iterator[tuple[str, list[record.RunRecord]]]:
    """Yield every setting with its runs that are trained, evaluated and analyzed."""
    wanted = {FAITHFULNESS: analyses.faithfulness, ALIGNMENT: analyses.alignment}
    files = [file for file, analysis in wanted.items() if analysis is not None]
    for setting in plan.settings:
        runs = [run for run in plan.runs if run.setting == setting and is_complete(run.directory, run.experiment)]
        analyzed = [run for run in runs if all((run.directory / file).exists() for file in files)]
        yield setting.name, [record.read(run.directory) for run in analyzed]
