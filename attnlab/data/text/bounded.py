"""Refuse tokenizers from untrusted files that could take unbounded time or memory to encode a text.

A regular expression may take time exponential in the length of the text, replacements may grow the text repeatedly, and
padding may turn a word into billions of tokens. The tokenizers of attnlab need none of these.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from attnlab.config.errors import UserError

LONGEST_WORD = 1_000
"""Largest number of characters of a word in WordPiece, whose time is quadratic in it; longer words are unknown."""
_ALTERNATIVES = re.compile(r"▁\?\(\?:(?:[^()*+{}\\]|\\[bd])*\)")
_OPTIONAL = 12
"""Largest number of optional characters in a pattern; each may double its time."""


def refuse_unbounded(plain: Mapping[str, Any], where: str, patterns: Collection[str] = ()) -> None:
    """Raise if a tokenizer could take unbounded time or memory for a text.

    Args:
        plain: the tokenizer as JSON data of the `tokenizers` library.
        where: the file, for the error.
        patterns: regular expressions that are allowed, in addition to lists of words.
    """
    for name in ("truncation", "padding", "post_processor"):
        if plain.get(name) is not None:
            raise UserError(f"{where}: {name} must be null; attnlab adds padding and special tokens itself")
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        for section in _sections(plain.get(part)):
            pattern = section.get("pattern")
            kinds = pattern if isinstance(pattern, Mapping) else {}
            expression, literal = kinds.get("Regex"), kinds.get("String")
            if expression is not None and not _is_bounded(expression, patterns):
                raise UserError(
                    f"{where}: {part}: the regular expression {repr(expression)[:80]} is not one of attnlab's; "
                    "it is refused, as it may take unbounded time"
                )
            longest = 1 if expression is not None else len(str(literal or ""))
            if section.get("type") == "Replace" and len(str(section.get("content", ""))) > longest:
                raise UserError(
                    f"{where}: {part}: a replacement is longer than the replaced text: texts could grow without bound"
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


def _sections(data: Any) -> Iterator[Mapping[str, Any]]:
    """Yield an object and all objects in it."""
    if isinstance(data, Mapping):
        yield data
    for value in data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ():
        yield from _sections(value)
