"""The attention of every layer and head behind an explained prediction, with labels, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from attnlab.analysis.explain.call import KEYS
from attnlab.analysis.heads.alarms import Alarm, attention_alarms
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.explained_prediction import ExplainedPrediction
from attnlab.tasks.hypotheses import START
from attnlab.tasks.input_parts import InputSequence, Label
from attnlab.tasks.layer_attention import NAMES, option

WHOLE = {
    "query_to_context": "question as a whole",
    "question_to_image": "question as a whole",
    "image_to_question": "image as a whole",
}
"""Kinds of attention with a single query -> what it stands for."""


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The attention of one layer: a map for each head, without padding.

    Attributes:
        title: kind of attention, and number of the layer if there are several.
        option: its name in `attnlab show --attention`.
        layer: number of the layer, from 1.
        weights: [h q k].
        queries: a label for each row, which attends.
        keys: a label for each column, which is attended to; row and column for the cells of an image.
    """

    title: str
    option: str
    layer: int
    weights: Float[np.ndarray, "h q k"]
    queries: tuple[str, ...]
    keys: tuple[Label, ...]

    @property
    def over_image(self) -> bool:
        """Return whether the keys are the cells of an image."""
        return bool(self.keys) and not isinstance(self.keys[0], str)


def layer_maps(explained: ExplainedPrediction, layers: Sequence[LayerAttention]) -> tuple[LayerMaps, ...]:
    """Return the maps of all layers, in the order of `NAMES` and of the layers.

    Args:
        explained: the prediction.
        layers: records of its batch, of which the first example counts; of two outputs in contrast that is the target.
    """
    ordered = sorted(layers, key=lambda record: (list(NAMES).index(option(record)), record.layer or 1))
    maps = []
    for record in ordered:
        queries, keys = _labels(explained, record)
        weights = np.asarray(record.weights)[0, :, : len(queries), : len(keys)]
        maps.append(LayerMaps(_title(record, layers), option(record), record.layer or 1, weights, queries, keys))
    return tuple(maps)


def layer_alarms(explained: ExplainedPrediction, layers: Sequence[LayerAttention]) -> list[Alarm]:
    """Return what is wrong with the maps of all layers with learned weights; see `attention_alarms`.

    Args:
        explained: as in `layer_maps`.
        layers: records with details.
    """
    found = []
    for record in layers:
        if record.pooled is None or not record.replaceable:
            continue  # maximum, first or last state: one-hot by definition
        queries, _ = _labels(explained, record)
        weights, where = np.asarray(record.weights)[:1], np.asarray(record.pooled.where)[:1]
        real = np.arange(weights.shape[2])[None, :] < len(queries)
        found += attention_alarms(weights, where, real, _title(record, layers))
    return found


def _title(record: LayerAttention, layers: Sequence[LayerAttention]) -> str:
    several = sum(option(other) == option(record) for other in layers) > 1
    return NAMES[option(record)] + (f", layer {record.layer}" if several else "")


def _labels(explained: ExplainedPrediction, record: LayerAttention) -> tuple[tuple[str, ...], tuple[Label, ...]]:
    """Return the labels of the queries and of the keys of a layer; those of padding have none."""
    sequences = [_flat(sequence) for sequence in jax.tree.leaves(explained.inputs)]
    rows, columns = record.weights.shape[2:]
    if record.kind == "self" and record.stack == "decoder":
        return explained.output[:rows], (START, *explained.output[:-1])[:columns]
    keys = sequences[KEYS.get(record.kind, 0)][:columns]
    if record.kind in WHOLE and rows == 1:
        return (WHOLE[record.kind],), keys
    if record.kind in ("self", "context_to_query"):
        queries = sequences[0]
    elif record.kind in ("decoder", "cross"):
        queries = explained.output or sequences[-1]
    elif record.kind == "hop":
        queries = (f"hop {record.layer or 1}",) if rows == 1 else ()
    else:
        queries = ("pooling",) if rows == 1 else ()
    named = tuple(str(label) for label in queries) or tuple(f"{record.kind} {n}" for n in range(1, rows + 1))
    return named[:rows], keys


def _flat(sequence: InputSequence) -> tuple[Label, ...]:
    return tuple(label for part in sequence.parts for label in part.labels)
