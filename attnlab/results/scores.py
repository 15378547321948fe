"""results.json of a run, {split: {metric: value}}, and a fallback for scores that cannot be written."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from attnlab.config.errors import UserError
from attnlab.results.per_example import PerExampleScores, per_example_file, write_per_example
from attnlab.training.atomic_files import write_whole, writing
from attnlab.training.log import plain_value

RESULTS = "results.json"
RESERVE = 1 << 20
"""Bytes that must be free before an evaluation starts."""


class UnwrittenScores(UserError):
    """Raised when scores could not be written to their run; it holds the scores.

    Attributes:
      scores: {split: {metric: value}}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: dict[str, dict[str, Any]] = {}
        self._per_example: dict[str, PerExampleScores] = {}
        self._reasons: list[str] = []

    def add(self, split: str, scores: dict[str, Any], per_example: PerExampleScores, reason: UserError) -> None:
        """Add the scores of a split and the error that prevented writing them."""
        self.scores[split], self._per_example[split] = scores, per_example
        self._reasons.append(str(reason))

    def save_elsewhere(self) -> Self:
        """Write the scores to a temporary directory, add its path to the message, and return self."""
        message = self._reasons[0]
        try:
            with writing(Path(tempfile.gettempdir())):
                folder = Path(tempfile.mkdtemp(prefix="attnlab-results-"))
            for split, scores in self._per_example.items():
                write_per_example(folder, split, scores)
            write_results(folder, self.scores)
            message += f"; the scores were saved to {folder}"
        except (UserError, OSError) as error:  # OSError: no directory for temporary files
            message += f"; and {error}"
        self.args = (message,)
        return self


def read_results(directory: Path) -> dict[str, dict[str, Any]]:
    """Read results.json of a run: {split: {metric: value}}, empty before the first evaluation."""
    path = directory / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: is not JSON ({reason}); delete it and evaluate again") from None
    if not isinstance(results, dict) or not all(isinstance(scores, dict) for scores in results.values()):
        raise UserError(f"{path}: was not written by attnlab evaluate; delete it and evaluate again")
    return results


def write_results(directory: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write results.json of a run."""
    plain = {split: {name: plain_value(value) for name, value in scores.items()} for split, scores in results.items()}
    write_whole(directory / RESULTS, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def check_writable(directory: Path) -> None:
    """Raise `UserError` if results cannot be written: read-only, disk full, or an invalid results.json.

    Call it before scoring, which may take hours.
    """
    read_results(directory)
    for name in (RESULTS, per_example_file("any")):
        trial = directory / f"{name}.trial"
        try:
            write_whole(trial, " " * RESERVE)
            with writing(trial):
                trial.unlink()
        except UserError as error:
            raise UserError(f"{error}; nothing was evaluated, because the results could not be saved") from error
