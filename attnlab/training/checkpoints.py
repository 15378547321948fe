"""Checkpoints: written atomically, and never used after a bit of them has changed.

One directory a step. Orbax writes the arrays into `300.writing/arrays`; beside them we write `manifest.json` with the
sha256 of every file and of itself, flush everything to the disk, and only then rename the directory to `300`.
No other file imports orbax.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
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
    """Return the absolute path of a directory for checkpoints, without `..` and links.

    TensorStore accepts no path that begins with `..`, takes a backslash for a separator, and needs UTF-8 names.

    Raises:
      UserError: the path has a backslash, or bytes that are not UTF-8.
    """
    place = Path(directory).resolve()
    if "\\" in str(place) or (not str(place).isascii() and any("\ud800" <= c <= "\udfff" for c in str(place))):
        raise UserError(
            f"{str(place)!r}: checkpoints cannot be stored under a name with a backslash or with bytes that are not "
            "UTF-8; rename it or give another --out"
        )
    return place


class Checkpoints:
    """The checkpoints of one run: the `keep_last` newest and the best.

    Args:
      directory: holds one directory a step; need not exist yet (see `place_of_checkpoints`).
      keep_last: newest checkpoints kept beside the best, at least 1.
      notify: receives one line for every damaged checkpoint.
      writable: False to read a run that another process may be writing: nothing is moved or removed.
    """

    def __init__(self, directory: Path, keep_last: int, notify: Callable[[str], None] = print, writable: bool = True):
        self.directory = place_of_checkpoints(directory)
        self.keep_last = keep_last
        self.writable = writable
        self._notify = notify
        self._orbax = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False))

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, intact or damaged, in ascending order."""
        return self._numbered("")

    def damaged(self) -> list[int]:
        """Return the steps whose checkpoints are damaged and were moved aside, in ascending order."""
        return self._numbered(r"\.damaged")

    def save(
        self,
        step: int,
        state: PyTree,
        metrics: dict[str, float] | None = None,
        best: bool = False,
        temporary: bool = False,
        running_sums: Mapping[str, float] | None = None,
    ) -> None:
        """Write one checkpoint to disk and remove those that are no longer needed.

        Args:
          step: the name of the checkpoint; an existing one is replaced.
          state: a tree of arrays; a PRNG key as its key data.
          metrics: validation metrics, written to the manifest.
          best: whether this is the best checkpoint so far, which is kept until a later one is better.
          temporary: written by an interruption, to resume from: the next save removes it, and `last` ignores it, so
            that an interrupted run keeps and averages the same checkpoints as an uninterrupted one.
          running_sums: numbers of the training loop, see `running_sums`.
        """
        if not self.writable:
            raise RuntimeError("these checkpoints were opened for reading")
        leaves = _leaves(state)
        needed = sum(leaf.nbytes for leaf in leaves.values())
        writing = self.directory / f"{step}.writing"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            if (free := shutil.disk_usage(self.directory).free) < needed:  # orbax would report it in two hundred lines
                raise OSError(f"it needs {needed:,} bytes, and the disk has {free:,} left")
            kind = {"best": best, "temporary": temporary}
            contents = {"step": step, **kind, "metrics": metrics, "running_sums": running_sums}
            self._write(writing, jax.device_get(leaves), contents)
            self._discard(self.directory / str(step))
            writing.rename(self.directory / str(step))
            _flush(self.directory)
            self._prune(step)
        except Exception as error:  # orbax's failures to write have no type of their own
            shutil.rmtree(writing, ignore_errors=True)
            raise UserError(f"{self.directory / str(step)}: cannot write the checkpoint: {_reason(error)}") from error

    def restore(self, like: PyTree, step: int | None = None) -> tuple[int, PyTree] | None:
        """Return the newest intact checkpoint as (step, state), or None.

        Newer damaged ones are reported and moved aside; if none is intact, they stay where they are.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct`s with the structure, shapes and dtypes of the state. A leaf
            that has a sharding gets it, whatever devices the checkpoint was written from; others come as NumPy arrays.
          step: restore this one and no other.
        Raises:
          UserError: one cannot be read for a reason other than damage (no permission, no memory, too many open files,
            an I/O error), or belongs to another model; nothing is moved.
        """
        steps = self.steps()[::-1] if step is None else [step] if step in self.steps() else []
        return next(self._good(like, steps, whole=True), None)

    def best(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Return the best checkpoint; if it is damaged or there is none, the newest intact one.

        `like` may be a part of the state (the parameters alone, say): only that part is read.
        """
        steps = self.steps()[::-1]
        best = self._best_step(steps)
        order = steps if best is None else [best, *(step for step in steps if step != best)]
        return next(self._good(like, order, whole=False), None)

    def last(self, like: PyTree, n: int) -> list[tuple[int, PyTree]]:
        """Return up to `n` newest intact checkpoints, oldest first; `like` as in `best`."""
        regular = [step for step in self.steps()[::-1] if not self._is(step, "temporary")]
        good = self._good(like, regular, whole=False)
        return [checkpoint for _, checkpoint in zip(range(n), good, strict=False)][::-1]

    def running_sums(self, step: int) -> dict[str, float]:
        """Return the sums that the training loop saved with a checkpoint: metrics since the last line of the log."""
        return read_manifest(self.directory / str(step))["running_sums"]

    def _write(self, writing: Path, leaves: Leaves, contents: Mapping[str, Any]) -> None:
        filled = {name: leaf for name, leaf in leaves.items() if leaf.size}
        with _quiet_orbax():
            self._orbax.save(writing / ARRAYS, args=ocp.args.PyTreeSave(filled))
        manifest = {
            **contents,
            **{name: _numbers(contents[name]) for name in ("metrics", "running_sums")},
            "leaves": {name: _kind(leaf) for name, leaf in leaves.items()},
            "files": fingerprints(writing),
        }
        write_manifest(writing, manifest)
        for path in (writing, *writing.rglob("*")):
            _flush(path)

    def _good(self, like: PyTree, steps: list[int], whole: bool) -> Iterator[tuple[int, PyTree]]:
        """Yield the intact ones of `steps` in order; report damaged ones, and move them aside once one is intact."""
        damaged: list[tuple[Path, str]] = []
        for step in steps:
            directory = self.directory / str(step)
            try:
                state = self._read(directory, step, like, whole)
            except Damaged as error:
                if directory.is_dir():  # else the run that owns it has just removed it
                    damaged.append((directory, f"checkpoint {step} is damaged ({error})"))
            else:
                while damaged:
                    aside, message = damaged.pop(0)
                    self._set_aside(aside)
                    self._notify(f"{message}; resuming from {step}")
                yield step, state
        for _, message in damaged:
            self._notify(f"{message}; there is no other")

    def _read(self, directory: Path, step: int, like: PyTree, whole: bool) -> PyTree:
        expected = _leaves(like)
        with _readable(directory):
            manifest = verified(directory, step)
            _refuse_misfit(directory, manifest["leaves"], {name: _kind(leaf) for name, leaf in expected.items()}, whole)
            filled = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in expected.items() if leaf.size}
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), filled)
            read = ocp.args.PyTreeRestore(item=filled, restore_args=as_numpy, partial_restore=True)
            with _quiet_orbax():
                arrays = self._orbax.restore(directory / ARRAYS, args=read)
            placed = [
                _placed(arrays.get(name, np.empty(leaf.shape, leaf.dtype)), leaf) for name, leaf in expected.items()
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
        """Return whether the manifest marks a checkpoint as `kind`; False if it is damaged."""
        directory = self.directory / str(step)
        try:
            with _readable(directory):
                return read_manifest(directory).get(kind, False)
        except Damaged:
            return False

    def _prune(self, saved: int) -> None:
        """Keep the newest regular ones, the best, and the one just saved even if it is temporary.

        One with a damaged manifest does not count: it replaces no intact one, and stays for `restore` to report.
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
        """Remove a checkpoint; a kill in the middle leaves no partial checkpoint."""
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
            raise TypeError(f"{name} is not a plain array (save a PRNG key as jax.random.key_data)")
        if name in leaves:
            raise ValueError(f"two arrays of the state have the same path {name}")
        leaves[name] = leaf
    return leaves


def _numbers(values: Mapping[str, float] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (values or {}).items()}


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _placed(array: np.ndarray, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    return array if sharding is None else jax.device_put(array, sharding)


def _refuse_misfit(directory: Path, saved: dict[str, str], expected: dict[str, str], whole: bool) -> None:
    for name in [*expected, *(saved if whole else ())]:
        if saved.get(name) != expected.get(name):
            in_model, in_checkpoint = expected.get(name, "nothing"), saved.get(name, "nothing")
            raise UserError(f"{directory}: {name} is {in_checkpoint} in the checkpoint, {in_model} in this model")


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """Report in one line why a checkpoint that may be intact cannot be read."""
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
    """Suppress orbax's log messages about its internals, and about failures that it raises as well."""
    absl = logging.getLogger("absl")
    absl.addFilter(_is_relevant)
    try:
        yield
    finally:
        absl.removeFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return "Skipping merge of OCDBT" not in text and "_SignalingThread.run() raised" not in text


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
    if isinstance(error, MemoryError):
        return "out of memory"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
