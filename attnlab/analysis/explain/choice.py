"""The choice of methods: those that are named, all that a model can have, or those that are computed by default."""

from collections.abc import Sequence

from attnlab.analysis.explain.explainer import Explainer
from attnlab.analysis.explain.methods import refuse_method

ALL_METHODS = "all"
"""In place of the names of methods: every one that the model can have."""
DEFAULT_METHODS = (
    "raw_attention", "gradient_x_attention", "attention_relevance", "encoder_decoder_relevance", "input_x_gradient",
    "integrated_gradients", "leave_one_out", "random_attribution",
)  # fmt: skip
"""Methods that are shown by default, if the model can have them: quick ones of every family, and a floor."""
SLOW = {
    "smooth_grad": "50 gradients an example",
    "greedy_leave_one_out": "a number of predictions that grows with the square of the length",
    "attention_flow": "a maximum flow from every position",
    "value_zeroing": "a prediction for every position and layer",
}
"""Methods that are computed only where they are named, or with `ALL_METHODS`, with what they cost."""


def named_methods(methods: Sequence[str] | str | None) -> list[str]:
    """Return the names without duplicates, `ALL_METHODS` among them; empty for the default.

    >>> named_methods("saliency"), named_methods(["saliency", "occlusion", "saliency"]), named_methods(None)
    (['saliency'], ['saliency', 'occlusion'], [])
    """
    return [methods] if isinstance(methods, str) else list(dict.fromkeys(methods or ()))


def choose_methods(explainer: Explainer, methods: Sequence[str] | str | None, default: Sequence[str]) -> list[str]:
    """Return the methods to apply to a model, without duplicates.

    Args:
        explainer: of the model.
        methods: names of methods, or one of them; `ALL_METHODS` for those that the model can have; None or empty for
            the default ones among these.
        default: names of the default methods.
    Raises:
        UserError: the model cannot have a method, or there is no such method; names one that works.
    """
    named = named_methods(methods)
    if named == [ALL_METHODS]:
        return explainer.methods
    for method in named:
        refuse_method(method, explainer.needs)
    return named or [method for method in default if method in explainer.methods]


def estimated_seconds(method: str, positions: int, layers: int, queries: int, seconds: float) -> float:
    """Return about how long a slow method takes for one input, without its compilation.

    Args:
        method: a key of `SLOW`.
        positions: number of positions of the input, padding included.
        layers: number of layers of self-attention.
        queries: number of queries that lead to the target.
        seconds: of one evaluation of the model among many; a gradient is counted as three.
    """
    if method == "attention_flow":  # by push-relabel in NumPy: measured with 6 layers and 60 tokens
        return 0.3 * queries * (positions / 60) ** 3 * layers / 6
    evaluations = {
        "greedy_leave_one_out": positions**2, "smooth_grad": 3 * 50, "value_zeroing": positions * layers,
    }  # fmt: skip
    return seconds * evaluations[method]
