"""Generate stories like those of bAbI tasks 1 to 3: people move between places and carry things.

Questions with one fact: where is a person? The fact says where the person went last.
Two facts: where is a thing? They say who took it or put it down last, and where that person was or went.
Three facts: where was a thing before it came to a place? They say who carried it, where that person went, and where the
person was before.

The gold facts are the sentences that determine the answer. A story with its question belongs to the same split for all
seeds.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from attnlab.config.story_qa import GeneratedStories
from attnlab.data.records import Splits
from attnlab.data.story_qa.records import StoryQuestion

PEOPLE = ("Amira", "Boris", "Chiara", "Dieter")
PLACES = ("attic", "cellar", "garage", "library", "orchard", "stable")
THINGS = ("basket", "ladder", "lantern")
GO = ("walked to the", "went to the", "ran to the", "moved to the")
TAKE = ("took the", "grabbed the", "picked up the")
LEAVE = ("dropped the", "left the", "put down the")
_Element = TypeVar("_Element")
_SPLITS = ("test", "dev") + ("train",) * 8
_GOING, _TAKING, _LEAVING = (
    {person: {noun: tuple(f"{person} {verb} {noun}." for verb in verbs) for noun in nouns} for person in PEOPLE}
    for verbs, nouns in ((GO, PLACES), (TAKE, THINGS), (LEAVE, THINGS))
)
"""The sentences about a person with a place or a thing, one for each verb."""
_OTHER_PLACES = {place: tuple(other for other in PLACES if other != place) for place in ("", *PLACES)}
"""The places to which a person can go from a place, or from nowhere."""

Question = tuple[str, str, tuple[int, ...]]
"""A question, its answer, and its facts."""


class _Random(random.Random):
    """Random numbers whose `choice` is the same, but faster for the few elements of the lists above."""

    def choice(self, seq: Sequence[_Element]) -> _Element:
        """Return a random element."""
        size = len(seq)
        bits = size.bit_length()
        index = self.getrandbits(bits)
        while index >= size:
            index = self.getrandbits(bits)
        return seq[index]


def generate(config: GeneratedStories) -> Splits[StoryQuestion]:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""
    parts = {
        name: tuple(_stories(config, name, count))
        for name, count in (("train", config.train), ("dev", config.dev), ("test", config.test))
    }
    return Splits(parts["train"], parts["dev"], {"test": parts["test"]})


def split_of(story: StoryQuestion) -> str:
    """Return the split of a story with its question, determined by a hash: a tenth each for dev and test."""
    digest = hashlib.sha256(" ".join([*story.sentences, story.question]).encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def _stories(config: GeneratedStories, split: str, count: int) -> list[StoryQuestion]:
    rng = _Random(f"stories {config.facts} {config.seed} {split}")
    stories: list[StoryQuestion] = []
    while len(stories) < count:
        story = _story(config, rng)
        if story is not None and split_of(story) == split:
            stories.append(story)
    return stories


def _story(config: GeneratedStories, rng: random.Random) -> StoryQuestion | None:
    """Return a random story with a question about it; None if no question is possible."""
    world = _World(rng, things=config.facts > 1)
    for _ in range(rng.randint(2 * config.facts, max(config.longest_story, 2 * config.facts))):
        world.go_on()
    questions = {1: world.about_people, 2: world.about_things, 3: world.about_journeys}[config.facts]()
    if not questions:
        return None
    question, answer, facts = rng.choice(questions)
    return StoryQuestion(tuple(world.sentences), question, answer, facts)


@dataclass(slots=True)
class _Person:
    """A person's name, place (empty if not yet mentioned), the sentence that says so, and the things they carry."""

    name: str
    place: str = ""
    fact: int = -1
    hands: tuple[str, ...] = ()


@dataclass(slots=True)
class _Carried:
    """The last event of a thing: the sentence, the person, and the thing's place (None while it is carried)."""

    fact: int
    person: _Person
    place: tuple[str, int] | None


@dataclass(slots=True)
class _World:
    """The state of a story: the places of people and things, and the sentences that say so."""

    rng: random.Random
    things: bool
    sentences: list[str] = field(default_factory=list)
    people: tuple[_Person, ...] = field(default_factory=lambda: tuple(map(_Person, PEOPLE)))
    carried: dict[str, _Carried] = field(default_factory=dict)
    journeys: dict[str, list[tuple[str, str, tuple[int, int, int]]]] = field(default_factory=dict)
    """Journeys of each thing: the place before, the place after, and the sentences that say who took it, where that
    person went, and the place before."""

    def go_on(self) -> None:
        """Add a sentence; in most of them a person moves."""
        person = self.rng.choice(self.people)
        deed = self.rng.random()
        if deed < 0.3 and self.things and person.place and (things := self._within_reach(person)):
            self._take(person, self.rng.choice(things))
        elif deed < 0.4 and person.hands:
            self._leave(person, self.rng.choice(person.hands))
        else:
            self._walk(person)

    def about_people(self) -> list[Question]:
        """Return all questions with one fact."""
        return [(f"Where is {person.name}?", person.place, (person.fact,)) for person in self.people if person.place]

    def about_things(self) -> list[Question]:
        """Return all questions with two facts."""
        questions = []
        for thing, last in sorted(self.carried.items()):
            place, fact = last.place or (last.person.place, last.person.fact)
            questions.append((f"Where is the {thing}?", place, (last.fact, fact)))
        return questions

    def about_journeys(self) -> list[Question]:
        """Return all questions with three facts: about places to which a thing was brought only once."""
        questions = []
        for thing, journeys in sorted(self.journeys.items()):
            ends = [end for _, end, _ in journeys]
            for before, end, facts in journeys:
                if ends.count(end) == 1:
                    questions.append((f"Where was the {thing} before the {end}?", before, facts))
        return questions

    def _within_reach(self, person: _Person) -> list[str]:
        """Return the things that a person can take: those at the same place, and those not yet mentioned."""
        lying = [thing for thing, last in self.carried.items() if last.place and last.place[0] == person.place]
        return lying + [thing for thing in THINGS if thing not in self.carried]

    def _walk(self, person: _Person) -> None:
        before, fact_before = person.place, person.fact
        person.place = self.rng.choice(_OTHER_PLACES[before])
        person.fact = self._add(_GOING[person.name][person.place])
        for thing in person.hands:
            facts = (self.carried[thing].fact, person.fact, fact_before)
            self.journeys.setdefault(thing, []).append((before, person.place, facts))

    def _take(self, person: _Person, thing: str) -> None:
        self.carried[thing] = _Carried(self._add(_TAKING[person.name][thing]), person, None)
        self._update_hands(person)

    def _leave(self, person: _Person, thing: str) -> None:
        fact = self._add(_LEAVING[person.name][thing])
        self.carried[thing] = _Carried(fact, person, (person.place, person.fact))
        self._update_hands(person)

    def _update_hands(self, person: _Person) -> None:
        """Set the things that a person carries, in the order in which they were first mentioned."""
        held = [thing for thing, last in self.carried.items() if not last.place and last.person is person]
        person.hands = tuple(held)

    def _add(self, sentences: tuple[str, ...]) -> int:
        """Add one of the sentences, which differ in their verb, and return its index."""
        self.sentences.append(self.rng.choice(sentences))
        return len(self.sentences) - 1
