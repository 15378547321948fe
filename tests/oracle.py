"""The oracle of attention: NumPy float64, one number at a time, independent of the library."""

import math
from collections.abc import Callable

import numpy as np

Vector = np.ndarray


def dot(query: Vector, key: Vector) -> float:
    return math.fsum(q * k for q, k in zip(query, key, strict=True))


def scaled_dot(query: Vector, key: Vector) -> float:
    return dot(query, key) / math.sqrt(len(query))


def general(query: Vector, key: Vector, w: np.ndarray) -> float:
    return math.fsum(query[i] * w[i, j] * key[j] for i in range(len(query)) for j in range(len(key)))


def additive(query: Vector, key: Vector, v: Vector, w_query=None, w_key=None) -> float:
    from_query = query if w_query is None else [dot(query, column) for column in w_query.T]
    from_key = key if w_key is None else [dot(key, column) for column in w_key.T]
    return math.fsum(v[a] * math.tanh(from_query[a] + from_key[a]) for a in range(len(v)))


def softmax(logits: list[float]) -> list[float]:
    """Return the softmax weights of the allowed logits."""
    if not logits:
        return []
    top = max(logits)
    total = math.fsum(math.exp(x - top) for x in logits)
    return [math.exp(x - top) / total for x in logits]


def log_sum_exp(logits: list[float]) -> float:
    if not logits:
        return -math.inf
    top = max(logits)
    return top + math.log(math.fsum(math.exp(x - top) for x in logits))


def top_keys(weights: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `top` largest weights of each row with their keys, the earlier key first if they are equal."""
    keys = np.zeros((*weights.shape[:-1], top), int)
    for place in np.ndindex(*weights.shape[:-1]):
        row = weights[place]
        keys[place] = sorted(range(len(row)), key=lambda j: (-row[j], j))[:top]
    return np.take_along_axis(weights, keys, axis=-1), keys


def attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    score: Callable[[Vector, Vector, int], float],
    mod: Callable[[float, int, int, int], float],
    may: Callable[[tuple[int, ...], int, int, int], bool],
    normalizer: Callable[..., list[float]],
) -> dict[str, np.ndarray]:
    """Attend; `score` takes (query, key, head), `mod` (logit, i, j, head), `may` (example, head, i, j),
    `normalizer` (logits, keys, i, head, number of the example)."""
    *batch, queries, heads, _ = query.shape
    keys, key_heads = key.shape[-3:-1]
    weights = np.zeros((*batch, heads, queries, keys))
    result = {
        "output": np.zeros((*batch, queries, heads, value.shape[-1])),
        "weights": weights,
        "scores": np.full(weights.shape, -np.inf),
        "logits": np.full(weights.shape, -np.inf),
        "lse": np.zeros(weights.shape[:-1]),
        "entropy": np.zeros(weights.shape[:-1]),
        "max": np.zeros(weights.shape[:-1]),
        "distance": np.zeros(weights.shape[:-1]),
        "key_mass": np.zeros((*batch, heads, keys)),
    }
    for place in np.ndindex(*batch, heads, queries):
        example, head, i = place[:-2], place[-2], place[-1]
        key_head = head // (heads // key_heads)
        allowed = [j for j in range(keys) if may(example, head, i, j)]
        scores = [score(query[*example, i, head], key[*example, j, key_head], head) for j in allowed]
        logits = [mod(logit, i, j, head) for j, logit in zip(allowed, scores, strict=True)]
        number = int(np.ravel_multi_index(example, tuple(batch))) if batch else 0
        row = normalizer(logits, allowed, i, head, number)
        for j, raw_score, logit, weight in zip(allowed, scores, logits, row, strict=True):
            result["scores"][*place, j] = raw_score
            result["logits"][*place, j] = logit
            result["weights"][*place, j] = weight
            result["output"][*example, i, head] += weight * value[*example, j, key_head]
        result["lse"][place] = log_sum_exp(logits)
        result["max"][place] = max(logits, default=-math.inf)
        result["entropy"][place] = -math.fsum(w * math.log(w) for w in row if w > 0)
        result["distance"][place] = math.fsum(w * abs(i - j) for j, w in zip(allowed, row, strict=True))
        for j, weight in zip(allowed, row, strict=True):
            result["key_mass"][*example, head, j] += weight
    return result
