"""The embedded task: right translations, gold links of every token, and splits that share no meaning."""

import os
import subprocess
import sys
from datetime import date
from itertools import pairwise
from typing import Literal

import pytest
from num2words import num2words

from attnlab.config import Dates, Words
from attnlab.data.text.tokenizer import UNK, Tokenizers, train_tokenizers
from attnlab.data.translation import dates, numerals
from attnlab.data.translation.load import load
from attnlab.data.translation.records import ParallelCorpus, SentencePair

BASIC = [*range(1, 20), *range(20, 100, 10)]
LEXICON = {
    **{num2words(n, lang="de"): {num2words(n), num2words(n, to="ordinal")} for n in BASIC},
    "ein": {"one", "first"}, "erste": {"first"}, "dritte": {"third"}, "siebte": {"seventh"}, "achte": {"eighth"},
    "hundert": {"hundred"}, "tausend": {"thousand"}, "vom": {"from"}, "von": {"from"}, "bis": {"to"},
    "und": {"and"}, ",": {","},
    "Montag": {"Monday"}, "Dienstag": {"Tuesday"}, "Mittwoch": {"Wednesday"}, "Donnerstag": {"Thursday"},
    "Freitag": {"Friday"}, "Samstag": {"Saturday"}, "Sonntag": {"Sunday"},
    "Januar": {"January"}, "Februar": {"February"}, "März": {"March"}, "April": {"April"}, "Mai": {"May"},
    "Juni": {"June"}, "Juli": {"July"}, "August": {"August"}, "September": {"September"}, "Oktober": {"October"},
    "November": {"November"}, "Dezember": {"December"},
}  # fmt: skip
"""What a sure link may join, written independently of the generator; "zwei" in "zweitausend" may be "twenty" too."""


@pytest.fixture(scope="module", params=["words", "iso"])
def corpus(request: pytest.FixtureRequest) -> ParallelCorpus:
    return load(Dates(target=request.param, train=3000, dev=300, test=300, max_items=5), None)


@pytest.fixture(scope="module")
def tokenizers(corpus: ParallelCorpus) -> Tokenizers:
    return train_tokenizers(Words(), corpus)


def pairs(corpus: ParallelCorpus) -> list[SentencePair]:
    return [pair for split in corpus.splits().values() for pair in split]


def links(pair: SentencePair, sure: bool) -> list[tuple[str, str]]:
    assert pair.alignment is not None
    return [
        (pair.source[slice(*link.source)], pair.target[slice(*link.target)])
        for link in pair.alignment
        if link.sure == sure
    ]


def test_sizes_and_languages(corpus: ParallelCorpus) -> None:
    assert {name: len(split) for name, split in corpus.splits().items()} == {"train": 3000, "dev": 300, "test": 300}
    assert (corpus.source_language, corpus.target_language in ("en", "iso")) == ("de", True)


@pytest.mark.parametrize(
    ("day", "german", "english", "iso"),
    [
        (date(1984, 7, 27), "Freitag, der siebenundzwanzigste Juli neunzehnhundertvierundachtzig",
         "Friday, July twenty-seventh, nineteen eighty-four", "1984-07-27"),
        (date(2005, 3, 1), "Dienstag, der erste März zweitausendfünf",
         "Tuesday, March first, two thousand five", "2005-03-01"),
        (date(1900, 10, 31), "Mittwoch, der einunddreißigste Oktober neunzehnhundert",
         "Wednesday, October thirty-first, nineteen hundred", "1900-10-31"),
        (date(2012, 12, 12), "Mittwoch, der zwölfte Dezember zweitausendzwölf",
         "Wednesday, December twelfth, twenty twelve", "2012-12-12"),
        (date(1701, 5, 3), "Dienstag, der dritte Mai siebzehnhunderteins",
         "Tuesday, May third, seventeen oh-one", "1701-05-03"),
    ],
)  # fmt: skip
def test_dates_are_written_as_people_write_them(day: date, german: str, english: str, iso: str) -> None:
    words = dates.pair(dates._item(day, words=True, weekday=True))
    digits = dates.pair(dates._item(day, words=False, weekday=True))
    assert (words.source, words.target) == (german, english)
    assert (digits.source, digits.target) == (german, iso)


@pytest.mark.parametrize(
    ("value", "german", "english"),
    [
        (345, "dreihundertfünfundvierzig", "three hundred forty-five"),
        (21_000, "einundzwanzigtausend", "twenty-one thousand"),
        (100_017, "einhunderttausendsiebzehn", "one hundred thousand seventeen"),
        (916_701, "neunhundertsechzehntausendsiebenhunderteins", "nine hundred sixteen thousand seven hundred one"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: int, german: str, english: str) -> None:
    words = dates.pair(dates._item(value, words=True, weekday=False))
    assert (words.source, words.target) == (german, english)
    assert dates.pair(dates._item(value, words=False, weekday=False)).target == str(value)


def test_every_numeral_of_the_task_can_be_cut() -> None:
    for value in [*range(1, 2000), *range(2000, 1_000_000, 997)]:
        german, english = numerals.german_number(value), numerals.english_number(value)
        assert "".join(part for part, _ in german) == num2words(value, lang="de")
        places = [place for _, place in german]
        assert len(set(places)) == len(places)
        assert {place for _, place in english if not place.endswith("link")} <= set(places)
    for year in range(dates.FIRST.year, dates.LAST.year + 1):
        assert "".join(part for part, _ in numerals.german_year(year)) == num2words(year, lang="de", to="year")
        numerals.english_year(year)
    for day in range(1, 32):
        for dative in (False, True):
            assert [place for _, place in numerals.german_ordinal(day, dative)].count("suffix") <= 1


def test_the_words_around_items() -> None:
    seen = [(pair.source, pair.target) for pair in load(Dates(train=2000, dev=1, test=1), None).train]
    ranges = [both for both in seen if both[0].startswith("vom ") and " und " not in both[0] and "," not in both[0]]
    assert ranges
    for source, target in ranges:
        assert " bis zum " in source
        assert source.count("ten ") == 2
        assert target.startswith("from ")
        assert target.count(" to ") == 1
    assert any(", and " in target for _, target in seen)
    assert any(" and " in target and ", and " not in target for _, target in seen)


def test_every_target_token_has_gold_links_on_token_boundaries(corpus: ParallelCorpus, tokenizers: Tokenizers) -> None:
    for pair in pairs(corpus):
        source, target = tokenizers.source.encode(pair.source), tokenizers.target.encode(pair.target)
        assert pair.alignment is not None
        assert {link.source for link in pair.alignment} <= set(source.offsets)
        assert {link.target for link in pair.alignment} == set(target.offsets)
        sure = [link.target for link in pair.alignment if link.sure]
        assert len(sure) == len(set(sure)), "one source token at most is the sure origin of a target token"
        assert len(pair.alignment) == len({(link.source, link.target) for link in pair.alignment})


def test_most_target_tokens_have_a_sure_link(corpus: ParallelCorpus) -> None:
    sure = sum(len({link.target for link in pair.alignment or () if link.sure}) for pair in pairs(corpus))
    tokens = sum(len({link.target for link in pair.alignment or ()}) for pair in pairs(corpus))
    assert sure / tokens > 0.75


def test_sure_links_join_words_that_translate_each_other() -> None:
    corpus = load(Dates(train=3000, dev=1, test=1), None)
    for pair in pairs(corpus):
        for source, target in links(pair, sure=True):
            words = LEXICON[source if source in LEXICON else source.removesuffix("n")]
            assert target in words or (source, target) == ("zwei", "twenty")


def test_sure_links_of_digits_connect_their_words() -> None:
    corpus = load(Dates(target="iso", train=3000, dev=1, test=1), None)
    values = {num2words(n, lang="de"): str(n) for n in BASIC}
    values |= {"ein": "1", "erste": "1", "dritte": "3", "siebte": "7", "achte": "8", "hundert": "0", "tausend": "0"}
    months = [word for word in LEXICON if word[0].isupper() and not word.endswith(("tag", "woch"))]
    values |= {month: f"{index:02}" for index, month in enumerate(months, start=1)}
    values |= {"und": ",", ",": ",", "bis": "/"}
    for pair in pairs(corpus):
        for source, target in links(pair, sure=True):
            assert target in values[source if source in values else source.removesuffix("n")]


def test_word_order_differs_between_the_sides() -> None:
    crossing = 0
    for pair in pairs(load(Dates(train=500, dev=1, test=1), None)):
        sure = sorted((link.target, link.source) for link in pair.alignment or () if link.sure)
        crossing += any(first[1] > second[1] for first, second in pairwise(sure))
    assert crossing > 250


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (7, 3)])
def test_no_meaning_is_in_two_splits_whatever_the_seed(seeds: tuple[int, int]) -> None:
    train, other = (load(Dates(target="iso", seed=seed, train=3000, dev=800, test=800), None) for seed in seeds)
    meanings = {name: _meanings(split) for name, split in other.splits().items()} | {"train": _meanings(train.train)}
    assert min(map(len, meanings.values())) > 1000
    assert not meanings["train"] & meanings["dev"]
    assert not meanings["train"] & meanings["test"]
    assert not meanings["dev"] & meanings["test"]


def _meanings(split: tuple[SentencePair, ...]) -> set[str]:
    return {item for pair in split for item in pair.target.replace("/", ", ").split(", ")}


def test_both_targets_have_the_same_sources() -> None:
    words, iso = (load(Dates(target=target, train=200, dev=20, test=20), None) for target in ("words", "iso"))
    assert [pair.source for pair in pairs(words)] == [pair.source for pair in pairs(iso)]


def test_a_longer_corpus_begins_with_the_shorter_one() -> None:
    short, long = (load(Dates(train=count, dev=5, test=5), None) for count in (50, 100))
    assert long.train[:50] == short.train


def test_seeds_differ_and_a_seed_is_exact_in_any_process() -> None:
    config = Dates(train=50, dev=5, test=5)
    here = load(config, None).fingerprint()
    assert load(Dates(train=50, dev=5, test=5, seed=1), None).fingerprint() != here
    code = (
        "from attnlab.config import Dates; from attnlab.data.translation.load import load; import sys;"
        "print(load(Dates(train=50, dev=5, test=5), None).fingerprint(), 'jax' in sys.modules)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split() == [here, "False"]


def test_lengths_and_vocabulary_are_those_of_a_small_task() -> None:
    corpus = load(Dates(), None)
    tokenizers = train_tokenizers(Words(), corpus)
    lengths = [len(e.ids) for e in tokenizers.source.encode_batch([pair.source for pair in corpus.test["test"]])]
    assert 12 < sum(lengths) / len(lengths) < 20
    assert max(lengths) > 38
    assert max(tokenizers.source.vocabulary_size, tokenizers.target.vocabulary_size) < 150
    for pair in pairs(corpus)[-1500:]:
        assert UNK not in tokenizers.source.encode(pair.source).ids
        assert UNK not in tokenizers.target.encode(pair.target).ids


@pytest.mark.parametrize(
    ("target", "fingerprint"),
    [
        ("words", "fb240d04cbf7166fdfae2cc84bfec340df398772c05c7191c30d024abc58d102"),
        ("iso", "021086e2aaed8caf8e215c130bef02a2593c82d9cc4abf9ae33d57fdcd7aa5c5"),
    ],
)
def test_a_seed_always_generates_the_same_data(target: Literal["words", "iso"], fingerprint: str) -> None:
    assert load(Dates(target=target, train=50, dev=5, test=5), None).fingerprint() == fingerprint


@pytest.mark.parametrize("items", [1, 12])
def test_the_number_of_items_is_bounded(items: int) -> None:
    for pair in load(Dates(target="iso", train=300, dev=1, test=1, max_items=items), None).train:
        assert len(pair.target.replace("/", ", ").split(", ")) <= items
