"""Tokenizers of other people's files: refused where reading a text with them would have no bound in time or memory.

A regular expression may take time exponential in the text, replacements may make it longer without end, and padding
may make a list of billions of a word. Nothing of the kind is needed by the tokenizers that are read here.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from attnlab.config.errors import UserError

LONGEST_WORD = 1_000
"""Characters of a word beyond which WordPiece, whose time is quadratic in them, must call it unknown."""
_ALTERNATIVES = re.compile(r"▁\?\(\?:(?:[^()*+{}\\]|\\[bd])*\)")
_OPTIONAL = 12
"""Optional characters in a pattern, at most: each may double its time."""


def refuse_unbounded(plain: Mapping[str, Any], where: str, patterns: Collection[str] = ()) -> None:
    """Refuse a tokenizer, as JSON of the `tokenizers` library, that could take endless time or memory for a text.

    Args:
        plain: the tokenizer.
        where: the file, for the error.
        patterns: regular expressions that are known to be harmless; so is a list of words.
    """
    for name in ("truncation", "padding", "post_processor"):
        if plain.get(name) is not None:
            raise UserError(f"{where}: {name} is not null; attnlab pads and marks the ends of texts itself")
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        for section in _sections(plain.get(part)):
            pattern = section.get("pattern")
            matched = pattern if isinstance(pattern, Mapping) else {}
            expression, literal = matched.get("Regex"), matched.get("String")
            if expression is not None and not _is_bounded(expression, patterns):
                raise UserError(
                    f"{where}: {part}: the regular expression {repr(expression)[:80]} is none of attnlab's own; "
                    "its time may have no bound, so it is not run"
                )
            longest = 1 if expression is not None else len(str(literal or ""))
            if section.get("type") == "Replace" and len(str(section.get("content", ""))) > longest:
                raise UserError(
                    f"{where}: {part}: a replacement is longer than what it replaces: texts could grow endlessly"
                )
    model = plain.get("model")
    longest = model.get("max_input_chars_per_word", 0) if isinstance(model, Mapping) else 0
    if not isinstance(longest, int) or longest > LONGEST_WORD:
        raise UserError(
            f"{where}: model.max_input_chars_per_word is {str(longest)[:20]}; at most {LONGEST_WORD:,} (100 is usual)"
        )


def _is_bounded(expression: Any, patterns: Collection[str]) -> bool:
    if not isinstance(expression, str):
        return False
    words = _ALTERNATIVES.fullmatch(expression) is not None and expression.count("?") <= _OPTIONAL
    return expression in patterns or words


def _sections(found: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in an object, itself among them."""
    if isinstance(found, Mapping):
        yield found
    for inside in found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ():
        yield from _sections(inside)
