"""Two runs side by side: the paired bootstrap, the table, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlab import cli
from attnlab.config.load import load, resolved
from attnlab.results.per_example import PerExampleScores, read_per_example, write_per_example
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
        assert f"| test | accuracy | 100.0 | 0.0 | +100.0 | {p} |" in out.splitlines()
        assert "No interval: fewer than 20 examples (test)." in out


def test_what_has_no_score_is_named_with_the_reason(make, capsys: pytest.CaptureFixture[str]):
    scores = translation_scores(["July 27"] * 20, ["July 27"] * 20)
    each = {score: rows.tolist() for score, rows in scores.pop("per_example").items()}
    runs = [make(name, {"test": each}, file="translation/dates_dot", results=dict(scores)) for name in ("one", "other")]
    code, out, _ = told(capsys, *runs)
    assert code == 0
    assert "Not compared: BLEU, cased of test: no reference has 4 tokens" in out
    assert "| test | BLEU" not in out
    assert "| test | chrF2 | 100.0 | 100.0 |" in out


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
    assert lines[0] == "| test set | metric | `wide` | `plain` | difference | p |"
    assert lines[2].startswith("| test | accuracy | 75.0 | 50.0 | +25.0 [+12.5, +")
    assert lines[2].endswith("| 0.002 |")
    assert lines[4] == "Not compared: dev, without per-example scores."
    assert lines[6:9] == ["The configs differ in 1 setting:", "", "- `model.dropout`: 0.4 vs. 0.2"]
    assert lines[10] == "The environments differ: commit 1111111 vs. attnlab 0.1.0."
    assert "not for the choice of the seed" in lines[-1]
    same = told(capsys, other, other)[1]
    assert "configs are equal" in same
    assert f"| `{other}` | `{other}` |" in same


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
    assert f"| test | BLEU, cased | 100.0 | {bleu:.1f} | +{100 - bleu:.1f} [" in out
    assert "exact match | 100.0 | 50.0 | +50.0 [" in out


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
        ({}, {"dev": {"accuracy": [1.0]}}, "no test set in common: .* on test, .* on dev"),
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


def test_groups_are_compared_by_the_means_over_their_seeds(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wide = seeds(make, "wide", [[100.0] * 30 + [0.0] * 10, [100.0] * 34 + [0.0] * 6], "model.dropout=0.4")
    plain = seeds(make, "plain", [[100.0] * 20 + [0.0] * 20, [100.0] * 18 + [0.0] * 22, [100.0] * 22 + [0.0] * 18])
    code, out, _ = told(capsys, *wide, Path("--to"), *plain)
    assert code == 0
    lines = out.splitlines()
    assert "(seeds 1, 2) |" in lines[0]
    assert "(seeds 1, 2, 3) |" in lines[0] or "plain-s1" in lines[0]
    assert "| 80.0 ± 7.1 | 50.0 ± 5.0 | +30.0 [+" in lines[2]
    assert "mean ± standard deviation over the seeds" in out
    assert "- `model.dropout`: 0.4 vs. 0.2" in lines
    assert "`seed`" not in out
    assert told(capsys, *plain[:1], *wide, *plain[1:])[1].count("+30.0") == 0, "the group of the first run comes first"
    assert "| 50.0 ± 5.0 | 80.0 ± 7.1 | -30.0 [" in told(capsys, *plain[:1], *wide, *plain[1:])[1]
    assert told(capsys, tmp_path / "wide-s*", tmp_path / "plain-s[123]")[1] == out
    for group in (wide, plain):
        folder = tmp_path / group[0].name.removesuffix("-s1")
        folder.mkdir()
        for run in group:
            run.rename(folder / run.name)
    assert "| 80.0 ± 7.1 | 50.0 ± 5.0 | +30.0 [" in told(capsys, tmp_path / "wide", tmp_path / "plain")[1]


def test_two_seeds_of_one_config_are_compared_as_two_runs(make, capsys: pytest.CaptureFixture[str]):
    first, second = seeds(make, "plain", [[100.0] * 30 + [0.0] * 10, [100.0] * 20 + [0.0] * 20])
    code, out, _ = told(capsys, first, second)
    assert code == 0
    assert "| 75.0 | 50.0 | +25.0 [" in out
    assert "- `seed`: 1 vs. 2" in out.splitlines()


def test_runs_of_different_configs_are_refused_with_the_difference(make, capsys: pytest.CaptureFixture[str]):
    plain = seeds(make, "plain", [[1.0] * 20, [1.0] * 20])
    (wide,) = seeds(make, "wide", [[1.0] * 20], "model.dropout=0.4")
    again = make("again", {"test": {"accuracy": [1.0] * 20}}, "seed=1")
    data = make("data", {"test": {"accuracy": [1.0] * 20}}, "seed=3", fingerprint={"data": "e" * 64})
    other = make("other", {"test": {"accuracy": [1.0] * 20}}, "seed=4", examples="other")
    for runs, said in (
        ((plain[0], wide, Path("--to"), plain[1]), rf"{plain[0]} and {wide}.* model.dropout: 0.2 and 0.4"),
        ((plain[0], data, Path("--to"), wide), rf"{plain[0]} and {data}.* data: d+ and e+"),
        ((plain[0], again, Path("--to"), wide), rf"{again} and {plain[0]}: the same experiment with the same seed"),
        ((plain[0], other, Path("--to"), wide), rf"{plain[0]} and {other}: the examples of test differ"),
        ((plain[0], plain[1], other), r"have 1: .*--to"),
        ((plain[0], wide, data), rf"have 3: {plain[0]}; {wide}; {data}; .*--to"),
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
