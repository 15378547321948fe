"""Text in pictures: fonts, labels that are printable and short, wrapped lines; and writing the PNG."""

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

from attnlab.viz.text import printable

LETTERS = 11
LETTER = LETTERS / 72 * 0.68
"""Inches of a letter's width."""
LONGEST_LABEL = 24
"""Characters of a token that are shown; the rest becomes an ellipsis."""
LONGEST_SENTENCE = 80
"""Characters of a sentence that are shown."""
LINE = 0.24
"""Inches of a line of a heading."""
HEADING = LETTERS + 1
"""Points of its letters."""
MOST_LINES = 4
"""Lines of a heading that are shown; the rest becomes an ellipsis."""
EDGE = 0.15
"""Inches of the margin."""
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
"""Scripts (as in the Unicode names of their letters) that have a Noto Sans font of the same name."""
OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "MS Gothic",
    *(f"Noto Sans {script.capitalize()}" for script in SCRIPTS),
    "Noto Sans Symbols", "Noto Sans Symbols 2", "Noto Emoji", "Symbola", "Arial Unicode MS",
)  # fmt: skip
"""Installed fonts to try for characters that matplotlib's own font lacks."""
EVIDENCE = "#1b7837"
"""The color of what the data mark as evidence."""
UNKNOWN = "#b3261e"
"""The color of words that are not in the model's vocabulary."""


def labels(tokens: Sequence[str], longest: int = LONGEST_LABEL) -> list[str]:
    """Return tokens as printable labels of at most `longest` characters."""
    return [_label(token, longest) for token in tokens]


def _label(token: str, longest: int = LONGEST_LABEL) -> str:
    """Return a token as one printable line: white space at its ends becomes visible, a long token is truncated."""
    marked = re.sub(r"^\s+|\s+$", lambda found: "␣" * len(found[0]), token)
    shown = printable(re.sub(r"\s+", " ", marked))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def wrapped(text: str, width: float, points: int) -> list[str]:
    """Wrap lines to `width` inches, each to at most `MOST_LINES`."""
    lines = []
    for given in filter(None, map(printable, text.splitlines())):
        wide = max(letters(given) / len(given), 1.0)
        fit = max(int(width / (points / 72 * 0.56 * wide)), 10)
        lines += textwrap.wrap(given, fit, max_lines=MOST_LINES, placeholder=" …")
    return lines


def text_style(points: int = LETTERS) -> dict[str, Any]:
    """Return matplotlib's keywords for text: no math, and the fonts to fall back on."""
    return {"parse_math": False, "fontfamily": _font_families(), "fontsize": points}


def write(figure: Figure, lines: Sequence[str], x: float, y: float, points: int, color: str = "0.1") -> None:
    """Write lines below one another, the first at `y` inches."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        figure.text(x / width, (y - LINE * number) / height, line, va="top", color=color, **text_style(points))


def letters(label: str) -> float:
    """Return the width of a label in letters of average width."""
    wide = {"W": 1.5, "F": 1.5}
    return sum(1.4 if char in "WM@%—" else wide.get(unicodedata.east_asian_width(char), 1.0) for char in label)


def _font_families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def save(figure: Figure, path: Path) -> str:
    """Write a figure as PNG; return a line that names characters without a font and what to install, or ""."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    missing: dict[str, None] = {}
    for warning in caught:
        if glyph := re.match(r"Glyph (\d+) .*missing from", str(warning.message)):
            missing[chr(int(glyph[1]))] = None
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return _missing_fonts_message(path, list(missing))


def _missing_fonts_message(path: Path, characters: Sequence[str]) -> str:
    """Return a line that names the scripts that are drawn as boxes.

    >>> _missing_fonts_message(Path("a.png"), ["ሀ", "日"])
    'a.png: no font here has ሀ (Ethiopic), 日 (CJK); install Noto Sans Ethiopic, Noto Sans CJK'
    """
    if not characters:
        return ""
    scripts: dict[str, str] = {}
    for char in characters:
        scripts.setdefault(unicodedata.name(char, "UNKNOWN").split()[0], char)
    named = ((script if script == "CJK" else script.capitalize(), char) for script, char in scripts.items())
    shown = ", ".join(f"{char} ({script})" for script, char in named)
    return f"{path}: no font here has {shown}; install {', '.join(dict.fromkeys(map(_font_of, scripts)))}"


def _font_of(script: str) -> str:
    if script in EAST_ASIAN:
        return "Noto Sans CJK"
    return f"Noto Sans {script.capitalize()}" if script in SCRIPTS else "Noto Sans Symbols 2 or Noto Emoji"
