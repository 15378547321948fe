"""Extension of Sphinx: the docstrings of attnlab as reStructuredText.

A docstring is plain text: paragraphs, equations in unicode, names in single backticks, examples after `>>>`, and
sections (`Args:`, `Returns:`, `Numerics:`, `Reference:`) whose text may begin on the same line.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Numerics|References?):(?:\s+|$)(.*)")
ENTRY = re.compile(r"([*\w]+(?:, [*\w]+)*): (.*)")
FIELDS = {"Args": "param", "Attributes": "ivar", "Raises": "raises"}
"""Sections of entries `name: text`, and the fields of Sphinx for them."""


def inline(text: str) -> str:
    """Write running text: `name` becomes a link where the name is known, and code where it is not.

    >>> inline("[*B, T] of `block_size` and `f(x)`")
    '[\\\\*B, T] of :py:obj:`block_size` and ``f(x)``'
    """
    parts = re.split(r"(`[^`]+`)", text)
    written = [
        code(part[1:-1]) if part.startswith("`") else re.sub(r"([*|\\`]|_(?!\w))", r"\\\1", part) for part in parts
    ]
    return "".join(joined(written))


def joined(parts: Sequence[str]) -> Iterator[str]:
    """Put an escaped space where a letter follows code, as reStructuredText needs one."""
    for part, after in pairwise([*parts, ""]):
        yield f"{part}\\ " if part.endswith("`") and after[:1].isalnum() else part


def code(text: str) -> str:
    """Write what stood in backticks."""
    return f":py:obj:`{text}`" if re.fullmatch(r"[A-Za-z]\w*(\.\w+)*", text) else f"``{text}``"


def is_equation(lines: Sequence[str]) -> bool:
    """Return whether a paragraph is an equation: it relates two sides and does not end as a sentence.

    >>> is_equation(["weights[i] = exp(logits[i]) / Σ_j exp(logits[j])"]), is_equation(["Not `dot`: d = 1 there."])
    (True, False)
    """
    text = " ".join(lines)
    return bool(re.search(r" (=|←|∈|≤|↦) ", text)) and not re.search(r"[.:!?]$", text) and "`" not in text


def blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Divide a docstring into sections and paragraphs; what is indented within a paragraph is one of its own.

    A section whose text begins on its first line ends as a paragraph does, any other where a line is not indented.

    >>> list(blocks(["Return x.", "", "Args:", "    x: it.", "", "    y: that.", "Returns: x,", "or y.", "", ">>> 1"]))
    [['Return x.'], ['Args:', '    x: it.', '    y: that.'], ['Returns: x,', 'or y.'], ['>>> 1']]
    """
    block: list[str] = []
    for line in [*lines, ""]:
        entries_follow = bool(block) and block[0].endswith(":") and bool(SECTION.fullmatch(block[0]))
        ended = bool(line) and not line.startswith(" ") if entries_follow else not line
        in_paragraph = bool(block) and bool(line) and not SECTION.match(block[0])
        indented = in_paragraph and line.startswith("    ") != block[-1].startswith("    ")
        if block and (ended or indented or SECTION.match(line)):
            yield block
            block = []
        if line:
            block.append(line)
    if block:
        yield block


def entries(lines: Sequence[str]) -> Iterator[str]:
    """Join the lines of each entry of a section; an entry's continuation lines are indented further than its first.

    >>> list(entries(["    rate: in", "        [0, 1).", "    rng: a key."]))
    ['rate: in [0, 1).', 'rng: a key.']
    """
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    entry: list[str] = []
    for line in lines:
        if entry and line[indent] != " ":
            yield " ".join(entry)
            entry = []
        entry.append(line.strip())
    if entry:
        yield " ".join(entry)


def section(lines: Sequence[str]) -> Iterator[str]:
    """Write a section as fields: one for each argument or attribute, or one for its whole text."""
    match = SECTION.match(lines[0])
    assert match is not None
    name, first = match.groups()
    body = [line for line in lines[1:] if line]
    if first:
        yield f":{name}: {inline(' '.join([first, *(line.strip() for line in body)]))}"
        return
    for entry in entries(body):
        named = ENTRY.fullmatch(entry)
        if named and name in FIELDS:
            for argument in named[1].split(", "):
                yield f":{FIELDS[name]} {argument.replace('*', chr(92) + '*')}: {inline(named[2])}"
        else:
            yield f":{name}: {inline(entry)}"


def paragraph(lines: Sequence[str]) -> Iterator[str]:
    """Write a paragraph, an equation, a list, an example or a block of code."""
    if lines[0].startswith(">>>"):
        yield from ("", *lines, "")
    elif lines[0].startswith("    ") or is_equation(lines):
        dedented = textwrap.dedent("\n".join(lines))
        code_lines = re.sub(r"(?<=,) {3,}", "\n", dedented).splitlines()
        yield from ("", ".. code-block:: none", "   :class: equation", "", *(f"   {line}" for line in code_lines), "")
    elif lines[0].startswith("- "):
        items = re.split(r"\n(?=- )", "\n".join(lines))
        yield ""
        for item in items:
            yield f"- {inline(' '.join(item.removeprefix('- ').split()))}"
        yield ""
    else:
        yield from ("", inline(" ".join(line.strip() for line in lines)), "")


def convert(lines: Sequence[str]) -> list[str]:
    """Convert a docstring, line by line."""
    written: list[str] = []
    for block in blocks(lines):
        if SECTION.match(block[0]):
            if written and not written[-1].startswith(":"):
                written.append("")
            written += section(block)
        else:
            written += ["", *paragraph(block)]
    return [*written, ""]


def process(_app: Sphinx, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Convert the docstrings of attnlab as autodoc reads them."""
    if name.startswith("attnlab"):
        lines[:] = convert(lines)


def process_signature(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Shorten a signature: the arrays of jaxtyping, Float[Array, 'q d'], without Flax's `parent` and `name`."""
    left_out = r"\b(?:\w+\.)+(?=Array\b)|,? parent: [^=]*= <[^>]*>(?=,)|, name: str \| None = None(?=\)$)"
    return signature and re.sub(left_out, "", signature), returns and re.sub(left_out, "", returns)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the conversion to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", process_signature)
    return {"parallel_read_safe": True}
