"""Checkpoints are written atomically: kills, failed writes, and files that cannot be read harm none of them."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from saved_states import cut, restored_step, same, save_three, state

from attnlab.config.errors import UserError
from attnlab.training import checkpoints as module
from attnlab.training import manifest
from attnlab.training.checkpoints import Checkpoints
from attnlab.training.manifest import MANIFEST


@pytest.fixture(scope="module")
def three_saved(tmp_path_factory) -> Path:
    return save_three(tmp_path_factory.mktemp("run"))


@pytest.fixture
def three(three_saved, tmp_path) -> Path:
    return shutil.copytree(three_saved, tmp_path / "checkpoints")


def test_a_failed_write_is_reported_and_keeps_the_others(three, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_flush", full)
    with pytest.raises(UserError, match=r"400: cannot write the checkpoint: .*No space left on device"):
        Checkpoints(three, 3).save(400, state(400))
    assert sorted(os.listdir(three)) == ["100", "200", "300"]
    assert restored_step(three) == (300, [])


class Killed(BaseException):
    pass


def test_killed_before_any_change_on_the_disk_there_is_a_good_checkpoint(tmp_path, monkeypatch):
    """The process is killed at every disk operation of saving in turn, and a new process starts."""

    def small(step: int) -> dict[str, np.ndarray]:
        return {"a": np.full(3, step, np.int32)}

    places = [(module, "_flush"), (Path, "rename"), (shutil, "rmtree"), (module, "write_manifest")]
    originals = {place: getattr(*place) for place in places}
    touched = 0
    killed_at = 0

    def deadly(original):
        def wrapped(*args, **kwargs):
            nonlocal touched
            touched += 1
            if touched == killed_at:
                raise Killed
            return original(*args, **kwargs)

        return wrapped

    result: list[int] = []
    while True:
        killed_at += 1
        touched = 0
        copy = tmp_path / f"copy{killed_at}"
        for step in (200, 300):
            Checkpoints(copy, keep_last=2).save(step, small(step), best=True)
        with monkeypatch.context() as patch:
            for (owner, name), original in originals.items():
                patch.setattr(owner, name, deadly(original))
            try:
                Checkpoints(copy, keep_last=1).save(400, small(400), best=True)
                break
            except Killed:
                pass
        step, restored = Checkpoints(copy, keep_last=1).restore(small(0))
        assert same(restored, small(step))
        result.append(step)
        Checkpoints(copy, keep_last=1).save(500, small(500), best=True)
        assert os.listdir(copy) == ["500"], "what the kill left behind is cleared away"
    assert result == sorted(result)
    assert set(result) == {300, 400}


SAVE_FOREVER = """
import sys
from pathlib import Path
import numpy as np
from attnlab.training.checkpoints import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), 2)
for step in range(1, 10_000):
    checkpoints.save(step, {f"a{i}": np.full((300, 300), step, np.float32) for i in range(10)})
    print(step, flush=True)
"""


def test_kill_9_while_saving(tmp_path):
    like = {f"a{i}": np.zeros((300, 300), np.float32) for i in range(10)}
    with subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        time.sleep(0.1 * np.random.default_rng().random())
        process.send_signal(signal.SIGKILL)
        written = [3, *map(int, process.stdout.read().split())][-1]
    messages: list[str] = []
    step, result = Checkpoints(tmp_path, 2, messages.append).restore(like)
    assert step in (written, written + 1)
    assert not messages
    assert all((leaf == step).all() for leaf in result.values())


def unreadable(*_: object, **__: object) -> None:
    raise TROUBLE[0]


TROUBLE: list[Exception] = []


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
        (MemoryError(), "out of memory"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("place", ["_sha256", "read_bytes", "restore"])
def test_what_cannot_be_read_is_not_damaged_and_nothing_is_moved(three, monkeypatch, trouble, says, place):
    TROUBLE[:] = [trouble]
    messages: list[str] = []
    checkpoints = Checkpoints(three, 3, messages.append)
    owner = {"_sha256": manifest, "read_bytes": Path, "restore": checkpoints._orbax}[place]
    monkeypatch.setattr(owner, place, unreadable)
    calls = [
        lambda: checkpoints.restore(state(0)),
        lambda: checkpoints.best(state(0)),
        lambda: checkpoints.last({}, 2),
    ]
    for call in calls:
        with pytest.raises(UserError, match=rf"^{three}/\d00: cannot be read: {says}.*; nothing was changed$"):
            call()
    monkeypatch.undo()
    assert messages == []
    assert restored_step(three) == (300, [])


def test_a_process_out_of_file_descriptors_harms_nothing(three):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    checkpoints = Checkpoints(three, 3, pytest.fail)
    held = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(UserError, match="cannot be read: Too many open files"):
            checkpoints.restore(state(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
    assert restored_step(three) == (300, [])


def test_a_directory_that_cannot_be_listed_has_not_no_checkpoints(three, monkeypatch):
    TROUBLE[:] = [PermissionError(errno.EACCES, "Permission denied")]
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", unreadable)
        with pytest.raises(UserError, match="checkpoints: cannot be read: Permission denied"):
            Checkpoints(three, 3).steps()


def test_an_unreadable_checkpoint_after_a_damaged_one_moves_neither(three, monkeypatch):
    cut(three / "300" / MANIFEST)
    checkpoints = Checkpoints(three, 3, pytest.fail)
    TROUBLE[:] = [OSError(errno.EIO, "Input/output error")]
    monkeypatch.setattr(manifest, "_sha256", unreadable)
    with pytest.raises(UserError, match="200: cannot be read"):
        checkpoints.restore(state(0))
    assert (checkpoints.steps(), checkpoints.damaged()) == ([100, 200, 300], [])
    monkeypatch.undo()
    assert restored_step(three)[0] == 200
    assert (checkpoints.steps(), checkpoints.damaged()) == ([100, 200], [300])


def test_a_disk_too_full_for_a_checkpoint_is_reported_before_writing(three, monkeypatch):
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state(400)))
    free = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(
        UserError, match=rf"400: cannot write the checkpoint: it needs {needed} bytes.* {needed - 1} left"
    ):
        Checkpoints(three, 3).save(400, state(400))
    assert sorted(os.listdir(three)) == ["100", "200", "300"]
    free.free += 1
    Checkpoints(three, 4).save(400, state(400))
    assert restored_step(three) == (400, [])
