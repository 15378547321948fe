"""The predictions of a task in words, and what each of them contributes to the task's metrics."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from attnlab.tasks.explained_prediction import ExplainedPrediction


class ScoredOutputs:
    """The part of a task that scores predictions.

    Attributes:
        correctness: the metric of `output_scores` that is positive for a right prediction and 0 for a wrong one; None
            if a prediction is neither.
    """

    correctness: ClassVar[str | None] = None

    def output_scores(self, outputs: Sequence[str], examples: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return what each example contributes to the metrics of predictions: `per_example` of `test_metrics`.

        Args:
            outputs: a prediction for each example, as `outputs` returns it.
            examples: examples of a split.
        Returns: name -> an array with a row for each example, for `aggregate`; nothing if a reference is unknown, or if
            the task does not define it.
        """
        return {}

    def undefined_metrics(self, examples: Sequence[Any]) -> Mapping[str, str]:
        """Return the metrics of `output_scores` that are undefined for these examples, each with its reason."""
        return {}

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """Compute a metric of some examples from their rows of `per_example`: the mean, unless a task overrides it."""
        return float(rows.mean())

    def is_correct(self, example: Any, explained: ExplainedPrediction) -> bool | None:
        """Return whether the model's own prediction is right; None without a reference, or with many right outputs.

        Args:
            example: of a split.
            explained: its explained prediction.
        """
        if self.correctness is None:
            return None
        scores = self.output_scores([explained.prediction], [example])
        return bool(scores[self.correctness][0]) if scores else None
