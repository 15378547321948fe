"""The expected results of an experiment: the `expected:` block of its YAML file.

A run ignores the block, and resolved configs do not contain it. A test checks it against the runs in docs/results.
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
    """Expected results of an experiment: scores on the test sets, and the time of the training."""

    scores: dict[str, dict[str, float]] = {}
    """Rounded values by test set and by metric (named as in results.json); empty if the experiment has not been run."""
    seed: Seed = 1
    """Seed of the run with these scores."""
    minutes: PositiveFloat
    """Time of the training including its evaluations, in minutes."""
    machine: str = "2 cores"
    """Machine on which the time was measured."""

    def summary(self) -> str:
        """Return the results in one line.

        >>> Expected(scores={"test": {"accuracy": 98.6}}, minutes=2).summary()
        'test accuracy 98.6; about 2 minutes on 2 cores (seed 1)'
        >>> Expected(minutes=0.5).summary()
        'not run yet; about 30 seconds on 2 cores'
        """
        amount, unit = (self.minutes, "minute") if self.minutes >= 1 else (60 * self.minutes, "second")
        time = f"about {amount:g} {unit}{'' if amount == 1 else 's'} on {self.machine}"
        if not self.scores:
            return f"not run yet; {time}"
        scores = (
            f"{name} {', '.join(f'{metric} {value:g}' for metric, value in metrics.items())}"
            for name, metrics in self.scores.items()
        )
        return f"{'; '.join(scores)}; {time} (seed {self.seed})"


def pop_expected(document: Document) -> Expected | None:
    """Remove the `expected:` block from a config and return it; None if the config has none.

    Raises:
        UserError: the block has an unknown key or an invalid value; the message names file, line and key.
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
    """Read the `expected:` block of an experiment's file; None if it has none."""
    return pop_expected(parse(read_file(path), str(path)))
