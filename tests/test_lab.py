"""A run from end to end on a task that can be solved exactly: sentences to be read backwards."""

import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from interruption import StopAfter, arrays, untimed

from attnlab import cli, lab
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.results.per_example import read_per_example
from attnlab.results.scores import read_results
from attnlab.tasks.translation.task import TranslationTask
from attnlab.training.signals import Interrupted
from attnlab.training.steps import initial_state, make_train_step, shard_batch

EXPERIMENT = """
task:
  kind: translation
  data: {kind: parallel_text, source: forward, target: backward, train: train, dev: dev, test: {test: test}}
  tokenizer: {kind: words}
  decoding: {beam: 3, max_length: 12}
model:
  kind: recurrent_seq2seq
  embedding: 24
  encoder: {hidden: 24}
  decoder: {hidden: 48, variant: luong}
  attention: {score: {kind: additive, hidden: 24}}
  dropout: 0.05
training:
  steps: 450
  batch_tokens: 384
  buckets: 1
  optimizer: {kind: adamw, learning_rate: 0.01, warmup_steps: 20, schedule: linear}
  evaluate_every: 150
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    directory, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    for split, count in {"train": 3000, "dev": 50, "test": 100}.items():
        words = [draw.choices("abcdefgh", k=draw.randint(2, 7)) for _ in range(count)]
        (directory / f"{split}.forward").write_text("".join(f"{' '.join(line)}\n" for line in words))
        (directory / f"{split}.backward").write_text("".join(f"{' '.join(reversed(line))}\n" for line in words))
    return directory


@pytest.fixture(scope="module")
def experiment(data) -> Path:
    path = data / "reverse.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def run(data, experiment, tmp_path_factory) -> Path:
    return lab.train(load(experiment), tmp_path_factory.mktemp("runs") / "run", data)


def test_a_bare_text_is_not_taken_for_lines():
    trained = lab.TrainedModel(SimpleNamespace(), SimpleNamespace(input_format="a sentence"))  # pyright: ignore
    with pytest.raises(TypeError, match=r'predict takes a list of lines: predict\(\["a text"\]\)'):
        trained.predict("a text")
    with pytest.raises(TypeError, match=r"attention takes one example.*: a sentence"):
        trained.attention(["a text"])  # pyright: ignore


def test_the_task_is_solved(run, data):
    results = lab.evaluate(run, data)["test"]
    assert results["exact_match"] >= 97
    assert json.loads((run / "results.json").read_text())["test"] == results
    per_example = read_per_example(run, "test")
    assert set(per_example.rows) == {"bleu", "bleu_lowercase", "chrf", "exact_match"}
    assert all(
        TranslationTask.aggregate(name, rows) == pytest.approx(results[name]) for name, rows in per_example.rows.items()
    )
    assert sorted(path.name for path in (run / "attention").iterdir()) == [
        f"test_{number}.{ending}" for number in (1, 2, 3) for ending in ("html", "png")
    ]


def test_predict_gives_a_line_for_every_line(run):
    assert list(lab.predict(run, ["a b c\n", "\n", "h g\n", "  \n"])) == ["c b a", "", "g h", ""]


def test_with_n_best_every_line_gets_as_many_lines(run):
    lines = list(lab.predict(run, ["a b c\n", "\n", "h\n", "  \n"], n_best=3))
    assert [line.split(" ||| ")[0] for line in lines] == [*"000111222333"]
    assert [line.split(" ||| ")[1] for line in lines[3:6]] == ["", "", ""]
    assert all(len(line.split(" ||| ")) == 3 for line in lines)


def test_unknown_words_are_said_once_and_exposed(run, capfd):
    assert len(list(lab.predict(run, ["a b\n", "a xy\n", "\n", "z xy b\n"]))) == 4
    assert capfd.readouterr().err.count("not in the vocabulary, replaced by the unknown token: xy, z\n") == 1
    list(lab.predict(run, ["a b c"]))
    assert "unknown" not in capfd.readouterr().err
    assert lab.load(run).unknown_words("a xy", "z b xy") == ["xy", "z"]
    _, page = lab.show(run, ["a xy b"])
    assert "not in the vocabulary, replaced by the unknown token: xy" in capfd.readouterr().err
    assert "<mark>xy</mark>" in page.read_text()


def test_a_second_show_overwrites_nothing(run):
    first = lab.show(run, ["a b"])
    before = [path.read_bytes() for path in first]
    second, third = lab.show(run, ["c d"]), lab.show(run, ["a b"])
    assert len({*first, *second, *third}) == 6
    assert [path.read_bytes() for path in first] == before
    first[0].unlink()
    assert not set(lab.show(run, ["a b"])) & {*first, *second, *third}


def test_an_evaluation_prints_progress_and_every_written_file(run, data, capfd):
    written: list[Path] = []
    lab.evaluate(run, data, wrote=written.append)
    assert "test: 100 examples; compiling first" in capfd.readouterr().err
    names = {path.relative_to(run).as_posix() for path in written}
    pictures = {f"attention/test_{number}.{ending}" for number in (1, 2, 3) for ending in ("png", "html")}
    assert names == {"per_example/test.npz", "results.json", "training.png", *pictures}
    assert all(path.is_file() for path in written)


def test_more_answers_than_the_beam_widen_it_and_that_is_said(run, capfd):
    lines = list(lab.predict(run, ["a b c\n"], n_best=4))
    assert [line.split(" ||| ")[:2] for line in lines[:1]] == [["0", "c b a"]]
    assert len(lines) == len({line.split(" ||| ")[1] for line in lines}) == 4
    assert "--n-best 4: the beam of 3 is widened to 4" in capfd.readouterr().err
    narrower = list(lab.predict(run, ["a b c\n"], n_best=2, changes=["task.decoding.beam=2"]))
    assert [line.split(" ||| ")[0] for line in narrower] == ["0", "0"]
    assert "beam" not in capfd.readouterr().err
    with pytest.raises(UserError, match=r"--n-best 65: must be between 1 and 64"):
        list(lab.predict(run, ["a b c\n"], n_best=65))
    with pytest.raises(UserError, match=r"^model.dropout: 0.05 in the run, 0.2 here"):
        list(lab.predict(run, ["a"], changes=["model.dropout=0.2"]))


class Picky:
    """A task that answers in capitals and refuses a line that holds `bad`, before it answers any."""

    def unknown_words(self, texts):
        return []

    def predict(self, params, lines, first, n_best):
        for number, line in enumerate(lines, start=first + 1):
            if "bad" in line:
                raise UserError(f"line {number}: bad")
        return (line.upper() for line in lines)


def picky(run_directory, changes=(), trust=False):
    trained = lab.TrainedModel(SimpleNamespace(), Picky())  # pyright: ignore
    trained.__dict__["_restored"] = ([], None)
    trained.task.config = SimpleNamespace(task=None)  # pyright: ignore
    return trained


def unreadable():
    yield from ["a\n", "b\n"]
    raise UserError("standard input, line 3: byte 0xff is not UTF-8 text")


@pytest.mark.parametrize(
    ("lines", "answers", "says"),
    [
        (["a", "b", "bad", "d"], ["A", "B"], "^line 3: bad"),
        (["bad"], [], "^line 1: bad"),
        (["a"] * 1500 + ["bad", "bad"], ["A"] * 1500, "^line 1501: bad"),
        (unreadable(), ["A", "B"], "^standard input, line 3"),
    ],
    ids=["third", "first", "beyond a chunk", "not text"],
)
def test_lines_before_one_that_is_refused_are_answered(monkeypatch, lines, answers: list[str], says: str):
    monkeypatch.setattr(lab.prediction, "load", picky)
    given, found = lab.predict(Path("run"), lines), []
    with pytest.raises(UserError, match=says):
        deque(map(found.append, given), maxlen=0)
    assert found == answers


def test_attention_reads_backwards(run):
    trained = lab.load(run)
    assert repr(trained) == f"<TrainedModel {run}: task translation, model {trained.run.config.model.kind}>"
    assert trained.predict(["a b c d e"]) == ["e d c b a"]
    assert trained.tokenizer.source.encode("a b").tokens == ["a", "b"]
    weights = trained.attention("a b c d e")[0].weights
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    looked = weights[:5].argmax(-1)
    assert (np.diff(looked) < 0).all()


def test_show_escapes_text(run):
    picture, page = lab.show(run, ["a <script>alert(1)</script> b"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<script>alert" not in page.read_text()


def test_a_finished_run_takes_no_more_steps(run, data, experiment, capfd):
    before = (run / "metrics.jsonl").read_text()
    lab.train(load(experiment), run, data)
    assert (run / "metrics.jsonl").read_text() == before
    assert "resuming from step 450" in capfd.readouterr().err


def test_another_config_or_other_data_is_refused_with_the_difference(run, data, experiment, tmp_path):
    with pytest.raises(UserError, match=r"model.dropout: 0.05 in the run, 0.2 here"):
        lab.train(load(experiment, ["model.dropout=0.2"]), run, data)
    for path in data.glob("*.*ward"):
        (tmp_path / path.name).write_text(path.read_text().replace("a", "b"))
    with pytest.raises(UserError, match="fingerprint of the data"):
        lab.train(load(experiment), run, tmp_path)
    with pytest.raises(UserError, match="trained on different data"):
        lab.evaluate(run, tmp_path)


def test_another_search_is_scored_and_not_kept(run, data):
    kept = lab.evaluate(run, data)["test"]
    before = (run / "results.json").read_text()
    greedy = lab.evaluate(run, data, changes=["task.decoding.beam=1"])["test"]
    assert (greedy["decoding"]["beam"], kept["decoding"]["beam"]) == (1, 3)
    assert (run / "results.json").read_text() == before
    with pytest.raises(UserError, match=r"^model.dropout: 0.05 in the run, 0.2 here; .*task.decoding"):
        lab.evaluate(run, data, changes=["model.dropout=0.2"])


def test_an_unknown_split_is_refused_with_the_nearest_name(run, data):
    with pytest.raises(UserError, match=r"--split deb: .*valid: dev, test; did you mean dev\?"):
        lab.evaluate(run, data, ["deb"])


def test_another_config_is_refused_before_data_are_read(run, experiment, tmp_path):
    with pytest.raises(UserError, match=r"model.dropout: 0.05 in the run, 0.2 here"):
        lab.train(load(experiment, ["model.dropout=0.2"]), run, tmp_path / "no data here")


def test_show_returns_the_prediction(run, capfd):
    assert cli.main(["show", str(run), "a b c"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "prediction: c b a"


def test_a_line_of_the_log_is_the_mean_since_the_line_before(run, data, experiment):
    entries = [entry for entry in untimed(run) if "loss" in entry]
    assert [entry["step"] for entry in entries] == list(range(50, 451, 50))
    assert entries[0]["loss"] == pytest.approx(_mean_loss(load(experiment), data), rel=1e-5)


def _mean_loss(config, data) -> float:
    """Take the first 50 steps by hand."""
    task = TranslationTask.prepare(config, splits := TranslationTask.load(config, data))
    state = initial_state(task.initialize, config.training, config.seed)
    step, batches = (
        make_train_step(task.loss, config.training, config.seed),
        task.training_batches(splits.train).batches.iterate(0),
    )
    losses = []
    for _ in range(50):
        state, metrics = step(state, shard_batch(next(batches)))
        losses.append((float(metrics["loss"]), float(metrics["count"])))
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)


@pytest.fixture
def copied(run, tmp_path) -> Path:
    """The run in a folder of its own, to be harmed."""
    return shutil.copytree(run, tmp_path / "run")


def unchanged(run: Path) -> dict[str, bytes]:
    """Every file but those that say how often and where a run was taken up again."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "environment.json")
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.parent.name != "tensorboard"}


def test_a_finished_run_is_safe_from_a_path_that_begins_with_dots(copied, data, monkeypatch, capfd):
    (copied.parent / "sub").mkdir()
    monkeypatch.chdir(copied.parent / "sub")
    before = unchanged(copied)
    assert cli.main(["train", "../run/config.yaml", "--data", str(data)]) == 0
    assert "resuming from step 450" in capfd.readouterr().err
    assert unchanged(copied) == before
    assert list(lab.predict(Path("../run"), ["a b c\n"])) == ["c b a"]


def test_without_a_good_checkpoint_nothing_is_lost_and_commands_suggest_restart(copied, data, capfd):
    for manifest in copied.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{}")
    before = unchanged(copied)
    told, where = {}, ["--data", str(data)]
    for command, *arguments in (
        ["train", f"{copied}/config.yaml", *where], ["evaluate", str(copied), *where], ["show", str(copied), "a b"],
    ):  # fmt: skip
        assert cli.main([command, *arguments]) == 2
        told[command] = capfd.readouterr().err.splitlines()[-1]
    assert told["train"].startswith(
        f"attnlab: {copied}: no checkpoint is intact (damaged: 150, 300, 450); no file was changed"
    )
    assert told["train"].endswith(f"attnlab train {copied}/config.yaml --restart")
    for command in ("evaluate", "show"):
        assert f"{copied}: no checkpoint is intact; attnlab train {copied}/config.yaml" in told[command]
    assert unchanged(copied) == before


def test_a_config_edited_after_training_is_used_by_no_command(copied, data, capfd):
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("mods: []", "mods: [{kind: soft_cap, cap: 0.001}]"))
    difference = 'model.attention.mods: [] in training, [{"kind": "soft_cap", "cap": 0.001}] in'
    says = f"was edited after training started: {difference}"
    for arguments in (
        ["train", str(config), "--data", str(data)],
        ["evaluate", str(copied)],
        ["show", str(copied), "a"],
        ["results", str(copied)],
    ):
        assert cli.main(arguments) == 2
        assert f"attnlab: {config}: {says}" in capfd.readouterr().err
    with pytest.raises(UserError, match="was edited after training started"):
        lab.load(copied)


def test_an_edited_search_is_used(copied):
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("beam: 3", "beam: 2"))
    trained = lab.load(copied)
    assert trained.task.decoding.beam == 2
    assert trained.predict(["a b c"]) == ["c b a"]


@pytest.mark.parametrize("content", ["[1]", "null", '{"test": "good"}'])
def test_nothing_is_scored_where_results_could_not_be_kept(copied, data, monkeypatch, content):
    monkeypatch.setattr(TranslationTask, "test_metrics", lambda *_: pytest.fail("it was scored"))
    (copied / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json: was not written by attnlab evaluate; delete it"):
        lab.evaluate(copied, data)
    assert (copied / "results.json").read_text() == content


@pytest.fixture
def read_only(monkeypatch):
    """Nothing can be written below a directory: stands in for a read-only file system, which root can write to."""
    opened = io.open

    def refuse(directory: Path) -> None:
        def guarded(file, mode="r", *arguments, **settings):
            if set(mode) & set("wax+") and Path(os.fsdecode(file)).is_relative_to(directory):
                raise OSError(errno.EROFS, "Read-only file system", str(file))
            return opened(file, mode, *arguments, **settings)

        monkeypatch.setattr(io, "open", guarded)
        monkeypatch.setattr("builtins.open", guarded)

    return refuse


def test_a_read_only_run_answers_and_is_not_scored_in_vain(copied, data, read_only, monkeypatch, capfd):
    before = unchanged(copied)
    read_only(copied)
    monkeypatch.setattr(TranslationTask, "test_metrics", lambda *_: pytest.fail("it was scored"))
    assert cli.main(["evaluate", str(copied), "--data", str(data)]) == 2
    err = capfd.readouterr().err
    assert f"{copied}/results.json.trial: cannot be written: Read-only file system; nothing was evaluated" in err
    assert cli.main(["show", str(copied), "a b"]) == 2
    assert re.search(r"show/attention_\d+\.png: cannot be written: Read-only file system", capfd.readouterr().err)
    assert list(lab.predict(copied, ["a b c\n"])) == ["c b a"]
    assert unchanged(copied) == before


def test_scores_are_shown_and_kept_elsewhere_when_the_disk_fills_up_meanwhile(
    copied, data, read_only, monkeypatch, tmp_path, capfd
):
    scores = TranslationTask.test_metrics

    def filling(*arguments):
        found = scores(*arguments)
        read_only(copied)
        return found

    monkeypatch.setattr(TranslationTask, "test_metrics", filling)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert cli.main(["evaluate", str(copied), "--data", str(data)]) == 2
    out, err = capfd.readouterr()
    (kept,) = (tmp_path / "tmp").iterdir()
    assert err.splitlines()[-1].endswith(f"cannot be written: Read-only file system; the scores were saved to {kept}")
    exact = read_results(kept)["test"]["exact_match"]
    assert re.search(rf"exact match +{exact:.2f}", out)
    assert TranslationTask.aggregate(
        "exact_match", read_per_example(kept, "test").rows["exact_match"]
    ) == pytest.approx(exact)


def test_pictures_that_cannot_be_written_cost_no_scores(copied, data, capfd):
    shutil.rmtree(copied / "attention", ignore_errors=True)
    (copied / "attention").write_text("in the way")
    (copied / "training.png").unlink(missing_ok=True)
    (copied / "training.png").mkdir()
    found = lab.evaluate(copied, data)["test"]
    assert read_results(copied)["test"] == found
    err = capfd.readouterr().err
    for number in (1, 2, 3):
        assert re.search(
            rf"example {number} of test was not drawn: .*attention/test_{number}.png: cannot be written", err
        )
    assert "training.png: cannot be written: Is a directory" in err


def test_a_signal_during_evaluation_prints_a_line(copied, data):
    program = (
        "import sys, time\nfrom attnlab import cli\nfrom attnlab.tasks.translation.task import TranslationTask\n"
        "def scores(*_):\n    print('scoring', flush=True)\n    time.sleep(60)\n"
        "TranslationTask.test_metrics = scores\nsys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, "evaluate", str(copied), "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "scoring\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1].startswith("attnlab: SIGTERM: evaluation stopped; ")
    assert "Traceback" not in err


def test_numbers_that_were_kept_have_no_weights_to_answer_with():
    kept = Path(__file__).parents[1] / "docs/results/dates_additive-s1"
    with pytest.raises(UserError, match=r"has no checkpoint.* --out runs/dates_additive-s1 trains one"):
        lab.load(kept)


@pytest.mark.parametrize(
    "moments", [(250,), pytest.param((70, 1, 250, 3), marks=pytest.mark.slow)], ids=["once", "often"]
)
def test_a_run_broken_off_and_resumed_ends_with_the_same_bits(run, data, experiment, tmp_path, monkeypatch, moments):
    """Interrupted in a step, in an evaluation and just before the end; checkpoints, log and choice are the same."""
    broken = tmp_path / "run"
    for polls in moments:
        monkeypatch.setattr(lab.training, "graceful_shutdown", lambda polls=polls: StopAfter(polls))
        with pytest.raises(Interrupted):
            lab.train(load(experiment), broken, data)
    monkeypatch.undo()
    lab.train(load(experiment), broken, data)
    assert arrays(broken) == arrays(run)
    assert untimed(broken) == untimed(run)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_bit(run, data, experiment, tmp_path):
    draw, out, kills = random.Random(1), tmp_path / "killed", 0
    command = [sys.executable, "-m", "attnlab", "train", str(experiment), "--data", str(data), "--out", str(out)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
    while True:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        if kills < 10:
            moment = draw.choice(["start", "step"])
            if moment == "step":
                while process.poll() is None and not process.stderr.readline().startswith("step"):
                    pass
            time.sleep(draw.uniform(0, 4 if moment == "start" else 0.5))
            process.kill()
        _, rest = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, rest
        kills += 1
    assert kills >= 5
    assert arrays(out) == arrays(run)
    assert untimed(out) == untimed(run)
