"""Tables of results: what stands in them, in which order, which runs are refused, and that the README's can be made."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import cli
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.results import (
    alignment_tables,
    archive,
    divergence_tables,
    faithfulness_tables,
    marked_text,
    record,
    run_files,
    tables,
)
from attnlab.results.per_example import PerExampleScores, read_per_example, write_per_example
from attnlab.results.run import Run
from attnlab.tasks.base import Metric
from attnlab.tasks.registry import CLASSES, task_class_of_kind

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    "attnlab": "0.1.0",
    "commit": "0123456789abcdef",
    "dirty": False,
    "command": ["/home/someone/attnlab", "train"],
    "python": "3.11.7",
    "packages": {"jax": "0.10.2", "numpy": "2.4.6"},
    "platform": "Linux-on-somebodys-machine",
    "devices": ["cpu: cpu", "cpu: cpu"],
    "cores": 2,
    "processor": "Abacus 9",
    "fingerprint": {"data": "d" * 64},
    "interruptions": [],
}
VERDICTS = ROOT / "experiments/classification/synthetic_sentiment_dot.yaml"
DATES = ROOT / "experiments/translation/dates_dot.yaml"
SCORES = {"texts": 9, "accuracy": 84.02, "accuracy_ci95": [82.37, 85.72], "macro_f1": 80.0, "labels": ["good", "bad"]}


@pytest.fixture
def make(tmp_path: Path):
    """Write the files of a run that is trained and evaluated."""

    def made(name: str, config: Path = VERDICTS, scores: Any = None, **changes: Any) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        settings = [f"training.steps={changes.pop('steps', 400)}", *changes.pop("overrides", [])]
        (directory / "config.yaml").write_text(resolved(load(config, settings, seed=changes.pop("seed", 1))))
        log = changes.pop("log", [{"step": 200, "dev_accuracy": 70.0, "seconds": 40.0}, {"step": 400, "seconds": 87.4}])
        (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        results = {"test": SCORES} if scores is None else scores
        (directory / "results.json").write_text(json.dumps(results))
        found = {key: value for key, value in (ENVIRONMENT | changes).items() if value is not ...}
        (directory / "environment.json").write_text(json.dumps(found))
        (directory / "checkpoints").mkdir()
        for split in results if isinstance(results, dict) else ():
            write_per_example(directory, split, PerExampleScores("e" * 64, {"kept": np.arange(9)}))
        return directory

    return made


def table(*runs: Path, **options: bool) -> list[str]:
    return tables.render([record.read(run, **options) for run in runs]).splitlines()


def test_runs_are_rows_and_shared_values_a_line(make):
    assert table(make("one")) == [
        "Task `classification`:",
        "",
        "| experiment | test set | accuracy | macro-F1 | training |",
        "|---|---|---:|---:|---|",
        "| `synthetic_sentiment_dot` | test | 84.0 [82.4, 85.7] | 80.0 | 87 s |",
        "",
        "All rows: seed 1; machine 2 cores of Abacus 9; jax 0.10.2; commit 0123456. "
        "[low, high] is the 95% bootstrap interval over the examples of the test set, for a single seed. "
        "Training is wall time, including compilation and validation, without pauses between sessions.",
    ]


def test_missing_intervals_and_undefined_scores_are_reported(make, capsys, tmp_path: Path):
    few = make("few", scores={"test": {"accuracy": 50.0, "accuracy_ci95": None}})
    assert table(few)[4] == "| `synthetic_sentiment_dot` | test | 50.0 | 87 s |"
    assert "No interval: fewer than 20 examples." in table(few)[-1]
    assert "bootstrap" not in table(few)[-1]
    note = "no reference has 4 tokens, so BLEU is 0 even for perfect translations"
    scores = {"bleu": None, "bleu_ci95": None, "bleu_note": note, "chrf": 50.0, "chrf_ci95": [40.0, 60.0]}
    short = make("short", DATES, {"a": scores, "b": {"bleu": 30.0}})
    lines = table(short)
    assert lines[4] == "| `dates_dot` | a | — | 50.0 [40.0, 60.0] | 87 s |"
    assert lines[7] == f"BLEU, cased: no score: {note}."
    assert "fewer" not in lines[-1]
    for directory in (few, short):
        assert table(archive.archive(record.read(directory), tmp_path / "kept")) == table(directory)


def test_seeds_of_an_experiment_are_one_row_with_their_spread(make):
    values = {1: 80.0, 2: 82.0, 3: 84.0}
    runs = [
        make(f"s{n}", seed=n, scores={"test": {"accuracy": x, "accuracy_ci95": [0, 100]}}) for n, x in values.items()
    ]
    lines = table(*reversed(runs))
    assert lines[4] == "| `synthetic_sentiment_dot` | test | 82.0 ± 2.0 | 87 s |"
    assert "All rows: seed 1, 2, 3;" in lines[-1]
    assert "Scores with ± are mean and standard deviation over the seeds." in lines[-1]
    assert "bootstrap" not in lines[-1]


def test_what_differs_is_a_column_and_the_order_is_that_of_the_names(make):
    scores = {"b": {"bleu": 30.0, "bleu_signature": "nrefs:1|tok:13a"}, "a": {"bleu": 40.0, "chrf": 50.0}}
    gpu = {"devices": ["gpu: NVIDIA H100", "gpu: NVIDIA H100"], "commit": "fedcba9876543210", "dirty": True}
    runs = [make("three", DATES, scores, seed=3, **gpu), make("two", seed=2), make("one", overrides=["name=a|b"])]
    lines = table(*runs)
    assert lines == table(*reversed(runs))
    assert lines[2] == "| experiment | test set | accuracy | macro-F1 | training | seed |"
    assert lines[4].startswith("| `a\\|b` | test |")
    assert lines[4].endswith("| 87 s | 1 |")
    assert lines[5].endswith("| 87 s | 2 |")
    assert lines[7] == "machine 2 cores of Abacus 9; commit 0123456."
    assert lines[9] == "Task `translation`:"
    assert lines[11] == "| experiment | test set | BLEU, cased | chrF2 | training |"
    assert lines[13:15] == ["| `dates_dot` | a | 40.0 | 50.0 | 87 s |", "| `dates_dot` | b | 30.0 | — | 87 s |"]
    assert lines[16] == "seed 3; machine 2 × NVIDIA H100; commit fedcba9+; bleu `nrefs:1|tok:13a`."
    assert lines[18].startswith("All rows: jax 0.10.2. ")


def test_other_settings_or_data_are_another_row_named_by_its_run(make):
    runs = make("plain"), make("wide", overrides=["model.dropout=0.4"]), make("other", fingerprint={"data": "e" * 64})
    found = [line.split(" | ")[0] for line in table(*runs) if line.startswith("| `")]
    assert found == [
        "| `synthetic_sentiment_dot` (`other`)",
        "| `synthetic_sentiment_dot` (`plain`)",
        "| `synthetic_sentiment_dot` (`wide`)",
    ]
    started = [make(name, fingerprint={"data": "d" * 64, "pretrained": name}) for name in ("here", "there")]
    found = [line.split(" | ")[0] for line in table(*started) if line.startswith("| `")]
    assert found == ["| `synthetic_sentiment_dot` (`here`)", "| `synthetic_sentiment_dot` (`there`)"]


def test_overrides_are_printed_and_recorded(make, tmp_path: Path):
    changed = make("short", overrides=["model.dropout=0.4"])
    environment = json.loads((changed / "environment.json").read_text())
    given = ["seed=2", "training.steps=400", "model.dropout=0.4", "task.data.words=" + "x" * 200]
    (changed / "environment.json").write_text(json.dumps(environment | {"overrides": given}))
    lines = table(make("plain"), changed)
    assert [line.split(" | ")[0] for line in lines if line.startswith("| `")] == [
        "| `synthetic_sentiment_dot` (`plain`)", "| `synthetic_sentiment_dot` (`short`, changed)",
    ]  # fmt: skip
    assert "`synthetic_sentiment_dot` (`short`, changed) uses `training.steps=400`, `model.dropout=0.4`" in lines[-1]
    assert "`model.dropout=0.4`, `task.data.words=xxx" in lines[-1]
    assert "x...`." in lines[-1]
    assert "seed=2" not in lines[-1]
    kept = archive.archive(record.read(changed), tmp_path / "kept")
    assert table(kept) == table(changed)
    alone = table(changed)
    assert alone[4].startswith("| `synthetic_sentiment_dot` (changed) | test |")
    (changed / "environment.json").write_text(json.dumps(environment | {"overrides": 3}))
    with pytest.raises(UserError, match=r"environment\.json: cannot be read as a run's environment"):
        record.read(changed)


def test_a_run_given_twice_counts_once_and_a_seed_trained_twice_is_refused(make):
    one, same = make("one"), make("same")
    assert table(one, one) == table(one)
    with pytest.raises(UserError, match=r"one and .*same: the same experiment with the same seed"):
        table(one, same)


def test_training_time_excludes_pauses_and_counts_interruptions(make):
    broken = [{"step": 100, "seconds_lost": 30.0}, {"step": 250, "seconds_lost": 0.0}, {"step": 400, "seconds_lost": 0}]
    (row,) = (line for line in table(make("one", interruptions=broken)) if line.startswith("| `"))
    assert row.endswith("| 2 min, resumed 2 times |"), "117.4 s; going on at the end is no interruption"
    lines = table(make("old", interruptions=...))
    assert lines[-1].endswith("Interruptions of training were not recorded.")
    moved = make("moved", resumed=[ENVIRONMENT | {"cores": 1, "processor": None, "commit": None}])
    assert "machine 2 cores of Abacus 9, then 1 core, CPU;" in table(moved)[-1]
    assert "commit 0123456, then attnlab 0.1.0." in table(moved)[-1]
    at_its_end = make("at_its_end", resumed=[ENVIRONMENT | {"cores": 1, "step": 1000}])
    assert "machine 2 cores of Abacus 9;" in table(at_its_end)[-1], "no step was taken there"


def test_a_run_records_when_it_was_resumed_and_the_lost_time(tmp_path: Path):
    def go(start: int, stop: int, seconds: float) -> None:
        with Run.open(tmp_path / "run", load(VERDICTS), {"data": "d"}, print) as run:
            run.restore({"step": jnp.int32(0)})
            for step in range(start, stop):
                run.log(step, seconds=seconds * step)
                if step == 10:
                    run.checkpoints.save(step, {"step": jnp.int32(step)}, best=True)

    interruptions = lambda: run_files.read_environment(tmp_path / "run")["interruptions"]  # noqa: E731
    go(1, 6, 1.0)
    assert interruptions() == []
    go(1, 15, 2.0)  # the first five steps were not saved
    go(11, 12, 3.0)  # 14 steps took 28 s, of which 20 s are saved
    assert interruptions() == [{"step": 0, "seconds_lost": 5.0}, {"step": 10, "seconds_lost": 8.0}]


def test_a_run_that_stopped_getting_better_is_finished(make):
    log = [{"step": n * 100, "dev_accuracy": 60.0 + (n == 1), "seconds": 10.0 * n} for n in (1, 2, 3)]
    lines = table(make("patient", log=log, overrides=["training.patience=2"]))
    assert lines[4].endswith("| 30 s, stopped early at step 300 of 400 |")


def test_an_unfinished_run_needs_an_option_and_is_marked(make):
    run = make("short", steps=9000)
    with pytest.raises(UserError, match=r"short: is at step 400 of 9000; attnlab train .*short/config.yaml resumes it"):
        table(run)
    assert table(run, unfinished=True)[4].endswith("| 87 s, **step 400 of 9000** |")
    earlier = make("earlier", steps=9000, scores={"test": SCORES | {"trained_to": 200}})
    assert table(earlier, unfinished=True)[4].endswith("**step 200 of 9000** |")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("results.json", None, r"run: has not been evaluated; attnlab evaluate \S+/run$"),
        ("results.json", "{}", "has not been evaluated"),
        ("results.json", "[1]", "results.json: was not written by attnlab evaluate; delete it and evaluate again"),
        (
            "results.json",
            '{"test": {"trained_to": 200}}',
            "test was evaluated at step 200, .* 400; .*evaluate",
        ),
        ("config.yaml", None, r"run: is not a run directory \(it has no config.yaml\); "),
        ("config.yaml", "name: x\n", "config.yaml: is not the config of a run"),
        ("metrics.jsonl", None, "run: has no training log; attnlab train .*config.yaml"),
        ("environment.json", None, "environment.json: cannot be read"),
        ("environment.json", '{"fingerprint": {}}', "environment.json: cannot be read as a run's environment"),
    ],
)
def test_missing_inputs_are_one_line_with_a_suggestion(make, capsys, name: str, content: str | None, says: str):
    run = make("run")
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(UserError, match=says):
        record.read(run)
    assert cli.main(["results", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_such_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"none: no such run directory; attnlab train CONFIG --out \S*none creates it"):
        record.read(tmp_path / "none")


def test_the_table_goes_between_the_marks_and_nothing_else_changes(make, tmp_path: Path, capsys):
    page = tmp_path / "page.md"
    before, after = b"# T\xc3\xbcr\r\n\ttext " + tables.BEGIN.encode(), tables.END.encode() + b"\r\n \xff end"
    page.write_bytes(before + b"old\r\n" + after)
    assert cli.main(["results", str(make("one")), "--into", str(page)]) == 0
    assert capsys.readouterr() == ("", f"written: {page}\n")
    content = page.read_bytes()
    assert content.startswith(before + b"\nTask `classification`:\n")
    assert content.endswith(b"sessions.\n" + after)
    assert tables.between(page).splitlines() == table(tmp_path / "one")
    cli.main(["results", str(tmp_path / "one"), "--into", str(page)])
    assert page.read_bytes() == content


@pytest.mark.parametrize("text", ["", tables.BEGIN, tables.END + tables.BEGIN, f"{tables.BEGIN}{tables.END}" * 2])
def test_missing_markers_are_refused(make, tmp_path: Path, capsys, text: str):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert cli.main(["results", str(make("one")), "--into", str(page)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"attnlab: {page}: ")
    assert tables.BEGIN in error
    assert tables.END in error
    assert error.count("\n") == 1
    assert page.read_text() == text


def test_what_is_kept_gives_the_same_table_and_holds_numbers_alone(make, tmp_path: Path, capsys):
    scores = SCORES | {
        "answers": {"7": "a passage's own words"},
        "by_answer": {"secret": 1.0},
        "confusion": [[1, 2], [3, 4]],
        "bleu_signature": "nrefs:1",
    }
    log = [{"step": 50, "loss": 1.0}, {"step": 200, "dev_accuracy": 70.0}, {"step": 400, "note": 1, "seconds": 87.4}]
    run = make("one", scores={"test": scores}, log=log, resumed=[ENVIRONMENT])
    assert cli.main(["results", str(run), "--save", str(tmp_path / "kept")]) == 0
    captured = capsys.readouterr()
    kept = tmp_path / "kept/one"
    assert captured.err == f"archived: {kept}\n"
    assert captured.out.splitlines() == table(kept) == table(run)
    assert sorted(path.name for path in kept.iterdir()) == [
        "config.yaml", "environment.json", "metrics.jsonl", "per_example", "results.json",
    ]  # fmt: skip
    everything = "".join(path.read_text(errors="replace") for path in kept.rglob("*.*"))
    assert read_per_example(kept, "test").rows["kept"].tolist() == list(range(9))
    for private in ("own words", "secret", "good", "someone", "somebodys", '"loss"'):
        assert private not in everything
    assert json.loads((kept / "results.json").read_text())["test"].keys() == {
        "texts", "accuracy", "accuracy_ci95", "macro_f1", "bleu_signature",
    }  # fmt: skip
    again = {path: path.read_bytes() for path in kept.rglob("*.*")}
    archive.archive(record.read(kept), tmp_path / "kept")
    assert {path: path.read_bytes() for path in kept.rglob("*.*")} == again


def test_an_archive_without_per_example_scores_requires_retraining(make, tmp_path: Path):
    run = make("one")
    assert "require retraining" not in "".join(table(archive.archive(record.read(run), tmp_path / "with")))
    shutil.rmtree(run / "per_example")
    assert "require retraining" not in "".join(table(run)), "it can be evaluated again"
    kept = archive.archive(record.read(run), tmp_path / "without")
    assert re.search(r"`synthetic_sentiment_dot` require retraining", table(kept)[-1])


def test_another_run_is_not_written_over_and_no_path_of_a_machine_is_kept(make, tmp_path: Path):
    kept = archive.archive(record.read(make("one")), tmp_path / "kept")
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(UserError, match=r"kept/one: contains another run"):
        archive.archive(record.read(make("one", seed=2)), tmp_path / "kept")
    assert record.read(kept).seed == 1
    here = make(
        "here", ROOT / "experiments/classification/sst2_dot.yaml", overrides=["task.data.train=/home/me/train.txt"]
    )
    with pytest.raises(UserError, match=r"task\.data\.train=/home/me/train\.txt is a path of this machine"):
        archive.archive(record.read(here), tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["one"]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_task_declares_its_reported_metrics(kind: str):
    columns = task_class_of_kind(kind).reported_metrics
    assert 3 <= len(columns) <= 6
    assert all(isinstance(column, Metric) for column in columns)
    assert len({column.name for column in columns}) == len({column.heading for column in columns}) == len(columns)


def test_a_task_without_an_attribute_of_its_class_is_refused(monkeypatch):
    monkeypatch.delattr(task_class_of_kind("translation"), "monitor")
    with pytest.raises(TypeError, match=r"TranslationTask must define monitor; see attnlab/tasks/base\.py"):
        task_class_of_kind("translation")


def test_the_table_of_the_docs_is_made_of_the_runs_that_are_kept():
    kept = [record.read(path) for path in sorted((ROOT / "docs/results").glob("*-s*/"))]
    assert tables.between(ROOT / "docs/results.md") == tables.render(kept), "make results"
    for kind in (faithfulness_tables, alignment_tables, divergence_tables):
        assert marked_text.between(ROOT / "docs/trust.md", kind.MARK) == kind.render(kept), "make results"


def found(mean: float, low: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "ci95": None if low is None else [low, mean + 0.1], "n": 40}


def faithfulness(compr: float, low: float | None = 0.3) -> dict[str, Any]:
    methods = {"raw_attention": {"aopc_compr": found(compr, low)}, "random_attribution": {"aopc_compr": found(0.07)}}
    tests = {"uniform_tvd": found(0.05, 0.04), "permutation_by_weight": {"0 to 0.25": found(0.1)}}
    return {"test": {"examples": 40, "methods": methods, "tests": tests, "failed": {"3": "own words"}}}


def test_results_of_analyses_are_archived_without_machine_and_texts(make, tmp_path: Path):
    run = make("one")
    machine = {
        "environment": ENVIRONMENT,
        "reverse": "/home/somebody/runs/other",
        "label": 'mlp (model.pooling.run "/home/somebody/my runs/a-s1", width 8)',
    }
    report = faithfulness(0.4)
    report["test"] |= machine
    (run / "faithfulness.json").write_text(json.dumps(report))
    kept = archive.archive(record.read(run), tmp_path / "kept")
    text = (kept / "faithfulness.json").read_text()
    for private in ("own words", "somebody", "command"):
        assert private not in text
    assert json.loads(text)["test"]["reverse"] == "other"
    assert json.loads(text)["test"]["label"] == 'mlp (model.pooling.run "a-s1", width 8)'
    rendered = [faithfulness_tables.render([record.read(path)]) for path in (run, kept)]
    assert rendered[0] == rendered[1]
    (run / "faithfulness.json").write_text("[")
    with pytest.raises(UserError, match=r"faithfulness\.json: cannot be read as results"):
        record.read(run).analysis("faithfulness.json")


def test_the_battery_of_many_runs_is_a_table_a_metric(make):
    reports = {"s1": faithfulness(0.4), "s2": faithfulness(0.5), "dates": faithfulness(0.2, None)}
    directories = [
        make("s1"),
        make("s2", seed=2),
        make("dates", DATES),
        make("without", overrides=["model.dropout=0.9"]),
    ]
    for directory in directories[:3]:
        (directory / "faithfulness.json").write_text(json.dumps(reports[directory.name]))
    runs = list(map(record.read, directories))
    lines = faithfulness_tables.render(runs).splitlines()
    assert lines[:6] == [
        "`aopc_compr`: fall of the probability without the top 1, 5, 10, 20, 50% of the tokens (higher is better)",
        "",
        "| run | examples | `random_attribution` | `raw_attention` |",
        "|---|---|---:|---:|",
        "| `synthetic_sentiment_dot` | 40 test × 2 seeds | 0.07 ± 0.00 | 0.45 ± 0.07 |",
        "| `dates_dot` | 40 test | 0.07 | 0.20 |",
    ]
    assert "| `dates_dot` | 40 test | 0.05 [0.04, 0.15] |" in lines
    assert faithfulness_tables.render([]) == "No runs yet.\n"


def test_alignment_is_a_table_a_run(make):
    run, without = make("one"), make("two", seed=2)
    chosen = {"layer": 2, "head": None, "reading": "output_step", "quantity": "weights"}
    scores = {"aer": 44.25, "aer_ci95": [40.0, 48.0], "precision": 50.0, "recall": 61.0, "f1": 55.0}
    other = {"minus_first": -3.5, "minus_first_ci95": [-5.0, 2.0], "minus_first_p": 0.2}
    rows = [{"name": "attention", "choice": chosen, **scores}, {"name": "diagonal", "choice": None, **scores, **other}]
    lengths = [{"words": [2, 9], "sentences": 20, "aer": [30.0, 20.0]}]
    report = {"dev_sentences": 10, "test_sentences": 20, "test": rows, "by_length": lengths}
    (run / "alignment.json").write_text(json.dumps(report))
    assert alignment_tables.render([record.read(path) for path in (run, without)]).splitlines()[2:] == [
        "| alignment | layer | head | AER | precision | recall | AER minus that of the first row | AER, 2–9 words |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        "| attention | 2 | mean | 44.2 [40.0, 48.0] | 50.0 | 61.0 | — | 30.0 |",
        "| diagonal |  |  | 44.2 [40.0, 48.0] | 50.0 | 61.0 | -3.5 [-5.0, +2.0] | 20.0 |",
    ]
    assert alignment_tables.render([record.read(without)]) == "No runs yet.\n"
    few = [{**row, "aer_ci95": None, **({"minus_first_ci95": None} if "minus_first" in row else {})} for row in rows]
    older = {key: value for key, value in report.items() if key != "by_length"}
    (run / "alignment.json").write_text(json.dumps(older | {"test": few}))
    assert alignment_tables.render([record.read(run)]).splitlines()[4:] == [
        "| attention | 2 | mean | 44.2 | 50.0 | 61.0 | — |",
        "| diagonal |  |  | 44.2 | 50.0 | 61.0 | -3.5 |",
    ]


def test_each_table_goes_between_its_own_marks(make, tmp_path: Path):
    run, page = make("one"), tmp_path / "page.md"
    (run / "divergence").mkdir()
    distances = {"weight_jsd": 0.25, "weight_jsd_ci95": [0.2, 0.3], "prediction_tvd": 0.01, "prediction_tvd_ci95": None}
    group = {"label": "λ = 0.1", "runs": [{}, {}], "divergence": distances | {"accuracy": 80.04}}
    (run / "divergence/test.json").write_text(json.dumps({"texts": 1821, "accuracy": 82.0, "groups": [group]}))
    marks = [marked_text.pair(name) for name in ("faithfulness", "divergence")]
    page.write_text("\n".join(mark for pair in marks for mark in pair))
    assert cli.main(["results", str(run), "--into", str(page)]) == 0
    assert marked_text.between(page, "faithfulness") == "No runs yet.\n"
    assert marked_text.between(page, "divergence").splitlines() == [
        "`synthetic_sentiment_dot`, 1,821 texts of test, accuracy of the base run 82.0:",
        "",
        "| runs compared with the base run | seeds | JSD of the weights | TVD of the predictions | accuracy |",
        "|---|---:|---:|---:|---:|",
        "| λ = 0.1 | 2 | 0.250 [0.200, 0.300] | 0.010 | 80.0 |",
    ]


@pytest.mark.slow
def test_a_real_run_is_shown(tmp_path: Path, capsys):
    run = tmp_path / "run"
    config = ROOT / "experiments/classification/synthetic_sentiment_words.yaml"
    for command in (["train", str(config), "--tiny", "--out", str(run)], ["evaluate", str(run)]):
        assert cli.main(command) == 0
    capsys.readouterr()
    assert cli.main(["results", str(run)]) == 0
    row = capsys.readouterr().out.splitlines()[4]
    assert row.startswith("| `synthetic_sentiment_words-tiny` | test | ")
    scores = json.loads((run / "results.json").read_text())["test"]
    assert f"| {scores['accuracy']:.1f} [" in row
    assert row.endswith(" s |")
    assert cli.main(["train", str(run / "config.yaml")]) == 0
    assert record.read(run).interruptions == 0, "it was at its end"
