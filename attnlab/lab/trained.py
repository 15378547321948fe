"""A trained run: its model, its parameters, and its task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flax import linen as nn
from jaxtyping import PyTree

from attnlab.config import Experiment
from attnlab.config.code import TRUST, announced, code_of, recorded_code, refuse_other_code
from attnlab.config.difference import difference
from attnlab.config.errors import UserError
from attnlab.config.explain import shortened
from attnlab.config.load import load as read_config
from attnlab.lab.explainable import ExplainableModel
from attnlab.results.run import Run
from attnlab.results.run_files import CONFIG, DECODING
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.base import Task
from attnlab.tasks.layer_attention import Selection
from attnlab.tasks.registry import task_class
from attnlab.training.parameters import average, read_parameters

if TYPE_CHECKING:
    from attnlab.analysis.alignment import AlignedPrediction


@dataclass(eq=False, repr=False)
class TrainedModel(ExplainableModel):
    """A trained model: `model`, `params`, `tokenizer`, and `task`, which encodes inputs and decodes outputs."""

    run: Run
    task: Task

    def __repr__(self) -> str:
        config = self.run.config
        return f"<TrainedModel {self.run.directory}: task {config.task.kind}, model {config.model.kind}>"

    @property
    def model(self) -> nn.Module:
        """The Linen module of the model."""
        return self.task.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the task (`task.tokenizer`)."""
        return self.task.tokenizer

    @property
    def params(self) -> PyTree:
        """The parameters with the best validation metric, or the mean of the last checkpoints with `average_last`."""
        return self._restored[1]

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that `params` were restored from."""
        return self._restored[0]

    @cached_property
    def _restored(self) -> tuple[list[int], PyTree]:
        config = self.run.config
        checkpoints = read_parameters(self.run.checkpoints, self.task.initialize, config.training)
        if not checkpoints:
            raise UserError(
                f"{self.run.directory}: no checkpoint is intact; "
                f"attnlab train {self.run.directory / CONFIG} resumes training, or reports why it cannot"
            )
        last = max(self.run.checkpoints.steps())
        if last < config.training.steps and not config.training.patience:
            self.run.notify(f"{self.run.directory}: training is at step {last} of {config.training.steps}")
        if (count := len(checkpoints)) < config.training.average_last:
            averaged = "a single checkpoint is used" if count == 1 else f"{count} checkpoints are averaged"
            self.run.notify(
                f"{self.run.directory}: {averaged} instead of {config.training.average_last}; no others are left"
            )
        return [step for step, _ in checkpoints], average([params for _, params in checkpoints])

    def predict(self, lines: Sequence[str], n_best: int | None = None) -> list[str]:
        """Predict the output of every line, like `attnlab predict`.

        Args:
            lines: inputs in the task's format.
            n_best: outputs for each line; None for the number in the config.
        """
        if isinstance(lines, str):
            raise TypeError(f"predict takes a list of lines: predict([{shortened(lines)}])")
        return list(self.predict_lines(lines, 0, n_best))

    def predict_lines(
        self, lines: Sequence[str], first: int, n_best: int | None, aligned: "AlignedPrediction | None" = None
    ) -> Iterator[str]:
        """Predict the output of every line; if a line is invalid, yield the outputs before it, then raise.

        Args:
            lines: inputs in the task's format.
            first: number of the first line, from 0.
            n_best: outputs for each line; None for the number in the config.
            aligned: adds the word alignment of each translation; None for none.
        """
        try:
            outputs = list((aligned or self.task).predict(self.params, lines, first, n_best))
        except UserError:
            if len(lines) == 1:
                raise
            half = len(lines) // 2
            yield from self.predict_lines(lines[:half], first, n_best, aligned)
            outputs = self.predict_lines(lines[half:], first + half, n_best, aligned)
        yield from outputs

    def unknown_words(self, *texts: str) -> list[str]:
        """Return the words of texts that are not in the vocabulary; the model replaces them by the unknown word."""
        return self.task.unknown_words(texts)

    def attention(
        self, *inputs: str, attention: str | None = None, layer: int | None = None, head: int | None = None
    ) -> list[AnyAttentionMap]:
        """Predict one example and return the attention maps of its predictions, best first.

        Args:
            inputs: the inputs of `attnlab show`, in the task's format.
            attention: a kind of attention of the model ("cross", "encoder", "decoder", "pooling", ...); only the map of
                the best prediction is returned. None for the default of the task.
            layer: layer of that attention, from 1.
            head: head of that layer, from 1; None for the mean over heads.

        Raises:
            UserError: the model does not have this kind of attention, layer or head.
        """
        example = self._parsed(inputs, "attention takes one example, not a list of them")
        return self.attention_maps(example, Selection(attention, layer, head))

    def attention_maps(self, example: Any, selection: Selection) -> list[AnyAttentionMap]:
        """Return the attention maps of an example: the default ones of the task, or a selected layer and head."""
        if selection:
            return [self.task.selected_attention_map(self.params, example, selection)]
        return self.task.attention_maps(self.params, example)


def load(directory: Path | str, changes: Sequence[str] = (), *, trust: bool = False) -> TrainedModel:
    """Load a trained run.

    Args:
        directory: the run directory. The code of its custom parts is executed: treat it as a program.
        changes: overrides of decoding settings, e.g. "task.decoding.beam=1"; other settings cannot be changed.
        trust: execute the code of the run even if it is not the code recorded at training.

    Returns: the trained model; parameters are restored on first use.

    Raises:
        UserError: the directory is not a run, has no checkpoint, or was changed after training.
    """
    run = Run.read(Path(directory))
    if code := code_of(run.config):
        if not trust:
            refuse_other_code(run.directory, code, recorded_code(run.directory), TRUST)
        run.notify(f"{run.directory}: {announced(code)}")
    if not run.checkpoints.steps():  # interrupted before the first checkpoint, or an archive
        raise UserError(
            f"{run.directory}: has no checkpoint to load; "
            f"attnlab train {run.directory}/config.yaml --out runs/{run.directory.name} trains one"
        )
    task = task_class(run.config).restore(_with_decoding(run, changes), run.directory)
    for name, sha256 in task.fingerprints().items():
        if sha256 != run.fingerprint.get(name):
            raise UserError(f"{run.directory}: the {name} was changed after training")
    return TrainedModel(run, task)


def _with_decoding(run: Run, changes: Sequence[str]) -> Experiment:
    """Return the run's config with changed decoding settings."""
    if not changes:
        return run.config
    changed = read_config(run.directory / CONFIG, changes)
    for line in difference(run.config, changed):
        if not line.startswith(DECODING):
            raise UserError(f"{line}; only task.decoding can be changed in a trained run")
    return changed
