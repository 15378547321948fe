"""The inputs of a case, and its output and gradients in float64 NumPy: the reference for every implementation.

Long cases are computed for a sample of query rows. The cotangent of the gradient check is zero in all other rows, so
that the gradients of keys and values depend on these rows only and are exact at any length.
"""

import numpy as np

from attnlab.bench.cases import SOFT_CAP, WINDOW, Case

ROWS = 128
"""Largest number of query rows that are computed per head."""
LIMITS = {"float64": 1e-12, "float32": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}
"""Largest accepted error, relative to the largest reference value, by dtype."""
TF32_LIMIT = 5e-3
"""Largest accepted error of float32 on a GPU, whose matrix products use TF32 (11 significant bits) by default."""

Arrays = dict[str, np.ndarray]


def draw(case: Case, seed: int = 0) -> Arrays:
    """Sample the inputs [b t h d] and the cotangent of the output, rounded to values of the case's dtype.

    The arrays are float32 (float64 for a float64 case). The readout of the additive score has entries of size 1/√d,
    so that logits are of order one.
    """
    rng = np.random.default_rng(seed)
    batch, heads, length, width = case.shape
    arrays = {name: rng.standard_normal((batch, length, heads, width)) for name in ("query", "key", "value")}
    if case.variant == "additive":
        arrays["readout"] = rng.standard_normal(width) / width**0.5
    arrays["cotangent"] = rng.standard_normal((batch, length, heads, width))
    return {name: _rounded(array, case.dtype) for name, array in arrays.items()}


def sample_rows(length: int, limit: int | None = None) -> np.ndarray:
    """Return the query rows to compute, at most `limit` (None: `ROWS`): the first, the last and a sample between."""
    limit = limit or ROWS
    if length <= limit:
        return np.arange(length)
    between = np.random.default_rng(1).choice(np.arange(1, length - 1), limit - 2, replace=False)
    return np.sort(np.concatenate([[0], between, [length - 1]]))


def rows_of(case: Case) -> np.ndarray:
    """Return the query rows of a case; fewer for additive, where a row costs a tanh per key and hidden unit."""
    if case.variant != "additive":
        return sample_rows(case.shape.length)
    return sample_rows(case.shape.length, min(max(2**27 // (case.shape.length * case.shape.width), 8), ROWS))


def only_rows(cotangent: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the cotangent with zeros outside the rows."""
    kept = np.zeros_like(cotangent)
    kept[:, rows] = cotangent[:, rows]
    return kept


def expected(case: Case, arrays: Arrays, rows: np.ndarray) -> Arrays:
    """Return the output at the rows and, in mode forward_backward, the gradients for the cotangent at these rows.

    Returns: "output" [b rows h d], and a gradient of the shape of each input.
    """
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    output = np.zeros_like(wide["cotangent"][:, rows])
    gradients = {name: np.zeros_like(wide[name]) for name in case.arrays}
    for example in range(case.shape.batch):
        for head in range(case.shape.heads):
            at = (example, slice(None), head)
            q, ct = wide["query"][at][rows], wide["cotangent"][at][rows]
            k, v = wide["key"][at], wide["value"][at]
            weights, logits = _weights(case, q, k, wide.get("readout"), rows, head)
            output[at] = weights @ v
            if not case.backward:
                continue
            d_weights = ct @ v.T
            d_logits = weights * (d_weights - (d_weights * weights).sum(axis=1, keepdims=True))
            if case.variant == "soft_cap":
                d_logits *= 1.0 - (logits / SOFT_CAP) ** 2
            gradients["value"][at] = weights.T @ ct
            if case.variant == "additive":
                _additive_gradients(gradients, at, rows, d_logits, q, k, wide["readout"])
            else:
                scale = case.shape.width**-0.5
                gradients["query"][example, rows, head] = d_logits @ k * scale
                gradients["key"][at] = d_logits.T @ q * scale
    return {"output": output} | (gradients if case.backward else {})


def errors(actual: Arrays, desired: Arrays, rows: np.ndarray) -> dict[str, float]:
    """Return the largest error of each array, relative to its largest reference value; infinite for NaN.

    Rows of the output that have no reference must be finite.
    """
    result = {}
    for name, reference in desired.items():
        array = actual[name].astype(np.float64)
        compared = array[:, rows] if name == "output" else array
        if compared.shape != reference.shape or not np.isfinite(array).all():
            result[name] = float("inf")
        else:
            largest = np.abs(reference).max()
            result[name] = float(np.abs(compared - reference).max() / (largest if largest else 1.0))
    return result


def _weights(
    case: Case, q: np.ndarray, k: np.ndarray, readout: np.ndarray | None, rows: np.ndarray, head: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [rows k], and the logits that enter the softmax (before masking)."""
    distance = rows[:, None] - np.arange(len(k))[None, :]
    if readout is not None:
        logits = np.stack([np.tanh(query + k) @ readout for query in q])
    else:
        logits = q @ k.T / case.shape.width**0.5
    if case.variant == "soft_cap":
        logits = SOFT_CAP * np.tanh(logits / SOFT_CAP)
    if case.variant == "alibi":
        logits = logits - case.slopes[head] * distance
    allowed = np.ones_like(distance, dtype=bool)
    if case.variant in ("causal", "window", "alibi"):
        allowed &= distance >= 0
    if case.variant == "window":
        allowed &= distance < WINDOW
    shifted = np.where(allowed, logits, -np.inf)
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), logits


def _additive_gradients(
    gradients: Arrays,
    at: tuple[int, slice, int],
    rows: np.ndarray,
    d_logits: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    readout: np.ndarray,
) -> None:
    """Accumulate the gradients of the logits readout · tanh(q + k), one query at a time."""
    for row, query, d_row in zip(rows, q, d_logits, strict=True):
        hidden = np.tanh(query + k)
        gradients["readout"] += d_row @ hidden
        d_hidden = d_row[:, None] * (1.0 - hidden**2) * readout
        gradients["query"][at[0], row, at[2]] = d_hidden.sum(axis=0)
        gradients["key"][at] += d_hidden


def _rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """Round to values of the dtype; return float32, or float64 unchanged."""
    if dtype == "float64":
        return array
    if dtype == "float16":
        return array.astype(np.float16).astype(np.float32)
    narrow = array.astype(np.float32)
    if dtype == "bfloat16":  # the upper half of the bits, rounded to even
        bits = narrow.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return narrow
