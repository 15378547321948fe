"""Generated passages: the answer follows from the sentences and the question alone, and nothing else gives it away."""

import re

import pytest

from attnlab.config.extractive_qa import GeneratedPassages
from attnlab.data.extractive_qa import generated
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.tasks.extractive_qa import lexical_baseline

FEW = {"train": 300, "dev": 40, "test": 40}


def likes(question: PassageQuestion) -> tuple[dict[str, str], dict[str, str]]:
    """What people and things are like, read from the question's words alone."""
    who = {person: word for word, person in re.findall(r"(tall|small) ([A-Z]\w+)", question.question)}
    what = {thing: word for word, thing in re.findall(r"the (old|new) (\w+)", question.question)}
    return who, what


def gifts(question: PassageQuestion) -> dict[str, str]:
    return dict(re.findall(r"(\w+) \w+ the (\w+)\.", question.passage))


@pytest.mark.parametrize("people", [3, 5, 12])
def test_an_answer_depends_on_both_descriptions(people: int):
    for question in generated.generate(GeneratedPassages(people=people, **FEW)).train:
        who, what = likes(question)
        got = gifts(question)
        assert len(who) == len(what) == len(got) == people
        assert (got.keys(), set(got.values())) == (who.keys(), set(what))
        (answer,) = question.answers
        tall_and_old = [person for person, thing in got.items() if (who[person], what[thing]) == ("tall", "old")]
        assert tall_and_old == [answer.text]
        assert question.passage.startswith(f"{answer.text} ", answer.start)
        assert sum(word == "tall" for word in who.values()) > 1, "who is tall alone does not tell"
        assert sum(word == "old" for word in what.values()) > 1, "what is old alone does not tell"


def test_no_sentence_shares_more_words_with_the_question_and_no_place_is_the_answers():
    questions = generated.generate(GeneratedPassages(train=1000, dev=1, test=1)).train
    places = [0] * 5
    for question in questions:
        sentences = question.passage.rstrip(".").split(". ")
        words = set(re.findall(r"\w+", question.question))
        assert len({len(words & set(sentence.split())) for sentence in sentences}) == 1
        places[[sentence.split()[0] for sentence in sentences].index(question.answers[0].text)] += 1
    assert max(places) < 260, "of 1,000, a fifth each"
    assert not any(lexical_baseline.predict(question) == question.answers[0].text for question in questions[:50])


def test_a_seed_always_generates_the_same_data():
    splits = generated.generate(GeneratedPassages(train=50, dev=5, test=5))
    assert splits.fingerprint() == "79b94ce326ffabc8b3fa1a62b8c2bb423c2568ee1a5b97cd5a797136be9d683d"


def test_splits_depend_only_on_the_seed_and_are_disjoint():
    splits, again = (generated.generate(GeneratedPassages(**FEW)) for _ in range(2))
    other = generated.generate(GeneratedPassages(seed=1, **FEW))
    assert splits.fingerprint() == again.fingerprint() != other.fingerprint()
    longer = generated.generate(GeneratedPassages(**(FEW | {"train": 400})))
    assert longer.train[:300] == splits.train
    for split, questions in splits.splits().items():
        assert {generated.split_of(question) for question in questions} == {split}
