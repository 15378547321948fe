"""Checkpoints: restored bit for bit, which of them are kept, and what can be saved where."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from saved_states import files, same, save_three, state

from attnlab.config.errors import UserError
from attnlab.training.checkpoints import Checkpoints
from attnlab.training.manifest import MANIFEST


@pytest.fixture(scope="module")
def three_saved(tmp_path_factory) -> Path:
    return save_three(tmp_path_factory.mktemp("run"))


@pytest.fixture
def three(three_saved, tmp_path) -> Path:
    return shutil.copytree(three_saved, tmp_path / "checkpoints")


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
