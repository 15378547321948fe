"""One self-contained HTML page of translations and where the model attended; opens offline, needs no server."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from attnlab.tasks.attention_map import Attended, Panel, holds, printable, unknown_words

END = "⟨end⟩"
"""How the end token is shown."""
UNITS = 1000
"""A row of weights is written in thousandths that add up to what the row adds up to."""
MOST_CELLS = 90_000
"""Weights on one page, which keeps it under a megabyte (a single sentence is shown whole, however long)."""


def page(
    source: str,
    hypotheses: Sequence[Attended],
    *,
    title: str = "Attention",
    details: Mapping[str, str] | None = None,
    source_language: str = "",
    target_language: str = "",
) -> str:
    """Build the page: every translation word by word, its weights as a table, and both lit up together.

    Pointing at a word, moving to it by Tab or the arrow keys, or clicking it (which keeps it) lights up what it
    attended to, or what attended to it; until then the source is lit up by the mean over all rows. Words that are not
    in the model's vocabulary are marked. All text is escaped, and runs in the direction of its own letters.
    Hypotheses that would make the page larger than a megabyte are left out, and the page says how many.

    Args:
        source: the sentence as it was given.
        hypotheses: its translations, best first; at least one.
        title: heading of the page.
        details: what else to tell of the run, e.g. {"run": "dates-s1", "checkpoint": "step 900"}.
        source_language: code of the source's language for screen readers and hyphenation, e.g. "de".
        target_language: the same of the translations.

    Returns: the HTML.
    """
    if not hypotheses:
        raise ValueError("no hypothesis to show")
    shown = _that_fit(hypotheses)
    return _template().render(
        title=_printable(title),
        source=_pieces(_printable(source), shown[0].unknown),
        unknown=_printable(unknown_words(shown[0].unknown)),
        details={_printable(name): _printable(value) for name, value in (details or {}).items()},
        hypotheses=[_hypothesis(hypothesis) for hypothesis in shown],
        left_out=len(hypotheses) - len(shown),
        source_language=source_language,
        target_language=target_language,
    )


def thousandths(row: np.ndarray) -> list[int]:
    """Round weights to thousandths that add up to the rounded sum of the row (largest remainders are rounded up).

    >>> thousandths(np.array([1 / 3, 1 / 3, 1 / 3]))
    [334, 333, 333]
    """
    exact = np.asarray(row, np.float64) * UNITS
    units = np.floor(exact).astype(int)
    missing = round(exact.sum()) - units.sum()
    units[np.argsort(units - exact, kind="stable")[:missing]] += 1
    return units.tolist()


def column_means(panels: Sequence[Panel]) -> list[float]:
    """Return the mean of each column, in shares of the largest of them; a row counts as much as its color is strong."""
    shares = np.concatenate([panel.weights / panel.top for panel in panels])
    means = shares.mean(axis=0, dtype=np.float64) if len(shares) else np.zeros(shares.shape[1])
    return (means / (float(np.abs(means).max(initial=0.0)) or 1.0)).tolist()


def _hypothesis(attended: Attended) -> dict:
    return {
        "translation": _printable(attended.translation),
        "score": f"{attended.score:.3f}",
        "signed": any(panel.signed for panel in attended.panels),
        "gold": _printable(attended.gold),
        "source_direction": _direction(attended.source_tokens),
        "target_direction": _direction(attended.target_tokens),
        "across": _printable(attended.across),
        "down": _printable(attended.down),
        "source_tokens": [
            _token(token, attended.unknown) | {"mean": round(mean, 3)}
            for token, mean in zip(attended.source_tokens, column_means(attended.panels), strict=True)
        ],
        "panels": [_panel(panel, attended.unknown if panel.part.given else ()) for panel in attended.panels],
    }


def _panel(panel: Panel, unknown: Sequence[str]) -> dict:
    sums = panel.weights.sum(axis=1, dtype=np.float64)
    notes = [f"the strongest color is {panel.top:.3g}"] if panel.top != 1.0 else []
    notes += ["colors follow the square root"] if panel.rooted else []
    return {
        "title": _printable(panel.title),
        "notes": "".join(f"; {note}" for note in notes),
        "top": f"{panel.top:.3g}",
        "rooted": panel.rooted,
        "rows": [
            {
                "token": _token(token, unknown),
                "cells": [_cell(units) for units in thousandths(row)],
                "sum": "" if panel.adds_up == "column" else f"{total:.3f}",
            }
            for token, row, total in zip(panel.tokens, panel.weights, sums, strict=True)
        ],
    }


def _that_fit(hypotheses: Sequence[Attended]) -> list[Attended]:
    cells = np.cumsum([hypothesis.weights.size for hypothesis in hypotheses])
    return list(hypotheses[: max(int(np.searchsorted(cells, MOST_CELLS, side="right")), 1)])


def _cell(units: int) -> str:
    """Write thousandths the short way: .042, -.042, nothing for 0, 1 for all."""
    if units == 0:
        return ""
    return ("-" if units < 0 else "") + f"{abs(units) / UNITS:g}".removeprefix("0")


def _token(text: str, unknown: Sequence[str]) -> dict:
    return {"text": _printable(text) or "∅", "unknown": holds(text, unknown)}


def _printable(text: str) -> str:
    """Replace what HTML cannot hold, and what turns the direction of the text around it, by a visible sign."""
    return printable(text, keep="\n\t")


def _pieces(text: str, unknown: Sequence[str]) -> list[dict]:
    """Cut a text at the words that are marked."""
    if not unknown:
        return [{"text": text, "unknown": False}]
    longest_first = "|".join(re.escape(_printable(word)) for word in sorted(unknown, key=len, reverse=True))
    pieces = re.split(rf"(?<!\w)({longest_first})(?!\w)", text)
    return [{"text": piece, "unknown": place % 2 == 1} for place, piece in enumerate(pieces) if piece]


def _direction(tokens: Sequence[str]) -> str:
    """The direction in which tokens follow one another: that of the first letter that has one.

    >>> _direction(["12", "שלום"]), _direction(["Haus"])
    ('rtl', 'ltr')
    """
    found = (unicodedata.bidirectional(one) for token in tokens for one in token)
    return "rtl" if next((one for one in found if one in ("L", "R", "AL")), "L") != "L" else "ltr"


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("attnlab.viz", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("alignment.html")
