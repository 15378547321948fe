"""Generate translation data: German dates and numbers in words, to English words or to digits, with gold alignments.

The words come from num2words (numerals) and Babel's CLDR (names of months and days, lists). Each date or number belongs
to the same split for all seeds: a date of the test set is in no training sentence.
"""

import hashlib
import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from itertools import accumulate

from babel import Locale

from attnlab.config.translation import Dates
from attnlab.data.records import Span, garbage_collection_paused
from attnlab.data.translation import numerals
from attnlab.data.translation.phrases import Phrase, Word, join, pair, phrase, swap
from attnlab.data.translation.records import Link, ParallelCorpus, SentencePair

FIRST, LAST = date(1600, 1, 1), date(2099, 12, 31)
_GERMAN, _ENGLISH = Locale("de"), Locale("en")
_COMMA = phrase(",", (Word(",", glued=True, sure=((0, 1),)),))
_SPLITS = ("test", "dev") + ("train",) * 8

Places = dict[str, Span]
"""Span of the source of each place of a number, such as tens."""


def split_of(meaning: date | int) -> str:
    """Return the split of a date or number, determined by its hash: a tenth each for dev and test."""
    digest = hashlib.sha256(f"{type(meaning).__name__} {meaning}".encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def generate(config: Dates) -> ParallelCorpus:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""
    with garbage_collection_paused():
        splits = {
            name: tuple(_sentences(config, name, count))
            for name, count in (("train", config.train), ("dev", config.dev), ("test", config.test))
        }
    return ParallelCorpus(
        splits["train"], splits["dev"], {"test": splits["test"]},
        source_language="de", target_language="en" if config.target == "words" else "iso",
        source_split=numerals.GERMAN_PARTS, target_split=None if config.target == "words" else r"\d",
    )  # fmt: skip


def _sentences(config: Dates, split: str, count: int) -> list[SentencePair]:
    rng = random.Random(f"dates {config.seed} {split}")
    lengths = range(1, config.max_items + 1)
    weights = list(accumulate(1 / length for length in lengths))
    return [pair(_sentence(config, split, rng.choices(lengths, cum_weights=weights)[0], rng)) for _ in range(count)]


def _sentence(config: Dates, split: str, items: int, rng: random.Random) -> Phrase:
    words = config.target == "words"
    parts = []
    while items:
        if items >= 2 and rng.random() < 0.3:
            parts.append(_range(split, words, rng))
            items -= 2
        else:
            parts.append(_item(_draw(split, rng), words, weekday=rng.random() < 0.5))
            items -= 1
    if len(parts) == 1:
        return parts[0]
    first, *middle, last = parts
    commas = [part for item in middle for part in (_COMMA, item)]
    return join(first, *commas, _and(len(parts) == 2, words), last)


def _draw(split: str, rng: random.Random, kind: Callable[[random.Random], date | int] | None = None) -> date | int:
    kind = kind or rng.choice((_any_date, _any_number))
    while True:
        meaning = kind(rng)
        if split_of(meaning) == split:
            return meaning


def _any_date(rng: random.Random) -> date:
    return FIRST + timedelta(days=rng.randrange((LAST - FIRST).days + 1))


def _any_number(rng: random.Random) -> int:
    digits = rng.randint(2, 6)
    return rng.randrange(max(21, 10 ** (digits - 1)), 10**digits)


def _item(meaning: date | int, words: bool, weekday: bool) -> Phrase:
    if not isinstance(meaning, date):
        return _number(meaning, words)
    day = _date(meaning, words, article=True)
    return join(_weekday(meaning.weekday(), words), day) if weekday else day


def _range(split: str, words: bool, rng: random.Random) -> Phrase:
    """Return "von … bis …" with two numbers, or "vom … bis zum …" with two dates in the dative."""
    kind = rng.choice((_any_date, _any_number))
    low, high = sorted((_draw(split, rng, kind), _draw(split, rng, kind)))
    dates = kind is _any_date
    start, end = _range_words(dates, words)
    first, second = (_date(end, words, False) if isinstance(end, date) else _number(end, words) for end in (low, high))
    return join(start, first, end, second if words else second.glued())


@cache
def _range_words(dates: bool, words: bool) -> tuple[Phrase, Phrase]:
    """Return the phrases before the two ends of a range."""
    start, end = (" vom", " bis zum") if dates else (" von", " bis")
    vom = bis = ((1, 4),)  # after a space
    zum = ((5, 8),) if dates else ()
    if not words:
        return Phrase(start, ""), phrase(end, (Word("/", glued=True, sure=bis),))
    return phrase(start, (Word("from", sure=vom),)), phrase(end, (Word("to", sure=bis, possible=zum),))


@cache
def _and(two: bool, words: bool) -> Phrase:
    """Return the words before the last item: CLDR's list pattern ("A, B, and C"), or a comma between ISO dates."""
    und = ((1, 4),)  # after a space
    if not words:
        return phrase(" und", (Word(",", glued=True, sure=und),))
    pattern = _ENGLISH.list_patterns["standard"]["2" if two else "end"]
    *comma, last = re.findall(r"\w+|,", pattern.format("", ""))
    return phrase(" und", (*(Word(text, glued=True, possible=und) for text in comma), Word(last, sure=und)))


def _number(value: int, words: bool) -> Phrase:
    thousands, rest = divmod(value, 1000)
    if not thousands:
        return _below_thousand(rest, words)
    return join(_thousands(thousands, words), _below_thousand(rest, words, after_thousands=True))


@cache
def _thousands(value: int, words: bool) -> Phrase:
    german, places = _compound(numerals.german_number(1000 * value))
    target = _english(numerals.english_number(1000 * value), places) if words else _digits(str(value), places, power=3)
    return phrase(german, target)


@cache
def _below_thousand(value: int, words: bool, after_thousands: bool = False) -> Phrase:
    german, places = _compound(numerals.german_number(value), glued=after_thousands)
    if words:
        return phrase(german, _english(numerals.english_number(value), places))
    if not after_thousands:
        return phrase(german, _digits(str(value), places))
    return phrase(german, _digits(f"{value:03}", places | {"thousand": (-len("tausend"), 0)}, glued=True))


def _date(day: date, words: bool, article: bool) -> Phrase:
    """Return a date with the article "der", or without an article in the dative, as after "vom" and "zum"."""
    parts = _day_and_month(day.day, day.month, words, article), _year(day.year, words)
    return join(*parts) if words else swap(*parts)


@cache
def _weekday(day: int, words: bool) -> Phrase:
    german, english = (language.days["format"]["wide"][day] for language in (_GERMAN, _ENGLISH))
    end = 1 + len(german)
    target = (Word(english, sure=((1, end),)), Word(",", glued=True, sure=((end, end + 1),)))
    return phrase(f" {german},", target if words else ())


@cache
def _day_and_month(day: int, month: int, words: bool, article: bool) -> Phrase:
    """Return a day with its month; in words it ends with the comma before the year."""
    der = " der" if article else ""
    number, days = _compound(numerals.german_ordinal(day, dative=not article), start=len(der))
    days |= {"article": (1, 4)} if article else {}
    name = _GERMAN.months["format"]["wide"][month]
    before = len(f"{der}{number} ")
    months = ((before, before + len(name)),)
    if words:
        ordinal = _english(numerals.english_ordinal(day), days)
        comma = Word(",", glued=True, possible=(*days.values(), *months))
        target = (Word(_ENGLISH.months["format"]["wide"][month], sure=months), *ordinal, comma)
    else:
        digits = (Word(digit, glued=True, sure=months) for digit in f"{month:02}")
        hyphen = Word("-", glued=True, possible=tuple(days.values()))
        target = (Word("-", True, possible=months), *digits, hyphen, *_digits(f"{day:02}", days, glued=True))
    return phrase(f"{der}{number} {name}", target)


@cache
def _year(year: int, words: bool) -> Phrase:
    """Return a year; in words the comma before it is linked to it too."""
    german, places = _compound(numerals.german_year(year))
    if not words:
        return phrase(german, _digits(f"{year:04}", places))
    english = phrase(german, _english(numerals.english_year(year), places))
    comma = tuple(Link(span, (-1, 0), sure=False) for span in places.values())
    return english._replace(links=((0, 0, comma), *english.links))


def _compound(parts: numerals.Parts, glued: bool = False, start: int = 0) -> tuple[str, Places]:
    """Return a German numeral as one word, and the span of each of its places if the word begins at `start`."""
    text, places = "" if glued else " ", {}
    for part, place in parts:
        places[place] = (start + len(text), start + len(text) + len(part))
        text += part
    return text, places


def _english(parts: numerals.Parts, places: Places) -> list[Word]:
    """Align each English part with the German part of the same place; hyphens have possible links only."""
    words, after_hyphen = [], False
    for index, (text, place) in enumerate(parts, start=1):
        sure, possible = _english_links(place, places)
        if index == len(parts):
            possible += _present(places, "suffix", "article")
        words.append(Word(text, glued=after_hyphen or text == "-", sure=sure, possible=possible))
        after_hyphen = text == "-"
    return words


def _english_links(place: str, places: Places) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    group = "thousands." if place.startswith("thousands.") else ""
    if place.endswith("link"):
        return (), _present(places, f"{group}link", f"{group}tens", f"{group}unit")
    if place == "oh":
        return (), _present(places, "hundred", "unit")
    if place == "century":
        sure, *possible = _present(places, "hundreds", "thousands.unit", "hundred", "thousand")
        return (sure,), tuple(possible)
    return (places[place],), ()


def _digits(text: str, places: Places, power: int = 0, glued: bool = False) -> list[Word]:
    """Align each digit with its word; a zero without a word has possible links to the words of neighboring places.

    Args:
        text: the digits.
        places: the span of each place of the German numeral.
        power: the power of ten of the last digit.
        glued: whether no space precedes the first digit.
    """
    words = []
    for index, digit in enumerate(text):
        exponent = power + len(text) - 1 - index
        group = "thousands." if exponent >= 3 else ""
        names = {0: ("unit", "teen", "tens"), 1: ("tens", "teen"), 2: ("hundreds",)}[exponent % 3]
        own = _present(places, *(group + name for name in names), *(("hundreds",) if exponent == 3 else ()))
        if digit == "0":
            own = _present(places, *(group + name for name in names if name in ("teen", "tens")))
        neighbors = _present(places, f"{group}hundred", "thousand", f"{group}unit", "article", "suffix")
        words.append(Word(digit, glued or index > 0, sure=own[:1], possible=() if own else neighbors))
    return words


def _present(places: Places, *names: str) -> tuple[Span, ...]:
    return tuple(places[name] for name in names if name in places)
