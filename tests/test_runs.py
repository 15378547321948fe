"""A run directory: one writer, bound to its config and data, its log the same whether or not it was broken off."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.results import run_files
from attnlab.results.per_example import PerExampleScores, read_per_example
from attnlab.results.run import Run
from attnlab.results.scores import UnwrittenScores, check_writable, read_results

FINGERPRINT = {"data": "d" * 64, "tokenizer": "e" * 64}


def experiment(**training) -> Experiment:
    return Experiment.model_validate_json(
        json.dumps(
            {
                "name": "small",
                "task": {"kind": "translation", "data": {"kind": "dates"}, "tokenizer": {"kind": "words"}},
                "model": {"kind": "recurrent_seq2seq", "attention": None, "dropout": 0.1},
                "training": {"steps": 100, "keep_last": 2, **training},
            }
        )
    )


def state(step: int) -> dict:
    return {"step": jnp.int32(step)}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path, said):
    """Open the run of this test, again and again."""

    def again(config: Experiment | None = None, fingerprint: dict | None = None) -> Run:
        return Run.open(tmp_path / "run", config or experiment(), fingerprint or FINGERPRINT, said.append)

    return again


def test_a_new_run_prints_its_description(opened):
    with opened() as run:
        assert load(run.path("config.yaml")) == experiment()
        assert run.path("config.yaml").read_text() == resolved(experiment())
        environment = json.loads(run.path("environment.json").read_text())
    assert environment["fingerprint"] == FINGERPRINT
    assert environment["packages"].keys() >= {"jax", "flax", "numpy", "orbax-checkpoint"}
    assert {"attnlab", "commit", "dirty", "command", "python", "platform", "devices", "cores"} <= environment.keys()
    assert len(environment["devices"]) == 2
    assert sorted(os.listdir(run.directory)) == ["config.yaml", "environment.json"]


def test_the_environment_names_the_commit_of_the_checkout(monkeypatch, tmp_path):
    from attnlab.training import environment as module

    checkout = tmp_path / "checkout"
    (checkout / "attnlab").mkdir(parents=True)
    monkeypatch.setattr(module.attnlab, "__file__", str(checkout / "attnlab" / "__init__.py"))
    assert (module.environment()["commit"], module.environment()["dirty"]) == (None, None)
    (checkout / "a").write_text("a")
    git = ["git", "-C", checkout, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "a"], ["commit", "-q", "--no-verify", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert (module.environment()["commit"], module.environment()["dirty"]) == (commit, False)
    (checkout / "a").write_text("b")
    assert module.environment()["dirty"] is True


def test_a_run_of_another_config_is_refused_and_untouched(opened):
    opened().close()
    with pytest.raises(UserError) as refusal:
        opened(experiment(steps=200))
    assert "training.steps: 100 in the run, 200 here" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with opened() as run:
        assert load(run.path("config.yaml")) == experiment()


def test_a_run_of_other_data_is_refused(opened):
    opened().close()
    with pytest.raises(UserError, match="fingerprint of the data: dddddddddddd in the run, cccccccccccc now"):
        opened(fingerprint={**FINGERPRINT, "data": "c" * 64})
    with pytest.raises(UserError, match="fingerprint of the tokenizer: eeeeeeeeeeee in the run, absent now"):
        opened(fingerprint={"data": "d" * 64})
    opened().close()


def test_a_directory_of_something_else_is_refused(tmp_path, opened):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and not a run"):
        opened()
    assert os.listdir(tmp_path / "run") == ["thesis.tex"]
    with pytest.raises(UserError, match=r"thesis\.tex: cannot be written: File exists"):
        Run.open(tmp_path / "run" / "thesis.tex", experiment(), FINGERPRINT)


def test_killed_while_the_run_was_made_it_is_made_anew(opened, monkeypatch):
    written = []

    def kill(path: Path, text: str) -> None:
        path.with_name(f"{path.name}.writing").write_text(text[:10])
        written.append(path.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "write_whole", kill)
        with pytest.raises(KeyboardInterrupt):
            opened()
    assert written == ["environment.json"]
    with opened() as run:
        assert run.path("config.yaml").exists()


def test_a_damaged_environment_is_reported(opened):
    opened().close()
    with opened() as run:
        run.path("environment.json").write_text("{")
    with pytest.raises(UserError, match=r"environment\.json: cannot be read as a run's environment"):
        opened()
    with pytest.raises(UserError, match=r"environment\.json: cannot be read as a run's environment"):
        Run.read(run.directory)


def test_resuming_in_another_environment_is_reported_and_recorded(opened, said, monkeypatch):
    def go_on() -> None:
        with opened() as run:
            run.restore(state(0))

    with opened() as run:
        train(run, 12)
    go_on()
    assert said == []
    now = run_files.environment()
    monkeypatch.setattr(run_files, "environment", lambda: {**now, "python": "3.99.0", "command": ["other"], "new": 1})
    go_on()
    go_on()
    assert len(said) == 1
    assert "in a different environment (python)" in said[0]
    with opened() as run:
        environment = json.loads(run.path("environment.json").read_text())
    assert environment["python"] == now["python"]
    assert [(later["python"], later["step"]) for later in environment["resumed"]] == [("3.99.0", 10)]
    assert environment["fingerprint"] == FINGERPRINT


def test_a_second_writer_is_refused_until_the_first_is_done(opened):
    first = opened()
    with pytest.raises(UserError, match=f"process {os.getpid()} on .* is training into this run"):
        opened()
    first.close()
    first.close()
    second = opened()
    assert second.path("lock").exists()
    second.close()
    assert not second.path("lock").exists()


HOLD = """
import sys
from pathlib import Path
from attnlab.config.load import load
from attnlab.results.run import Run
run = Run.open(Path(sys.argv[1]), load(Path(sys.argv[2])), {"data": "d" * 64, "tokenizer": "e" * 64})
run.log(1, loss=1.0)
print("open", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_taken_over(opened, tmp_path):
    (tmp_path / "small.yaml").write_text(resolved(experiment()))
    command = [sys.executable, "-c", HOLD, tmp_path / "run", tmp_path / "small.yaml"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"process {process.pid} on .* is training into this run"):
            opened()
        assert Run.read(tmp_path / "run").metrics() == [{"step": 1, "loss": 1.0}]
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "run" / "lock").exists()
    with opened() as run:
        assert f"process {os.getpid()}" in run.path("lock").read_text()


def test_a_refused_run_is_not_left_locked(opened):
    opened().close()
    for _ in range(2):
        with pytest.raises(UserError, match="has another config or data"):
            opened(experiment(steps=7))
    opened().close()


def train(run: Run, until: int) -> None:
    """Log each step, save every tenth: what the training loop does."""
    restored = run.restore(state(0))
    for step in range(1 if restored is None else int(restored[1]["step"]) + 1, until + 1):
        run.log(step, loss=1 / step, note="ü")
        if step % 10 == 0:
            run.log(step, dev_bleu=float(step))
            run.checkpoints.save(step, state(step), best=step == 10)


@pytest.mark.parametrize("broken_off_at", [3, 10, 19, 25])
def test_the_log_of_a_resumed_run_is_that_of_the_unbroken_one(tmp_path, broken_off_at):
    for name, stops in (("unbroken", [40]), ("broken", [broken_off_at, 29, 40])):
        for stop in stops:
            with Run.open(tmp_path / name, experiment(), FINGERPRINT) as run:
                train(run, stop)
    unbroken, broken = (tmp_path / name / "metrics.jsonl" for name in ("unbroken", "broken"))
    assert broken.read_bytes() == unbroken.read_bytes()
    assert len(unbroken.read_text().splitlines()) == 44
    assert run.checkpoints.steps() == [10, 30, 40]


def test_a_line_that_a_kill_left_half_written_is_dropped(opened, said):
    with opened() as run:
        train(run, 12)
        with run.path("metrics.jsonl").open("a") as file:
            file.write('{"step": 13, "lo')
    with opened() as run:
        step, _ = run.restore(state(0))
        run.log(11, loss=0.0)
    assert step == 10
    assert [entry["step"] for entry in run.metrics()] == [*range(1, 11), 10, 11]
    assert said == [f"{run.path('metrics.jsonl')}:14: not a line of metrics; skipped"]


def test_logging_into_an_old_log_without_restoring_is_an_error(opened):
    with opened() as run:
        run.log(1, loss=1.0)
    with opened() as run, pytest.raises(RuntimeError, match="call restore before log"):
        run.log(2, loss=1.0)


def test_the_log_is_json_whatever_is_logged(opened):
    with opened() as run:
        run.log(
            1, nan=float("nan"), inf=jnp.float32(jnp.inf), one=np.float32(1.5), two=jnp.int32(2), text="ä\n", no=False
        )
        line = run.path("metrics.jsonl").read_text()
    assert line.count("\n") == 1
    expected = {"step": 1, "nan": None, "inf": None, "one": 1.5, "two": 2, "text": "ä\n", "no": False}
    assert json.loads(line, parse_constant=pytest.fail) == expected
    assert run.metrics() == [expected]


def test_tensorboard_holds_the_same_numbers(opened):
    with opened() as run:
        run.log(3, loss=0.5, note="text")
        run.log(6, loss=0.25, nan=float("nan"))
    (events,) = run.path("tensorboard").iterdir()
    from tensorboardX.proto.event_pb2 import Event

    scalars, content = [], events.read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")  # length, its check sum, event, its check sum
        event = Event.FromString(content[12 : 12 + length])
        scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[12 + length + 4 :]
    assert scalars == [(3, "loss", 0.5), (6, "loss", 0.25)]


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "results.json", "per_example/test.npz", "environment.json", "config.yaml"]
)
def test_a_file_that_cannot_be_read_is_one_line(opened, name):
    with opened() as run:
        run.path(name).unlink(missing_ok=True)
        run.path(name).mkdir(parents=True)
    read = {
        "metrics.jsonl": lambda: Run.read(run.directory).metrics(),
        "results.json": lambda: read_results(run.directory),
        "per_example/test.npz": lambda: read_per_example(run.directory, "test"),
    }.get(name, opened)
    with pytest.raises(UserError, match=rf"{name}: (cannot be read|is a directory)") as refusal:
        read()
    assert "\n" not in str(refusal.value)


def test_results_of_splits_are_merged(opened):
    opened().close()
    reader = Run.read(opened().directory)
    reader.write_results("test", {"bleu": np.float64(31.5), "signature": "tok:13a"})
    reader.write_results("dev", {"bleu": 1})
    reader.write_results("test", {"bleu": 32.0})
    assert reader.results() == {"test": {"bleu": 32.0, "signature": "tok:13a"}, "dev": {"bleu": 1}}
    assert json.loads(reader.path("results.json").read_text()) == reader.results()
    reader.path("results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json: is not JSON .*evaluate again"):
        reader.results()


def test_a_reader_may_not_log_save_or_lock(opened, tmp_path):
    with opened() as run:
        run.restore(state(0))
        run.log(1, loss=1.0)
        run.checkpoints.save(1, state(1))
        reader = Run.read(tmp_path / "run")
        assert (reader.config, reader.fingerprint) == (experiment(), FINGERPRINT)
        assert reader.metrics() == [{"step": 1, "loss": 1.0}]
        assert reader.checkpoints.best(state(0))[0] == 1
        for forbidden in (lambda: reader.restore(state(0)), lambda: reader.checkpoints.save(2, state(2))):
            with pytest.raises(RuntimeError, match="opened for reading"):
                forbidden()
        reader.close()
        assert run.path("lock").exists()
    with pytest.raises(RuntimeError):
        Run.read(tmp_path / "run").log(2, loss=1.0)


def test_a_directory_that_is_not_a_run_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"none: no such run directory"):
        Run.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"is not a run directory \(it has no config\.yaml\)"):
        Run.read(tmp_path)


def test_texts_are_written_whole_inside_the_run(opened, tmp_path):
    with opened() as run:
        assert run.write_text("attention/one.html", "<p>ü</p>\n").read_bytes() == "<p>ü</p>\n".encode()
        assert os.listdir(run.path("attention")) == ["one.html"]
        for name in ("../out.txt", str(tmp_path / "out.txt"), "attention/../../out.txt"):
            with pytest.raises(UserError, match="is outside the run directory"):
                run.write_text(name, "")
    assert sorted(os.listdir(tmp_path)) == ["run"]


def test_the_config_of_a_run_is_plain_yaml(opened):
    with opened() as run:
        assert yaml.safe_load(run.path("config.yaml").read_text())["training"]["steps"] == 100


def test_damaged_checkpoints_are_reported_by_the_run(opened, said):
    with opened() as run:
        train(run, 20)
        run.path("checkpoints/20/manifest.json").write_text("{}")
    with opened() as run:
        run.notify = (later := []).append
        assert run.restore(state(0))[0] == 10
        assert [entry["step"] for entry in run.metrics()][-1] == 10
    assert said == []
    assert later == ["checkpoint 20 is damaged (manifest.json: not a manifest); resuming from 10"]


def content_of(directory: Path) -> dict[str, bytes]:
    """Every file of a run by its name, but the lock."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def edit(path: Path, old: str, new: str) -> None:
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_a_run_is_found_by_any_spelling_of_its_path(opened, said, tmp_path, monkeypatch):
    with opened() as run:
        train(run, 20)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    before = content_of(tmp_path / "run")
    with Run.open(Path("../run"), experiment(), FINGERPRINT, said.append) as run:
        assert run.restore(state(0))[0] == 20
    reader = Run.read(Path("../run"), said.append)
    monkeypatch.chdir("/")
    assert reader.checkpoints.best(state(0))[0] == 10
    assert reader.metrics()[-1] == {"step": 20, "dev_bleu": 20.0}
    assert said == []
    after = content_of(tmp_path / "run")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name.split("/")[0] for name in changed} == {"environment.json", "tensorboard"}


def test_a_run_under_a_name_that_checkpoints_do_not_survive_is_refused_untouched(tmp_path):
    with pytest.raises(UserError, match="backslash"):
        Run.open(tmp_path / "a\\b", experiment(), FINGERPRINT)
    assert os.listdir(tmp_path) == []


def spoil(run: Run) -> None:
    for step in run.checkpoints.steps():
        run.path(f"checkpoints/{step}/manifest.json").write_text("{}")


def rename_as_before(run: Run) -> None:
    """What an attnlab before this one did to them."""
    for step in run.checkpoints.steps():
        run.path(f"checkpoints/{step}").rename(run.path(f"checkpoints/{step}.damaged"))


def remove(run: Run) -> None:
    shutil.rmtree(run.path("checkpoints"))


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (spoil, r"no checkpoint is intact \(damaged: 10, 20\)"),
        (rename_as_before, r"no checkpoint is intact \(damaged: 10, 20\)"),
        (remove, r"its log goes to step 27, and there is no checkpoint"),
    ],
)
def test_without_a_good_checkpoint_only_restart_starts_over(tmp_path, said, loss, says):
    def opened() -> Run:
        return Run.open(tmp_path / "run", experiment(evaluate_every=10), FINGERPRINT, said.append)

    with opened() as run:
        train(run, 27)
        run.write_results("test", {"bleu": 1.0})
        loss(run)
    before = content_of(run.directory)
    for _ in range(2):
        with (
            opened() as run,
            pytest.raises(UserError, match=rf"run: {says}; no file was changed.*config\.yaml --restart$"),
        ):
            run.restore(state(0))
        assert content_of(run.directory) == before
    with opened() as run:
        assert run.restore(state(0), restart=True) is None
        run.log(1, loss=0.5)
    aside = run.path("before-restart-1")
    assert said[-1].endswith(f"the earlier files are in {aside}")
    kept = {name: text for name, text in content_of(aside).items() if not name.startswith("tensorboard")}
    assert kept == {name: before[name] for name in kept}
    assert {name.split("/")[0] for name in kept} >= {"metrics.jsonl", "results.json"}
    assert run.metrics() == [{"step": 1, "loss": 0.5}]
    assert run.results() == {}
    assert run_files.read_environment(run.directory)["interruptions"][-1]["step"] == 0


def test_restart_always_starts_over_and_keeps_all_files(opened, said):
    with opened() as run:
        assert run.restore(state(0), restart=True) is None, "there was nothing"
    with opened() as run:
        train(run, 20)
    assert said == []
    for count in (1, 2):
        with opened() as run:
            assert run.restore(state(0), restart=True) is None
            for step in range(1, 11):
                run.log(step, loss=1.0)
            run.checkpoints.save(10, state(10))
        assert run.path(f"before-restart-{count}/checkpoints/10/manifest.json").exists()
    assert run.path("before-restart-1/metrics.jsonl").read_text().count("\n") == 22


def test_a_kill_before_the_first_checkpoint_needs_no_word(opened):
    with opened() as run:
        train(run, 7)
    with opened() as run:
        assert run.restore(state(0)) is None
    assert run.metrics() == []


def test_what_is_cut_from_a_log_is_kept(opened, said):
    written = []
    for stop in (14, 17):
        with opened() as run:
            train(run, stop)
        written.append(run.path("metrics.jsonl").read_bytes().splitlines())
    with run.path("metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 18, "l')
    with opened() as run:
        run.restore(state(0))
    discarded = run.path("metrics.discarded.jsonl").read_bytes().splitlines()
    assert discarded == [*written[0][11:], *written[1][11:], b'{"step": 18, "l']
    assert run.path("metrics.jsonl").read_bytes().splitlines() == written[0][:11]


def test_a_log_that_cannot_be_copied_is_not_cut(opened, monkeypatch):
    with opened() as run:
        train(run, 14)
    before = run.path("metrics.jsonl").read_bytes()
    run.path("metrics.discarded.jsonl").mkdir()
    with (
        opened() as run,
        pytest.raises(UserError, match=r"metrics\.discarded\.jsonl: cannot be written: Is a directory"),
    ):
        run.restore(state(0))
    assert run.path("metrics.jsonl").read_bytes() == before


@pytest.fixture
def small_files():
    """Files cannot grow beyond 4 KiB: stands in for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


def test_a_full_disk_ends_the_log_with_one_line_and_the_run_goes_on_later(opened, small_files):
    with opened() as run:
        train(run, 10)
        room = 4096 - run.path("metrics.jsonl").stat().st_size
        with small_files():
            run.log(11, note="-" * (room - 60))
            with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written: File too large$"):
                run.log(12, note="-" * 60)
    assert run.path("metrics.jsonl").stat().st_size == 4096
    with opened() as run:
        assert run.restore(state(0))[0] == 10
        assert run.metrics()[-1]["step"] == 10


def test_an_unwritable_tensorboard_is_reported_once_and_stops_nothing(opened, said, small_files):
    with opened() as run:
        run.path("tensorboard").write_text("in the way")
        run.log(1, loss=1.0)
        run.log(2, loss=1.0)
    assert len(said) == 1
    assert "tensorboard: cannot be written: File exists; TensorBoard receives no more numbers" in said[0]
    assert len(run.metrics()) == 2
    with Run.open(run.directory.with_name("other"), experiment(), FINGERPRINT, said.append) as other, small_files():
        for step in range(50):  # many short numbers: the events are longer than the lines
            other.log(step, a=1, b=2, c=3, d=4, e=5, f=6)
    assert len(said) == 2
    assert "tensorboard: cannot be written: File too large" in said[1]
    assert len(other.metrics()) == 50


@pytest.mark.parametrize("name", ["results.json", "per_example/test.npz", "attention/a.html"])
def test_a_full_disk_is_reported_and_keeps_the_old_file(opened, small_files, name):
    with opened() as run:
        run.write_text(name, "{}")
        with small_files(), pytest.raises(UserError, match=rf"{name}: cannot be written: File too large$"):
            run.write_text(name, " " * 5000)
        assert run.path(name).read_text() == "{}"
        assert [path.name for path in run.path(name).parent.glob("*.writing")] == []


def test_unwritable_results_are_reported_before_scoring(opened, small_files, monkeypatch):
    with opened() as run:
        pass
    check_writable(run.directory)
    assert sorted(path.name for path in run.directory.iterdir() if path.is_file()) == [
        "config.yaml",
        "environment.json",
    ]
    with (
        small_files(),
        pytest.raises(UserError, match=r"results\.json\S*: cannot be written: File too large; nothing was"),
    ):
        check_writable(run.directory)
    run.path("per_example").rmdir()
    run.path("per_example").write_text("in the way")
    with pytest.raises(
        UserError, match=r"per_example/\S*: cannot be written: (File exists|Not a directory); nothing was evaluated"
    ):
        check_writable(run.directory)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', '{"test": 3}', '{"test": [1]}', "{", "[" * 100_000])
def test_a_foreign_results_file_is_reported_before_scoring(opened, content):
    with opened() as run:
        run.path("results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json: .*; delete it and evaluate again") as refusal:
        check_writable(run.directory)
    assert "\n" not in str(refusal.value)
    assert run.path("results.json").read_text() == content


def test_scores_that_could_not_be_written_are_kept_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    unwritten = UnwrittenScores()
    per_example = PerExampleScores("e" * 64, {"bleu": np.array([1.0, 2.0])})
    unwritten.add(
        "test", {"bleu": np.float64(31.5)}, per_example, UserError("results.json: cannot be written: disk full")
    )
    told = str(unwritten.save_elsewhere())
    (kept,) = tmp_path.iterdir()
    assert told == f"results.json: cannot be written: disk full; the scores were saved to {kept}"
    assert read_results(kept) == {"test": {"bleu": 31.5}}
    assert read_per_example(kept, "test").rows["bleu"].tolist() == [1.0, 2.0]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert str(unwritten.save_elsewhere()).endswith("none: cannot be written: No such file or directory")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("dropout: 0.1", "dropout: 0.2", "model.dropout: 0.1 in training, 0.2 in config.yaml"),
        ("seed: 1", "seed: 2", "seed: 1 in training, 2 in config.yaml"),
        ("steps: 100", "steps: 50", "training.steps: 100 in training, 50 in config.yaml"),
    ],
)
def test_a_config_edited_after_training_began_is_refused(opened, tmp_path, old, new, says):
    opened().close()
    config = tmp_path / "run" / "config.yaml"
    edit(config, old, new)
    moved = shutil.copytree(tmp_path / "run", tmp_path / "elsewhere" / "moved")
    for directory in (tmp_path / "run", moved):
        asked = [lambda d=directory: Run.read(d), lambda d=directory: Run.open(d, load(d / "config.yaml"), FINGERPRINT)]
        for ask in asked:
            with pytest.raises(UserError) as refusal:
                ask()
            assert f"{directory / 'config.yaml'}: was edited after training started: {says}; restore it" in str(
                refusal.value
            )


def test_only_the_search_may_be_edited_and_only_for_answers(opened, tmp_path, said):
    opened().close()
    config = tmp_path / "run" / "config.yaml"
    edit(config, "  beam: ", "  beam: 1")
    assert Run.read(tmp_path / "run", said.append).config.task.decoding.beam > 10
    with pytest.raises(UserError, match=r"was edited after training started: task\.decoding\.beam: "):
        opened(load(config))
    assert said == []


def test_a_config_written_otherwise_is_the_same(opened, tmp_path, said):
    opened().close()
    config = tmp_path / "run" / "config.yaml"
    config.write_text("# a note\n" + config.read_text().replace("dropout: 0.1", "dropout: 1e-1"))
    assert Run.read(tmp_path / "run", said.append).config == experiment()
    assert said == []


def test_a_run_of_before_its_config_was_recorded_is_taken_as_it_stands_and_that_is_said(opened, tmp_path, said):
    opened().close()
    path = tmp_path / "run" / "environment.json"
    environment = json.loads(path.read_text())
    assert environment.pop("config") == experiment().model_dump(mode="json")
    path.write_text(json.dumps(environment))
    assert Run.read(tmp_path / "run", said.append).config == experiment()
    opened().close()
    assert len(said) == 2
    assert all("did not record the config" in line for line in said)
