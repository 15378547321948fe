"""Text in pictures: fonts, printable labels, wrapped lines; and writing of PNG files."""

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

from attnlab.data.text.display import printable

LETTERS = 11
"""Font size of labels in points."""
LETTER = LETTERS / 72 * 0.68
"""Average width of a letter in inches."""
LONGEST_LABEL = 24
"""Largest number of characters of a token; longer ones end in an ellipsis."""
LONGEST_SENTENCE = 80
"""Largest number of characters of a sentence."""
LINE = 0.24
"""Line height of a heading in inches."""
HEADING = LETTERS + 1
"""Font size of a heading in points."""
MAX_LINES = 4
"""Largest number of lines of a heading; longer ones end in an ellipsis."""
EDGE = 0.15
"""Margin in inches."""
NARROWEST = 5.0
"""Smallest width of a picture with a heading, in inches."""
LARGEST = 60.0
"""Largest side of a picture in inches (7,200 pixels)."""
DPI = 120
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC")
SCRIPTS = (
    "ARABIC", "ARMENIAN", "BENGALI", "CHEROKEE", "DEVANAGARI", "ETHIOPIC", "GEORGIAN", "GUJARATI", "GURMUKHI", "HEBREW",
    "KANNADA", "KHMER", "LAO", "MALAYALAM", "MONGOLIAN", "MYANMAR", "ORIYA", "SINHALA", "SYRIAC", "TAMIL", "TELUGU",
    "THAANA", "THAI", "TIBETAN",
)  # fmt: skip
"""Scripts, as in the Unicode names of their letters, with a Noto Sans font of the same name."""
OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "MS Gothic",
    *(f"Noto Sans {script.capitalize()}" for script in SCRIPTS),
    "Noto Sans Symbols", "Noto Sans Symbols 2", "Noto Emoji", "Symbola", "Arial Unicode MS",
)  # fmt: skip
"""Fonts to try for characters that the default font of matplotlib lacks."""
EVIDENCE = "#1b7837"
"""Color of evidence that is marked in the data."""
UNKNOWN = "#b3261e"
"""Color of words outside the vocabulary of the model."""


def labels(tokens: Sequence[str], longest: int = LONGEST_LABEL) -> list[str]:
    """Return tokens as printable labels of at most `longest` characters."""
    return [_label(token, longest) for token in tokens]


def _label(token: str, longest: int = LONGEST_LABEL) -> str:
    """Return a token as one printable line, truncated and with visible white space at both ends."""
    marked = re.sub(r"^\s+|\s+$", lambda space: "␣" * len(space[0]), token)
    label = printable(re.sub(r"\s+", " ", marked))
    return label if len(label) <= longest else label[: longest - 1] + "…"


def wrapped(text: str, width: float, points: int) -> list[str]:
    """Wrap every line of a text to `width` inches and at most `MAX_LINES` lines."""
    lines = []
    for line in filter(None, map(printable, text.splitlines())):
        letter = max(letters(line) / len(line), 1.0)
        characters = max(int(width / (points / 72 * 0.56 * letter)), 10)
        lines += textwrap.wrap(line, characters, max_lines=MAX_LINES, placeholder=" …")
    return lines


def text_style(points: int = LETTERS) -> dict[str, Any]:
    """Return keyword arguments of matplotlib's text: no math, and fallback fonts."""
    return {"parse_math": False, "fontfamily": _font_families(), "fontsize": points}


def write(figure: Figure, lines: Sequence[str], x: float, y: float, points: int, color: str = "0.1") -> None:
    """Write lines of text, the first at `y` inches from the bottom of the figure."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        figure.text(x / width, (y - LINE * number) / height, line, va="top", color=color, **text_style(points))


def letters(label: str) -> float:
    """Return the width of a label in units of an average letter."""
    wide = {"W": 1.5, "F": 1.5}
    return sum(1.4 if char in "WM@%—" else wide.get(unicodedata.east_asian_width(char), 1.0) for char in label)


def _font_families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def save(figure: Figure, path: Path) -> str:
    """Write a figure as PNG; return a message that names characters without a font and the fonts to install, or ""."""
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
    """Return a message that names the scripts that are drawn as boxes, or "".

    >>> _missing_fonts_message(Path("a.png"), ["ሀ", "日"])
    'a.png: no installed font has ሀ (Ethiopic), 日 (CJK); install Noto Sans Ethiopic, Noto Sans CJK'
    """
    if not characters:
        return ""
    scripts: dict[str, str] = {}
    for char in characters:
        scripts.setdefault(unicodedata.name(char, "UNKNOWN").split()[0], char)
    named = ((script if script == "CJK" else script.capitalize(), char) for script, char in scripts.items())
    examples = ", ".join(f"{char} ({script})" for script, char in named)
    return f"{path}: no installed font has {examples}; install {', '.join(dict.fromkeys(map(_font_of, scripts)))}"


def _font_of(script: str) -> str:
    if script in EAST_ASIAN:
        return "Noto Sans CJK"
    return f"Noto Sans {script.capitalize()}" if script in SCRIPTS else "Noto Sans Symbols 2 or Noto Emoji"
