"""Passages about who got what, with questions that say what each person and each thing is like.

    Ida took the lamp. Omar found the axe. Tom bought the bell.
    Which tall person got something old? There are small Omar, tall Ida, tall Tom, the new bell, the old axe, the old
    lamp. Ida

The answer joins facts: what the question says of a person, what it says of a thing, and that the passage brings the
two together. The question names every person and every thing of the passage; of the other people the tall ones got
something new, and something old went to small ones, so that no sentence shares more words with the question than
another. People and things are drawn from many, a few for each passage: what each is like can be looked up in the
question, but hardly all be kept in one vector. A passage with its question belongs to one split only, whatever the
seed.
"""

import hashlib
import random

from attnlab.config.extractive_qa import GeneratedPassages
from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion
from attnlab.data.records import Splits

_PEOPLE = (
    "Ada Ali Amira Anna Ben Boris Carla Chen Chiara Clara Dana Dieter Elena Emil Erik Eva Felix Fatima Greta Hana "
    "Hugo Ida Igor Ines Ivan Jana Jonas Julia Karim Lara Lena Leo Lin Luis Mara Marco Mei Milan Mina Nadia Nina "
    "Noah Olga Omar Oskar Paul Petra Pia Rafael Rosa Samir Sara Sofia Tara Theo Tom Ursula Vera Viktor Yara"
)
_THINGS = (
    "apple axe ball basket bell blanket book bottle bowl box bread brush bucket candle cap carpet chain chair "
    "clock coat coin comb cup dish drum feather flag flute fork glove hammer hat jar kettle key knife ladder lamp "
    "lantern letter map mirror needle pan pen pillow plate ring rope saw scarf shell shoe spoon stick stone "
    "ticket towel violin whistle"
)
PEOPLE, THINGS = tuple(_PEOPLE.split()), tuple(_THINGS.split())
GET = ("took", "found", "bought", "received")
_SPLITS = ("test", "dev") + ("train",) * 8


def generate(config: GeneratedPassages) -> Splits[PassageQuestion]:
    """Generate all splits; each is a function of the seed, and a longer one begins with the shorter one."""
    parts = {
        name: tuple(_questions(config, name, count))
        for name, count in (("train", config.train), ("dev", config.dev), ("test", config.test))
    }
    return Splits(parts["train"], parts["dev"], {"test": parts["test"]})


def split_of(question: PassageQuestion) -> str:
    """Return the split of a question, by the hash of its words and its passage: a tenth each for dev and test."""
    digest = hashlib.sha256(f"{question.passage} {question.question}".encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def _questions(config: GeneratedPassages, split: str, count: int) -> list[PassageQuestion]:
    rng = random.Random(f"passages {config.people} {config.seed} {split}")
    found: list[PassageQuestion] = []
    while len(found) < count:
        question = _question(rng, config.people, f"{split}-{len(found)}")
        if split_of(question) == split:
            found.append(question)
    return found


def _question(rng: random.Random, count: int, name: str) -> PassageQuestion:
    """Draw a passage of `count` sentences and a question about it."""
    people, things = rng.sample(PEOPLE, count), rng.sample(THINGS, count)
    # the first person is tall and gets something old, of the others one or the other is true, in turn
    tall = [n == 0 or n % 2 == 1 for n in range(count)]
    old = [n % 2 == 0 for n in range(count)]
    sentences = [f"{person} {rng.choice(GET)} the {thing}." for person, thing in zip(people, things, strict=True)]
    rng.shuffle(sentences)
    passage = " ".join(sentences)
    who = [f"{'tall' if is_so else 'small'} {person}" for person, is_so in zip(people, tall, strict=True)]
    what = [f"the {'old' if is_so else 'new'} {thing}" for thing, is_so in zip(things, old, strict=True)]
    rng.shuffle(who)
    rng.shuffle(what)
    question = f"Which tall person got something old? There are {', '.join(who)}, {', '.join(what)}."
    return PassageQuestion(name, question, passage, (AnswerSpan(people[0], f" {passage}".index(f" {people[0]} ")),))
