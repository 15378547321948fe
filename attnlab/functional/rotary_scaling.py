"""Rotary frequencies for longer texts than in training: linear, Llama 3 and YaRN.

The arguments have the names of `rope_scaling` in a Hugging Face config; the result is passed to `rotary(...,
scaling=...)`. It changes the frequencies θ_m = base^(−2m / D), in radians per position; pair m completes a rotation in
λ_m = 2π / θ_m positions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scaling:
    """Frequencies for longer texts; made by `linear`, `llama3` or `yarn`."""

    change: Callable[[np.ndarray, float | int], np.ndarray]
    """(frequencies [D/2], base) -> frequencies, in float64."""
    attention_factor: float | int = 1.0
    """A factor of queries and keys; the logits are multiplied by its square."""

    def frequencies(self, base: float | int, width: int) -> np.ndarray:
        """Return the frequencies [width / 2], in radians per position.

        >>> linear(2.0).frequencies(10000.0, 4).tolist()
        [0.5, 0.005]
        """
        return self.change(base ** (np.arange(0, width, 2) / -width), base)


def linear(factor: float | int) -> Scaling:
    """Return position interpolation: all frequencies divided by a factor.

    θ'_m = θ_m / s

    Args:
        factor: s, at least 1: the length of texts relative to training.
    Reference: Chen, Wong, Chen & Tian 2023, "Extending Context Window ... via Positional Interpolation".

    >>> linear(4.0).attention_factor
    1.0
    """
    _at_least("linear", "factor", factor, 1)
    return Scaling(lambda frequencies, base: frequencies / factor)


def llama3(
    factor: float | int,
    original_max_position_embeddings: int,
    low_freq_factor: float | int = 1.0,
    high_freq_factor: float | int = 4.0,
) -> Scaling:
    """Return the scaling of Llama 3.1 and later: low frequencies are divided by a factor, with a smooth transition.

    θ'_m = (1 − γ_m) θ_m / s + γ_m θ_m,    γ_m = clip((L / λ_m − low) / (high − low), 0, 1)

    Pairs with more than `high` rotations in the original length L are unchanged; the frequencies of those with less
    than `low` are divided by s.

    Args:
        factor: s, at least 1; 8 in Llama 3.1, 32 in the small ones of 3.2.
        original_max_position_embeddings: L, the length of texts in pretraining; 8192 in Llama 3.
        low_freq_factor: low, rotations in L.
        high_freq_factor: high, more than low.
    Reference: Grattafiori et al. 2024 (The Llama 3 Herd of Models), section 3.4.2, for the extension; the formula is
        that of the published model code (meta-llama/llama-models, `apply_scaling`).

    >>> [round(x, 4) for x in llama3(8.0, 100).frequencies(10000.0, 6).tolist()]
    [1.0, 0.0058, 0.0003]
    """
    _at_least("llama3", "factor", factor, 1)
    _at_least("llama3", "original_max_position_embeddings", original_max_position_embeddings, 1)
    if not 0.0 <= low_freq_factor < high_freq_factor:
        raise ValueError(
            f"llama3: low_freq_factor {low_freq_factor} must be at least 0 and below high_freq_factor "
            f"{high_freq_factor}; write low_freq_factor=1.0, high_freq_factor=4.0"
        )

    def change(frequencies: np.ndarray, base: float | int) -> np.ndarray:
        turns = original_max_position_embeddings * frequencies / (2.0 * math.pi)
        kept = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0)
        return (1.0 - kept) * frequencies / factor + kept * frequencies

    return Scaling(change)


def yarn(
    factor: float | int,
    original_max_position_embeddings: int,
    beta_fast: float | int = 32.0,
    beta_slow: float | int = 1.0,
    attention_factor: float | int | None = None,
    truncate: bool = True,
) -> Scaling:
    """Return the scaling of YaRN: low frequencies are divided by a factor along a ramp, and the weights are sharpened.

    θ'_m = (1 − γ_m) θ_m + γ_m θ_m / s,    γ_m = clip((m − a) / (b − a), 0, 1)
    a = max(⌊m(beta_fast)⌋, 0),   b = min(⌈m(beta_slow)⌉, D − 1),   m(r) = D ln(L / 2πr) / (2 ln base)

    where m(r) is the pair with r rotations in the original length L. The ramp is linear in m, as in the authors' code
    and the models trained with it; in their paper it is linear in the number of rotations (eq. 18).

    Args:
        factor: s, at least 1.
        original_max_position_embeddings: L, the length of texts in pretraining.
        beta_fast: pairs with more rotations in L are unchanged.
        beta_slow: the frequencies of pairs with fewer rotations in L are divided by s; below beta_fast.
        attention_factor: a factor of queries and keys; None for 0.1 ln s + 1. (DeepSeek's `mscale` and
            `mscale_all_dim` give (0.1 · mscale · ln s + 1) / (0.1 · mscale_all_dim · ln s + 1).)
        truncate: True to round a and b to integers, as in the authors' code; False in gpt-oss.
    Reference: Peng, Quesnelle, Fan & Shippole 2023 (YaRN), sections 3.2 and 3.4, eq. 22; the ramp is that of
        their code (jquesnelle/yarn).

    >>> round(yarn(4.0, 4096).attention_factor, 4)
    1.1386
    """
    _at_least("yarn", "factor", factor, 1)
    _at_least("yarn", "original_max_position_embeddings", original_max_position_embeddings, 1)
    if not 0.0 < beta_slow < beta_fast:
        raise ValueError(
            f"yarn: beta_slow {beta_slow} must be more than 0 and below beta_fast {beta_fast}; "
            "write beta_fast=32.0, beta_slow=1.0"
        )

    def change(frequencies: np.ndarray, base: float | int) -> np.ndarray:
        width = 2 * len(frequencies)
        length = original_max_position_embeddings / (2.0 * math.pi)
        first, last = (width * math.log(length / turns) / (2.0 * math.log(base)) for turns in (beta_fast, beta_slow))
        if truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        slowed = np.clip((np.arange(width // 2) - first) / max(last - first, 0.001), 0.0, 1.0)
        return (1.0 - slowed) * frequencies + slowed * frequencies / factor

    return Scaling(change, 0.1 * math.log(factor) + 1.0 if attention_factor is None else attention_factor)


def _at_least(scaling: str, name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
        raise ValueError(f"{scaling}: {name} must be a number of {low} or more, not {value!r}; write {name}={low}")
