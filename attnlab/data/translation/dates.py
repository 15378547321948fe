"""Generate translation data: German dates and numbers in words, to English words or to digits, with gold alignments.

The words come from num2words (numerals) and Babel's CLDR (names of months and days, lists). Each date or number belongs
to the same split for all seeds: a date of the test set is in no training sentence.
"""

import hashlib
import random
import re
from collections.abc import Callable
from datetime import date, timedelta

from babel import Locale

from attnlab.config.translation import Dates
from attnlab.data.translation import numerals
from attnlab.data.translation.phrases import Phrase, Piece, Word, pair
from attnlab.data.translation.records import ParallelCorpus, SentencePair

FIRST, LAST = date(1600, 1, 1), date(2099, 12, 31)
_GERMAN, _ENGLISH = Locale("de"), Locale("en")
_COMMA = Phrase((Piece(",", glued=True),), (Word(",", glued=True, sure=(0,)),))
_SPLITS = ("test", "dev") + ("train",) * 8

Places = dict[str, int]
"""Index of the source piece of each place of a number, such as tens."""


def split_of(meaning: date | int) -> str:
    """Return the split of a date or number, determined by its hash: a tenth each for dev and test."""
    digest = hashlib.sha256(f"{type(meaning).__name__} {meaning}".encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def generate(config: Dates) -> ParallelCorpus:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""
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
    weights = [1 / length for length in lengths]
    return [pair(_sentence(config, split, rng.choices(lengths, weights)[0], rng)) for _ in range(count)]


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
    sentence = parts[0]
    for index, part in enumerate(parts[1:], start=2):
        last = index == len(parts)
        sentence = sentence + (_and(len(parts), words) if last else _COMMA) + part
    return sentence


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
    if isinstance(meaning, date):
        return _date(meaning, words, ("weekday", "der") if weekday else ("der",))
    return _number(meaning, words)


def _range(split: str, words: bool, rng: random.Random) -> Phrase:
    """Return "von … bis …" with two numbers, or "vom … bis zum …" with two dates in the dative."""
    kind = rng.choice((_any_date, _any_number))
    low, high = sorted((_draw(split, rng, kind), _draw(split, rng, kind)))
    dates = kind is _any_date
    first, second = (_date(end, words, ()) if isinstance(end, date) else _number(end, words) for end in (low, high))
    start = Phrase((Piece("vom" if dates else "von"),), (Word("from", sure=(0,)),) if words else ())
    to = Word("to", sure=(0,), possible=(1,) if dates else ()) if words else Word("/", glued=True, sure=(0,))
    end = Phrase((Piece("bis"), *((Piece("zum"),) if dates else ())), (to,))
    return start + first + end + (second if words else _glued(second))


def _and(items: int, words: bool) -> Phrase:
    """Return the words before the last item: CLDR's list pattern ("A, B, and C"), or a comma between ISO dates."""
    if not words:
        return Phrase((Piece("und"),), (Word(",", glued=True, sure=(0,)),))
    key = "2" if items == 2 else "end"
    source = re.findall(r"\w+|,", _GERMAN.list_patterns["standard"][key].format("", ""))
    target = re.findall(r"\w+|,", _ENGLISH.list_patterns["standard"][key].format("", ""))
    last = (len(source) - 1,)
    comma = tuple(Word(text, glued=True, possible=last) for text in target[:-1])
    return Phrase(tuple(Piece(text) for text in source), (*comma, Word(target[-1], sure=last)))


def _glued(phrase: Phrase) -> Phrase:
    first = phrase.target[0]
    return Phrase(phrase.source, (Word(first.text, True, first.sure, first.possible), *phrase.target[1:]))


def _compound(parts: tuple[tuple[str, str], ...]) -> tuple[Piece, ...]:
    return tuple(Piece(text, glued=index > 0) for index, (text, _) in enumerate(parts))


def _number(value: int, words: bool) -> Phrase:
    german = numerals.german_number(value)
    places = {place: index for index, (_, place) in enumerate(german)}
    target = _english(numerals.english_number(value), places) if words else _digits(str(value), places)
    return Phrase(_compound(german), target)


def _date(day: date, words: bool, start: tuple[str, ...]) -> Phrase:
    """Return a date; `start` is ("weekday", article), (article,) or, in the dative after vom and zum, ()."""
    weekday = start[:1] == ("weekday",)
    lead = (Piece(_GERMAN.days["format"]["wide"][day.weekday()]), Piece(",", glued=True)) if weekday else ()
    article = tuple(Piece(text) for text in start[-1:])
    number, year = numerals.german_ordinal(day.day, dative=not start), numerals.german_year(day.year)
    month = Piece(_GERMAN.months["format"]["wide"][day.month])
    fields = (lead, article, _compound(number), (month,), _compound(year))
    starts = [sum(map(len, fields[:index])) for index in range(len(fields) + 1)]
    day_places = {place: starts[2] + index for index, (_, place) in enumerate(number)}
    day_places |= {"article": starts[1]} if article else {}
    year_places = {place: starts[4] + index for index, (_, place) in enumerate(year)}
    write = _english_date if words else _iso_date
    target = write(day, weekday, day_places, starts[3], year_places)
    return Phrase(sum(fields, ()), target)


def _english_date(day: date, weekday: bool, days: Places, month: int, years: Places) -> tuple[Word, ...]:
    lead = (Word(_ENGLISH.days["format"]["wide"][day.weekday()], sure=(0,)), Word(",", glued=True, sure=(1,)))
    name = Word(_ENGLISH.months["format"]["wide"][day.month], sure=(month,))
    comma = Word(",", glued=True, possible=(*days.values(), month, *years.values()))
    ordinal, year = _english(numerals.english_ordinal(day.day), days), _english(numerals.english_year(day.year), years)
    return (*(lead if weekday else ()), name, *ordinal, comma, *year)


def _iso_date(day: date, weekday: bool, days: Places, month: int, years: Places) -> tuple[Word, ...]:
    months = tuple(Word(digit, glued=True, sure=(month,)) for digit in f"{day.month:02}")
    number = tuple(Word(word.text, True, word.sure, word.possible) for word in _digits(f"{day.day:02}", days))
    return (
        *_digits(f"{day.year:04}", years), Word("-", True, possible=(month,)), *months,
        Word("-", True, possible=tuple(days.values())), *number,
    )  # fmt: skip


def _english(parts: tuple[tuple[str, str], ...], places: Places) -> tuple[Word, ...]:
    """Align each English part with the German part of the same place; hyphens have possible links only."""
    words, after_hyphen = [], False
    for index, (text, place) in enumerate(parts, start=1):
        sure, possible = _english_links(place, places)
        if index == len(parts):
            possible += _present(places, "suffix", "article")
        words.append(Word(text, glued=after_hyphen or text == "-", sure=sure, possible=possible))
        after_hyphen = text == "-"
    return tuple(words)


def _english_links(place: str, places: Places) -> tuple[tuple[int, ...], tuple[int, ...]]:
    group = "thousands." if place.startswith("thousands.") else ""
    if place.endswith("link"):
        return (), _present(places, f"{group}link", f"{group}tens", f"{group}unit")
    if place == "oh":
        return (), _present(places, "hundred", "unit")
    if place == "century":
        sure, *possible = _present(places, "hundreds", "thousands.unit", "hundred", "thousand")
        return (sure,), tuple(possible)
    return (places[place],), ()


def _digits(text: str, places: Places) -> tuple[Word, ...]:
    """Align each digit with its word; a zero without a word has possible links to the words of neighboring places."""
    words = []
    for index, digit in enumerate(text):
        power = len(text) - 1 - index
        group = "thousands." if power >= 3 else ""
        names = {0: ("unit", "teen", "tens"), 1: ("tens", "teen"), 2: ("hundreds",)}[power % 3]
        own = _present(places, *(group + name for name in names), *(("hundreds",) if power == 3 else ()))
        if digit == "0":
            own = _present(places, *(group + name for name in names if name in ("teen", "tens")))
        neighbors = _present(places, f"{group}hundred", "thousand", f"{group}unit", "article", "suffix")
        words.append(Word(digit, index > 0, sure=own[:1], possible=() if own else neighbors))
    return tuple(words)


def _present(places: Places, *names: str) -> tuple[int, ...]:
    return tuple(places[name] for name in names if name in places)
