"""The oracle of scores: NumPy float64, one pair at a time."""

import math

import numpy as np


def concat(query: np.ndarray, key: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    pair = [*query, *key]
    hidden = [math.tanh(math.fsum(x * row[a] for x, row in zip(pair, w, strict=True))) for a in range(len(v))]
    return math.fsum(v[a] * hidden[a] for a in range(len(v)))


def cosine(query: np.ndarray, key: np.ndarray, scale: float = 1.0) -> float:
    lengths = math.hypot(*query), math.hypot(*key)
    if 0.0 in lengths:
        return 0.0
    return scale * math.fsum(q / lengths[0] * (k / lengths[1]) for q, k in zip(query, key, strict=True))


def negative_squared_distance(query: np.ndarray, key: np.ndarray, scale: float = 1.0) -> float:
    return -scale * math.fsum((q - k) ** 2 for q, k in zip(query, key, strict=True))


def scaled(query: np.ndarray, key: np.ndarray, scale: float) -> float:
    return scale * math.fsum(q * k for q, k in zip(query, key, strict=True))


def trilinear(
    query: np.ndarray, key: np.ndarray, w_query: np.ndarray, w_key: np.ndarray, w_product: np.ndarray
) -> float:
    pair = [*query, *key, *(q * k for q, k in zip(query, key, strict=True))]
    return math.fsum(w * x for w, x in zip([*w_query, *w_key, *w_product], pair, strict=True))


def constant(query: np.ndarray, key: np.ndarray) -> float:
    return 0.0


def multiplicative(
    query: np.ndarray,
    key: np.ndarray,
    w_query: np.ndarray | None = None,
    w_key: np.ndarray | None = None,
    scale: float | None = None,
) -> float:
    left, right = (
        features
        if w is None
        else [math.fsum(x * row[a] for x, row in zip(features, w, strict=True)) for a in range(w.shape[1])]
        for features, w in ((query, w_query), (key, w_key))
    )
    return scaled(left, right, len(left) ** -0.5 if scale is None else scale)
