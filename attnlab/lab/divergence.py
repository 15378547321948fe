"""How far runs are from a base run in their attention weights and predictions (Wiegreffe & Pinter 2019).

`attnlab.lab` does not import this file, because it needs the analyses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.analysis.faithfulness.attention_divergence import attention_divergence
from attnlab.config.errors import UserError
from attnlab.data.classification.records import LabeledText
from attnlab.data.records import Splits
from attnlab.lab.divergence_groups import RunDistances, grouped, strength_of
from attnlab.lab.evaluation import refuse_unknown_splits, training_data
from attnlab.lab.trained import TrainedModel, load
from attnlab.results.divergence import Divergence, DivergenceReport, RunDivergence
from attnlab.results.groups import find_runs
from attnlab.results.run_files import DIVERGENCE
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.classification.attention_maps import ClassifiedText
from attnlab.tasks.classification.base_model import SHARED
from attnlab.tasks.classification.metrics import accuracy, confusion, macro_f1
from attnlab.tasks.classification.task import ClassificationTask
from attnlab.training.atomic_files import writing
from attnlab.training.progress import EvaluationProgress
from attnlab.training.steps import fingerprint


def compare_attention(
    base: Path,
    runs: Sequence[Path],
    data_dir: Path | None = None,
    split: str | None = None,
    wrote: Callable[[Path], None] = lambda path: None,
    *,
    trust: bool = False,
) -> DivergenceReport:
    """Compare the attention weights and the predictions of runs with those of a base run.

    Runs that differ only in the seed from the base run show the variance of training itself; adversaries of the base
    model, trained with several λ, show how much the predictions change where the weights differ by more than that.
    Writes divergence/SPLIT.json and divergence/SPLIT.png into the base run.

    Args:
        base: the base run, a classifier.
        runs: the other runs, folders of runs, or patterns such as runs/sst2_adversary*; the base run is left out.
        data_dir: directory of datasets, as in training.
        split: name of a test set, or "dev"; None for the first test set.
        wrote: called with the path of every file that was written.
        trust: as in `load`.

    Returns: the report; its groups are runs that differ only in the seed.
    Raises:
        UserError: a run is no classifier, has another tokenizer, other texts in the split, or another number of hops
            than the base run, or is the adversary of another model.
    """
    trained = load(base, trust=trust)
    _task(trained)
    others = [path for pattern in runs for path in find_runs(Path(pattern))]
    others = [path for path in dict.fromkeys(others) if path.resolve() != trained.run.directory]
    if not others:
        raise UserError(f"{base}: there is no other run to compare it with")
    comparison = _Comparison.of(base, trained, training_data(trained, data_dir), split)
    opened = [load(path, trust=trust) for path in others]
    for other in opened:
        comparison.refuse_misfit(other, data_dir)
    report = comparison.report([comparison.distances(path, run) for path, run in zip(others, opened, strict=True)])
    wrote(trained.run.write_text(f"{DIVERGENCE}/{report.split}.json", report.to_json()))
    wrote(_draw(report, trained.run.path(f"{DIVERGENCE}/{report.split}.png")))
    return report


@dataclass(frozen=True, eq=False)
class _Comparison:
    """The base run with its predictions and weights for the texts of a split that have a token."""

    base: Path
    trained: TrainedModel
    data: Splits[LabeledText]
    split: str
    examples: list[LabeledText]

    @classmethod
    def of(cls, base: Path, trained: TrainedModel, data: Splits[LabeledText], split: str | None) -> Self:
        known = {name: examples for name, examples in data.splits().items() if name != "train"}
        refuse_unknown_splits([split] if split else (), list(known))
        name = split or next(iter(data.test))
        encoded = trained.task.token_lengths(known[name])["text"]
        examples = [example for example, length in zip(known[name], encoded, strict=True) if length]
        if not examples:
            raise UserError(f"--split {name}: no text of it has a token")
        return cls(base, trained, data, name, examples)

    @cached_property
    def classified(self) -> list[ClassifiedText]:
        """The predictions and weights of the base run."""
        return _classified(self.trained, self.split, self.examples)

    def refuse_misfit(self, other: TrainedModel, data_dir: Path | None) -> None:
        """Raise `UserError` if a run cannot be compared with the base run."""
        own, config = self.trained.run.config, other.run.config
        where = other.run.directory
        _task(other)
        for name in ("tokenizer/text.json", "labels.json"):
            if self.trained.run.fingerprint[name] != other.run.fingerprint[name]:
                raise UserError(f"{where}: its {name} differs from that of {self.base}; compare runs that share it")
        for name in SHARED:
            if getattr(own.task, name) != getattr(config.task, name):
                raise UserError(f"{where}: its task.{name} differs from that of {self.base}, and so may its tokens")
        if own.task.data != config.task.data or self.trained.run.fingerprint["data"] != other.run.fingerprint["data"]:
            data = training_data(other, data_dir)
            texts = data.fingerprint_of(self.split) if self.split in data.splits() else None
            if texts != self.data.fingerprint_of(self.split):
                raise UserError(f"{where}: its data have other texts in {self.split} than those of {self.base}")
        base_rows, rows = _rows(self.trained), _rows(other)
        if base_rows != rows:
            raise UserError(f"{where}: its attention weights are {rows}, those of {self.base} {base_rows}")
        if strength_of(config) is not None and other.run.fingerprint.get("base") != fingerprint(self.trained.params):
            raise UserError(f"{where}: is an adversary of another model than {self.base} (task.objective.base)")

    def distances(self, directory: Path, other: TrainedModel) -> RunDistances:
        """Compute the distance of a run from the base run for each text."""
        classified = _classified(other, f"{directory.name}: {self.split}", self.examples)
        jsd, tvd, largest = _divergences(self.classified, classified)
        correct, f1 = _scores(other, self.examples, classified)
        means = Divergence(correct, f1, float(jsd.mean()), interval(jsd), float(tvd.mean()), interval(tvd))
        record = RunDivergence(str(directory), other.run.config.seed, means)
        return RunDistances(record, other.run.config, jsd, tvd, largest)

    def report(self, runs: Sequence[RunDistances]) -> DivergenceReport:
        """Group the runs that differ only in the seed, and compute the curves of the adversaries."""
        groups, curves = grouped(self.trained.run.config, runs)
        correct, f1 = _scores(self.trained, self.examples, self.classified)
        return DivergenceReport(str(self.base), self.split, len(self.examples), correct, f1, groups, curves)


def _task(trained: TrainedModel) -> ClassificationTask:
    """Return the task of a run; raise `UserError` if it is not classification."""
    if not isinstance(trained.task, ClassificationTask):
        raise UserError(f"{trained.run.directory}: has the task {trained.run.config.task.kind}; valid: classification")
    return trained.task


def _classified(trained: TrainedModel, name: str, examples: Sequence[LabeledText]) -> list[ClassifiedText]:
    with EvaluationProgress(name, len(examples)) as progress:
        return _task(trained).classify(trained.params, [example.text for example in examples], progress)


def _rows(trained: TrainedModel) -> str:
    """Return what the rows and columns of the attention weights are, as text for a message."""
    (text,) = _task(trained).classify(trained.params, ["a"])
    rows, positions = text.weights.shape
    return f"{rows} x {positions} for a text of one token"


def _scores(
    trained: TrainedModel, examples: Sequence[LabeledText], classified: Sequence[ClassifiedText]
) -> tuple[float, float]:
    """Return accuracy and macro-F1 in percent."""
    names = _task(trained).labels
    predictions = np.array([text.probabilities.argmax() for text in classified])
    labels = np.array([names.index(example.label) for example in examples])
    return accuracy(predictions, labels), macro_f1(confusion(predictions, labels, len(names)))


def _divergences(
    base: Sequence[ClassifiedText], other: Sequence[ClassifiedText]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weight_jsd, prediction_tvd and max_weight of each text."""
    arrays = [array for texts in (base, other) for array in _stacked(texts)]
    result = jax.jit(jax.vmap(attention_divergence))(*arrays)
    jsd, tvd, largest = (np.asarray(values, np.float64) for values in result)
    return jsd, tvd, largest


def _stacked(texts: Sequence[ClassifiedText]) -> tuple[jax.Array, jax.Array]:
    """Return the probabilities [n c] and the weights [n r s] of all texts, padded with 0."""
    longest = max(text.weights.shape[1] for text in texts)
    weights = [np.pad(text.weights, ((0, 0), (0, longest - text.weights.shape[1]))) for text in texts]
    probabilities = np.stack([text.probabilities for text in texts])
    return jnp.asarray(probabilities, jnp.float32), jnp.asarray(np.stack(weights), jnp.float32)


def _draw(report: DivergenceReport, path: Path) -> Path:
    from attnlab.viz.divergence import draw_divergence  # matplotlib takes a second to import

    with writing(path):
        draw_divergence(report, path)
    return path
