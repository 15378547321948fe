"""Split numerals of num2words into parts, each with its place in the number.

`zwei|und|vierzig` and `forty|-|two` share the places unit and tens. Parts of the same place have the same meaning,
which defines the gold alignment of the generated task.
"""

import re
from collections.abc import Callable
from functools import cache

from num2words import num2words

Parts = tuple[tuple[str, str], ...]
"""Parts of a numeral, each with its place."""
_IRREGULAR_ORDINALS = ("erste", "dritte", "siebte", "achte")


def _kind(value: int) -> str:
    return "unit" if value < 10 else "teen" if value < 20 else "tens"


_BASIC = (*range(1, 20), *range(20, 100, 10))
_GERMAN = {"ein": "unit", "und": "link", "hundert": "hundred", "tausend": "thousand", "ste": "suffix", "te": "suffix"}
_GERMAN |= {num2words(value, lang="de"): _kind(value) for value in _BASIC}
_GERMAN |= dict.fromkeys(_IRREGULAR_ORDINALS, "unit")
_ENGLISH = {"-": "link", "oh": "oh", "hundred": "hundred", "thousand": "thousand"}
_ENGLISH |= {num2words(value, lang="en"): _kind(value) for value in _BASIC}
_ENGLISH |= {num2words(value, lang="en", to="ordinal"): _kind(value) for value in _BASIC}


def _pattern() -> str:
    """Return a pattern of the parts of German numerals, longest first; ordinal suffixes match only at a word's end."""
    ordinals = [rf"{word}n?\b" for word in _IRREGULAR_ORDINALS]
    cardinals = sorted((word for word in _GERMAN if word not in (*_IRREGULAR_ORDINALS, "ste", "te")), key=len)
    return "|".join([*ordinals, *reversed(cardinals), r"s?ten?\b"])


GERMAN_PARTS = _pattern()
"""Regular expression of the parts of German numerals."""


def _places(words: tuple[str, ...], kinds: list[str]) -> Parts:
    placed = []
    for index, (word, kind) in enumerate(zip(words, kinds, strict=True)):
        later = kinds[index + 1 :]
        place = "hundreds" if later[:1] == ["hundred"] else kind
        placed.append((word, f"thousands.{place}" if "thousand" in later else place))
    return tuple(placed)


def _split_german(text: str) -> Parts:
    words = tuple(re.findall(GERMAN_PARTS, text))
    if "".join(words) != text:
        raise ValueError(f"the German numeral {text!r} has an unknown part: {words}")
    return _places(words, [_GERMAN[word] if word in _GERMAN else _GERMAN[word.removesuffix("n")] for word in words])


def _split_english(text: str) -> Parts:
    words = tuple(re.findall(r"[a-z]+|-", text.replace(" and ", " ").replace(",", "")))
    return _places(words, [_ENGLISH[word] for word in words])


def german_number(value: int) -> Parts:
    """Return a number below a million in German words as (part, place) pairs."""
    parts = _with_thousands(value, _german_hundreds, "tausend")
    return (("ein", "thousands.unit"), *parts[1:]) if value // 1000 == 1 else parts


@cache
def _german_hundreds(value: int) -> Parts:
    return _split_german(num2words(value, lang="de"))


def _with_thousands(value: int, words: Callable[[int], Parts], thousand: str) -> Parts:
    """Return the parts of a number; num2words is asked only for those below a hundred and for whole hundreds."""
    thousands, rest = divmod(value, 1000)
    below = tuple(part for number in (rest - rest % 100, rest % 100) if number for part in words(number))
    if not thousands:
        return below
    before = ((part, f"thousands.{place}") for part, place in _with_thousands(thousands, words, thousand))
    return (*before, (thousand, "thousand"), *below)


def german_year(value: int) -> Parts:
    """Return a year in German words (neunzehnhundert…) as (part, place) pairs."""
    return _split_german(num2words(value, lang="de", to="year"))


@cache
def german_ordinal(value: int, dative: bool) -> Parts:
    """Return an ordinal in German words, in the nominative or the dative (-n), as (part, place) pairs."""
    return _split_german(num2words(value, lang="de", to="ordinal") + ("n" if dative else ""))


def english_number(value: int) -> Parts:
    """Return a number below a million in American English words (without "and") as (part, place) pairs."""
    return _with_thousands(value, _english_hundreds, "thousand")


@cache
def _english_hundreds(value: int) -> Parts:
    return _split_english(num2words(value, lang="en"))


def english_year(value: int) -> Parts:
    """Return a year in English words as (part, place) pairs; the first part of nineteen|ten has the place century."""
    parts = _split_english(num2words(value, lang="en", to="year"))
    if any(place in ("hundred", "thousand") for _, place in parts):
        return parts
    return ((parts[0][0], "century"), *parts[1:])


@cache
def english_ordinal(value: int) -> Parts:
    """Return an ordinal in English words as (part, place) pairs."""
    return _split_english(num2words(value, lang="en", to="ordinal"))
