"""Explanations of the predictions of a trained model, and how faithful they are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jaxtyping import PyTree

from attnlab.config.explain import shortened
from attnlab.tasks.base import Task
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.input_parts import Granularity

if TYPE_CHECKING:
    from attnlab.analysis.battery import Battery, FaithfulnessReport
    from attnlab.analysis.explain import Explainer, Explanation, Explanations


ONE_EXAMPLE = "explain takes one example, not a list of them"


class ExplainableModel(ABC):
    """A trained model whose predictions can be explained, and its attributions judged."""

    task: Task

    @property
    @abstractmethod
    def params(self) -> PyTree:
        """The parameters of the model."""

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
        example, selection = self._parsed(inputs, ONE_EXAMPLE), _selection(target, contrast, position)
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
        members = [self._member(example) for example in examples]
        records = run_battery(battery, dict(enumerate(members)))
        return FaithfulnessReport(battery.summary(records, members), records)

    def battery(self, methods: Sequence[str] | str | None = None, removal: str = "pad", seed: int = 0) -> "Battery":
        """Return the battery of the model; see `faithfulness`."""
        from attnlab.analysis.battery import Battery, battery_settings

        settings, left_out = battery_settings(self._explainer, methods, removal, seed)
        return Battery(self._explainer, self.params, settings, left_out)

    def explain_together(
        self,
        *inputs: str,
        methods: Sequence[str] | str = (),
        target: str | None = None,
        contrast: str | None = None,
        position: int | None = None,
        granularity: Granularity = "word",
    ) -> "Explanations":
        """Explain a prediction by several methods side by side, with their agreement and the attention of all layers.

        Args:
            inputs: the inputs of `attnlab show`, in the task's format.
            methods: some of `explanation_methods`; empty for the quick ones, "all" for all of them.
            target: as in `explain`, like `contrast`, `position` and `granularity`.
            contrast: another target.
            position: number of one token of a generated text, from 1.
            granularity: sum the attributions of tokens over words, or over sentences.

        Raises:
            UserError: the model cannot have a method, or there is no such target; names what there is.
        """
        example, selection = self._parsed(inputs, ONE_EXAMPLE), _selection(target, contrast, position)
        return self.explain_example(example, methods, selection, granularity)

    def explain_example(
        self,
        example: Any,
        methods: Sequence[str] | str,
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

    def chosen_methods(self, methods: Sequence[str] | str, granularity: Granularity = "word") -> list[str]:
        """Return the methods that `explain_together` applies; refuse those that the model cannot have.

        Args:
            methods: as in `explain_together`.
            granularity: refused if there is no such granularity.
        """
        from attnlab.analysis.explain.choice import DEFAULT_METHODS, choose_methods

        chosen = choose_methods(self._explainer, methods, DEFAULT_METHODS)
        self._explainer.check(chosen, granularity)
        return chosen

    def _member(self, example: Any) -> Any:
        """Return an example of the task: itself, or what a text or a list of inputs means."""
        if not isinstance(example, str | list | tuple):
            return example
        inputs = [example] if isinstance(example, str) else example
        return self._parsed(inputs, "an example is a text or a list of texts, not a list of lists")

    def _parsed(self, inputs: Sequence[str], refusal: str) -> Any:
        """Parse the inputs of one example; raise TypeError with `refusal` if one of them is a list."""
        if any(isinstance(value, list | tuple) for value in inputs):
            raise TypeError(f"{refusal}: {self.task.input_format}")
        return self.task.parse_example(inputs)


def _selection(target: str | None, contrast: str | None, position: int | None) -> TargetSelection:
    if any(isinstance(value, list | tuple) for value in (target, contrast)):
        raise TypeError("explain takes one example with one target, not a list of them")
    if not isinstance(position, int | None):
        raise TypeError(f"position must be the number of a token of the output, not {position!r}")
    return TargetSelection(target, contrast, position)
