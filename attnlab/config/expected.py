"""The expected results of an experiment, which stand in the `expected:` block of its YAML file.

A run ignores the block: it is in no resolved config. A test holds it equal to the archived runs of docs/results.
"""

from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, ValidationError

from attnlab.config.base import Config, Seed
from attnlab.config.errors import UserError
from attnlab.config.explain import dotted, first_mistake
from attnlab.config.read_file import read_file
from attnlab.config.yaml_text import Document, parse

KEY = "expected"


class Expected(Config):
    """What a person may expect of a training: its scores on the test sets, and how long it takes."""

    scores: dict[str, dict[str, float]] = {}
    """Test set -> metric, as in results.json -> value, rounded; empty: the experiment has not been run yet."""
    seed: Seed = 1
    """Seed of the run that has these scores."""
    minutes: PositiveFloat
    """Time of the training with its evaluations."""
    machine: str = "2 cores"
    """What the time was measured on."""

    def summary(self) -> str:
        """Write one line.

        >>> Expected(scores={"test": {"accuracy": 98.6}}, minutes=2).summary()
        'test accuracy 98.6; about 2 minutes on 2 cores (seed 1)'
        >>> Expected(minutes=0.5).summary()
        'not run yet; about 30 seconds on 2 cores'
        """
        amount, unit = (self.minutes, "minute") if self.minutes >= 1 else (60 * self.minutes, "second")
        time = f"about {amount:g} {unit}{'' if amount == 1 else 's'} on {self.machine}"
        if not self.scores:
            return f"not run yet; {time}"
        sets = (
            f"{name} {', '.join(f'{metric} {value:g}' for metric, value in metrics.items())}"
            for name, metrics in self.scores.items()
        )
        return f"{'; '.join(sets)}; {time} (seed {self.seed})"


def pop_expected(document: Document) -> Expected | None:
    """Take the `expected:` block out of a config; return None where it has none.

    Raises:
        UserError: the block has an unknown key or a wrong value; names file, line and key.
    """
    if not isinstance(document.data, dict) or KEY not in document.data:
        return None
    block: Any = document.data.pop(KEY)
    try:
        return Expected.model_validate(block)
    except ValidationError as error:
        place, message = first_mistake(error, Expected)
        raise UserError(f"{document.line_of((KEY, *place))}: {dotted((KEY, *place))}: {message}") from None


def expected(path: Path) -> Expected | None:
    """Read the `expected:` block of an experiment's file; None where it has none."""
    return pop_expected(parse(read_file(path), str(path)))
