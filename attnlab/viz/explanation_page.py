"""The page of an explained prediction: methods side by side, agreement, alarms, and the attention of all layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlab.analysis.explain import Explanation, Explanations
from attnlab.analysis.explain.descriptions import METHOD_NOTES
from attnlab.analysis.explain.highlighted import (
    STYLE,
    agreement_table,
    cells,
    columns_of,
    gap_in_words,
    is_signed,
    number,
    scale,
    scale_top,
    tokens,
)
from attnlab.analysis.heads.alarms import MEANINGS
from attnlab.config.errors import UserError
from attnlab.data.text.display import printable
from attnlab.viz.packed_maps import as_script, packed
from attnlab.viz.page import png, template
from attnlab.viz.text import CAVEAT, CAVEAT_DETAILS, unknown_words_message

LARGEST_PAGE = 2_000_000
"""Most bytes of a page."""
BUDGETS = (1_000_000, 500_000, 200_000, 50_000, 0)
"""Bytes of attention weights that are tried in turn until a page is small enough."""
MOST_ALARMS = 12
"""Alarms that are shown one by one; of more of them the number."""
LARGEST_PICTURE = 384
"""Height and width of an image on a page, at most."""


def render(
    explanations: Explanations,
    *,
    title: str,
    command: str = "",
    image: np.ndarray | None = None,
    unknown_words: tuple[str, ...] = (),
    details: Mapping[str, str] | None = None,
) -> str:
    """Render a prediction that is explained by several methods as an HTML page, which needs no network.

    The page has the input once for each method, colored by its attributions; the methods' agreement; what is wrong with
    the attention; and a small map of every layer and head, which opens below when it is selected. It never exceeds
    `LARGEST_PAGE`: of the rows of large maps only the largest weights are stored, then maps, then methods are left out,
    and the page says so.

    Args:
        explanations: by at least one method.
        title: heading of the page.
        command: the command line that makes this page.
        image: [height width 3] pixels of the input, uint8.
        unknown_words: words of the input that the vocabulary of the model lacks.
        details: details of the run.

    Returns: the HTML text.
    Raises:
        UserError: the input is so long that the page of a single method is too large.
    """
    shown = list(explanations)
    while shown:
        for budget in BUDGETS if explanations.attention else (0,):
            html = _render(explanations, shown, budget, title, command, image, unknown_words, details or {})
            if len(html.encode()) <= LARGEST_PAGE:
                return html
        shown.pop()
    raise UserError(f"the input is too long for a page of {LARGEST_PAGE / 1e6:.0f} MB; explain a shorter one")


def _render(
    explanations: Explanations,
    shown: list[Explanation],
    budget: int,
    title: str,
    command: str,
    image: np.ndarray | None,
    unknown_words: tuple[str, ...],
    details: Mapping[str, str],
) -> str:
    first, maps = explanations.first, packed(explanations.attention, budget)
    agreement = explanations.agreement
    context = {
        "title": printable(title),
        "input": [],
        "unknown_words": printable(unknown_words_message(unknown_words)),
        "input_language": "",
        "details": {printable(name): printable(value) for name, value in details.items()},
        "prediction": printable(first.prediction, keep="\n"),
        "target": printable(first.target, keep="\n"),
        "score": number(first.score),
        "methods": [_method(explanation) for explanation in shown],
        "methods_left_out": ", ".join(one.method for one in list(explanations)[len(shown) :]),
        "style": STYLE,
        "image": None if image is None else png(_reduced(image)),
        "size": None if image is None else image.shape[:2],
        "agreement": agreement_table(agreement.methods, agreement.tau, agreement.parts),
        "alarms": [f"{alarm.layer}, head {alarm.head}: {MEANINGS[alarm.kind]}" for alarm in explanations.alarms],
        "most_alarms": MOST_ALARMS,
        "generated": bool(first.output),
        "has_attention": bool(explanations.attention),
        "data": as_script(maps),
        "heads": sum(len(layer["heads"]) for layer in maps["layers"]),
        "kept": maps["kept"],
        "left_out": maps["left_out"],
        "command": printable(command),
        "caveat": CAVEAT,
        "caveat_details": CAVEAT_DETAILS,
    }
    return template("explanation.html").render(context)


def _method(explanation: Explanation) -> dict[str, Any]:
    top, parts = scale_top(explanation.parts), explanation.parts
    special = any(bool((np.abs(part.attributions[part.special]) > top).any()) for part in parts)
    return {
        "name": explanation.method,
        "note": METHOD_NOTES[explanation.method],
        "scale": scale(top, is_signed(parts)),
        "special": special,
        "gap": gap_in_words(explanation.completeness_gap, parts),
        "parts": [
            {
                "name": part.name,
                "columns": columns_of(part) if part.unit == "cell" else 0,
                "html": cells(part, top) if part.unit == "cell" else tokens(part, top),
            }
            for part in parts
        ],
    }


def _reduced(image: np.ndarray) -> np.ndarray:
    """Return an image of at most `LARGEST_PICTURE` pixels a side."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    return np.asarray(picture)
