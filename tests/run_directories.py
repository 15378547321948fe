"""A small run, opened again and again, and a full disk."""

import contextlib
import json
import resource
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp

from attnlab.config import Experiment
from attnlab.results.run import Run

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


def opener(directory: Path, said: list[str]) -> Callable[..., Run]:
    """Return a function that opens a run again and again."""

    def again(config: Experiment | None = None, fingerprint: dict | None = None) -> Run:
        return Run.open(directory, config or experiment(), fingerprint or FINGERPRINT, said.append)

    return again


def train(run: Run, until: int) -> None:
    """Log each step, save every tenth: what the training loop does."""
    restored = run.restore(state(0))
    for step in range(1 if restored is None else int(restored[1]["step"]) + 1, until + 1):
        run.log(step, loss=1 / step, note="ü")
        if step % 10 == 0:
            run.log(step, dev_bleu=float(step))
            run.checkpoints.save(step, state(step), best=step == 10)


def content_of(directory: Path) -> dict[str, bytes]:
    """Every file of a run by its name, but the lock."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@contextlib.contextmanager
def files_up_to_4_kib():
    """Files cannot grow beyond 4 KiB: stands in for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
