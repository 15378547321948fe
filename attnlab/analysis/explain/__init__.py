"""Explanations of the predictions of a task's model: labels, attributions, and what was explained, in one record.

`Explainer(task).explain(params, example)` applies a method of `analysis.attribution` to the model of a task. For one's
own Flax model call these methods themselves: they take arrays or a function `embedded -> score`.
"""

from attnlab.analysis.explain.explainer import Explainer
from attnlab.analysis.explain.explanations import Explanations
from attnlab.analysis.explain.methods import methods_for, needs_met
from attnlab.analysis.explain.part import PartAttributions
from attnlab.analysis.explain.record import Explanation
from attnlab.analysis.explain.together import explain_together

__all__ = [
    "Explainer", "Explanation", "Explanations", "PartAttributions", "explain_together", "methods_for", "needs_met",
]  # fmt: skip
