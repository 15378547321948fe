"""Attention maps of every layer and head, packed small enough for a page."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from attnlab.analysis.explain.layer_maps import LayerMaps
from attnlab.data.text.display import direction, printable

FEWEST = 4
"""Fewest weights of a row that are worth storing; below this, maps are left out instead."""
INDEX_BYTES = 2


def packed(layers: Sequence[LayerMaps], budget: int) -> dict[str, Any]:
    """Return the maps as data of a page: every weight in a byte, and of long rows only the largest weights.

    Args:
        layers: the maps.
        budget: bytes for all weights, before they are written as text.
    Returns: `labels`, the lists of labels that maps refer to; `layers`; `kept`, the number of weights of each row that
        are stored, 0 for all; and `left_out`, the number of maps without a place, the last ones.
    """
    kept = _weights_of_a_row(layers, budget)
    labels: dict[tuple[Any, ...], int] = {}
    number = lambda names: labels.setdefault(tuple(names), len(labels))  # noqa: E731
    drawn, left_out, used = [], 0, 0
    for layer in layers:
        heads = []
        for number_of_head, weights in enumerate(layer.weights, start=1):
            size = _size(weights.shape, kept)
            if used + size > budget:
                left_out += 1
                continue
            used += size
            heads.append({"number": number_of_head} | _head(weights, kept))
        if heads:
            drawn.append({
                "title": layer.title, "option": layer.option, "layer": layer.layer,
                "heads": heads, "of": len(layer.weights),
                "queries": number(layer.queries), "keys": number(layer.keys), "image": layer.over_image,
            })  # fmt: skip
    lists = [_labels(names) for names in labels]
    return {"labels": lists, "layers": drawn, "kept": kept, "left_out": left_out}


def as_script(data: Any) -> str:
    """Return data as JSON that cannot end the script element that holds it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _weights_of_a_row(layers: Sequence[LayerMaps], budget: int) -> int:
    """Return how many weights of each row are stored; 0 for all of them."""
    shapes = [weights.shape for layer in layers for weights in layer.weights]
    if sum(_size(shape, 0) for shape in shapes) <= budget:
        return 0
    longest = max(columns for _, columns in shapes) // (1 + INDEX_BYTES)
    choices = range(longest, FEWEST, -1)
    return next((kept for kept in choices if sum(_size(shape, kept) for shape in shapes) <= budget), FEWEST)


def _size(shape: tuple[int, ...], kept: int) -> int:
    rows, columns = shape
    return rows * (columns if _is_whole(columns, kept) else kept * (1 + INDEX_BYTES))


def _is_whole(columns: int, kept: int) -> bool:
    return kept == 0 or columns <= kept * (1 + INDEX_BYTES)


def _head(weights: np.ndarray, kept: int) -> dict[str, Any]:
    """Return one map: its largest weight, and every weight as a share of it in a byte, of negative ones from 128."""
    finite = np.nan_to_num(np.asarray(weights, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(np.abs(finite).max(initial=0.0)) or 1.0
    signed = bool((finite < 0).any())
    units = np.rint(128 + 127 * finite / top) if signed else np.rint(255 * finite / top)
    head = {"top": float(f"{top:.4g}"), "signed": signed, "bad": not np.isfinite(weights).all()}
    units = units.astype(np.uint8)
    if _is_whole(units.shape[1], kept):
        return head | {"weights": _text(units)}
    largest = np.sort(np.argsort(-np.abs(finite), axis=1, kind="stable")[:, :kept], axis=1)
    return head | {
        "weights": _text(np.take_along_axis(units, largest, axis=1)),
        "places": _text(largest.astype("<u2")),
    }


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _labels(names: Sequence[Any]) -> dict[str, Any]:
    if names and not isinstance(names[0], str):
        texts = [f"row {row + 1}, column {column + 1}" for row, column in names]
        return {"columns": 1 + max(int(column) for _, column in names), "texts": texts}
    texts = [printable(str(name), keep="\n\t") or "∅" for name in names]
    return {"columns": 0, "texts": texts, "direction": direction(texts)}
