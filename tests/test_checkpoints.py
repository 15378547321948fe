"""Checkpoints: written atomically, any changed bit is detected, and the newest intact one is used."""

import contextlib
import errno
import json
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
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from attnlab.config.errors import UserError
from attnlab.training import checkpoints as module
from attnlab.training import manifest
from attnlab.training.checkpoints import Checkpoints
from attnlab.training.manifest import MANIFEST, Damaged, read_manifest


def state(step: int) -> dict:
    params = {"encoder": {"kernel": jnp.arange(12.0).reshape(3, 4) + step}, "bias": jnp.full(5, step, jnp.bfloat16)}
    return {
        "step": jnp.int32(step),
        "params": params,
        "optimizer": optax.adamw(1e-3).init(params),
        "rng": jax.random.key_data(jax.random.key(step)),
        "nothing": jnp.zeros((0, 3)),
    }


def same(a, b) -> bool:
    alike = jax.tree.map(lambda x, y: x.dtype == y.dtype and x.tobytes() == y.tobytes(), *map(jax.device_get, (a, b)))
    return jax.tree.all(alike)


@pytest.fixture(scope="module")
def three_saved(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    saving = Checkpoints(directory, keep_last=3)
    for step in (100, 200, 300):
        saving.save(step, state(step), {"dev_bleu": step / 10}, best=step == 100)
    return directory


@pytest.fixture
def three(three_saved, tmp_path) -> Path:
    return shutil.copytree(three_saved, tmp_path / "checkpoints")


def files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def restored_step(directory: Path) -> tuple[int | None, list[str]]:
    """Return the restored step, after checking its values, and the messages."""
    messages: list[str] = []
    result = Checkpoints(directory, 3, messages.append).restore(state(0))
    assert result is None or same(result[1], state(result[0]))
    return result and result[0], messages


def test_the_newest_comes_back_bit_for_bit_in_its_structure(three):
    step, result = Checkpoints(three, 3).restore(state(0))
    assert step == 300
    assert same(result, state(300))
    assert jax.tree.structure(result) == jax.tree.structure(state(0))


def test_restoring_a_given_step_returns_none_if_it_does_not_exist(three):
    checkpoints = Checkpoints(three, 3)
    assert checkpoints.restore(state(0), step=200)[0] == 200
    assert checkpoints.restore(state(0), step=150) is None
    assert Checkpoints(three / "none", 3).restore(state(0)) is None
    assert Checkpoints(three / "none", 3).steps() == []


def test_best_and_last_may_read_a_part(three):
    checkpoints = Checkpoints(three, 3)
    like = {"params": jax.eval_shape(lambda: state(0)["params"])}
    step, result = checkpoints.best(like)
    assert (step, same(result, {"params": state(100)["params"]})) == (100, True)
    last = checkpoints.last(like, 2)
    assert [step for step, _ in last] == [200, 300]
    assert all(same(result["params"], state(step)["params"]) for step, result in last)
    assert [step for step, _ in checkpoints.last(like, 9)] == [100, 200, 300]


def test_keeps_the_newest_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    kept = []
    for step in range(1, 7):
        checkpoints.save(step, state(step), best=step in (1, 4))
        kept.append(checkpoints.steps())
    assert kept == [[1], [1, 2], [1, 2, 3], [3, 4], [4, 5], [4, 5, 6]]
    assert sorted(os.listdir(tmp_path)) == ["4", "5", "6"]


def test_a_temporary_checkpoint_does_not_change_which_others_are_kept(tmp_path):
    like = {"step": state(0)["step"]}
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    checkpoints.save(10, state(10), best=True)
    checkpoints.save(20, state(20))
    checkpoints.save(25, state(25), temporary=True)
    assert checkpoints.restore(state(0))[0] == 25
    assert [step for step, _ in checkpoints.last(like, 2)] == [10, 20]
    assert checkpoints.best(like)[0] == 10
    checkpoints.save(30, state(30))
    assert checkpoints.steps() == [10, 20, 30]


def test_a_step_can_be_saved_again(three):
    checkpoints = Checkpoints(three, 3)
    checkpoints.save(300, state(7))
    assert same(checkpoints.restore(state(0))[1], state(7))


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
@pytest.mark.quick("0.5")
def test_a_flipped_bit_in_any_file_is_detected(three, tmp_path, at):
    names = files(three / "300")
    assert MANIFEST in names
    assert len(names) > 10
    for name in names:
        copy = shutil.copytree(three, tmp_path / "copy")
        content = bytearray((copy / "300" / name).read_bytes())
        content[round(at * (len(content) - 1))] ^= 1 << hash_of(name) % 8
        (copy / "300" / name).write_bytes(content)
        step, messages = restored_step(copy)
        assert step == 200, name
        assert len(messages) == 1
        assert messages[0].startswith(f"checkpoint 300 is damaged ({name}: ")
        assert messages[0].endswith("resuming from 200")
        assert (copy / "300.damaged").is_dir()
        assert restored_step(copy) == (200, []), "said once, then out of the way"
        shutil.rmtree(copy)


def hash_of(name: str) -> int:
    return sum(name.encode())


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_bit_of_a_manifest_counts(tmp_path, every):
    Checkpoints(tmp_path, 1).save(1, {"a": jnp.ones(2)}, {"dev_bleu": 0.5})
    path = tmp_path / "1" / MANIFEST
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), every):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(Damaged):
            read_manifest(tmp_path / "1")
    path.write_bytes(content)
    assert read_manifest(tmp_path / "1")["metrics"] == {"dev_bleu": 0.5}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, lengthen, empty, Path.unlink])
@pytest.mark.quick("cut", "unlink")
def test_a_file_cut_lengthened_emptied_or_deleted_is_seen(three, tmp_path, damage):
    for name in files(three / "300"):
        copy = shutil.copytree(three, tmp_path / "copy")
        if damage is not empty or (copy / "300" / name).stat().st_size:
            damage(copy / "300" / name)
            step, messages = restored_step(copy)
            assert (step, len(messages)) == (200, 1), name
        shutil.rmtree(copy)


def test_an_empty_directory_another_steps_and_a_stranger_are_no_checkpoints(three):
    (three / "400").mkdir()
    shutil.copytree(three / "100", three / "500")
    (three / "600.writing").mkdir()
    (three / "007").mkdir()
    step, messages = restored_step(three)
    assert step == 300
    assert [line.split(" (")[0] for line in messages] == ["checkpoint 500 is damaged", "checkpoint 400 is damaged"]


def test_if_all_checkpoints_are_damaged_none_is_restored_and_a_message_is_printed(three):
    for step in (100, 200, 300):
        cut(three / str(step) / "arrays" / "rng" / "0")
    step, messages = restored_step(three)
    assert step is None
    assert len(messages) == 3
    assert all(line.endswith("there is no other") for line in messages)
    assert Checkpoints(three, 3).steps() == [100, 200, 300], "nothing to go on from: nothing is moved"


def test_a_damaged_best_gives_way_to_the_newest(three):
    cut(three / "100" / "arrays" / "step" / "0")
    messages: list[str] = []
    assert Checkpoints(three, 3, messages.append).best({"step": state(0)["step"]})[0] == 300
    assert messages[0].endswith("resuming from 300")


def test_a_checkpoint_with_a_damaged_manifest_does_not_replace_an_intact_one(three):
    for step in (200, 300):
        cut(three / str(step) / MANIFEST)
    Checkpoints(three, keep_last=2).save(400, state(400))
    assert restored_step(three)[0] == 400
    shutil.rmtree(three / "400")
    assert restored_step(three)[0] == 100


def test_a_reader_moves_nothing_and_writes_nothing(three):
    cut(three / "300" / "arrays" / "step" / "0")
    messages: list[str] = []
    reader = Checkpoints(three, 3, messages.append, writable=False)
    assert reader.restore(state(0))[0] == 200
    assert (three / "300").is_dir()
    assert len(messages) == 1
    with pytest.raises(RuntimeError, match="for reading"):
        reader.save(400, state(400))


def test_a_state_of_another_shape_type_or_structure_is_refused_not_cast(three):
    checkpoints = Checkpoints(three, 3)
    wider = {**state(0), "rng": jnp.zeros(3, jnp.uint32)}
    with pytest.raises(UserError, match=r"rng is uint32\[2\] in the checkpoint, uint32\[3\] in this model"):
        checkpoints.restore(wider)
    with pytest.raises(UserError, match=r"step is int32\[\] in the checkpoint, float32\[\] in this model"):
        checkpoints.best({"step": jnp.float32(0)})
    with pytest.raises(UserError, match=r"new is nothing in the checkpoint"):
        checkpoints.restore({**state(0), "new": jnp.zeros(1)})
    with pytest.raises(UserError, match=r"in the checkpoint, nothing in this model"):
        checkpoints.restore({"step": state(0)["step"]})
    assert checkpoints.steps() == [100, 200, 300], "a misfit is not a damage"


def test_only_plain_arrays_with_paths_of_their_own_are_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1)
    with pytest.raises(TypeError, match=r"rng is not a plain array \(save a PRNG key as jax.random.key_data\)"):
        checkpoints.save(1, {"rng": jax.random.key(0)})
    with pytest.raises(TypeError, match="count is not a plain array"):
        checkpoints.save(1, {"count": 3})
    with pytest.raises(ValueError, match=r"same path a\.b"):
        checkpoints.save(1, {"a": {"b": jnp.ones(1)}, "a.b": jnp.ones(1)})
    assert checkpoints.steps() == []


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


def sharded(devices: int) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("data",)), PartitionSpec("data"))


@pytest.mark.parametrize(("written_on", "read_on"), [(1, 2), (2, 1), (2, 2)])
def test_another_number_of_devices(tmp_path, written_on, read_on):
    array = jnp.arange(8.0).reshape(4, 2)
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(1, {"a": jax.device_put(array, sharded(written_on))})
    like = {"a": jax.ShapeDtypeStruct((4, 2), jnp.float32, sharding=sharded(read_on))}
    result = checkpoints.restore(like)[1]["a"]
    assert result.sharding == sharded(read_on)
    assert same(result, array)


def test_another_process_with_more_devices(three):
    read = """
import sys, jax, jax.numpy as jnp, numpy as np
from pathlib import Path
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from attnlab.training.checkpoints import Checkpoints
everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec())
like = {"params": {"encoder": {"kernel": jax.ShapeDtypeStruct((3, 4), jnp.float32, sharding=everywhere)}}}
kernel = Checkpoints(Path(sys.argv[1]), 3).last(like, 1)[0][1]["params"]["encoder"]["kernel"]
print(len(kernel.devices()), float(kernel.sum()))
"""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", read, three], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["3", str(66.0 + 12 * 300)], done.stderr


def test_nothing_is_pickled_and_the_manifest_is_json(three):
    result = json.loads((three / "100" / MANIFEST).read_text())
    assert (result["step"], result["best"], result["metrics"]) == (100, True, {"dev_bleu": 10.0})
    assert set(result["files"]) == set(files(three / "100")) - {MANIFEST}
    assert not [name for name in files(three) if name.endswith((".pkl", ".pickle", ".npy"))]


@pytest.mark.parametrize("path", ["../checkpoints", "../sub/../checkpoints", "link"])
def test_paths_are_resolved_once_whatever_their_form(three, monkeypatch, path):
    (three.parent / "sub").mkdir()
    (three.parent / "sub" / "link").symlink_to(three)
    monkeypatch.chdir(three.parent / "sub")
    messages: list[str] = []
    checkpoints = Checkpoints(Path(path), 3, messages.append)
    monkeypatch.chdir("/")
    assert checkpoints.restore(state(0))[0] == 300
    checkpoints.save(400, state(400))
    assert same(checkpoints.best(state(0))[1], state(100))
    assert checkpoints.restore(state(0))[0] == 400
    assert messages == []
    assert sorted(os.listdir(three)) == ["100", "200", "300", "400"]


@pytest.mark.parametrize("name", ["back\\slash", "a\\", os.fsdecode(b"\xff")])
def test_a_name_that_tensorstore_reads_otherwise_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(UserError, match=r"backslash or with bytes that are not UTF-8; rename it") as refusal:
        Checkpoints(tmp_path / name / "checkpoints", 3)
    assert repr(str(tmp_path / name))[:-1] in str(refusal.value)
    assert os.listdir(tmp_path) == []


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


def test_a_file_where_a_directory_should_be_and_the_reverse_are_damages(three):
    kernel = three / "300" / "arrays" / "rng" / "0"
    kernel.unlink()
    kernel.mkdir()
    step, messages = restored_step(three)
    assert (step, len(messages)) == (200, 1)


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
