"""What an evaluation leaves in a run: results.json, {split: {metric: value}}, and each/SPLIT.json."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from attnlab.config.errors import UserError
from attnlab.training.atomic_files import write_whole, writing
from attnlab.training.log import plain_value

RESULTS = "results.json"
ROOM = 1 << 20
"""Bytes that must be free before an evaluation begins."""


@dataclass(frozen=True)
class Each:
    """What the single examples of a split add to its metrics.

    Attributes:
      examples: fingerprint of the split.
      rows: metric -> an array with a row an example (see `Task.aggregate`).
    """

    examples: str
    rows: Mapping[str, np.ndarray]


class Unwritten(UserError):
    """Scores that could not be written into their run.

    Attributes:
      scores: {split: {metric: value}}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: dict[str, dict[str, Any]] = {}
        self._each: dict[str, Each] = {}
        self._reasons: list[str] = []

    def add(self, split: str, scores: dict[str, Any], each: Each, reason: UserError) -> None:
        """Take the scores of a split, and why they could not be written."""
        self.scores[split], self._each[split] = scores, each
        self._reasons.append(str(reason))

    def kept(self) -> Self:
        """Write the scores to a directory for temporary files, laid out as in a run, and name it; return this."""
        told = self._reasons[0]
        try:
            with writing(Path(tempfile.gettempdir())):
                folder = Path(tempfile.mkdtemp(prefix="attnlab-results-"))
            for split, each in self._each.items():
                write_each(folder, split, each)
            write_results(folder, self.scores)
            told += f"; the scores are kept in {folder}"
        except (UserError, OSError) as error:  # no folder for temporary files at all is an OSError
            told += f"; and {error}"
        self.args = (told,)
        return self


def results_of(directory: Path) -> dict[str, dict[str, Any]]:
    """Read results.json of a run: {split: {metric: value}}, empty before the first evaluation."""
    path = directory / RESULTS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        told = str(error) or type(error).__name__
        raise UserError(f"{path}: not JSON ({told}); remove it and evaluate again") from None
    if not isinstance(found, dict) or not all(isinstance(scores, dict) for scores in found.values()):
        raise UserError(f"{path}: is not what attnlab evaluate writes; remove it and evaluate again")
    return found


def write_results(directory: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write results.json of a run."""
    plain = {split: {name: plain_value(value) for name, value in scores.items()} for split, scores in results.items()}
    write_whole(directory / RESULTS, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def each_of(directory: Path, split: str) -> Each | None:
    """Read what the single examples of a split add to its metrics; None where it was not kept."""
    path = directory / each_file(split)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(name): np.asarray(values, float) for name, values in found["rows"].items()}
        if not all(values.ndim and len(values) and np.isfinite(values).all() for values in rows.values()):
            raise ValueError("a number for each example is needed")
        return Each(str(found["examples"]), rows)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: is not what attnlab evaluate writes ({told}); remove it and evaluate again") from None


def write_each(directory: Path, split: str, each: Each) -> Path:
    """Write what the single examples of a split add to its metrics; return the file."""
    rows = {name: values.tolist() for name, values in each.rows.items()}
    write_whole(directory / each_file(split), json.dumps({"examples": each.examples, "rows": rows}) + "\n")
    return directory / each_file(split)


def refuse_unwritable(directory: Path) -> None:
    """Raise `UserError` where results could not be written: read-only, full, or a results.json of something else.

    To be called before scoring, which may take hours, rather than after it.
    """
    results_of(directory)
    for name in (RESULTS, each_file("any")):
        trial = directory / f"{name}.trial"
        try:
            write_whole(trial, " " * ROOM)
            with writing(trial):
                trial.unlink()
        except UserError as error:
            raise UserError(f"{error}; nothing was scored, as the results could not be kept") from error


def each_file(split: str) -> str:
    """Return the name in a run of what the examples of a split add."""
    return f"each/{split}.json"
