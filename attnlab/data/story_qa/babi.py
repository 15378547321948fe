"""Read files of the bAbI tasks: numbered sentences, and questions with their answers and the numbers of their facts.

    1 Mary moved to the bathroom.
    2 Where is Mary?<TAB>bathroom<TAB>1

The number 1 begins a new story. Each question is an example, with all sentences before it.
"""

import re
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.story_qa import Babi
from attnlab.data.labels import parse_label
from attnlab.data.records import Splits
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.text.lines import find, read_lines

HELD_OUT = 10
"""One out of this many stories is held out if the config has no validation file."""
_NUMBER = re.compile(r"[0-9]{1,9}")


def read(config: Babi, data_dir: Path) -> Splits[StoryQuestion]:
    """Read all splits."""
    stories = read_file(find(data_dir, config.train))
    if config.dev is None:
        dev = [example for story in stories[HELD_OUT - 1 :: HELD_OUT] for example in story]
        train = [e for number, story in enumerate(stories, start=1) if number % HELD_OUT for e in story]
        if not dev:
            raise UserError(
                f"{data_dir / config.train}: {len(stories)} stories are too few to hold out a tenth for dev"
            )
    else:
        train = [example for story in stories for example in story]
        dev = [example for story in read_file(find(data_dir, config.dev)) for example in story]
    test = {
        name: tuple(example for story in read_file(find(data_dir, path)) for example in story)
        for name, path in config.test.items()
    }
    return Splits(tuple(train), tuple(dev), test)


def read_file(path: Path) -> list[list[StoryQuestion]]:
    """Return the questions of each story of a file."""
    stories: list[list[StoryQuestion]] = []
    sentences: dict[int, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        count, _, rest = line.strip().partition(" ")
        if not _NUMBER.fullmatch(count) or not rest:
            raise UserError(f"{where}: expected a number, a space and a sentence, not {line[:60]!r}")
        if int(count) == 1 or not stories:
            stories.append([])
            sentences = {}
        if "\t" in rest:
            stories[-1].append(_question(rest, sentences, where))
        else:
            sentences[int(count)] = rest.strip()
    if not any(stories):
        raise UserError(f"{path}: no question; expected lines such as '3 Where is Mary?<TAB>bathroom<TAB>1'")
    return [story for story in stories if story]


def _question(line: str, sentences: dict[int, str], where: str) -> StoryQuestion:
    question, answer, *rest = (part.strip() for part in line.split("\t"))
    places = {number: place for place, number in enumerate(sentences)}
    facts = []
    for number in " ".join(rest).split():
        if not _NUMBER.fullmatch(number) or int(number) not in places:
            raise UserError(f"{where}: the fact {number[:20]!r} is not the number of a sentence before the question")
        facts.append(places[int(number)])
    if not (question and answer and sentences):
        raise UserError(f"{where}: a question needs sentences before it and an answer after a tab")
    return StoryQuestion(tuple(sentences.values()), question, parse_label(answer, f"{where}: the answer"), tuple(facts))
