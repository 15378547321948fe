"""Inputs of a case, and what attention of them is, in float64 NumPy and by hand: the judge of every implementation.

Some query rows are computed, all of them where there are few. The cotangent that checks the gradients is zero in
all other rows, so that the gradients of keys and values follow from these rows alone: exact at any length, at little
cost.
"""

import numpy as np

from attnlab.bench.cases import SOFT_CAP, WINDOW, Case

ROWS = 128
"""Most query rows of a head that are computed."""
LIMITS = {"float64": 1e-12, "float32": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}
"""The largest error relative to the largest expected number that still counts as the same function."""
TF32_LIMIT = 5e-3
"""For float32 on a GPU, whose products keep 11 bits unless told otherwise."""

Arrays = dict[str, np.ndarray]


def draw(case: Case, seed: int = 0) -> Arrays:
    """Draw the inputs [b t h d] and the cotangent of the output, in float32 (float64) but numbers of the case's dtype.

    The read-out of the additive score has entries of size 1/√d, so that logits are of order one.
    """
    rng = np.random.default_rng(seed)
    batch, heads, length, width = case.shape
    arrays = {name: rng.standard_normal((batch, length, heads, width)) for name in ("query", "key", "value")}
    if case.variant == "additive":
        arrays["readout"] = rng.standard_normal(width) / width**0.5
    arrays["cotangent"] = rng.standard_normal((batch, length, heads, width))
    return {name: _rounded(array, case.dtype) for name, array in arrays.items()}


def chosen_rows(length: int, most: int | None = None) -> np.ndarray:
    """Choose the query rows to compute, at most so many (`ROWS`): the first, the last and some between."""
    most = most or ROWS
    if length <= most:
        return np.arange(length)
    between = np.random.default_rng(1).choice(np.arange(1, length - 1), most - 2, replace=False)
    return np.sort(np.concatenate([[0], between, [length - 1]]))


def rows_of(case: Case) -> np.ndarray:
    """Choose the query rows of a case: fewer where a row costs a tanh for every key and hidden unit."""
    if case.variant != "additive":
        return chosen_rows(case.shape.length)
    return chosen_rows(case.shape.length, min(max(2**27 // (case.shape.length * case.shape.width), 8), ROWS))


def only_rows(cotangent: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the cotangent with zeros in all other rows."""
    kept = np.zeros_like(cotangent)
    kept[:, rows] = cotangent[:, rows]
    return kept


def expected(case: Case, arrays: Arrays, rows: np.ndarray) -> Arrays:
    """Compute the output at some rows and, in mode forward_backward, the gradients by the cotangent at these rows.

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
            if case.mode == "forward":
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
    return {"output": output} | ({} if case.mode == "forward" else gradients)


def errors(found: Arrays, right: Arrays, rows: np.ndarray) -> dict[str, float]:
    """Return the largest error of each array, relative to the largest number expected in it; infinite for NaN.

    The rows of the output that were not computed must at least be finite.
    """
    result = {}
    for name, wanted in right.items():
        whole = found[name].astype(np.float64)
        given = whole[:, rows] if name == "output" else whole
        if given.shape != wanted.shape or not np.isfinite(whole).all():
            result[name] = float("inf")
        else:
            largest = np.abs(wanted).max()
            result[name] = float(np.abs(given - wanted).max() / (largest if largest else 1.0))
    return result


def _weights(
    case: Case, q: np.ndarray, k: np.ndarray, readout: np.ndarray | None, rows: np.ndarray, head: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [rows k], and logits as the softmax sees them (masked ones included)."""
    distance = rows[:, None] - np.arange(len(k))[None, :]
    if readout is not None:
        logits = np.stack([np.tanh(one + k) @ readout for one in q])
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
    """Add what the logits readout · tanh(q + k) pass back, a query at a time."""
    for row, one, d_row in zip(rows, q, d_logits, strict=True):
        hidden = np.tanh(one + k)
        gradients["readout"] += d_row @ hidden
        d_hidden = d_row[:, None] * (1.0 - hidden**2) * readout
        gradients["query"][at[0], row, at[2]] = d_hidden.sum(axis=0)
        gradients["key"][at] += d_hidden


def _rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """Round to numbers that the dtype holds; returned in float32, float64 as it is."""
    if dtype == "float64":
        return array
    if dtype == "float16":
        return array.astype(np.float16).astype(np.float32)
    narrow = array.astype(np.float32)
    if dtype == "bfloat16":  # the upper half of the bits, rounded to even
        bits = narrow.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return narrow
