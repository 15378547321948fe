"""Two runs side by side: the paired bootstrap, the table, and what is refused."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnlab import cli
from attnlab.analysis.significance import crossed_difference, holm, seeds_difference
from attnlab.config.load import load, resolved
from attnlab.results import varied
from attnlab.results.per_example import PerExampleScores, read_per_example, write_per_example
from attnlab.results.step_cost import BatchCost, StepCost, read_cost, write_cost
from attnlab.tasks.bootstrap import draws, interval, paired_difference
from attnlab.tasks.captioning.metrics import caption_scores
from attnlab.tasks.captioning.task import CaptioningTask
from attnlab.tasks.classification.metrics import classification_scores
from attnlab.tasks.classification.task import ClassificationTask
from attnlab.tasks.translation.metrics import translation_scores
from attnlab.tasks.translation.task import TranslationTask

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ENVIRONMENT = {
    "attnlab": "0.1.0", "commit": None, "dirty": None, "packages": {"jax": "0.10.2"}, "devices": ["cpu: cpu"],
    "cores": 1, "fingerprint": {"data": "d" * 64}, "interruptions": [],
}  # fmt: skip


def test_a_draw_has_as_many_examples_as_there_are_and_an_interval_is_of_its_scores():
    found = list(draws(50, resamples=200))
    assert all(len(rows) == 50 and rows.min() >= 0 and rows.max() < 50 for rows in found)
    assert len({tuple(rows) for rows in found}) == 200
    values = np.arange(50.0)
    means = sorted(values[rows].mean() for rows in found)
    low, high = interval(values, resamples=200)
    assert means[3] <= low <= means[6]
    assert means[-7] <= high <= means[-4]
    assert interval(values, lambda rows: rows.max() + 1) == [pytest.approx(47, abs=2), 50.0]


def test_a_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    better = 100.0 * (hard < 0.60)
    worse = 100.0 * (hard < 0.55)  # right only where the other is
    found = paired_difference(better, worse)
    assert found.difference == better.mean() - worse.mean() == pytest.approx(found.first - found.second)
    assert 0 < found.low < found.difference < found.high
    assert found.p == pytest.approx(2 / 1001)
    assert interval(better)[0] < interval(worse)[1]  # apart from one another they overlap
    back = paired_difference(worse, better)
    assert (back.difference, back.low, back.high, back.p) == (-found.difference, -found.high, -found.low, found.p)
    same = paired_difference(better, better)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert paired_difference(better, rng.permutation(better)).p > 0.05
    with pytest.raises(ValueError, match="of the same examples"):
        paired_difference(better, worse[1:])


def test_corpus_scores_equal_those_of_per_example_statistics():
    sentences = ["the cat sat on the mat", "a dog ran after the red ball", "it Rains"]
    hypotheses = ["the cat sat on a mat", "a dog ran after the ball", "it rains"]
    scores = translation_scores(hypotheses, sentences)
    assert set(scores["per_example"]) == {"bleu", "bleu_lowercase", "chrf", "exact_match"}
    for name, rows in scores["per_example"].items():
        assert TranslationTask.aggregate(name, rows) == pytest.approx(scores[name], abs=1e-5)
        part = translation_scores(hypotheses[1:], sentences[1:])
        assert TranslationTask.aggregate(name, rows[1:]) == pytest.approx(part[name], abs=1e-5)
    scores = caption_scores(hypotheses, [[one, "the dog"] for one in sentences])
    assert set(scores["per_example"]) == {"bleu_4", "cider_d", "rouge_l", "exact_match"}
    for name, rows in scores["per_example"].items():
        assert CaptioningTask.aggregate(name, rows) == pytest.approx(scores[name], abs=1e-5)


@pytest.fixture
def make(tmp_path: Path):
    """Write the files of a run that is trained and evaluated."""

    def made(
        name: str, each: Any, *overrides: str, file: str = "classification/synthetic_sentiment_dot", **changes: Any
    ) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "checkpoints").mkdir()
        (directory / "config.yaml").write_text(resolved(load(EXPERIMENTS / f"{file}.yaml", [*overrides])))
        steps = load(directory / "config.yaml").training.steps
        (directory / "metrics.jsonl").write_text(json.dumps({"step": steps}) + "\n")
        scores = {split: changes.pop("results", {}) if split == "test" else {} for split in each}
        (directory / "results.json").write_text(json.dumps(scores))
        for split, one in each.items():
            if one:
                rows = {metric: np.asarray(values) for metric, values in one.items()}
                write_per_example(directory, split, PerExampleScores(changes.pop("examples", "same"), rows))
        (directory / "environment.json").write_text(json.dumps(ENVIRONMENT | changes))
        return directory

    return made


def test_of_few_examples_there_is_no_interval_and_of_one_no_p(make, capsys: pytest.CaptureFixture[str]):
    for count, p in ((1, "—"), (4, "0.125"), (19, "0.002")):
        runs = [
            make(f"{name}{count}", {"test": {"accuracy": [score] * count}})
            for name, score in (("a", 100.0), ("b", 0.0))
        ]
        code, out, _ = told(capsys, *runs)
        assert code == 0
        assert f"| test | accuracy | `a{count}` − `b{count}` | +100.0 ‡ | {p} |" in out.splitlines()
        assert "No interval: fewer than 20 examples (test)." in out


def test_what_has_no_score_is_named_with_the_reason(make, capsys: pytest.CaptureFixture[str]):
    scores = translation_scores(["July 27"] * 20, ["July 27"] * 20)
    each = {score: rows.tolist() for score, rows in scores.pop("per_example").items()}
    runs = [make(name, {"test": each}, file="translation/dates_dot", results=dict(scores)) for name in ("one", "other")]
    code, out, _ = told(capsys, *runs)
    assert code == 0
    assert "Not compared: BLEU, cased of test: no reference has 4 tokens" in out
    assert "| test | BLEU" not in out
    assert "| test | chrF2 | `one` − `other` | +0.0 [+0.0, +0.0] ‡ | 1.000 |" in out


def told(capsys: pytest.CaptureFixture[str], *runs: Path) -> tuple[int, str, str]:
    code = cli.main(["compare", *map(str, runs)])
    return code, *capsys.readouterr()


def test_the_table_tells_scores_differences_and_settings(make, capsys: pytest.CaptureFixture[str]):
    one = make(
        "wide", {"test": {"accuracy": [100.0] * 30 + [0.0] * 10}, "dev": {}}, "model.dropout=0.4", commit="1" * 9
    )
    other = make("plain", {"test": {"accuracy": [100.0] * 20 + [0.0] * 20}, "dev": {"accuracy": [0.0]}})
    code, out, _ = told(capsys, one, other)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "| test set | group | seeds | accuracy |"
    assert lines[2].startswith("| test | `wide` | 1 | 75.0 [")
    assert lines[3].startswith("| test | `plain` | 1 | 50.0 [")
    (difference,) = (text for text in lines if "`wide` − `plain`" in text)
    assert difference.startswith("| test | accuracy | `wide` − `plain` | +25.0 [+12.5, +")
    assert difference.endswith("‡ | 0.002 |")
    assert "not for other seeds, as there is a single run" in out
    start = lines.index("The configs differ in 1 setting:")
    assert lines[start + 2] == "- `model.dropout`: 0.4 vs. 0.2"
    assert "The environments differ: commit 1111111 vs. attnlab 0.1.0." in lines
    assert "The cost of a step is unknown for 2 group(s): `attnlab cost " in out
    same = told(capsys, other, other)[1]
    assert "configs are equal" in same
    assert f"`{other}` − `{other}` | +0.0 [" in same


def test_corpus_scores_are_compared_by_their_counts(make, capsys: pytest.CaptureFixture[str]):
    right, wrong = ["a b c d e", "the red cat sat down"] * 10, ["a b c d x", "the red cat sat down"] * 10
    runs = []
    for name, texts in {"right": right, "wrong": wrong}.items():
        scores = translation_scores(texts, right)
        each = {score: rows.tolist() for score, rows in scores.pop("per_example").items()}
        runs.append(make(name, {"test": each}, file="translation/dates_dot", results=scores))
    code, out, _ = told(capsys, *runs)
    assert code == 0
    bleu = scores["bleu"]
    assert f"| test | BLEU, cased | `right` − `wrong` | +{100 - bleu:.1f} [" in out
    assert "| test | exact match | `right` − `wrong` | +50.0 [" in out


def test_macro_f1_is_made_of_answers():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), 50), rng.integers(3, size=50)
    scores = classification_scores(probabilities, labels, 10)
    for name, rows in scores["per_example"].items():
        assert ClassificationTask.aggregate(name, rows) == pytest.approx(scores[name])


@pytest.mark.parametrize(
    ("changes", "each", "said"),
    [
        ({"examples": "other"}, {"test": {"accuracy": [1.0]}}, "the examples of test differ"),
        (
            {"file": "translation/dates_dot"},
            {"test": {"bleu": [1.0]}},
            "different tasks: .*one .* classification, .*other .* translation",
        ),
        ({}, {"dev": {"accuracy": [1.0]}}, "no test set in common: .* on test; .* on dev"),
        ({}, {"test": {}}, "other: has no per_example/test.npz; attnlab evaluate .*other --split test"),
        (
            {"results": {"accuracy": 55.5}},
            {"test": {"accuracy": [1.0]}},
            "per_example/test.npz: .*; attnlab evaluate .*other --split test",
        ),
        (
            {},
            {"test": {"accuracy": [float("nan")]}},
            "per_example/test.npz: .*; delete it and evaluate again",
        ),
        ({}, {"test": {"accuracy": []}}, "per_example/test.npz: .*; delete it and evaluate again"),
    ],
)
def test_incomparable_runs_are_reported_in_one_line(
    make, capsys: pytest.CaptureFixture[str], changes: dict, each: dict, said: str
):
    one, other = make("one", {"test": {"accuracy": [1.0]}}), make("other", each, **changes)
    code, out, err = told(capsys, one, other)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.search(said, err)


@pytest.mark.parametrize("content", [b"", b"PK", b"{}", "same"])
def test_a_damaged_file_of_per_example_scores_is_one_line(make, capsys: pytest.CaptureFixture[str], content):
    one, other = (make(name, {"test": {"accuracy": [1.0]}}) for name in ("one", "other"))
    path = other / "per_example/test.npz"
    content = path.read_bytes()[:-9] if content == "same" else content
    path.write_bytes(content)
    code, out, err = told(capsys, one, other)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(rf"{path}: .*; delete it and evaluate again", err)


def test_per_example_scores_come_back_exactly_and_equal_ones_as_equal_bytes(tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = {
        "right": 100.0 * rng.integers(2, size=25_000), "counts": rng.integers(0, 300, (50, 10)).astype(float),
        "halves": rng.integers(9, size=7) / 2, "any": rng.random(5), "negative": np.array([-1.0, 70_000.0]),
    }  # fmt: skip
    written = [
        write_per_example(tmp_path / name, "test", PerExampleScores("e" * 64, rows)).read_bytes() for name in ("a", "b")
    ]
    found = read_per_example(tmp_path / "a", "test")
    assert written[0] == written[1]
    assert len(written[0]) < 10_000
    assert found.examples == "e" * 64
    assert found.rows.keys() == rows.keys()
    assert all(np.array_equal(found.rows[name], rows[name]) for name in rows)


def seeds(make, name: str, scores: list[list[float]], *overrides: str) -> list[Path]:
    return [
        make(f"{name}-s{n}", {"test": {"accuracy": rows}}, f"seed={n}", *overrides) for n, rows in enumerate(scores, 1)
    ]


def right(share: int) -> list[float]:
    return [100.0] * share + [0.0] * (40 - share)


def test_groups_are_compared_by_the_means_over_their_seeds(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wide = seeds(make, "wide", [right(30), right(34)], "model.dropout=0.4")
    plain = seeds(make, "plain", [right(20), right(18), right(22)])
    code, out, _ = told(capsys, *wide, Path("--against"), *plain)
    assert code == 0
    lines = out.splitlines()
    assert "| 1, 2 | 80.0 ± 7.1 [" in lines[2]
    assert "| 1, 2, 3 | 50.0 ± 5.0 [" in lines[3]
    scores = [np.array([right(share) for share in shares]) for shares in ((30, 34), (20, 18, 22))]
    low, high = crossed_difference(*scores).interval()
    assert f"| +30.0 [{low:+.1f}, {high:+.1f}] |" in out
    assert "for other seeds and other examples" in out
    assert "Scores are mean ± standard deviation over the seeds" in out
    assert "- `model.dropout`: 0.4 vs. 0.2" in lines
    assert "`seed`" not in out
    assert "| -30.0 [" in told(capsys, *plain[:1], *wide, *plain[1:])[1], "the group of the first run comes first"
    assert told(capsys, tmp_path / "wide-s*", tmp_path / "plain-s[123]")[1] == out
    folder = tmp_path / "sweep"
    folder.mkdir()
    for run in (*wide, *plain):
        run.rename(folder / run.name)
    assert "| -30.0 [" in told(capsys, folder)[1], "a directory of runs holds several groups"


def test_a_value_of_every_run_is_enough_for_an_interval_over_seeds(make, capsys: pytest.CaptureFixture[str]):
    runs = []
    for name, values, changes in (("wide", (80.0, 84.0, 85.0), ["model.dropout=0.4"]), ("plain", (70.0, 76.0), [])):
        for seed, value in enumerate(values, 1):
            given = {"results": {"accuracy": value}}
            runs.append(make(f"{name}-s{seed}", {"test": {}}, f"seed={seed}", *changes, **given))
    code, out, _ = told(capsys, *runs)
    assert code == 0
    low, high = seeds_difference(np.array([80.0, 84.0, 85.0]), np.array([70.0, 76.0])).interval()
    assert f"| +10.0 [{low:+.1f}, {high:+.1f}] † |" in out
    assert "for other seeds on the same examples" in out


def test_several_groups_are_corrected_and_compared_with_a_baseline(make, tmp_path: Path, capsys):
    shares = {"0.1": (30, 31, 33), "0.2": (28, 33, 30), "0.4": (20, 22, 19)}
    for dropout, group in shares.items():
        override = f"model.dropout={dropout}"
        for seed, share in enumerate(group, 1):
            make(
                f"runs-{dropout}-s{seed}", {"test": {"accuracy": right(share)}}, override, f"seed={seed}",
                overrides=[override, f"seed={seed}"],
            )  # fmt: skip
    code, out, err = told(capsys, tmp_path / "runs-*", Path("--out"), tmp_path / "out")
    assert code == 0
    assert err.count("written: ") == 4
    assert "| comparison | difference | p | p (Holm) | g | detectable |" in out
    assert "is corrected for the 3 comparisons" in out
    assert out.count("| `dropout=0.1` − `dropout=0.4` |") == 1
    saved = json.loads((tmp_path / "out/comparison.json").read_text())
    found = saved["differences"]
    assert [entry["p_holm"] for entry in found] == pytest.approx(holm([entry["p"] for entry in found]).tolist())
    assert saved["varied"] == {"model.dropout": ["0.1", "0.2", "0.4"]}
    assert [group["seeds"] for group in saved["groups"]] == [[1, 2, 3]] * 3
    assert (tmp_path / "out/comparison.md").read_text() == out
    page = (tmp_path / "out/comparison.html").read_text()
    assert page.count("<table>") == 3
    assert 'src="data:image/png;base64,' in page
    assert "attnlab compare" in page
    assert "http" not in page.replace("http-equiv", "")
    against = told(capsys, tmp_path / "runs-*", Path("--against"), tmp_path / "runs-0.4-*")[1]
    assert "is corrected for the 2 comparisons" in against
    assert against.count("− `dropout=0.4` |") == 2
    assert "`dropout=0.1` − `dropout=0.2`" not in against


def test_other_differences_are_refused(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = {"test": {"accuracy": right(20)}}
    plain = make("plain", rows)
    both = make("both", rows, "model.dropout=0.4", "training.steps=90")
    swept = [make(name, rows, *given, overrides=given) for name, given in (
        ("a", ["model.dropout=0.1", "training.steps=80"]), ("b", ["model.dropout=0.3", "training.steps=70"]),
    )]  # fmt: skip
    other = make("c", rows, "model.dropout=0.3", "training.patience=3", overrides=["model.dropout=0.3"])
    data = make("data", rows, fingerprint={"data": "e" * 64})
    for pair, said in (
        ((plain, both), r"plain and both differ in more than one setting: model.dropout: 0.2 vs. 0.4; training.steps:"),
        ((swept[0], other), r"a and c differ in more than model.dropout: training.steps: .*; training.patience: "),
    ):
        code, out, err = told(capsys, *pair)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert re.search(said, err), err
        assert "--allow-differences" in err
        assert told(capsys, *pair, Path("--allow-differences"))[0] == 0
    assert told(capsys, *swept)[0] == 0, "what both runs override is varied"
    assert told(capsys, plain, data)[0] == 0, "data alone may be what is compared"
    assert "fingerprint of the data" in told(capsys, both, data)[2]


def test_the_cost_of_a_step_is_in_the_table(make, capsys: pytest.CaptureFixture[str]):
    runs = [make(name, {"test": {"accuracy": right(20)}}, f"model.dropout={name}") for name in ("0.1", "0.3")]
    batch = BatchCost(8, 12, 1, 5, 2_000_000, 2_500_000, 4_000_000, 0.02, 90)
    cost = StepCost(12_345, (batch,), "texts", 0, 1, "a machine", "0.10.2")
    write_cost(runs[0], cost)
    assert read_cost(runs[0]) == cost
    out = told(capsys, *runs)[1]
    assert "| group | training | parameters | FLOPs a step | peak memory | seconds a step | texts a second |" in out
    assert "| `0.1` | 0 s | 12,345 | 2.50 M | 4.00 MB | 0.02 | 4,500 |" in out
    assert "| `0.3` | 0 s | — | — | — | — | — |" in out
    (runs[0] / "cost.json").write_text('{"parameters": 3}')
    code, _, err = told(capsys, *runs)
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(r"cost.json: was not written by attnlab cost .*; attnlab cost .*/0.1/config.yaml", err)


def test_two_seeds_of_one_config_are_compared_as_two_runs(make, capsys: pytest.CaptureFixture[str]):
    first, second = seeds(make, "plain", [right(30), right(20)])
    code, out, _ = told(capsys, first, second)
    assert code == 0
    assert "| `plain-s1` − `plain-s2` | +25.0 [" in out
    assert "- `seed`: 1 vs. 2" in out.splitlines()


def test_runs_that_cannot_be_grouped_are_refused(make, capsys: pytest.CaptureFixture[str]):
    plain = seeds(make, "plain", [[1.0] * 20, [1.0] * 20])
    (wide,) = seeds(make, "wide", [[1.0] * 20], "model.dropout=0.4")
    again = make("again", {"test": {"accuracy": [1.0] * 20}}, "seed=1")
    other = make("other", {"test": {"accuracy": [1.0] * 20}}, "seed=4", examples="other")
    for runs, said in (
        ((plain[0], again, wide), rf"{again} and {plain[0]}: the same experiment with the same seed"),
        ((plain[0], other, wide), rf"{plain[0]} and {other}: the examples of test differ"),
        ((plain[0], plain[1], other), r"compare needs two groups of runs; these are one: "),
        ((plain[0], Path("--against"), plain[1]), r"compare needs two groups of runs; these are one: "),
        ((plain[0],), r"compare needs two runs or groups"),
    ):
        code, out, err = told(capsys, *runs)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert re.search(said, err), err


def test_what_was_saved_of_a_run_is_no_run(make, capsys: pytest.CaptureFixture[str]):
    one, other = make("one", {"test": {"accuracy": [1.0]}}), make("other", {"test": {}})
    (other / "checkpoints").rmdir()
    code, _, err = told(capsys, one, other)
    assert code == 2
    assert re.search(r"other: .*per_example/test.npz .* cannot|other: per_example/test.npz was not archived", err)
    assert f"attnlab train {other}/config.yaml --out runs/other" in err


def test_the_guide_of_frozen_weights_explains_the_fingerprint_of_its_run():
    def group(base: str | None) -> Any:
        fingerprint = {"data": "d"} | ({} if base is None else {"base": base})
        return SimpleNamespace(runs=[SimpleNamespace(environment={"fingerprint": fingerprint})])

    for places in (["model.pooling"], ["model.pooling.run"], ["task.objective.base"]):
        assert list(varied._inputs(group("a"), group("b"), places)) == []
    assert [name for name, *_ in varied._inputs(group(None), group("b"), ["model.dropout"])] == [
        "fingerprint of the base"
    ]
