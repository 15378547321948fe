"""Explanations as HTML, for notebooks and pages: the input once for each method, its parts colored by their numbers.

Colors have an alpha channel, so that they suit a light and a dark background. All text is escaped.
"""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from attnlab.analysis.explain.part import PartAttributions
from attnlab.data.text.display import direction, printable

STYLE = """
.attnlab-tokens { line-height: 1.9; overflow-wrap: anywhere; }
.attnlab-tokens span, .attnlab-cells i, .attnlab-scale { --for: 59 142 234; --against: 235 87 66; --w: 0; }
.attnlab-tokens span { border-radius: 4px; padding: .1em .2em; white-space: pre-wrap; unicode-bidi: isolate; background: rgb(var(--for) / calc(var(--w) * 70%)); }
.attnlab-tokens span.against { background: rgb(var(--against) / calc(var(--w) * 70%)); }
.attnlab-tokens span.special { font-size: .8em; opacity: .75; }
.attnlab-tokens.sentence span { display: block; margin: .15em 0; line-height: 1.5; }
.attnlab-cells { display: inline-grid; grid-template-columns: repeat(var(--columns), 1.4em); gap: 1px; }
.attnlab-cells i { aspect-ratio: 1; outline: 1px solid rgb(128 128 128 / .3); background: rgb(var(--for) / calc(var(--w) * 100%)); }
.attnlab-cells i.against { background: rgb(var(--against) / calc(var(--w) * 100%)); }
.attnlab-scale { display: inline-flex; gap: .4em; align-items: center; font-size: .8125rem; white-space: nowrap; }
.attnlab-scale b { width: 5em; height: .8em; border-radius: 3px; background: linear-gradient(to right, transparent, rgb(var(--for) / 70%)); }
.attnlab-scale b.signed { background: linear-gradient(to right, rgb(var(--against) / 70%), transparent, rgb(var(--for) / 70%)); }
.attnlab-agreement { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
.attnlab-agreement th { font-weight: 400; text-align: start; padding: .1em .6em .1em 0; white-space: nowrap; }
.attnlab-agreement td { text-align: end; padding: .1em .5em; }
"""  # noqa: E501
"""The style sheet of all elements of this file."""


def scale_top(parts: Iterable[PartAttributions]) -> float:
    """Return the largest size of a number, which has the strongest color; special tokens may exceed it.

    Their weights can be so large (a Transformer often attends to [SEP]) that no word would be visible.
    """
    numbers = np.concatenate([part.attributions[~part.special] for part in parts])
    return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0)) or 1.0


def is_signed(parts: Iterable[PartAttributions]) -> bool:
    """Return whether any number is negative."""
    return any(bool((part.attributions < 0).any()) for part in parts)


def number(value: float) -> str:
    """Return a number with three digits and a typographic minus sign.

    >>> number(-1.5)
    '−1.5'
    """
    return f"{value:.3g}".replace("-", "−")


def tokens(part: PartAttributions, top: float) -> str:
    """Return the words, tokens or sentences of a text as highlighted text, whose titles are the numbers.

    Args:
        part: a part that is a text.
        top: the number with the strongest color.
    """
    texts = [printable(str(label), keep="\n\t") for label in part.labels]
    spans = (
        _element("span", text or "∅", value, top, "special" if special else "")
        for text, value, special in zip(texts, part.attributions.tolist(), part.special, strict=True)
    )
    kind = "attnlab-tokens sentence" if part.unit == "sentence" else "attnlab-tokens"
    return f'<div class="{kind}" dir="{direction(texts)}">{" ".join(spans)}</div>'


def cells(part: PartAttributions, top: float) -> str:
    """Return the cells of an image, row by row, whose titles are the numbers.

    Args:
        part: a part that is an image.
        top: the number with the strongest color.
    """
    return "".join(_element("i", "", value, top) for value in part.attributions.tolist())


def columns_of(part: PartAttributions) -> int:
    """Return the number of columns of an image's cells."""
    return 1 + max(int(column) for _, column in part.labels)  # type: ignore[misc]


def scale(top: float, signed: bool) -> str:
    """Return the legend of the colors."""
    low = number(-top) if signed else "0"
    kind = ' class="signed"' if signed else ""
    return f'<span class="attnlab-scale">{low} <b{kind}></b> {number(top)}</span>'


def gap_in_words(gap: float | None, parts: Iterable[PartAttributions]) -> str:
    """Return the completeness gap of a method with the sum of its numbers; empty for a method without one."""
    if gap is None:
        return ""
    total = sum(float(part.attributions.sum()) for part in parts)
    large = gap > 0.05 * abs(total)
    more = "; that is much: do not trust it before more n_steps make it small" if large else ""
    return f"completeness gap {number(gap)} of a sum of {number(total)}{more}"


def explanation_rows(method: str, parts: Sequence[PartAttributions], gap: float | None) -> str:
    """Return the input highlighted by one method, with its legend.

    Args:
        method: name of the method.
        parts: the parts of the input.
        gap: the completeness gap; None if the method has none.
    """
    top, several = scale_top(parts), len(parts) > 1
    note = gap_in_words(gap, parts)
    heading = f"<div><strong>{escape(method)}</strong> {scale(top, is_signed(parts))} <small>{note}</small></div>"
    rows = []
    for part in parts:
        drawn = tokens(part, top)
        if part.unit == "cell":
            drawn = f'<div class="attnlab-cells" style="--columns:{columns_of(part)}">{cells(part, top)}</div>'
        rows.append((f"<small>{escape(part.name)}</small>" if several else "") + drawn)
    return f'<div style="margin:.4em 0">{heading}{"".join(rows)}</div>'


def agreement_table(methods: Sequence[str], tau: np.ndarray, parts: int) -> str:
    """Return the table of Kendall's τ of each two methods; empty for one method."""
    if len(methods) < 2:
        return ""
    head = "".join(f'<th scope="col">{column}</th>' for column in range(1, len(methods) + 1))
    body = ""
    for row, method in enumerate(methods):
        numbers = ["" if row == column else _tau(float(value)) for column, value in enumerate(tau[row])]
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        body += f'<tr><th scope="row">{row + 1} {escape(method).replace("_", "_<wbr>")}</th>{cells}</tr>'
    caption = f"<caption>Agreement: Kendall's τ over {parts} parts of the input</caption>"
    rows = f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<table class="attnlab-agreement">{caption}{rows}</table>'


def framed(title: str, target: str, score: float, body: str, warnings: Sequence[str] = ()) -> str:
    """Return the output of a notebook's cell: what is explained, and how.

    Args:
        title: the prediction.
        target: what is explained.
        score: its value.
        body: HTML of the explanations.
        warnings: lines below it.
    """
    lines = "".join(f'<div dir="auto">⚠ {escape(printable(line))}</div>' for line in warnings)
    heading = f'<div dir="auto"><strong>{escape(printable(title))}</strong></div>'
    return (
        f"<style>{STYLE}</style><div>{heading}"
        f'<div dir="auto"><small>{escape(printable(target))}: {number(score)}</small></div>{body}{lines}</div>'
    )


def _element(tag: str, text: str, value: float, top: float, kind: str = "") -> str:
    """Return an element colored by a number, which is its title; the color of NaN is that of 0."""
    strength = min(abs(float(value)) / top, 1.0) if np.isfinite(value) else 0.0
    kinds = " ".join(filter(None, (kind, "against" if value < 0 else "")))
    attribute = f' class="{kinds}"' if kinds else ""
    style = f' style="--w:{strength:.2g}"' if strength >= 0.005 else ""
    return f'<{tag}{attribute}{style} title="{value:.3g}">{escape(text)}</{tag}>'


def _tau(value: float) -> str:
    return "–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no negative zero
