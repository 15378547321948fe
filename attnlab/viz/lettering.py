"""Letters in pictures: labels that are printable and short enough, lines below one another, fonts; and the writing."""

import re
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attnlab.tasks.attention_map import printable

LETTERS = 11
LETTER = LETTERS / 72 * 0.68
"""Inches of a letter's width."""
LONGEST_LABEL = 24
"""Letters of a token that are shown; the rest becomes an ellipsis."""
LONGEST_SENTENCE = 80
"""The same of a sentence."""
LINE = 0.24
"""Inches of a line of a heading."""
HEADING = LETTERS + 1
"""Points of its letters."""
MOST_LINES = 4
"""Lines that are shown of what was asked; the rest becomes an ellipsis."""
EDGE = 0.15
"""Inches around what stands at the edge of a picture."""
NARROWEST = 5.0
"""Inches of the width of a picture with a heading."""
LARGEST = 60.0
"""Inches of the longest side of a picture (7,200 pixels)."""
DPI = 120
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC")
SCRIPTS = (
    "ARABIC", "ARMENIAN", "BENGALI", "CHEROKEE", "DEVANAGARI", "ETHIOPIC", "GEORGIAN", "GUJARATI", "GURMUKHI", "HEBREW",
    "KANNADA", "KHMER", "LAO", "MALAYALAM", "MONGOLIAN", "MYANMAR", "ORIYA", "SINHALA", "SYRIAC", "TAMIL", "TELUGU",
    "THAANA", "THAI", "TIBETAN",
)  # fmt: skip
"""First words of the Unicode names of letters for which there is a Noto Sans font of the same name."""
OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "MS Gothic",
    *(f"Noto Sans {script.capitalize()}" for script in SCRIPTS),
    "Noto Sans Symbols", "Noto Sans Symbols 2", "Noto Emoji", "Symbola", "Arial Unicode MS",
)  # fmt: skip
"""Fonts to try, where they are installed, for letters that matplotlib's own font lacks."""
UNKNOWN = "#b3261e"
"""The color of words that are not in the model's vocabulary."""


def labels(tokens: Sequence[str], longest: int = LONGEST_LABEL) -> list[str]:
    return [_label(token, longest) for token in tokens]


def _label(token: str, longest: int = LONGEST_LABEL) -> str:
    """Make a token printable on one line: white space at its ends and control characters become visible, a long one is
    cut."""
    marked = re.sub(r"^\s+|\s+$", lambda found: "␣" * len(found[0]), token)
    shown = printable(re.sub(r"\s+", " ", marked))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def wrapped(text: str, width: float, points: int) -> list[str]:
    """Break lines so that each fits `width` inches; at most `MOST_LINES` are left of each."""
    lines = []
    for given in filter(None, map(printable, text.splitlines())):
        wide = max(letters(given) / len(given), 1.0)
        fit = max(int(width / (points / 72 * 0.56 * wide)), 10)
        lines += textwrap.wrap(given, fit, max_lines=MOST_LINES, placeholder=" …")
    return lines


def text_style(points: int = LETTERS) -> dict[str, Any]:
    return {"parse_math": False, "fontfamily": _font_families(), "fontsize": points}


def write(figure: Figure, lines: Sequence[str], x: float, y: float, points: int, color: str = "0.1") -> None:
    """Write lines from `y` inches downward."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        figure.text(x / width, (y - LINE * number) / height, line, va="top", color=color, **text_style(points))


def letters(label: str) -> float:
    """How long a label is, in letters of common width."""
    wide = {"W": 1.5, "F": 1.5}
    return sum(1.4 if one in "WM@%—" else wide.get(unicodedata.east_asian_width(one), 1.0) for one in label)


def _font_families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def save(figure: Figure, path: Path) -> str:
    """Write a picture. Returns one line on the letters that no font here has, and what to install; "" for none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    missing: dict[str, None] = {}
    for one in caught:
        if found := re.match(r"Glyph (\d+) .*missing from", str(one.message)):
            missing[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return _without_a_font(path, list(missing))


def _without_a_font(path: Path, characters: Sequence[str]) -> str:
    """Say which scripts are drawn as boxes.

    >>> _without_a_font(Path("a.png"), ["ሀ", "日"])
    'a.png: no font here has ሀ (Ethiopic), 日 (CJK); install Noto Sans Ethiopic, Noto Sans CJK'
    """
    if not characters:
        return ""
    scripts: dict[str, str] = {}
    for one in characters:
        scripts.setdefault(unicodedata.name(one, "UNKNOWN").split()[0], one)
    named = ((script if script == "CJK" else script.capitalize(), one) for script, one in scripts.items())
    shown = ", ".join(f"{one} ({script})" for script, one in named)
    return f"{path}: no font here has {shown}; install {', '.join(dict.fromkeys(map(_font_of, scripts)))}"


def _font_of(script: str) -> str:
    if script in EAST_ASIAN:
        return "Noto Sans CJK"
    return f"Noto Sans {script.capitalize()}" if script in SCRIPTS else "Noto Sans Symbols 2 or Noto Emoji"
