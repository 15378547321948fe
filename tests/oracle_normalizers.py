"""The oracle of normalizers: pure Python over the list of a row's allowed logits, from the definitions.

Nothing is shared with the library, whose sparse weights come from sorting or from bisection of another quantity.
"""

import math
from collections.abc import Callable, Sequence

Row = Sequence[float]


def softmax(logits: Row, temperature: float = 1.0, sink: float | None = None) -> list[float]:
    scaled = [x / temperature for x in logits]
    others = [] if sink is None else [sink]
    top = max([*scaled, *others], default=0.0)
    total = math.fsum(math.exp(x - top) for x in [*scaled, *others])
    return [math.exp(x - top) / total for x in scaled]


def sparsemax(logits: Row) -> list[float]:
    """Project the logits to the simplex: of all support sizes, return the optimal solution."""
    top = max(logits, default=0.0)  # weights depend on differences alone
    logits = [x - top for x in logits]
    down = sorted(logits, reverse=True)
    for size in range(1, len(down) + 1):
        level = (math.fsum(down[:size]) - 1.0) / size
        if all(x >= level for x in down[:size]) and all(x <= level for x in down[size:]):
            return [max(x - level, 0.0) for x in logits]
    return []


def entmax(logits: Row, alpha: float) -> list[float]:
    """Peters, Niculae & Martins 2019, eq. 8, by bisection of their τ."""
    if alpha == 1.0:
        return softmax(logits)
    if not logits:
        return []
    top = max(logits)

    def weights(level: float) -> list[float]:
        return [max((alpha - 1.0) * (x - top) - level, 0.0) ** (1.0 / (alpha - 1.0)) for x in logits]

    low, high = -1.0, 0.0
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if math.fsum(weights(middle)) >= 1.0 else (low, middle)
    return weights(low)


def sigmoid(logits: Row, bias: float = 0.0) -> list[float]:
    return [1.0 / (1.0 + math.exp(min(-x - bias, 700.0))) for x in logits]


def relu_over_length(logits: Row) -> list[float]:
    return [(x if x > 0.0 else 0.0) / len(logits) for x in logits]


def linear(logits: Row) -> list[float]:
    return list(logits)


def top_k(logits: Row, k: int) -> list[float]:
    best = sorted(range(len(logits)), key=lambda j: (-logits[j], j))[:k]
    weights = [0.0] * len(logits)
    for j, weight in zip(best, softmax([logits[j] for j in best]), strict=True):
        weights[j] = weight
    return weights


def hardmax(logits: Row) -> list[float]:
    return top_k(logits, 1)


def threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 of 20 rounds, Salmon et al. 2011, section 3.3."""
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counter[0] + keys[0]) % 2**32, (counter[1] + keys[1]) % 2**32
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    for turn in range(20):
        by = rotations[turn % 8]
        x = (x + y) % 2**32
        y = (y << by | y >> (32 - by)) % 2**32 ^ x
        if turn % 4 == 3:
            group = turn // 4 + 1
            x, y = (x + keys[group % 3]) % 2**32, (y + keys[(group + 1) % 3] + group) % 2**32
    return x, y


def gumbel_softmax(
    logits: Row, keys: Sequence[int], query: int, head: int, example: int, *, key: tuple[int, int], temperature: float
) -> list[float]:
    """Sample with `key`, the two words that the library hashes with."""
    own = threefry(key, (example, head))
    uniform = [((threefry(own, (query, j))[0] >> 9) + 0.5) / 2**23 for j in keys]
    return softmax([x - math.log(-math.log(u)) for x, u in zip(logits, uniform, strict=True)], temperature)


def local_p(
    logits: Row, keys: Sequence[int], query: int, head: int, example: int, *, center: Row, width: float
) -> list[float]:
    """Luong, Pham & Manning 2015, eq. 10."""
    p, sigma = center[query], width / 2.0
    near = [n for n, j in enumerate(keys) if p - width <= j <= p + width]
    weights = [0.0] * len(logits)
    for n, weight in zip(near, softmax([logits[n] for n in near]), strict=True):
        weights[n] = weight * math.exp(-((keys[n] - p) ** 2) / (2.0 * sigma**2))
    return weights


def permuted(
    logits: Row, keys: Sequence[int], query: int, head: int, example: int, *, key: tuple[int, int],
    ordered: Callable[..., list[float]] | None = None, shared: bool = False,
) -> list[float]:  # fmt: skip
    """Give the first key the weight of the key with the smallest hash, the second that of the next, and so on."""
    weights = softmax(logits) if ordered is None else ordered(logits, keys, query, head, example)
    own = threefry(key, (0 if shared else example, head))
    order = sorted(range(len(keys)), key=lambda n: threefry(own, (query, keys[n]))[0])
    return [weights[n] for n in order]


def by_row(normalizer: Callable[..., list[float]], **bound: float) -> Callable[..., list[float]]:
    """Bind the parameters of a row."""
    return lambda logits, *place: normalizer(logits, *place, **bound)
