"""What may change in a run: damaged checkpoints and --restart, and edits of its config."""

import json
import shutil
from pathlib import Path

import pytest
from run_directories import FINGERPRINT, content_of, experiment, opener, state, train

from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.results import run_files
from attnlab.results.run import Run


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path, said):
    return opener(tmp_path / "run", said)


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


def edit(path: Path, old: str, new: str) -> None:
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


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
