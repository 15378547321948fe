"""What the lab asks of a task; each kind of task is one class that answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batches
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.layer_attention import Selection
from attnlab.training import metric_names
from attnlab.training.objective import Loss

T = TypeVar("T")
Listed = TypeVar("Listed", bound=tuple[Any, ...])
QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


class Poll(Protocol):
    """Called between batches with how many examples are done, and of how many; raises to stop."""

    def __call__(self, done: int = 0, total: int = 0) -> None: ...


def no_poll(done: int = 0, total: int = 0) -> None:
    """Never stop."""


def polled(batches: Iterable[Listed], poll: Poll, total: int) -> Iterator[Listed]:
    """Go through batches, each of which begins with the list of its members, and poll before each and at the end.

    >>> list(polled([([0, 1], "a"), ([2], "b")], lambda done, total: print(done, "of", total), 3))
    0 of 3
    2 of 3
    3 of 3
    [([0, 1], 'a'), ([2], 'b')]
    """
    done = 0
    for batch in batches:
        poll(done, total)
        yield batch
        done += len(batch[0])
    poll(total, total)


@dataclass(frozen=True)
class Column:
    """A score as tables show it.

    Attributes:
        name: of the score among `Task.scores`.
        digits: after the point.
    """

    name: str
    digits: int = 1

    @property
    def heading(self) -> str:
        """What stands above it: the metric's name."""
        return metric_names.name(self.name)


class Task(ABC):
    """The data and the model of an experiment with all that is particular to its kind.

    Attributes:
        config: the experiment.
        measure: name of the score on dev that chooses checkpoints; larger is better.
        unit: what the loss counts, in the plural.
        asks: what a line of `predict` and the arguments of `show` are, in words.
        columns: the scores of a test set that `attnlab results` shows, the main one first; absent ones are left out.
    """

    measure: ClassVar[str]
    unit: ClassVar[str]
    asks: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    config: Experiment
    tokenizer: Any
    """What turns text into token numbers and back; of translation one a side, of stories their vocabulary."""

    @staticmethod
    @abstractmethod
    def load(config: Experiment, data_dir: Path | None) -> Splits[Any]:
        """Read or generate all data; mistakes in them are a `UserError` that names file and line."""

    @classmethod
    @abstractmethod
    def prepare(cls, config: Experiment, splits: Splits[Any], data_dir: Path | None = None) -> Self:
        """Learn from the training part what comes before the model: vocabularies, labels.

        Args:
            config: the experiment.
            splits: what `load` gave.
            data_dir: where pretrained weights may lie.
        """

    @classmethod
    @abstractmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read back from a run directory what `files` gave."""

    @abstractmethod
    def files(self) -> Mapping[str, str]:
        """What `prepare` learned, as text files of the run: name -> text."""

    @abstractmethod
    def identity(self) -> Mapping[str, str]:
        """Fingerprints of what `prepare` learned: name -> sha256; a run is bound to them."""

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """The Linen module; its parameters live elsewhere."""

    @abstractmethod
    def initialize(self, rng: Array) -> PyTree:
        """Draw the model's parameters; jit-compiled."""

    def pretrained(self, params: PyTree) -> PyTree:
        """Put pretrained weights, if the config names any, in the place of drawn ones; once, before the first step."""
        return params

    @abstractmethod
    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Sum the loss over what is real in a batch; pure. Without an rng nothing is dropped."""

    @abstractmethod
    def batches(self, examples: Sequence[Any]) -> Batches:
        """Batch the training examples; what is too long for the config is left out, which `describe` says."""

    @abstractmethod
    def describe(self, batches: Batches, examples: int) -> list[str]:
        """Lines for a person on what is trained on; nothing is left out of the training silently."""

    @abstractmethod
    def dev_scores(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> dict[str, float]:
        """Score dev quickly, `measure` among the scores."""

    @abstractmethod
    def scores(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set: percents, with `<name>_ci95` = [low, high] (None of too few examples), and
        `<name>_signature` where there is one. A score that says nothing is None, and `<name>_note` says why.

        `each` is what single examples add to scores, name -> an array with a row an example: see `total`.
        """

    @staticmethod
    def total(score: str, rows: np.ndarray) -> float:
        """Make a score of the rows that `scores` gave for some examples: their mean, where a task says nothing else."""
        return float(rows.mean())

    @abstractmethod
    def example(self, inputs: Sequence[str]) -> Any:
        """Make an example of what a person gives to `show`; a `UserError` says what it should be."""

    @abstractmethod
    def views(self, params: PyTree, example: Any) -> list[AnyAttentionMap]:
        """Answer an example, and say where the model looked: the answers, best first."""

    def selected(self, params: PyTree, example: Any, wanted: Selection) -> AnyAttentionMap:
        """Answer an example, and show the attention of one layer and head, or the mean of the heads."""
        raise UserError(
            f"--attention, --layer and --head: model.kind {self.config.model.kind} has no Transformer layers, "
            "so there is one attention to show, which show draws without them"
        )

    @abstractmethod
    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """List the words of texts that the vocabulary lacks, each once, as they are written.

        Args:
            texts: lines as `answer` takes them, or the inputs of `example`, joined by a tab.
        """

    @abstractmethod
    def answer(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Answer line by line: one line out for every line in (with `n_best` more, where the task has them).

        Args:
            params: of `model`.
            lines: each is what `asks` says.
            first: number of the first of them, counted from 0.
            n_best: how many answers for each; None is the config's.
        """

    @abstractmethod
    def lengths(self, examples: Sequence[Any]) -> dict[str, list[int]]:
        """Lengths of the examples' parts in tokens, for `data check`: {"source": [...], ...}."""

    @classmethod
    def check(cls, config: Experiment, data_dir: Path | None) -> str:
        """Read all data and tell what they are like."""
        splits = cls.load(config, data_dir)
        task = cls.prepare(config, splits, data_dir)
        rows = [("split", "part", "examples", "min/50/90/99/max tokens")]
        for name, examples in splits.splits().items():
            for part, lengths in task.lengths(examples).items():
                found = np.quantile(lengths, QUANTILES, method="higher") if lengths else [0] * len(QUANTILES)
                rows.append((name, part, f"{len(examples):,}", "/".join(str(int(length)) for length in found)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        batches = task.batches(splits.train)
        return "\n".join(
            [*table, *task.describe(batches, len(splits.train)), f"Fingerprint: sha256 {splits.fingerprint()}"]
        )


def settings(config: Experiment, kind: type[T]) -> T:
    """The task's part of an experiment whose kind is known."""
    assert isinstance(config.task, kind)
    return config.task


def one_answer(n_best: int | None) -> None:
    """Refuse `n_best` for a task that has one answer."""
    if n_best not in (None, 1):
        raise UserError(f"--n-best {n_best}: this task has one answer for each line")


def rows_multiple() -> int:
    """What the rows of a batch must be a multiple of: the number of devices."""
    return jax.device_count()
