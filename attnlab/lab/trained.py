"""A trained run: its model, its parameters, and its task."""

from collections.abc import Callable, Iterator, Sequence
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
from attnlab.results.run import Run
from attnlab.results.run_files import CONFIG, DECODING
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.base import Task
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.input_parts import Granularity
from attnlab.tasks.layer_attention import Selection
from attnlab.tasks.registry import task_class
from attnlab.training.parameters import average, read_parameters

if TYPE_CHECKING:
    from attnlab.analysis.alignment import AlignedPrediction
    from attnlab.analysis.battery import Battery, FaithfulnessReport
    from attnlab.analysis.explain import Explainer, Explanation, Explanations

ALL_METHODS = "all"
"""In place of the names of methods: every one that the model can have."""


@dataclass(eq=False, repr=False)
class TrainedModel:
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
        if any(isinstance(value, list | tuple) for value in inputs):
            raise TypeError(f"attention takes one example, not a list of them: {self.task.input_format}")
        return self.attention_maps(self.task.parse_example(inputs), Selection(attention, layer, head))

    def attention_maps(self, example: Any, selection: Selection) -> list[AnyAttentionMap]:
        """Return the attention maps of an example: the default ones of the task, or a selected layer and head."""
        if selection:
            return [self.task.selected_attention_map(self.params, example, selection)]
        return self.task.attention_maps(self.params, example)

    @property
    def explanation_methods(self) -> list[str]:
        """The methods of `explain` that the model can have."""
        return self._explainer.methods

    @cached_property
    def _explainer(self) -> "Explainer":
        from attnlab.analysis.explain import Explainer  # a tenth of a second to import, and few commands explain

        return Explainer(self.task)

    def explain(
        self,
        *inputs: str,
        method: str = "integrated_gradients",
        target: str | None = None,
        contrast: str | None = None,
        position: int | None = None,
        granularity: Granularity = "token",
        **options: Any,
    ) -> "Explanation":
        """Explain a prediction: what each token, sentence or cell of the input contributes to it.

        Args:
            inputs: the inputs of `attnlab show`, in the task's format.
            method: one of `explanation_methods`.
            target: a class, an answer, a part of the passage, or an output text; None for the model's own prediction.
            contrast: another one, to explain why the target is more probable than this. With `position` it is one
                token of the output.
            position: number of one token of a generated text, from 1; None for the whole text.
            granularity: sum the attributions of tokens over words, or over sentences.
            options: of the method: `baseline` ("pad", "zeros" or "mean") and `n_steps` of integrated gradients,
                `baseline` of occlusion, `removal` (one of these, "mask" or "drop") of leave-one-out, `n_samples` and
                `noise_level` of SmoothGrad, `seed`, and `layer` and `head` (from 1) of methods on attention.

        Raises:
            UserError: the model cannot have this method, or there is no such target or option; names what there is.
        """
        example, selection = self._example(inputs), _selection(target, contrast, position)
        return self._explainer.explain(
            self.params, example, method=method, selection=selection, granularity=granularity, **options
        )

    def faithfulness(
        self,
        examples: Sequence[Any],
        methods: Sequence[str] | str | None = None,
        removal: str = "pad",
        seed: int = 0,
    ) -> "FaithfulnessReport":
        """Measure how faithful, and where the data mark evidence how plausible, attributions of predictions are.

        Args:
            examples: of the task: texts as `predict` takes them, lists of the inputs of `attnlab show`, or examples of
                the task's data, which alone can mark evidence.
            methods: some of `explanation_methods`; "all"; None for the fast ones. The random floor, leave-one-out and
                raw attention are added.
            removal: what removing a token means: "pad", "zeros", "mean", "mask" or "drop".
            seed: of all that is random.

        Raises:
            UserError: the model cannot have a method, or there is no such method or removal.
        """
        from attnlab.analysis.battery import FaithfulnessReport, run_battery

        if isinstance(examples, str) or not len(examples):
            raise TypeError(f"faithfulness takes a list of examples, not {shortened(examples)}")
        battery = self.battery(methods, removal, seed)
        records = run_battery(battery, dict(enumerate(members := list(map(self._parsed, examples)))))
        return FaithfulnessReport(battery.summary(records, members), records)

    def battery(self, methods: Sequence[str] | str | None = None, removal: str = "pad", seed: int = 0) -> "Battery":
        """Return the battery of the model; see `faithfulness`."""
        from attnlab.analysis.battery import Battery, battery_settings

        settings, left_out = battery_settings(self._explainer, methods, removal, seed)
        return Battery(self._explainer, self.params, settings, left_out)

    def _parsed(self, example: Any) -> Any:
        if isinstance(example, str | list | tuple):
            return self.task.parse_example([example] if isinstance(example, str) else list(example))
        return example

    def explain_together(
        self,
        *inputs: str,
        methods: Sequence[str] = (),
        target: str | None = None,
        contrast: str | None = None,
        position: int | None = None,
        granularity: Granularity = "word",
    ) -> "Explanations":
        """Explain a prediction by several methods side by side, with their agreement and the attention of all layers.

        Args:
            inputs: the inputs of `attnlab show`, in the task's format.
            methods: some of `explanation_methods`; empty for the quick ones, ["all"] for all of them.
            target: as in `explain`, like `contrast`, `position` and `granularity`.
            contrast: another target.
            position: number of one token of a generated text, from 1.
            granularity: sum the attributions of tokens over words, or over sentences.

        Raises:
            UserError: the model cannot have a method, or there is no such target; names what there is.
        """
        selection = _selection(target, contrast, position)
        return self.explain_example(self._example(inputs), methods, selection, granularity)

    def explain_example(
        self,
        example: Any,
        methods: Sequence[str],
        selection: TargetSelection,
        granularity: Granularity,
        started: Callable[[str], None] = lambda text: None,
    ) -> "Explanations":
        """Explain the prediction of an example of the task as `explain_together` does.

        Args:
            example: as `task.parse_example` returns it.
            methods: as in `explain_together`.
            selection: the target.
            granularity: as in `explain_together`.
            started: called with what is computed next.
        """
        from attnlab.analysis.explain import explain_together

        return explain_together(
            self._explainer, self.params, example, self.chosen_methods(methods, granularity),
            selection=selection, granularity=granularity, started=started,
        )  # fmt: skip

    def chosen_methods(self, methods: Sequence[str], granularity: Granularity = "word") -> list[str]:
        """Return the methods that `explain_together` applies; refuse those that the model cannot have.

        Args:
            methods: as in `explain_together`.
            granularity: refused if there is no such granularity.
        """
        from attnlab.analysis.explain.descriptions import default_methods

        if isinstance(methods, str):
            raise TypeError(f"methods must be a list of names: [{methods!r}]")
        possible = self.explanation_methods
        chosen = default_methods(possible) if not methods else list(dict.fromkeys(methods))
        chosen = possible if chosen == [ALL_METHODS] else chosen
        self._explainer.check(chosen, granularity)
        return chosen

    def _example(self, inputs: Sequence[str]) -> Any:
        if any(isinstance(value, list | tuple) for value in inputs):
            raise TypeError(f"explain takes one example, not a list of them: {self.task.input_format}")
        return self.task.parse_example(inputs)


def _selection(target: str | None, contrast: str | None, position: int | None) -> TargetSelection:
    if any(isinstance(value, list | tuple) for value in (target, contrast)):
        raise TypeError("explain takes one example with one target, not a list of them")
    if not isinstance(position, int | None):
        raise TypeError(f"position must be the number of a token of the output, not {position!r}")
    return TargetSelection(target, contrast, position)


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
