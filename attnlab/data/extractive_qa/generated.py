"""Generate passages about who got what, with questions that describe the people and the things.

    Ida took the lamp. Omar found the axe. Tom bought the bell.
    Which tall person got something old? There are small Omar, tall Ida, tall Tom, the new bell, the old axe, the old
    lamp. Ida

The answer combines three facts: what the question says about a person, what it says about a thing, and that the passage
connects the two. The question names every person and every thing of the passage; the other tall people got something
new, and the other old things went to small people, so that no sentence shares more words with the question than
another. The few people and things of a passage are sampled from many, so that their descriptions can be found in the
question by attention, but hardly be stored in a single vector. A passage with its question belongs to the same split
for all seeds.
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
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""
    parts = {
        name: tuple(_questions(config, name, count))
        for name, count in (("train", config.train), ("dev", config.dev), ("test", config.test))
    }
    return Splits(parts["train"], parts["dev"], {"test": parts["test"]})


def split_of(question: PassageQuestion) -> str:
    """Return the split of a passage with its question, determined by a hash: a tenth each for dev and test."""
    digest = hashlib.sha256(f"{question.passage} {question.question}".encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def _questions(config: GeneratedPassages, split: str, count: int) -> list[PassageQuestion]:
    rng = random.Random(f"passages {config.people} {config.seed} {split}")
    questions: list[PassageQuestion] = []
    while len(questions) < count:
        question = _question(rng, config.people, f"{split}-{len(questions)}")
        if split_of(question) == split:
            questions.append(question)
    return questions


def _question(rng: random.Random, count: int, name: str) -> PassageQuestion:
    """Return a random passage of `count` sentences with a question about it."""
    people, things = rng.sample(PEOPLE, count), rng.sample(THINGS, count)
    # the first person is tall and gets something old; the others are tall or get something old, alternately
    tall = [n == 0 or n % 2 == 1 for n in range(count)]
    old = [n % 2 == 0 for n in range(count)]
    sentences = [f"{person} {rng.choice(GET)} the {thing}." for person, thing in zip(people, things, strict=True)]
    rng.shuffle(sentences)
    passage = " ".join(sentences)
    described_people = [f"{'tall' if is_so else 'small'} {person}" for person, is_so in zip(people, tall, strict=True)]
    described_things = [f"the {'old' if is_so else 'new'} {thing}" for thing, is_so in zip(things, old, strict=True)]
    rng.shuffle(described_people)
    rng.shuffle(described_things)
    descriptions = ", ".join([*described_people, *described_things])
    question = f"Which tall person got something old? There are {descriptions}."
    return PassageQuestion(name, question, passage, (AnswerSpan(people[0], f" {passage}".index(f" {people[0]} ")),))
