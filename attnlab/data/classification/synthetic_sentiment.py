"""Generate sentiment data: sentences about films from a small grammar, with the words that determine the label.

The effect of a word depends on its context: a negation inverts the adjective in its scope ("not bad", "far from funny",
"I doubt that the plot is dull"), and of two contrasted clauses the main one counts ("although it is witty, it is
slow"). So word counts do not solve the task: each word is about equally frequent for both labels. A sentence belongs to
the same split for all seeds.
"""

import hashlib
import random
from collections.abc import Sequence

from attnlab.config.classification import SyntheticSentiment
from attnlab.data.classification.records import LabeledText, LabeledTextSplits

LABELS = ("negative", "positive")
ASPECTS = (
    "film", "plot", "acting", "script", "ending", "music", "hero", "villain", "dialogue", "pace", "camera work",
    "story", "opening", "remake", "cast", "humor",
)  # fmt: skip
ADJECTIVES = (
    (
        "bad", "dull", "boring", "awful", "clumsy", "silly", "weak", "bland", "tedious", "stale", "lifeless",
        "dreadful", "shallow", "slow", "ugly", "annoying", "pointless", "forced", "stupid", "hollow",
    ),
    (
        "good", "great", "witty", "funny", "moving", "clever", "fresh", "lovely", "gripping", "superb", "brilliant",
        "charming", "elegant", "deep", "bold", "warm", "smart", "thrilling", "honest", "graceful",
    ),
)  # fmt: skip
"""Adjectives of each label."""
NEUTRAL = ("long", "short", "French", "old", "loud", "quiet", "Italian", "recent", "colorful", "famous")
DEGREES = ("very", "really", "truly", "quite", "rather", "remarkably", "so")
NEGATIONS = ("not", "never", "hardly", "far from", "anything but", "by no means")
DENIALS = ("it is not true that", "I do not think that", "I doubt that", "nobody says that")
_SPLITS = ("test", "dev") + ("train",) * 8

Words = list[tuple[str, bool]]
"""Words, each with whether it determines the label."""


def split_of(text: str) -> str:
    """Return the split of a sentence, determined by its hash: a tenth each for dev and test."""
    digest = hashlib.sha256(text.encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def generate(config: SyntheticSentiment) -> LabeledTextSplits:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""
    splits = {
        name: tuple(_draw(config.seed, name, count))
        for name, count in (("train", config.train), ("dev", config.dev), ("test", config.test))
    }
    return LabeledTextSplits(splits["train"], splits["dev"], {"test": splits["test"]}, labels=LABELS)


def _draw(seed: int, split: str, count: int) -> list[LabeledText]:
    rng = random.Random(f"verdicts {seed} {split}")
    examples: list[LabeledText] = []
    while len(examples) < count:
        label = rng.randrange(2)
        example = _labeled_text(_sentence(label, rng), LABELS[label])
        if split_of(example.text) == split:
            examples.append(example)
    return examples


def _sentence(label: int, rng: random.Random) -> Words:
    """Return a sentence of one clause, of clauses that agree, or of a main clause and its contrast."""
    main, other = _clause(label, rng), _plain(_clause(1 - label, rng))
    match rng.choices(range(8), (2, 1, 1, 1, 1, 4, 3, 3))[0]:
        case 0:
            return main
        case 1:
            return [*_clause(label, rng, deniable=False), *_words("and"), *main]
        case 2:
            return [*_aside(rng), *_words("and"), *main]
        case 3:
            return [*_clause(label, rng, deniable=False), *_words("and"), *_aside(rng)]
        case 4:
            return _not_only(label, rng)
        case 5:
            return [*other, *_words(", but"), *main]
        case 6:
            return [*_words("although"), *other, *_words(","), *main]
        case _:
            return [*main, *_words(", although"), *other]


def _clause(label: int, rng: random.Random, deniable: bool = True) -> Words:
    """Return a clause with the meaning of `label`, which may deny the opposite.

    Before "and" a clause has none of DENIALS, as their scope would be ambiguous.
    """
    if deniable and rng.random() < 0.2:
        return [*_words(rng.choice(DENIALS), True), *_clause(1 - label, rng, deniable=False)]
    if rng.random() < 0.5:
        return [*_subject(rng), *_degree(rng), *_adjective(label, rng)]
    return [*_subject(rng), *_words(rng.choice(NEGATIONS), True), *_degree(rng), *_adjective(1 - label, rng)]


def _not_only(label: int, rng: random.Random) -> Words:
    """Return "not only ... but also ...", which looks like a negation and a contrast but is neither."""
    first, second = _adjective(label, rng), _adjective(label, rng)
    return [*_subject(rng), *_words("not only"), *first, *_words("but also"), *second]


def _aside(rng: random.Random) -> Words:
    """Return a clause that is unrelated to the label."""
    negation = _words("not") if rng.random() < 0.4 else []
    return [*_subject(rng), *negation, *_degree(rng), *_words(rng.choice(NEUTRAL))]


def _subject(rng: random.Random) -> Words:
    return _words(f"the {rng.choice(ASPECTS)} is")


def _degree(rng: random.Random) -> Words:
    return _words(rng.choice(DEGREES)) if rng.random() < 0.4 else []


def _adjective(label: int, rng: random.Random) -> Words:
    return _words(rng.choice(ADJECTIVES[label]), True)


def _words(text: str, decides: bool = False) -> Words:
    return [(word, decides) for word in text.split()]


def _plain(words: Words) -> Words:
    return [(word, False) for word, _ in words]


def _labeled_text(words: Sequence[tuple[str, bool]], label: str) -> LabeledText:
    text, spans = "", []
    for word, decides in words:
        word = word if text else word[:1].upper() + word[1:]
        text += word if not text or word == "," else f" {word}"
        if decides:
            spans.append((len(text) - len(word), len(text)))
    return LabeledText(f"{text}.", label, tuple(spans))
