"""Claims: the rule of the verdict, effects of made-up runs, pages, the files of the claims, and the command."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attnlab import cli
from attnlab.analysis.significance import crossed_contrast, crossed_difference, independent_sum, seeds_mean
from attnlab.claims import claims
from attnlab.claims.effects import effects
from attnlab.claims.evidence import Sample, total
from attnlab.claims.page import MARKS, generated
from attnlab.claims.plans import Version, find_claims
from attnlab.claims.verdict import Effect, Verdict, verdict
from attnlab.config import catalog
from attnlab.config.claim import read_claim
from attnlab.config.claim_effects import Difference
from attnlab.config.errors import UserError
from attnlab.config.load import resolved
from attnlab.results import marked_text
from attnlab.results.per_example import PerExampleScores, write_per_example

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "experiments/studies/claims").glob("*.yaml"))
ENVIRONMENT = {
    "attnlab": "0.1.0", "commit": None, "dirty": None, "packages": {"jax": "0.10.2"}, "devices": ["cpu: cpu"],
    "cores": 1, "fingerprint": {"data": "d" * 64}, "interruptions": [],
}  # fmt: skip
CLAIM = f"""
number: 1
claim: Dot products are better.
question: Are they?
design: Two settings of a classifier.
change: Nothing.
studies:
  scores:
    base: {ROOT}/experiments/classification/synthetic_sentiment_dot.yaml
    axes: {{model.pooling.attention.score.kind: [dot, general]}}
    seeds: 1-4
    quick: {{axes: {{model.pooling.attention.score.kind: [dot]}}}}
effects:
  - kind: difference
    label: dot minus general
    terms:
      - {{of: scores/score=dot, metric: accuracy}}
      - {{of: scores/score=general, metric: accuracy, times: -1}}
    at_least: 5
    unit: points
  - kind: difference
    label: dot minus its majority
    terms: [{{of: scores/score=dot, metric: accuracy}}, {{of: scores/score=dot, metric: majority, times: -1}}]
    at_least: 5
    unit: points
figure:
  - kind: runs
    title: accuracy (%)
    series: [{{study: scores, metric: accuracy}}]
"""


def effect(value: float | None, low: float = 0.0, high: float = 0.0, **fields) -> Effect:
    known = {"label": "it", "at_least": 1.0, "replicates": 3} | fields
    return Effect(value=value, interval=None if value is None else (low, high), **known)


HOLDS, FAILS, UNDECIDED = effect(2, 1.0, 3), effect(0, -1, 0.9), effect(1, 0.5, 1.5)


class TestVerdict:
    @pytest.mark.parametrize(
        ("found", "word"),
        [
            ([HOLDS, HOLDS], "holds"),
            ([FAILS, FAILS], "does not hold"),
            ([HOLDS, FAILS], "depends on"),
            ([HOLDS, FAILS, UNDECIDED], "depends on"),
            ([HOLDS, UNDECIDED], "undecided"),
            ([FAILS, UNDECIDED], "undecided"),
            ([HOLDS, effect(None)], "not run yet"),
            ([HOLDS, effect(2, 1, 3, replicates=2)], "too few seeds for a verdict"),
            ([HOLDS, effect(0, -1, 0, claimed=False)], "holds"),
            ([HOLDS, effect(None, claimed=False)], "holds"),
            ([effect(0, claimed=False)], "not run yet"),
        ],
    )
    def test_it_rests_on_the_intervals_of_what_is_claimed(self, found: list[Effect], word: str):
        assert verdict(found).word == word

    def test_none_rests_on_the_quick_version(self):
        assert verdict([HOLDS], quick=True).word == "too few seeds for a verdict"

    @pytest.mark.parametrize(
        ("ends", "outcome"),
        [((-3, -1), "holds"), ((1, 2), "holds"), ((-0.9, 0.9), "does not hold"), ((-1, 0.5), "undecided")],
    )
    def test_a_difference_in_either_direction_counts(self, ends: tuple[float, float], outcome: str):
        assert effect(0, *ends, two_sided=True).outcome == outcome

    def test_without_an_interval_an_effect_is_undecided(self):
        assert Effect("it", 5.0, None, 1.0, 1).outcome == "undecided"

    def test_the_reason_names_the_conditions(self):
        other = effect(0, -1, 0.5, label="elsewhere")
        assert verdict([HOLDS, other]).reason == "As claimed: it. Not as claimed: elsewhere."
        assert verdict([HOLDS, HOLDS]) == Verdict("holds")


class TestTotal:
    first, second = np.random.default_rng(0).normal(size=(2, 4, 50)) + np.arange(4.0)[:, None]

    def test_groups_with_the_same_examples_are_crossed(self):
        found = total([self._sample(self.first), self._sample(self.second).times(-1.0)])
        assert found.value == pytest.approx(self.first.mean() - self.second.mean())
        assert found.interval == pytest.approx(crossed_difference(self.first, self.second).interval())
        assert (found.basis, found.replicates) == ("seeds and examples", 4)

    def test_groups_with_other_examples_are_not(self):
        found = total([self._sample(self.first), self._sample(self.second, "others").times(-1.0)])
        parts = [seeds_mean(self.first.mean(axis=1)), seeds_mean(-self.second.mean(axis=1))]
        assert found.interval == pytest.approx(independent_sum(parts).interval())
        assert found.basis == "seeds"

    def test_metrics_of_the_same_runs_are_paired(self):
        found = total([self._sample(self.first) + self._sample(self.first + 1.0).times(-1.0)])
        assert found.value == pytest.approx(-1.0)
        assert found.interval == pytest.approx((-1.0, -1.0))

    def test_four_groups_are_a_difference_of_differences(self):
        groups = [self.first, self.second, self.first + 3.0, self.second]
        estimate = crossed_contrast(groups, [1.0, -1.0, -1.0, 1.0])
        assert estimate.value == pytest.approx(-3.0)
        with pytest.raises(ValueError, match="same items, not 50 and 49"):
            crossed_contrast([self.first, self.second[:, 1:]], [1.0, -1.0])

    def _sample(self, items: np.ndarray, examples: str = "same") -> Sample:
        return Sample(items.mean(axis=1), items, examples)


class TestFiles:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
    def test_a_claim_has_a_card_and_its_effects_are_of_settings_that_exist(self, path: Path):
        card = path.read_text().splitlines()[:3]
        assert card[0].endswith("?")
        assert card[1] == f"# attnlab claims {path.stem}"
        assert "minutes" in card[2] or "hour" in card[2]
        claim = read_claim(path)
        for quick in (False, True):
            evidence = Version(Path("nowhere"), quick).evidence(claim)
            assert any(found.claimed for found in effects(claim, evidence))
        assert any(isinstance(part, Difference) for part in claim.effects) == bool(claim.studies)

    def test_names_and_numbers_differ(self):
        found = [read_claim(path) for path in FILES]
        assert sorted(claim.number for claim in found) == list(range(1, len(FILES) + 1))
        names = [name for claim in found for name in (*claim.studies, *claim.costs)]
        assert len(names) == len(set(names))

    def test_the_catalog_tells_claims_from_studies(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(ROOT)
        assert [ROOT / path for path, _ in catalog.claims()] == FILES
        assert not {path for path, _ in catalog.studies()} & {path for path, _ in catalog.claims()}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("scores/score=dot", "score/score=dot", r"mine\.yaml:1[34]: effects\.0: no study score; valid: scores"),
            ("at_least: 5", "at_lest: 5", r"mine\.yaml:19: effects\.0\.at_lest: unknown key; did you mean at_least\?"),
            ("claim: Dot", "claims: Dot", r"mine\.yaml: is not a claim"),
            (
                "    seeds: 1-4",
                "    match: {field: model.width}\n    seeds: 1-4",
                r"mine\.yaml:\d+: studies\.scores: match: ",
            ),
        ],
    )
    def test_a_mistake_has_its_place(self, tmp_path: Path, old: str, new: str, message: str):
        path = tmp_path / "mine.yaml"
        path.write_text(CLAIM.replace(old, new, 1))
        with pytest.raises(UserError, match=message):
            read_claim(path)

    @pytest.mark.parametrize(
        ("of", "message"),
        [
            ("second: ad", "effects.0: paid has no variant ad; valid: dot, additive"),
            ("length: 65", "effects.0: paid has no length 65; valid: 64, 128"),
            ("length: 64, width: 16", "effects.0: paid has no length 64 at width 16: one of them must be the largest"),
            ("mode: forward_backward", "effects.0: paid has no mode forward_backward; valid: forward"),
        ],
    )
    def test_a_case_that_is_not_measured_is_named(self, tmp_path: Path, of: str, message: str):
        given = {"first": "dot", "second": "additive", "mode": "forward"}
        given |= dict(part.split(": ") for part in of.split(", "))
        text = "\n".join(f"    {key}: {value}" for key, value in given.items())
        cost = "{variants: {dot: full, additive: additive}, lengths: [64, 128], widths: [16, 64], modes: [forward], "
        cost += "quick: {lengths: [64], widths: [16]}}"
        path = tmp_path / "mine.yaml"
        effect = f"effects:\n  - kind: ratio\n    label: time\n    cost: paid\n    at_least: 1\n{text}\n"
        path.write_text(CLAIM.replace("effects:\n", f"costs:\n  paid: {cost}\n{effect}", 1))
        with pytest.raises(UserError, match=re.escape(message)):
            read_claim(path)

    def test_the_quick_version_names_axes_that_exist(self, tmp_path: Path):
        path = tmp_path / "mine.yaml"
        path.write_text(CLAIM.replace("quick: {axes: {model.pooling.", "quick: {axes: {model.poling."))
        with pytest.raises(UserError, match=r"scores: quick\.axes: no axis model\.poling\..* valid: model\.pooling\."):
            read_claim(path).studies["scores"].quick_study()

    @pytest.mark.slow
    def test_a_setting_or_metric_that_does_not_exist_is_named(self, tmp_path: Path):
        path, runs = tmp_path / "mine.yaml", made_up(tmp_path, [90, 91, 92, 93], [50, 51, 52, 53])
        for old, new, message in (
            ("scores/score=dot", "scores/score=dt", "no setting score=dt; valid: score=dot, score=general"),
            ("metric: accuracy}\n", "metric: accurac}\n", "no metric accurac of test; valid: accuracy, majority"),
        ):
            path.write_text(CLAIM.replace(old, new, 1))
            with pytest.raises(UserError, match=message):
                effects(read_claim(path), Version(runs).evidence(read_claim(path)))
        path.write_text(CLAIM.replace("kind: [dot]", "kind: [dt]"))
        with pytest.raises(UserError, match=r"quick\.axes.*no point dt; valid: dot, general"):
            Version(runs, quick=True).plans(read_claim(path))

    def test_a_claim_is_not_trained_or_swept(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        (tmp_path / "mine.yaml").write_text(CLAIM)
        for command in ("train", "sweep"):
            assert cli.main([command, str(tmp_path / "mine.yaml")]) == 2
            assert "is a claim about attention, not an experiment: attnlab claims mine" in capsys.readouterr().err


def made_up(folder: Path, *groups: list[float]) -> Path:
    """Write the runs of the study of `CLAIM` with accuracies that are made up; return the directory of its studies."""
    items = np.random.default_rng(0).random(200)
    (folder / "made.yaml").write_text(CLAIM)
    plan = Version(folder / "runs").plans(read_claim(folder / "made.yaml"))["scores"].plan
    assert plan is not None
    for run in plan.runs:
        score = groups[plan.settings.index(run.setting)][run.seed - 1]
        run.directory.mkdir(parents=True)
        (run.directory / "config.yaml").write_text(resolved(run.experiment))
        log = {"step": run.experiment.training.steps, "seconds": 9.0}
        (run.directory / "metrics.jsonl").write_text(json.dumps(log) + "\n")
        rows = 100.0 * (items < score / 100.0)
        results = {"test": {"accuracy": rows.mean(), "majority": 50.0}}
        (run.directory / "results.json").write_text(json.dumps(results))
        write_per_example(run.directory, "test", PerExampleScores("same", {"accuracy": rows}))
        (run.directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    return folder / "runs"


class TestPages:
    @pytest.mark.slow
    def test_a_page_shows_what_was_found_and_keeps_what_is_written_by_hand(self, tmp_path: Path):
        version = Version(made_up(tmp_path, [90, 91, 92, 93], [50, 51, 52, 53]))
        claim = read_claim(tmp_path / "made.yaml")
        (finding,) = claims.report([claim], version, tmp_path / "out")
        page = tmp_path / "out/made.md"
        text = page.read_text()
        assert "**Verdict: holds.** Dot minus general: +" in text
        assert text.count("| holds |") == 2
        assert "| dot | " in text
        assert "1, 2, 3, 4" in text
        assert (tmp_path / "out/made.png").stat().st_size > 10_000
        assert "[Dot products are better.](made.md) | **holds** |" in (tmp_path / "out/index.md").read_text()
        page.write_text(text.replace("Two settings", "By hand: two settings").replace("holds", "does not hold"))
        claims.report([claim], version, tmp_path / "out")
        assert page.read_text() == text.replace("Two settings", "By hand: two settings")
        assert finding.verdict.word == "holds"

    def test_without_runs_nothing_is_claimed(self, tmp_path: Path):
        (tmp_path / "made.yaml").write_text(CLAIM)
        (finding,) = claims.report([read_claim(tmp_path / "made.yaml")], Version(tmp_path / "runs"), tmp_path / "out")
        assert finding.verdict.word == "not run yet"
        assert "Of the study scores, 0 of 8 runs are complete." in generated(finding, "runs")
        assert not (tmp_path / "out/made.png").exists()

    @pytest.mark.slow
    def test_a_run_whose_analysis_has_failed_is_not_complete(self, tmp_path: Path):
        runs = made_up(tmp_path, [90, 91, 92, 93], [50, 51, 52, 53])
        path = tmp_path / "made.yaml"
        text = CLAIM.replace("    seeds: 1-4\n", "    seeds: 1-4\n    analyses: {alignment: {dev: 2}}\n")
        path.write_text(text.replace("metric: accuracy}", "file: alignment, metric: attention.aer}"))
        first = next((runs / "scores").glob("*score=dot-s1"))
        (first / "alignment.json").write_text(json.dumps({"test": [{"name": "attention", "aer": 20.0}]}))
        (finding,) = claims.report([read_claim(path)], Version(runs), tmp_path / "out")
        assert finding.verdict.word == "not run yet"
        assert "Of the study scores, 1 of 8 runs are complete." in generated(finding, "runs")

    @pytest.mark.slow
    def test_the_quick_version_has_fewer_effects_and_no_verdict(self, tmp_path: Path):
        made_up(tmp_path, [90, 91, 92, 93], [50, 51, 52, 53])
        version = Version(tmp_path / "runs", quick=True)
        (finding,) = claims.report([read_claim(tmp_path / "made.yaml")], version, tmp_path / "out")
        assert [found.label for found in finding.effects] == ["dot minus its majority"]
        text = (tmp_path / "out/made.md").read_text()
        assert "**Verdict: too few seeds for a verdict** (this is the quick version)." in text
        assert "| too few seeds |" in text

    @pytest.mark.slow
    def test_archived_runs_give_the_same_page(self, tmp_path: Path):
        version = Version(made_up(tmp_path, [90, 91, 92, 93], [50, 51, 52, 53]))
        claim = read_claim(tmp_path / "made.yaml")
        claims.report([claim], version, tmp_path / "out")
        claims.save([claim], version, tmp_path / "archive", lambda path: None)
        shutil.rmtree(tmp_path / "runs")
        claims.report([claim], Version(tmp_path / "archive"), tmp_path / "again")
        assert (tmp_path / "again/made.md").read_text() == (tmp_path / "out/made.md").read_text()


def test_an_unknown_claim_is_named(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["claims", "pointin", "--quick"]) == 2
    assert "no claim pointin; did you mean pointing? valid: " in capsys.readouterr().err


@pytest.mark.slow
def test_the_committed_pages_are_those_of_the_archived_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`make claims` changes nothing."""
    monkeypatch.chdir(ROOT)
    found = find_claims()
    for finding in claims.report(found, Version(Path("docs/results/claims")), tmp_path):
        for mark in MARKS:
            committed = marked_text.between(ROOT / "docs/claims" / f"{finding.claim.name}.md", mark)
            assert committed == generated(finding, mark), "wanted? then: make claims"
    committed = marked_text.between(ROOT / "docs/claims/index.md", "claims")
    assert committed == marked_text.between(tmp_path / "index.md", "claims")


@pytest.mark.slow
def test_a_quick_claim_runs_and_goes_on(tmp_path: Path):
    command = [sys.executable, "-m", "attnlab", "claims", "deciding_words", "--quick", "--tiny", "--out", str(tmp_path)]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr
    assert "2 of 2 runs done" in done.stderr
    assert "begins" not in done.stderr
    assert "too few seeds for a verdict" in (tmp_path / "deciding_words.md").read_text()
