"""The interface of a task; each kind of task is one class that implements it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.records import EvaluationSet, Splits
from attnlab.data.text.batching import Batch, Batches
from attnlab.data.text.buckets import Shape
from attnlab.layers.capture import IntervenedModel, Intervention
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.data_check import DataReport, PartStatistics, SplitStatistics, length_quantiles
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.layer_attention import Selection
from attnlab.tasks.poll import Poll, no_poll
from attnlab.tasks.scored_outputs import ScoredOutputs
from attnlab.training import metric_names
from attnlab.training.objective import Loss

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Metric:
    """A metric as a column of a table.

    Attributes:
        name: its name in `Task.test_metrics`.
        digits: number of digits after the decimal point.
    """

    name: str
    digits: int = 1

    @property
    def heading(self) -> str:
        """The heading of the column."""
        return metric_names.name(self.name)


@dataclass(frozen=True)
class TrainingBatches:
    """The batches to train on.

    Attributes:
        batches: the batches of each epoch.
        summary: lines for the log: the number of batches, and which examples are left out or truncated.
    """

    batches: Batches
    summary: list[str]


class Task(ScoredOutputs, ABC):
    """The data, the model and the metrics of an experiment.

    Attributes:
        load_data: the load function of the task's data: (`task.data` of the config, data directory) -> splits.
        monitor: the validation metric that selects checkpoints; larger is better.
        loss_unit: what the loss is averaged over, in the plural.
        input_format: description of a line of `predict` and of the arguments of `show`.
        reported_metrics: test metrics in the table of `attnlab results`, the main one first; absent ones are left out.
        config: the experiment.
    """

    load_data: ClassVar[Callable[[Any, Path | None], Splits[Any]]]
    monitor: ClassVar[str]
    loss_unit: ClassVar[str]
    input_format: ClassVar[str]
    reported_metrics: ClassVar[tuple[Metric, ...]]
    config: Experiment
    tokenizer: Any
    """Converts text to token numbers and back: a tokenizer, for translation a pair, for stories their vocabulary."""

    @classmethod
    def load(cls, config: Experiment, data_dir: Path | None) -> Splits[Any]:
        """Read or generate the data of all splits; an error in a file is a `UserError` that names the file and line."""
        return cls.load_data(config.task.data, data_dir)

    @classmethod
    @abstractmethod
    def prepare(cls, config: Experiment, splits: Splits[Any], data_dir: Path | None = None) -> Self:
        """Learn vocabularies and labels from the training split.

        Args:
            config: the experiment.
            splits: as returned by `load`.
            data_dir: directory that may hold pretrained weights.
        """

    @classmethod
    @abstractmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the files that `files` returned from the directory of a run."""

    @abstractmethod
    def files(self) -> Mapping[str, str | bytes]:
        """Return the vocabularies and labels that `prepare` learned, and what else the run needs, as files of the run:
        name -> text, or bytes."""

    def fingerprints(self) -> Mapping[str, str]:
        """Return the sha256 of each file of the task, and the fingerprints of weights from outside the run."""
        contents = {name: text.encode() if isinstance(text, str) else text for name, text in self.files().items()}
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        return hashes | self.weight_fingerprints()

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of weights that training does not begin at random or does not train, if any."""
        return {}

    @property
    @abstractmethod
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""

    @property
    def model(self) -> nn.Module:
        """The Linen module, without its parameters."""
        return self.adapter.model

    def initialize(self, rng: Array) -> PyTree:
        """Return freshly initialized parameters; works under `jit`."""
        return self.adapter.initialize(rng)

    def load_pretrained(self, params: PyTree) -> PyTree:
        """Replace initial parameters with pretrained ones if the config names any; called once, before training."""
        return params

    @abstractmethod
    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the summed loss of the real examples or tokens of a batch; without an rng there is no dropout."""

    @abstractmethod
    def training_batches(self, examples: Sequence[Any]) -> TrainingBatches:
        """Return the training batches with a summary of which examples are left out or truncated."""

    def batched(self, examples: Sequence[Any], fill: Callable[[Shape, Sequence[int]], Batch] | None = None) -> Batches:
        """Return the training batches of encoded examples.

        Args:
            examples: as the adapter takes them.
            fill: (shape, indices of examples) -> batch; None is the adapter's `fill`.
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

        Metrics are percentages, with `<name>_ci95` = [low, high] (None for too few examples), and `<name>_signature`
        where there is one. A metric that is undefined for these data is None, and `<name>_note` gives the reason.
        `per_example` holds what single examples contribute, name -> an array with a row for each example; `aggregate`
        computes the metric from it.
        """

    def outputs(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> list[str]:
        """Return the prediction of each example in words, as `explained_prediction` has it.

        Args:
            params: the parameters of `model`.
            examples: examples of the task, whose references are not used.
            poll: called between batches; may raise to stop.
        """
        texts = []
        for done, example in enumerate(examples):
            poll(done, len(examples))
            texts.append(self.explained_prediction(params, example, TargetSelection()).prediction)
        return texts

    def evaluation_sets(self) -> Mapping[str, Callable[[Path | None], EvaluationSet[Any]]]:
        """Return the data sets that any run of the task can be evaluated on, with the functions that read them.

        Returns: name -> (data directory) -> examples. Their names are used like those of test sets.
        """
        return {}

    def intervened(self, interventions: Mapping[str, Intervention]) -> Self:
        """Return the task with attention weights of its model replaced, in evaluations and searches too.

        Args:
            interventions: by the name of each layer, as in `capture.apply_with_attention`.
        """
        other = replace(self)  # type: ignore[type-var]
        adapter: Any = copy(self.adapter)
        adapter.model = IntervenedModel(adapter.model, interventions)
        vars(other)["adapter"] = adapter
        return other

    @abstractmethod
    def parse_example(self, inputs: Sequence[str]) -> Any:
        """Parse the arguments of `show`; raise a `UserError` that describes the expected format."""

    @abstractmethod
    def attention_maps(self, params: PyTree, example: Any) -> list[AnyAttentionMap]:
        """Return the attention maps of an example's predictions, best prediction first."""

    @abstractmethod
    def selected_attention_map(self, params: PyTree, example: Any, selection: Selection) -> AnyAttentionMap:
        """Return the attention map of the best prediction for one layer and head, or the mean of the heads."""

    @abstractmethod
    def explained_prediction(self, params: PyTree, example: Any, selection: TargetSelection) -> ExplainedPrediction:
        """Return the model's prediction of an example, or another target, with what explaining it takes.

        Raises:
            UserError: the target does not exist; names it and what exists.
        """

    def picture(self, example: Any) -> np.ndarray | None:
        """Return the pixels of the example's image, [height width 3] uint8; None for a task without images."""
        return None

    def evidence(self, example: Any, explained: ExplainedPrediction) -> np.ndarray | None:
        """Return which positions of the input the data mark as the reason for the gold output.

        Args:
            example: of a split.
            explained: its explained prediction, whose inputs name the positions.

        Returns: booleans [n], of all parts one after another, without padding; None if the data mark nothing.
        """
        return None

    def evidence_notes(self, examples: Sequence[Any]) -> list[str]:
        """Return lines on the marks of `evidence`: how many there are, and how many have no position of the input.

        Args:
            examples: examples of a split.
        """
        return []

    @abstractmethod
    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of texts that the vocabulary lacks, each once, as they are spelled in the texts.

        Args:
            texts: lines as `predict` takes them, or the arguments of `show`, joined by a tab.
        """

    @abstractmethod
    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield one line of output for each line of input, or `n_best` of them.

        Args:
            params: the parameters of `model`.
            lines: lines of input in `input_format`; the prediction of an empty line is empty.
            first: number of the first line, counted from 0, for messages and for the output of `n_best`.
            n_best: predictions for each line; None is the config's number.
        """

    @abstractmethod
    def token_lengths(self, examples: Sequence[Any]) -> dict[str, list[int]]:
        """Return the lengths in tokens of each part of the examples, such as {"source": [...], "target": [...]}."""

    def part_statistics(self, examples: Sequence[Any], train: Sequence[Any]) -> Mapping[str, PartStatistics]:
        """Return the statistics of each part of the examples of a split, for the data check.

        Args:
            examples: the examples of a split.
            train: the training examples, to count overlap with; empty for the training split itself.
        """
        return {
            part: PartStatistics(length_quantiles(lengths)) for part, lengths in self.token_lengths(examples).items()
        }

    def check_notes(self, examples: Sequence[Any]) -> list[str]:
        """Return the lines below the table of the data check, from the training examples."""
        return self.training_batches(examples).summary

    @classmethod
    def check(cls, config: Experiment, data_dir: Path | None) -> DataReport:
        """Read all data of an experiment and return their statistics, without training.

        Raises:
            UserError: the data are missing or broken; names the file and its first bad line.
        """
        splits = cls.load(config, data_dir)
        task = cls.prepare(config, splits, data_dir)
        statistics = {
            name: SplitStatistics(
                len(examples), task.part_statistics(examples, () if name == "train" else splits.train)
            )
            for name, examples in splits.splits().items()
        }
        return DataReport(statistics, tuple(task.check_notes(splits.train)), splits.fingerprint())


def settings(config: Experiment, kind: type[Settings]) -> Settings:
    """Return the `task` section of an experiment, typed."""
    assert isinstance(config.task, kind)
    return config.task


def refuse_n_best(n_best: int | None) -> None:
    """Raise `UserError` for `n_best` above 1; for tasks with a single prediction."""
    if n_best not in (None, 1):
        raise UserError(f"--n-best {n_best}: this task has one prediction for each line")


def rows_multiple() -> int:
    """Return the number of devices; the rows of every batch are a multiple of it."""
    return jax.device_count()
