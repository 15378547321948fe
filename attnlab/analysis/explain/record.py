"""The record of an explanation, and its aggregation from tokens to words or sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from attnlab.analysis.attribution.aggregation import aggregate_segments
from attnlab.analysis.explain.highlighted import explanation_rows, framed
from attnlab.analysis.explain.part import PartAttributions
from attnlab.tasks.input_parts import Granularity, InputPart, InputSequence


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a method attributes to each position of the input of a prediction.

    Attributes:
        method: name of the method.
        options: the options of the method, with their values.
        target: what is explained, in words.
        score: the value of the target.
        prediction: the model's own prediction in words.
        output: the tokens of a generated text, which `position` counts from 1; otherwise empty.
        parts: the parts of the input with their attributions.
        completeness_gap: |Σ attributions − (F(x) − F(baseline))|; None for a method whose attributions are not meant to
            sum to such a difference.
    """

    method: str
    options: Mapping[str, Any]
    target: str
    score: float
    prediction: str
    output: tuple[str, ...]
    parts: tuple[PartAttributions, ...]
    completeness_gap: float | None = None

    def __getitem__(self, name: str) -> PartAttributions:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(f"{name!r}; the parts are {', '.join(part.name for part in self.parts)}")

    def __repr__(self) -> str:
        parts = ", ".join(f"{part.name} ({len(part.labels)} {part.unit}s)" for part in self.parts)
        return f"<Explanation by {self.method}: {self.target}; {parts}>"

    def _repr_html_(self) -> str:
        """Return the input highlighted by the attributions, for notebooks."""
        body = explanation_rows(self.method, self.parts, self.completeness_gap)
        return framed(self.prediction, self.target, self.score, body)


def parts_of(
    sequences: Sequence[InputSequence],
    widths: Sequence[int],
    attributions: np.ndarray,
    granularity: Granularity,
    *,
    ranks: bool = False,
) -> tuple[PartAttributions, ...]:
    """Divide the attributions of all positions among the parts of the input, and aggregate them.

    Args:
        sequences: the positions of the embedded arrays.
        widths: positions of each, padding included.
        attributions: [n] of all positions, one array after another.
        granularity: what to aggregate to, by sums.
        ranks: whether attributions are ranks, of which the best counts: their sum would grow with the number of tokens.
    """
    parts, start = [], 0
    for sequence, width in zip(sequences, widths, strict=True):
        place = start
        for part in sequence.parts:
            parts.append(
                _aggregated(
                    part, attributions[place : place + len(part.labels)], granularity, "max" if ranks else "sum"
                )
            )
            place += len(part.labels)
        start += width
    return tuple(parts)


def _aggregated(
    part: InputPart, attributions: np.ndarray, granularity: Granularity, how: Literal["sum", "max"]
) -> PartAttributions:
    labels, members = part.segments(granularity)
    special = np.zeros(len(labels), bool)
    special[members] = part.special
    unit = granularity if part.unit == "token" else part.unit
    if len(labels) < len(attributions):
        ids = jnp.asarray(members, jnp.int32)
        attributions = np.asarray(aggregate_segments(jnp.asarray(attributions), ids, len(labels), how))
    return PartAttributions(part.name, unit, tuple(labels), attributions, special)
