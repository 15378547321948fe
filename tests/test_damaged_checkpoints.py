"""Damaged checkpoints: any changed bit is detected, and the newest intact one is used."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest
from saved_states import cut, files, restored_step, save_three, state

from attnlab.training.checkpoints import Checkpoints
from attnlab.training.manifest import MANIFEST, Damaged, read_manifest


@pytest.fixture(scope="module")
def three_saved(tmp_path_factory) -> Path:
    return save_three(tmp_path_factory.mktemp("run"))


@pytest.fixture
def three(three_saved, tmp_path) -> Path:
    return shutil.copytree(three_saved, tmp_path / "checkpoints")


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


def test_a_file_where_a_directory_should_be_and_the_reverse_are_damages(three):
    kernel = three / "300" / "arrays" / "rng" / "0"
    kernel.unlink()
    kernel.mkdir()
    step, messages = restored_step(three)
    assert (step, len(messages)) == (200, 1)
