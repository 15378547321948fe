"""The types of the functions that methods and metrics take in place of a model."""

from collections.abc import Callable

from jaxtyping import Array, Bool, Float

Score = Callable[[Float[Array, "n d"]], Float[Array, ""]]
"""(embedded [n d]) -> the explained number: a logit or log-probability of a class, an answer span or a token, or a
contrast (a difference of two of them). It must be deterministic: no dropout."""
Predict = Callable[[Bool[Array, "m n"]], Float[Array, " m"]]
"""(removed [m n]) -> the target's probability (or score) [m] for m versions of one text of n tokens, each without the
tokens that are True. What "removed" means (replaced by padding, dropped, masked in the attention) is up to the
function, and should be reported. Deterministic."""
Classify = Callable[[Bool[Array, "m n"]], Float[Array, "m c"]]
"""(removed [m n]) -> the probabilities (or scores) of all c classes for m versions of one text."""
PredictFromWeights = Callable[[Float[Array, " n"]], Float[Array, " c"]]
"""(weights [n]) -> class probabilities [c], of a model whose attention weights are replaced by these."""
