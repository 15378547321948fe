"""Checkpoints: written whole or not at all, and never used when a bit of them has changed.

One directory a step. Orbax writes the arrays into `300.writing/arrays`; beside them we write `manifest.json` with the
sha256 of every file and of itself, flush everything to the disk, and only then rename the directory to `300`.
The only file that knows orbax.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from attnlab.config.errors import UserError
from attnlab.training.manifest import Damaged, fingerprints, read_manifest, verified, write_manifest

PyTree = Any
Leaves = dict[str, Any]

ARRAYS = "arrays"


def place_of_checkpoints(directory: Path) -> Path:
    """Return the absolute path of a directory that is to hold checkpoints, without `..` and links.

    TensorStore takes no path that begins with `..`, reads a backslash as another folder, and knows UTF-8 names alone.

    Raises:
      UserError: its path has a backslash, or bytes that are not UTF-8.
    """
    place = Path(directory).resolve()
    if "\\" in str(place) or (not str(place).isascii() and any("\ud800" <= c <= "\udfff" for c in str(place))):
        raise UserError(
            f"{str(place)!r}: checkpoints cannot be kept under a name with a backslash or with bytes that are not "
            "UTF-8; rename it or give another --out"
        )
    return place


class Checkpoints:
    """The checkpoints of one run: the `keep_last` newest, and the one called best.

    Args:
      directory: holds one directory a step; need not exist yet (see `place_of_checkpoints`).
      keep_last: newest checkpoints kept beside the best, at least 1.
      say: gets one line for every damaged checkpoint.
      writable: False for a reader of a run that another process may be writing: nothing is moved or removed.
    """

    def __init__(self, directory: Path, keep_last: int, say: Callable[[str], None] = print, writable: bool = True):
        self.directory = place_of_checkpoints(directory)
        self.keep_last = keep_last
        self.writable = writable
        self._say = say
        self._orbax = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False))

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, good or damaged, in ascending order."""
        return self._numbered("")

    def damaged(self) -> list[int]:
        """Return the steps whose checkpoints were found damaged and moved aside, in ascending order."""
        return self._numbered(r"\.damaged")

    def save(
        self,
        step: int,
        state: PyTree,
        metrics: dict[str, float] | None = None,
        best: bool = False,
        temporary: bool = False,
    ) -> None:
        """Write one checkpoint and remove those no longer kept; on return it is on the disk.

        Args:
          step: names the checkpoint; one that is already there is replaced.
          state: a tree of arrays; a PRNG key as its key data.
          metrics: kept in the manifest, for people.
          best: this is the best so far: it is kept until a later one is called best.
          temporary: only to go on from: the next save removes it, and it is none of the `last`, so that a run that
            was interrupted keeps and averages what an unbroken one does.
        """
        if not self.writable:
            raise RuntimeError("these checkpoints were opened for reading")
        leaves = _leaves(state)
        needed = sum(leaf.nbytes for leaf in leaves.values())
        writing = self.directory / f"{step}.writing"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            if (free := shutil.disk_usage(self.directory).free) < needed:  # orbax would tell it in two hundred lines
                raise OSError(f"it needs {needed:,} bytes, and the disk has {free:,} left")
            kind = {"best": best, "temporary": temporary}
            self._write(writing, step, jax.device_get(leaves), metrics, kind)
            self._discard(self.directory / str(step))
            writing.rename(self.directory / str(step))
            _flush(self.directory)
            self._prune(step)
        except Exception as error:  # orbax's failures to write have no type of their own
            shutil.rmtree(writing, ignore_errors=True)
            raise UserError(f"{self.directory / str(step)}: cannot write the checkpoint: {_reason(error)}") from error

    def restore(self, like: PyTree, step: int | None = None) -> tuple[int, PyTree] | None:
        """Return the newest good checkpoint as (step, state); None when there is none.

        Damaged ones that are newer are said and moved aside; when none is good, they stay where they are.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct`s with the structure, shapes and dtypes of the state. A leaf
            that has a sharding gets it, whatever devices the checkpoint was written from; others come as NumPy arrays.
          step: take this one and no other.
        Raises:
          UserError: one cannot be read for another reason than damage (no permission, no memory, too many open files,
            an I/O error), or is of another model; nothing is moved.
        """
        steps = self.steps()[::-1] if step is None else [step] if step in self.steps() else []
        return next(self._good(like, steps, whole=True), None)

    def best(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Return the checkpoint last called best, or, when it is damaged or none was, the newest good one.

        `like` may be a part of the state (the parameters alone, say): only that part is read.
        """
        steps = self.steps()[::-1]
        best = self._best_step(steps)
        order = steps if best is None else [best, *(step for step in steps if step != best)]
        return next(self._good(like, order, whole=False), None)

    def last(self, like: PyTree, n: int) -> list[tuple[int, PyTree]]:
        """Return the `n` newest good checkpoints (fewer when there are fewer), oldest first; `like` as in `best`."""
        regular = [step for step in self.steps()[::-1] if not self._is(step, "temporary")]
        good = self._good(like, regular, whole=False)
        return [found for _, found in zip(range(n), good, strict=False)][::-1]

    def metrics(self, step: int) -> dict[str, float]:
        """Return the metrics that were saved with a checkpoint."""
        return read_manifest(self.directory / str(step))["metrics"]

    def _write(
        self, writing: Path, step: int, leaves: Leaves, metrics: dict[str, float] | None, kind: dict[str, bool]
    ) -> None:
        filled = {name: leaf for name, leaf in leaves.items() if leaf.size}
        with _quiet_orbax():
            self._orbax.save(writing / ARRAYS, args=ocp.args.PyTreeSave(filled))
        manifest = {
            "step": step,
            **kind,
            "metrics": {name: float(value) for name, value in (metrics or {}).items()},
            "leaves": {name: _kind(leaf) for name, leaf in leaves.items()},
            "files": fingerprints(writing),
        }
        write_manifest(writing, manifest)
        for path in (writing, *writing.rglob("*")):
            _flush(path)

    def _good(self, like: PyTree, steps: list[int], whole: bool) -> Iterator[tuple[int, PyTree]]:
        """Yield the good ones of `steps` in their order; say the damaged ones, and move them aside for a good one."""
        damaged: list[tuple[Path, str]] = []
        for step in steps:
            directory = self.directory / str(step)
            try:
                found = self._read(directory, step, like, whole)
            except Damaged as error:
                if directory.is_dir():  # else the run that owns it has just removed it
                    damaged.append((directory, f"checkpoint {step} is damaged ({error})"))
            else:
                while damaged:
                    aside, told = damaged.pop(0)
                    self._set_aside(aside)
                    self._say(f"{told}; going on from {step}")
                yield step, found
        for _, told in damaged:
            self._say(f"{told}; there is no other")

    def _read(self, directory: Path, step: int, like: PyTree, whole: bool) -> PyTree:
        wanted = _leaves(like)
        with _readable(directory):
            manifest = verified(directory, step)
            _refuse_misfit(directory, manifest["leaves"], {name: _kind(leaf) for name, leaf in wanted.items()}, whole)
            filled = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in wanted.items() if leaf.size}
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), filled)
            read = ocp.args.PyTreeRestore(item=filled, restore_args=as_numpy, partial_restore=True)
            with _quiet_orbax():
                arrays = self._orbax.restore(directory / ARRAYS, args=read)
            placed = [
                _placed(arrays.get(name, np.empty(leaf.shape, leaf.dtype)), leaf) for name, leaf in wanted.items()
            ]
        return jax.tree.unflatten(jax.tree.structure(like), placed)

    def _set_aside(self, directory: Path) -> None:
        if self.writable:
            aside = directory.with_name(f"{directory.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            directory.rename(aside)

    def _best_step(self, steps_newest_first: list[int]) -> int | None:
        return next((step for step in steps_newest_first if self._is(step, "best")), None)

    def _is(self, step: int, kind: str) -> bool:
        """Tell whether a checkpoint was called `kind`; a damaged manifest tells nothing."""
        directory = self.directory / str(step)
        try:
            with _readable(directory):
                return read_manifest(directory).get(kind, False)
        except Damaged:
            return False

    def _prune(self, saved: int) -> None:
        """Keep the newest regular ones and the best, and the one just saved even when it is temporary.

        One with a damaged manifest is no regular one: it pushes no good one out, and stays for `restore` to tell.
        """
        kinds = {}
        for step in self.steps()[::-1]:
            with contextlib.suppress(Damaged):
                kinds[step] = read_manifest(self.directory / str(step))
        regular = [step for step, kind in kinds.items() if not kind.get("temporary", False)]
        kept = {saved, *regular[: self.keep_last], self._best_step(list(kinds))}
        for step in kinds.keys() - kept:
            self._discard(self.directory / str(step))

    def _discard(self, directory: Path) -> None:
        """Remove a checkpoint so that a kill in the middle leaves nothing that looks like one."""
        if directory.is_dir():
            leaving = directory.with_name(f"{directory.name}.removing")
            directory.rename(leaving)
            shutil.rmtree(leaving)

    def _numbered(self, ending: str) -> list[int]:
        try:
            names = os.listdir(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"{self.directory}: cannot be read: {_reason(error)}") from error
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"(0|[1-9]\d*){ending}", name)))

    def _remove_leftovers(self) -> None:
        for path in self.directory.iterdir():
            if path.name.endswith((".writing", ".removing")):
                shutil.rmtree(path)


def _leaves(tree: PyTree) -> Leaves:
    """Name every array of a tree by its path, e.g. params.encoder.kernel."""
    leaves: Leaves = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not hasattr(leaf, "shape") or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"{name} is no plain array (save a PRNG key as jax.random.key_data)")
        if name in leaves:
            raise ValueError(f"two arrays of the state have the same path {name}")
        leaves[name] = leaf
    return leaves


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _placed(array: np.ndarray, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    return array if sharding is None else jax.device_put(array, sharding)


def _refuse_misfit(directory: Path, saved: dict[str, str], wanted: dict[str, str], whole: bool) -> None:
    for name in [*wanted, *(saved if whole else ())]:
        if saved.get(name) != wanted.get(name):
            here, there = wanted.get(name, "nothing"), saved.get(name, "nothing")
            raise UserError(f"{directory}: {name} is {there} in the checkpoint, {here} in this model")


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """Tell in one line why a checkpoint cannot be read that may well be good."""
    try:
        yield
    except (Damaged, UserError):
        raise
    except Exception as error:  # orbax and TensorStore have no type for this
        if not directory.is_dir():
            raise Damaged("has just been removed") from error
        raise UserError(f"{directory}: cannot be read: {_reason(error)}; nothing was changed") from error


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Leave out what orbax logs of its own matters, and of failures that it raises too."""
    absl = logging.getLogger("absl")
    absl.addFilter(_is_worth_saying)
    try:
        yield
    finally:
        absl.removeFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return "Skipping merge of OCDBT" not in text and "_SignalingThread.run() raised" not in text


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
    if isinstance(error, MemoryError):
        return "out of memory"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
