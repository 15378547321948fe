"""The oracle of masks: for one query and one key, in plain Python, from the definition in the paper."""

from collections.abc import Callable, Sequence

May = Callable[[int, int], bool]
"""(query, key) -> whether it may attend; T = S unless an offset is said."""


def causal(offset: int = 0) -> May:
    return lambda i, j: j in range(i + offset + 1)


def sliding_window(left: int, right: int, offset: int = 0) -> May:
    """Count keys from the query's own position."""
    return lambda i, j: j in [i + offset + step for step in range(-left, right + 1)]


def dilated(window: int, dilation: int, offset: int = 0) -> May:
    """Longformer, section 3.1: half of the window on each side, with gaps."""
    return lambda i, j: j in [i + offset + dilation * step for step in range(-(window // 2), window // 2 + 1)]


def strided(stride: int, offset: int = 0) -> May:
    """Sparse Transformer, section 4.3, the union of the two sets of a query."""

    def may(i: int, j: int) -> bool:
        i += offset
        local = set(range(max(0, i - stride), i + 1))
        far = {key for key in range(i + 1) if (i - key) % stride == 0}
        return j in local | far

    return may


def fixed(stride: int, summary: int, offset: int = 0) -> May:
    """Sparse Transformer, section 4.3: the query's own stretch, and the last `summary` keys of every stretch."""

    def may(i: int, j: int) -> bool:
        i += offset
        own = {key for key in range(i + 1) if key // stride == i // stride}
        far = {key for key in range(i + 1) if key % stride in range(stride - summary, stride)}
        return j in own | far

    return may


def global_tokens(tokens: Sequence[int], offset: int = 0) -> May:
    return lambda i, j: i + offset in tokens or j in tokens


def prefix(n: int) -> May:
    return lambda i, j: j in range(n)


def lengths(queries: int, keys: int) -> May:
    return lambda i, j: i in range(queries) and j in range(keys)


def segments(query_ids: Sequence[int], key_ids: Sequence[int]) -> May:
    return lambda i, j: query_ids[i] == key_ids[j]


def block_layout(layout: Sequence[Sequence[bool]], rows: int, columns: int) -> May:
    """Find the block of a position by counting the whole blocks before it."""

    def block(position: int, size: int) -> int:
        number = 0
        while position >= size:
            position, number = position - size, number + 1
        return number

    return lambda i, j: bool(layout[block(i, rows)][block(j, columns)])
