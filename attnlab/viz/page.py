"""Self-contained HTML pages of attention maps, which need no server and no network."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from attnlab.data.text.display import direction, printable
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, ImageAttentionMap
from attnlab.viz.panels import Panel, image_panel, panels
from attnlab.viz.text import CAVEAT, CAVEAT_DETAILS, contains_word, unknown_words_message

UNITS = 1000
"""Weights are written in thousandths, rounded so that a row keeps its sum."""
MAX_CELLS = 90_000
"""Largest number of weights on a page, which keeps it below a megabyte (a single map is always shown whole)."""


def render(
    attention_maps: Sequence[AnyAttentionMap],
    *,
    title: str = "Attention",
    details: Mapping[str, str] | None = None,
    input_language: str = "",
    prediction_language: str = "",
) -> str:
    """Render the predictions of one example with their attention as an HTML page.

    For tokens, the page has a table of the weights, and it highlights tokens: pointing at a token, moving to it with
    Tab or the arrow keys, or clicking it (which keeps it selected) highlights the tokens it attends to, or those that
    attend to it. Initially the columns are colored by their mean weights. For an image, the page has a copy of the
    image with the grid of every row. Unknown words and evidence are marked. All text is escaped and has the direction
    of its own script. Predictions that would make the page larger than a megabyte are omitted, with their number.

    Args:
        attention_maps: attention maps of the same class, at least one, best prediction first.
        title: heading of the page.
        details: details of the run, e.g. {"run": "dates-s1", "checkpoint": "step 900"}.
        input_language: language code of the input for screen readers and hyphenation, e.g. "de".
        prediction_language: language code of the predictions.

    Returns: the HTML text.
    """
    if not attention_maps:
        raise ValueError("no attention map to show")
    first = attention_maps[0]
    rendered = _maps_that_fit(attention_maps)
    context: dict[str, Any] = {
        "title": _printable(title),
        "unknown_words": _printable(unknown_words_message(first.unknown_words)),
        "details": {_printable(name): _printable(value) for name, value in (details or {}).items()},
        "left_out": len(attention_maps) - len(rendered),
        "input_language": input_language,
        "prediction_language": prediction_language,
        "caveat": CAVEAT,
        "caveat_details": CAVEAT_DETAILS,
    }
    if isinstance(first, ImageAttentionMap):
        context |= {
            "input": _split_at_words(_printable(first.question), first.unknown_words),
            "image": png(first.image),
            "height": first.image.shape[0],
            "width": first.image.shape[1],
            "maps": [
                _image_map(attention_map) for attention_map in rendered if isinstance(attention_map, ImageAttentionMap)
            ],
        }
        return template("image_attention_map.html").render(context)
    context |= {
        "input": _split_at_words(_printable(first.input), first.unknown_words),
        "maps": [_token_map(attention_map) for attention_map in rendered if isinstance(attention_map, AttentionMap)],
    }
    return template("attention_map.html").render(context)


def thousandths(row: np.ndarray) -> list[int]:
    """Round weights to thousandths that sum to the rounded sum of the row (largest remainders are rounded up).

    >>> thousandths(np.array([1 / 3, 1 / 3, 1 / 3]))
    [334, 333, 333]
    """
    exact = np.asarray(row, np.float64) * UNITS
    units = np.floor(exact).astype(int)
    missing = round(exact.sum()) - units.sum()
    units[np.argsort(units - exact, kind="stable")[:missing]] += 1
    return units.tolist()


def column_means(split: Sequence[Panel]) -> list[float]:
    """Return the mean of each column relative to the largest mean; every row is divided by the top of its scale."""
    shares = np.concatenate([panel.weights / panel.top for panel in split])
    means = shares.mean(axis=0, dtype=np.float64) if len(shares) else np.zeros(shares.shape[1])
    return (means / (float(np.abs(means).max(initial=0.0)) or 1.0)).tolist()


def _token_map(attention_map: AttentionMap) -> dict[str, Any]:
    split, words = panels(attention_map), attention_map.unknown_words
    return _summary(attention_map) | {
        "signed": any(panel.signed for panel in split),
        "evidence": bool(attention_map.evidence),
        "column_direction": direction(attention_map.column_labels),
        "row_direction": direction(attention_map.row_labels),
        "column_label": _printable(attention_map.column_label),
        "row_label": _printable(attention_map.row_label),
        "columns": [
            _label(text, words) | {"mean": round(mean, 3), "evidence": index in attention_map.evidence}
            for index, (text, mean) in enumerate(zip(attention_map.column_labels, column_means(split), strict=True))
        ],
        "panels": [_panel(panel, words if panel.group.from_input else ()) for panel in split],
    }


def _panel(panel: Panel, unknown: Sequence[str]) -> dict[str, Any]:
    sums = panel.weights.sum(axis=1, dtype=np.float64)
    notes = [f"the strongest color is {panel.top:.3g}"] if panel.top != 1.0 else []
    notes += ["colors follow the square root"] if panel.square_root else []
    return {
        "title": _printable(panel.title),
        "notes": "".join(f"; {note}" for note in notes),
        "top": f"{panel.top:.3g}",
        "square_root": panel.square_root,
        "rows": [
            {
                "label": _label(text, unknown),
                "cells": [_cell(units) for units in thousandths(row)],
                "sum": "" if panel.normalized_axis == "column" else f"{total:.3f}",
            }
            for text, row, total in zip(panel.row_labels, panel.weights, sums, strict=True)
        ],
    }


def _image_map(attention_map: ImageAttentionMap) -> dict[str, Any]:
    panel = image_panel(attention_map)
    shares = np.abs(attention_map.weights) / panel.top
    strengths = np.sqrt(shares) if panel.square_root else shares
    notes = "; colors follow the square root" if panel.square_root else ""
    sums = "; the weights of each grid sum to 1" if panel.normalized_axis == "row" else ""
    return _summary(attention_map) | {
        "attention": _printable(attention_map.title),
        "columns": attention_map.weights.shape[2],
        "signed": panel.signed,
        "notes": f"The strongest color is {panel.top:.3g}{notes}{sums}.",
        "rows": [
            {
                "label": _label(text, attention_map.unknown_words),
                "largest": f"{weights.flat[np.abs(weights).argmax()]:.3f}",
                "cells": [
                    {"weight": f"{weight:.3f}", "strength": f"{strength:.3g}", "negative": weight < 0}
                    for weight, strength in zip(weights.flat, strength_of_row.flat, strict=True)
                ],
            }
            for text, weights, strength_of_row in zip(
                attention_map.row_labels, attention_map.weights, strengths, strict=True
            )
        ],
    }


def _summary(attention_map: AnyAttentionMap) -> dict[str, Any]:
    return {
        "prediction": _printable(attention_map.prediction),
        "score": f"{round(attention_map.score, 3) + 0.0:.3f}",  # + 0.0: no negative zero
        "reference": _printable(attention_map.reference),
    }


def png(image: np.ndarray) -> str:
    """Return an image as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _maps_that_fit(attention_maps: Sequence[AnyAttentionMap]) -> list[AnyAttentionMap]:
    cells = np.cumsum([attention_map.weights.size for attention_map in attention_maps])
    limit = MAX_CELLS // (8 if isinstance(attention_maps[0], ImageAttentionMap) else 1)  # a cell takes more bytes
    return list(attention_maps[: max(int(np.searchsorted(cells, limit, side="right")), 1)])


def _cell(units: int) -> str:
    """Return thousandths in short form: .042, -.042, 1, and an empty text for 0."""
    if units == 0:
        return ""
    return ("-" if units < 0 else "") + f"{abs(units) / UNITS:g}".removeprefix("0")


def _label(text: str, unknown: Sequence[str]) -> dict[str, Any]:
    return {"text": _printable(text) or "∅", "unknown": contains_word(text, unknown)}


def _printable(text: str) -> str:
    """Replace characters that are invalid in HTML or change the direction of the surrounding text."""
    return printable(text, keep="\n\t")


def _split_at_words(text: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """Split a text at the unknown words."""
    if not words:
        return [{"text": text, "unknown": False}]
    longest_first = "|".join(re.escape(_printable(word)) for word in sorted(words, key=len, reverse=True))
    pieces = re.split(rf"(?<!\w)({longest_first})(?!\w)", text)
    return [{"text": piece, "unknown": index % 2 == 1} for index, piece in enumerate(pieces) if piece]


def template(name: str) -> Template:
    """Return a template of this package, which escapes all text."""
    environment = Environment(
        loader=PackageLoader("attnlab.viz", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
