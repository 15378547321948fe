"""A run directory: one writer, bound to its data, found under any spelling of its path, readable without a writer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from run_directories import FINGERPRINT, content_of, experiment, opener, state, train

from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.results import run_files
from attnlab.results.per_example import read_per_example
from attnlab.results.run import Run
from attnlab.results.scores import read_results


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path, said):
    return opener(tmp_path / "run", said)


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
