"""The interface of a task; each kind of task is one class that implements it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from attnlab.data.text.batching import Batch, Batches
from attnlab.data.text.buckets import Shape
from attnlab.tasks.adapter import ModelAdapter
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


def with_poll(batches: Iterable[Listed], poll: Poll, total: int) -> Iterator[Listed]:
    """Iterate over batches, whose first entry is the list of their members; poll before each and at the end.

    >>> list(with_poll([([0, 1], "a"), ([2], "b")], lambda done, total: print(done, "of", total), 3))
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
class Metric:
    """A metric as tables show it.

    Attributes:
        name: among the `Task.test_metrics`.
        digits: after the decimal point.
    """

    name: str
    digits: int = 1

    @property
    def heading(self) -> str:
        """The heading of its column."""
        return metric_names.name(self.name)


@dataclass(frozen=True)
class TrainingBatches:
    """The batches to train on.

    Attributes:
        batches: of an epoch.
        summary: lines on their number and on what was left out or truncated.
    """

    batches: Batches
    summary: list[str]


class Task(ABC):
    """The data, the model and the metrics of an experiment.

    Attributes:
        config: the experiment.
        monitor: the validation metric that chooses checkpoints; larger is better.
        loss_unit: what the loss is averaged over, in the plural.
        input_format: what a line of `predict` and the arguments of `show` contain.
        reported_metrics: test metrics that `attnlab results` shows, the main one first; absent ones are left out.
    """

    monitor: ClassVar[str]
    loss_unit: ClassVar[str]
    input_format: ClassVar[str]
    reported_metrics: ClassVar[tuple[Metric, ...]]
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
        """Learn vocabularies and labels from the training split.

        Args:
            config: the experiment.
            splits: as `load` returns them.
            data_dir: where pretrained weights may lie.
        """

    @classmethod
    @abstractmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the files of a run directory that `files` describes."""

    @abstractmethod
    def files(self) -> Mapping[str, str]:
        """Return what `prepare` learned as text files of the run: name -> text."""

    def fingerprints(self) -> Mapping[str, str]:
        """Return the fingerprints that a run is bound to: of its files, and of weights from elsewhere."""
        hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.files().items()}
        return hashes | self.weight_fingerprints()

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of pretrained and frozen weights, if there are any."""
        return {}

    @property
    @abstractmethod
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""

    @property
    def model(self) -> nn.Module:
        """The Linen module; its parameters live elsewhere."""
        return self.adapter.model

    def initialize(self, rng: Array) -> PyTree:
        """Draw the model's parameters; jit-compiled."""
        return self.adapter.initialize(rng)

    def load_pretrained(self, params: PyTree) -> PyTree:
        """Replace drawn parameters by pretrained ones, if the config names any; called once, before the first step."""
        return params

    @abstractmethod
    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Sum the loss over the real examples or tokens of a batch; without an rng there is no dropout."""

    @abstractmethod
    def training_batches(self, examples: Sequence[Any]) -> TrainingBatches:
        """Batch the training examples; the summary names all that is left out or truncated."""

    def batched(self, examples: Sequence[Any], fill: Callable[[Shape, Sequence[int]], Batch] | None = None) -> Batches:
        """Return the training batches of encoded examples.

        Args:
            examples: as the adapter takes them.
            fill: (shape, indices of examples) -> batch; None is the adapter's.
        """
        training = self.config.training
        return Batches(
            [self.adapter.lengths(example) for example in examples],
            fill or (lambda shape, members: self.adapter.fill([examples[i] for i in members], shape)),
            training.batch_tokens,
            training.buckets,
            seed=self.config.seed,
            row_multiple=rows_multiple(),
        )

    @abstractmethod
    def validation_metrics(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> dict[str, float]:
        """Return the metrics on the validation split, `monitor` among them; meant to be quick."""

    @abstractmethod
    def test_metrics(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> dict[str, Any]:
        """Return the metrics on a test split.

        Percents, with `<name>_ci95` = [low, high] (None for too few examples), and `<name>_signature` where there is
        one. A metric that is meaningless for these data is None, and `<name>_note` gives the reason. `per_example` has
        what single examples contribute, name -> an array with a row for each example: see `aggregate`.
        """

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """Return a metric of some examples from their rows of `per_example`: the mean, unless a task overrides it."""
        return float(rows.mean())

    @abstractmethod
    def parse_example(self, inputs: Sequence[str]) -> Any:
        """Parse the arguments of `show`; a `UserError` gives the expected format."""

    @abstractmethod
    def attention_maps(self, params: PyTree, example: Any) -> list[AnyAttentionMap]:
        """Return the attention maps of an example's predictions, best prediction first."""

    @abstractmethod
    def selected_attention_map(self, params: PyTree, example: Any, wanted: Selection) -> AnyAttentionMap:
        """Return the attention map of the best prediction for one layer and head, or the mean of the heads."""

    @abstractmethod
    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of texts that the vocabulary lacks, each once, as they are written.

        Args:
            texts: lines as `predict` takes them, or the arguments of `show`, joined by a tab.
        """

    @abstractmethod
    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Predict line by line: one line of output for each line of input, or `n_best` of them.

        Args:
            params: of `model`.
            lines: each as `input_format` describes.
            first: number of the first of them, counted from 0.
            n_best: predictions for each line; None is the config's number.
        """

    @abstractmethod
    def token_lengths(self, examples: Sequence[Any]) -> dict[str, list[int]]:
        """Return the lengths in tokens for `data check`: {"source": [...], ...}."""

    @classmethod
    def check(cls, config: Experiment, data_dir: Path | None) -> str:
        """Read all data and return a report about them."""
        splits = cls.load(config, data_dir)
        task = cls.prepare(config, splits, data_dir)
        rows = [("split", "part", "examples", "min/50/90/99/max tokens")]
        for name, examples in splits.splits().items():
            for part, lengths in task.token_lengths(examples).items():
                found = np.quantile(lengths, QUANTILES, method="higher") if lengths else [0] * len(QUANTILES)
                rows.append((name, part, f"{len(examples):,}", "/".join(str(int(length)) for length in found)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(
            [*table, *task.training_batches(splits.train).summary, f"Fingerprint: sha256 {splits.fingerprint()}"]
        )


def settings(config: Experiment, kind: type[T]) -> T:
    """Return the task section of an experiment, typed."""
    assert isinstance(config.task, kind)
    return config.task


def refuse_n_best(n_best: int | None) -> None:
    """Raise `UserError` for `n_best` above 1 in a task with one prediction."""
    if n_best not in (None, 1):
        raise UserError(f"--n-best {n_best}: this task has one prediction for each line")


def rows_multiple() -> int:
    """Return the number that divides the rows of every batch: that of the devices."""
    return jax.device_count()
