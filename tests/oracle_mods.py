"""The oracle of mods and rotary positions: Python floats, one logit at a time, independent of the library."""

import cmath
import math
from statistics import NormalDist

import numpy as np
from oracle_normalizers import threefry


def soft_cap(logit: float, cap: float) -> float:
    return cap * math.tanh(logit / cap)


def alibi_slope(head: int, heads: int) -> float:
    """As the authors' `get_slopes`, for the head of this number from 0."""

    def power_of_two(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(heads).is_integer():
        return power_of_two(heads)[head]
    closest = 2 ** math.floor(math.log2(heads))
    return (power_of_two(closest) + power_of_two(2 * closest)[0::2][: heads - closest])[head]


def alibi(logit: float, i: int, j: int, head: int, heads: int) -> float:
    return logit - alibi_slope(head, heads) * abs(i - j)


def relative(table: np.ndarray, i: int, j: int) -> float:
    furthest = (len(table) - 1) // 2
    return table[max(-furthest, min(furthest, j - i)) + furthest]


def t5_bucket(distance: int, buckets: int, bidirectional: bool, max_distance: int) -> int:
    """Find the bucket by width: the first after the exact buckets with exact · (max / exact)^(m / n) > distance."""
    behind = 0
    if bidirectional:
        buckets //= 2
        behind = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return behind + distance
    bucket = exact
    while bucket < buckets - 1:
        share = (bucket + 1 - exact) / (buckets - exact)
        if distance < exact * (max_distance / exact) ** share - 1e-6:
            break
        bucket += 1
    return behind + bucket


def diagonal(logit: float, i: int, j: int, width: float, ratio: float, offset: float) -> float:
    """Add the logarithm of a normal density over its largest value."""
    density = NormalDist(ratio * i + offset, width)
    return logit - (j - density.mean) ** 2 / (2.0 * density.variance)


def random(logit: float, i: int, j: int, head: int, key: tuple[int, int], scale: float) -> float:
    """Add a number drawn with `key`, the two words that the library hashes with."""
    bits = threefry(threefry(key, (0, head)), (i, j))[0]
    return logit + scale * NormalDist().inv_cdf(((bits >> 9) + 0.5) / 2**23)


def rotary(
    row: np.ndarray, position: int, base: float = 10000.0, interleaved: bool = False, speeds: list[float] | None = None
) -> np.ndarray:
    """Rotate one head of one token: each pair of features is a complex number that is multiplied by e^{iθ}."""
    width = len(row)
    turned = np.zeros(width)
    for m in range(width // 2):
        x, y = (2 * m, 2 * m + 1) if interleaved else (m, m + width // 2)
        speed = base ** (-2 * m / width) if speeds is None else speeds[m]
        z = complex(row[x], row[y]) * cmath.exp(1j * position * speed)
        turned[x], turned[y] = z.real, z.imag
    return turned


def llama3(base: float, width: int, factor: float, length: int, low: float, high: float) -> list[float]:
    """Scale by wavelength as published: short ones are unchanged, long ones divided, those between interpolated."""
    speeds = []
    for m in range(width // 2):
        speed = 1.0 / base ** (2 * m / width)
        wavelength = 2 * math.pi / speed
        if wavelength > length / low:
            speed /= factor
        elif wavelength >= length / high:
            smooth = (length / wavelength - low) / (high - low)
            speed = (1 - smooth) * speed / factor + smooth * speed
        speeds.append(speed)
    return speeds


def yarn(base: float, width: int, factor: float, length: int, fast: float, slow: float, whole: bool) -> list[float]:
    """Scale along the published ramp, from the pair with `fast` rotations in the length to that with `slow`."""

    def pair_that_turns(times: float) -> float:
        # θ_m = 2π · times / length, solved for m.
        return -width / 2 * math.log(2 * math.pi * times / length) / math.log(base)

    first, last = pair_that_turns(fast), pair_that_turns(slow)
    if whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    speeds = []
    for m in range(width // 2):
        speed = base ** (-2 * m / width)
        kept = 1.0 if m <= first else 0.0 if m >= last else 1 - (m - first) / (last - first)
        speeds.append(kept * speed + (1 - kept) * speed / factor)
    return speeds
