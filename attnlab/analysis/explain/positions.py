"""Which positions of a batch are padding, special tokens, or the queries that lead to the target."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from attnlab.analysis.explain.layout import Layout
from attnlab.tasks.explained_prediction import ExplainedPrediction
from attnlab.tasks.input_parts import InputSequence


class Positions(NamedTuple):
    """The positions of one example in the joined array [n d] of a layout."""

    valid: np.ndarray
    """[n] True for positions that are not padding."""
    removable: np.ndarray
    """[n] True for positions that are neither padding nor special tokens."""
    rows: np.ndarray
    """True for the queries whose attention leads to the target; longer than any sequence."""


def positions_of(explained: ExplainedPrediction, layout: Layout, batch: Mapping[str, Any]) -> Positions:
    """Return the positions of an explained prediction in a batch of this layout.

    Args:
        explained: as `task.explained_prediction` returns it.
        layout: of the batch's embedded arrays.
        batch: arrays with a row for each example.
    """
    special = padded(explained, layout, [flag for part in parts_in_order(explained) for flag in part.special])
    valid = padded(explained, layout, np.ones(len(parts_labels(explained)), bool))
    longest = max([*layout.widths, *(array.shape[1] for array in batch.values() if array.ndim > 1)])
    rows = np.zeros(longest, bool)
    rows[list(explained.rows or ())] = True
    return Positions(valid, valid & ~special, rows)


def padded(explained: ExplainedPrediction, layout: Layout, flags: Any) -> np.ndarray:
    """Return flags of all positions, one sequence after another, with False for the padding of each sequence."""
    flags, pieces, start = np.asarray(flags, bool), [], 0
    for sequence, width in zip(jax.tree.leaves(explained.inputs), layout.widths, strict=True):
        assert isinstance(sequence, InputSequence)
        pieces += [flags[start : start + sequence.length], np.zeros(width - sequence.length, bool)]
        start += sequence.length
    return np.concatenate(pieces)


def parts_in_order(explained: ExplainedPrediction) -> list[Any]:
    """Return the parts of all sequences, one after another."""
    return [part for sequence in jax.tree.leaves(explained.inputs) for part in sequence.parts]


def parts_labels(explained: ExplainedPrediction) -> list[Any]:
    """Return the labels of all positions."""
    return [label for part in parts_in_order(explained) for label in part.labels]
