"""Stories in the manner of bAbI tasks 1 to 3: people walk about and carry things, a question needs one to three facts.

One fact: where is a person? Where they went last.
Two: where is a thing? Who took it or put it down last, and where that person had gone or has gone since.
Three: where was a thing before it came to a place? Who carried it, where they went, and where they had been.

The gold facts are the sentences that decide. A story with its question belongs to one split only, whatever the seed.
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
    """Generate all splits; each is a function of the seed, and a longer one begins with the shorter one."""
    parts = {
        name: tuple(_stories(config, name, count))
        for name, count in (("train", config.train), ("dev", config.dev), ("test", config.test))
    }
    return Splits(parts["train"], parts["dev"], {"test": parts["test"]})


def split_of(story: StoryQuestion) -> str:
    """Return the split of a story with its question, by its hash: a tenth each for dev and test."""
    digest = hashlib.sha256(" ".join([*story.sentences, story.question]).encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def _stories(config: GeneratedStories, split: str, count: int) -> list[StoryQuestion]:
    rng = random.Random(f"stories {config.facts} {config.seed} {split}")
    found: list[StoryQuestion] = []
    while len(found) < count:
        story = _story(config, rng)
        if story is not None and split_of(story) == split:
            found.append(story)
    return found


def _story(config: GeneratedStories, rng: random.Random) -> StoryQuestion | None:
    """Generate a story and a question about it; return None where no question is possible."""
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
    """A thing's last change of hands: in which sentence, by whom, and where it lies (None while it is carried)."""

    fact: int
    person: str
    place: tuple[str, int] | None


@dataclass
class _World:
    """The state of a story: where everybody is, and by which sentence."""

    rng: random.Random
    things: bool
    sentences: list[str] = field(default_factory=list)
    place: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Person -> where they are, and the sentence that says so."""
    carried: dict[str, _Carried] = field(default_factory=dict)
    journeys: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """Thing -> each of its journeys: the sentences that tell who took it, of coming, and of where it was before."""

    def go_on(self) -> None:
        """Add a sentence; most sentences are about walking."""
        person = self.rng.choice(PEOPLE)
        mine = [thing for thing, last in self.carried.items() if last.place is None and last.person == person]
        deed = self.rng.random()
        if self.things and person in self.place and deed < 0.3 and (there := self._there(person)):
            self._take(person, self.rng.choice(there))
        elif mine and deed < 0.4:
            self._leave(person, self.rng.choice(mine))
        else:
            self._walk(person, mine)

    def about_people(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """All questions of one fact."""
        return [(f"Where is {person}?", place, (fact,)) for person, (place, fact) in sorted(self.place.items())]

    def about_things(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """All questions of two facts."""
        found = []
        for thing, last in sorted(self.carried.items()):
            place, fact = last.place or self.place[last.person]
            found.append((f"Where is the {thing}?", place, (last.fact, fact)))
        return found

    def about_journeys(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """All questions of three facts: of places to which a thing was brought only once."""
        found = []
        for thing, journeys in sorted(self.journeys.items()):
            ends = [self._place_of(came) for _, came, _ in journeys]
            for (took, came, before), end in zip(journeys, ends, strict=True):
                if ends.count(end) == 1:
                    question = f"Where was the {thing} before the {end}?"
                    found.append((question, self._place_of(before), (took, came, before)))
        return found

    def _there(self, person: str) -> list[str]:
        """Things that a person can take: those lying where they are, and those not yet seen."""
        here = self.place[person][0]
        lying = [thing for thing, last in self.carried.items() if last.place and last.place[0] == here]
        return lying + [thing for thing in THINGS if thing not in self.carried]

    def _walk(self, person: str, mine: list[str]) -> None:
        old = self.place.get(person)
        places = [place for place in PLACES if old is None or place != old[0]]
        fact = self._tell(person, GO, self.rng.choice(places))
        self.place[person] = (self._place_of(fact), fact)
        for thing in mine:
            if old is not None:
                self.journeys.setdefault(thing, []).append((self.carried[thing].fact, fact, old[1]))

    def _take(self, person: str, thing: str) -> None:
        self.carried[thing] = _Carried(self._tell(person, TAKE, thing), person, None)

    def _leave(self, person: str, thing: str) -> None:
        self.carried[thing] = _Carried(self._tell(person, LEAVE, thing), person, self.place[person])

    def _tell(self, person: str, verbs: tuple[str, ...], what: str) -> int:
        self.sentences.append(f"{person} {self.rng.choice(verbs)} {what}.")
        return len(self.sentences) - 1

    def _place_of(self, fact: int) -> str:
        return self.sentences[fact].rstrip(".").rpartition(" ")[2]
