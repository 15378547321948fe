"""The log of a run: the same whether or not it was broken off, whole lines only, and written on a full disk."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from run_directories import FINGERPRINT, experiment, files_up_to_4_kib, opener, state, train

from attnlab.config.errors import UserError
from attnlab.results.run import Run


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path, said):
    return opener(tmp_path / "run", said)


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


def test_a_full_disk_ends_the_log_with_one_line_and_the_run_goes_on_later(opened):
    with opened() as run:
        train(run, 10)
        room = 4096 - run.path("metrics.jsonl").stat().st_size
        with files_up_to_4_kib():
            run.log(11, note="-" * (room - 60))
            with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written: File too large$"):
                run.log(12, note="-" * 60)
    assert run.path("metrics.jsonl").stat().st_size == 4096
    with opened() as run:
        assert run.restore(state(0))[0] == 10
        assert run.metrics()[-1]["step"] == 10


def test_an_unwritable_tensorboard_is_reported_once_and_stops_nothing(opened, said):
    with opened() as run:
        run.path("tensorboard").write_text("in the way")
        run.log(1, loss=1.0)
        run.log(2, loss=1.0)
    assert len(said) == 1
    assert "tensorboard: cannot be written: File exists; TensorBoard receives no more numbers" in said[0]
    assert len(run.metrics()) == 2
    with (
        Run.open(run.directory.with_name("other"), experiment(), FINGERPRINT, said.append) as other,
        files_up_to_4_kib(),
    ):
        for step in range(50):  # many short numbers: the events are longer than the lines
            other.log(step, a=1, b=2, c=3, d=4, e=5, f=6)
    assert len(said) == 2
    assert "tensorboard: cannot be written: File too large" in said[1]
    assert len(other.metrics()) == 50
