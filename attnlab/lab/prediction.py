"""Prediction of an output for every input line."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.lab.alignment import aligned_prediction
from attnlab.lab.trained import load
from attnlab.tasks.generation import GenerationTask
from attnlab.viz.text import unknown_words_message

LINES_AT_ONCE = 1024
"""Number of lines that are read before their outputs are predicted."""


def predict(
    directory: Path,
    lines: Iterable[str],
    n_best: int | None = None,
    changes: Sequence[str] = (),
    *,
    alignment: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Iterator[str]:
    """Predict the output of every line, in batches of up to `LINES_AT_ONCE` lines.

    Args:
        directory: the run directory.
        lines: inputs in the task's format; an invalid line raises `UserError` after the outputs of the lines before it.
        n_best: outputs for each line; None for the number in the config. A narrower beam is widened to it.
        changes: as in `load`.
        alignment: add the word alignment of each translation, ` ||| 0-0 1-2`: `layer`, `head` and `reading` of
            `alignment.aligned_prediction`, or an empty mapping for what is chosen for the run; None for no alignment.
        trust: as in `load`.
    """
    trained, number, warned = load(directory, changes, trust=trust), 0, False
    task = trained.task
    aligned = None if alignment is None else aligned_prediction(trained, **alignment)
    if n_best is not None and isinstance(task, GenerationTask) and task.decoding.beam < n_best:
        trained.run.notify(f"--n-best {n_best}: the beam of {task.decoding.beam} is widened to {n_best}")
    for chunk in _chunks(lines):
        if not warned and (unknown := trained.unknown_words(*chunk)):
            trained.run.notify(unknown_words_message(unknown))
            warned = True
        yield from trained.predict_lines(chunk, number, n_best, aligned)
        number += len(chunk)


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield lists of at most `LINES_AT_ONCE` lines; if a line cannot be read, yield the lines before it first."""
    chunk: list[str] = []
    failure = None
    try:
        for line in lines:
            chunk.append(line.rstrip("\r\n"))
            if len(chunk) == LINES_AT_ONCE:
                yield chunk
                chunk = []
    except UserError as error:
        failure = error
    if chunk:
        yield chunk
    if failure:
        raise failure
