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
from dataclasses import dataclass, field

from attnlab.config.story_qa import GeneratedStories
from attnlab.data.records import Splits
from attnlab.data.story_qa.records import StoryQuestion

PEOPLE = ("Amira", "Boris", "Chiara", "Dieter")
PLACES = ("attic", "cellar", "garage", "library", "orchard", "stable")
THINGS = ("basket", "ladder", "lantern")
GO = ("walked to the", "went to the", "ran to the", "moved to the")
TAKE = ("took the", "grabbed the", "picked up the")
LEAVE = ("dropped the", "left the", "put down the")
_SPLITS = ("test", "dev") + ("train",) * 8


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
    rng = random.Random(f"stories {config.facts} {config.seed} {split}")
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


@dataclass
class _Carried:
    """The last event of a thing: the sentence, the person, and the thing's place (None while it is carried)."""

    fact: int
    person: str
    place: tuple[str, int] | None


@dataclass
class _World:
    """The state of a story: the places of people and things, and the sentences that say so."""

    rng: random.Random
    things: bool
    sentences: list[str] = field(default_factory=list)
    place: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Place of each person, and the sentence that says so."""
    carried: dict[str, _Carried] = field(default_factory=dict)
    journeys: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """Journeys of each thing: the sentences that say who took it, where that person went, and the place before."""

    def go_on(self) -> None:
        """Add a sentence; in most of them a person moves."""
        person = self.rng.choice(PEOPLE)
        own = [thing for thing, last in self.carried.items() if last.place is None and last.person == person]
        deed = self.rng.random()
        if self.things and person in self.place and deed < 0.3 and (things := self._within_reach(person)):
            self._take(person, self.rng.choice(things))
        elif own and deed < 0.4:
            self._leave(person, self.rng.choice(own))
        else:
            self._walk(person, own)

    def about_people(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return all questions with one fact."""
        return [(f"Where is {person}?", place, (fact,)) for person, (place, fact) in sorted(self.place.items())]

    def about_things(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return all questions with two facts."""
        questions = []
        for thing, last in sorted(self.carried.items()):
            place, fact = last.place or self.place[last.person]
            questions.append((f"Where is the {thing}?", place, (last.fact, fact)))
        return questions

    def about_journeys(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return all questions with three facts: about places to which a thing was brought only once."""
        questions = []
        for thing, journeys in sorted(self.journeys.items()):
            ends = [self._place_of(came) for _, came, _ in journeys]
            for (took, came, before), end in zip(journeys, ends, strict=True):
                if ends.count(end) == 1:
                    question = f"Where was the {thing} before the {end}?"
                    questions.append((question, self._place_of(before), (took, came, before)))
        return questions

    def _within_reach(self, person: str) -> list[str]:
        """Return the things that a person can take: those at the same place, and those not yet mentioned."""
        here = self.place[person][0]
        lying = [thing for thing, last in self.carried.items() if last.place and last.place[0] == here]
        return lying + [thing for thing in THINGS if thing not in self.carried]

    def _walk(self, person: str, own: list[str]) -> None:
        old = self.place.get(person)
        places = [place for place in PLACES if old is None or place != old[0]]
        fact = self._add(person, GO, self.rng.choice(places))
        self.place[person] = (self._place_of(fact), fact)
        for thing in own:
            if old is not None:
                self.journeys.setdefault(thing, []).append((self.carried[thing].fact, fact, old[1]))

    def _take(self, person: str, thing: str) -> None:
        self.carried[thing] = _Carried(self._add(person, TAKE, thing), person, None)

    def _leave(self, person: str, thing: str) -> None:
        self.carried[thing] = _Carried(self._add(person, LEAVE, thing), person, self.place[person])

    def _add(self, person: str, verbs: tuple[str, ...], noun: str) -> int:
        self.sentences.append(f"{person} {self.rng.choice(verbs)} {noun}.")
        return len(self.sentences) - 1

    def _place_of(self, fact: int) -> str:
        return self.sentences[fact].rstrip(".").rpartition(" ")[2]
