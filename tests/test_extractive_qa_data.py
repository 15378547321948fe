"""SQuAD: the readers, and the scores by published cases of the official program."""

import gzip
import itertools
import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import PassageQuestionHub, SubjQa
from attnlab.data.extractive_qa import squad, subjqa
from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion, unique_ids
from attnlab.data.extractive_qa.windows import best_spans, tokens_of, windows
from attnlab.tasks.extractive_qa import lexical_baseline
from attnlab.tasks.extractive_qa.metrics import (
    best_by_threshold,
    exact,
    f1,
    normalize,
    per_question_scores,
    squad_scores,
)

PARTLY = [["1976"], ["Beyoncé and Bruno Mars"], ["climate change"]]


@pytest.mark.parametrize(
    ("gold", "answers", "right"),
    [  # the cases on the metric cards of huggingface/evaluate, metrics/squad and metrics/squad_v2
        ([["1976"]], ["1976"], 100.0),
        ([["1976"]], ["1999"], 0.0),
        (PARTLY, ["1976", "Beyonce", "climate change"], 200 / 3),
    ],
)
def test_published_cases(gold, answers, right):
    scores = squad_scores(gold, answers) | best_by_threshold(gold, answers, [0.0] * len(gold))
    total = {"exact": right, "f1": right, "best_exact": right, "best_f1": right}
    assert scores == pytest.approx(total | {"total": len(gold), "best_exact_thresh": 0.0, "best_f1_thresh": 0.0})


@pytest.mark.parametrize(
    ("gold", "answer", "em", "overlap"),
    [  # worked by hand from evaluate-v1.1.py and evaluate-v2.0.py
        ("The Broncos", "broncos!", 1.0, 1.0),
        ("a  cat", "an the cat", 1.0, 1.0),
        ("Santa Clara, California", "Santa Clara", 0.0, 0.8),
        ("gold gold", "gold", 0.0, 2 / 3),
        ("another", "other", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("", "x", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),
    ],
)
def test_exact_and_f1(gold, answer, em, overlap):
    assert (exact(gold, answer), f1(gold, answer)) == pytest.approx((em, overlap))


def test_normalize():
    assert normalize(" The U.S.—“Anthem” an  ") == "us—“anthem”"


def test_the_best_gold_answer_counts_and_wordless_ones_do_not():
    exacts, f1s = per_question_scores([["big cat", "cat"], ["the", "dog"], []], ["cat", "", ""])
    assert exacts.tolist() == [1.0, 0.0, 1.0]
    assert f1s.tolist() == [1.0, 0.0, 1.0]


def test_no_answers_of_version_2():
    gold, answers = [["x"], ["y"], [], []], ["x", "z", "w", ""]
    scores = squad_scores(gold, answers) | best_by_threshold(gold, answers, [0.1, 0.6, 0.9, 0.95])
    assert (scores["exact"], scores["HasAns_exact"], scores["NoAns_exact"]) == (50.0, 50.0, 50.0)
    assert (scores["HasAns_total"], scores["NoAns_total"]) == (2, 2)
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (75.0, 0.1)


PASSAGE = "The cat sat in Rome. In Rome it rained."


def document(**question) -> dict:
    entry = {"id": "q", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 15}]} | question
    return {"version": "2.0", "data": [{"title": "t", "paragraphs": [{"context": PASSAGE, "qas": [entry]}]}]}


def write(path: Path, content: object) -> Path:
    path.write_bytes(
        gzip.compress(json.dumps(content).encode()) if path.suffix == ".gz" else json.dumps(content).encode()
    )
    return path


@pytest.mark.parametrize("name", ["d.json", "d.json.gz"])
def test_a_question_is_read(tmp_path: Path, name: str):
    (question,) = squad.read_file(write(tmp_path / name, document()))
    assert question == PassageQuestion("q", "Where?", PASSAGE, (AnswerSpan("Rome", 15),))
    assert question.target == AnswerSpan("Rome", 15)


def test_unanswerable(tmp_path: Path):
    given = document(is_impossible=True, answers=[], plausible_answers=[{"text": "Rome", "answer_start": 15}])
    (question,) = squad.read_file(write(tmp_path / "d.json", given))
    assert (question.answers, question.target) == ((), None)


def test_guessed_places_are_trained_on_only_where_there_are_no_others(tmp_path: Path):
    guessed = {"text": "Rome", "answer_start": 24, "span": "heuristic"}
    certain = {"text": "in Rome", "answer_start": 12, "span": "unique"}
    (question,) = squad.read_file(write(tmp_path / "d.json", document(answers=[guessed, guessed, certain])))
    assert question.target == AnswerSpan("in Rome", 12)
    (question,) = squad.read_file(write(tmp_path / "d.json", document(answers=[guessed])))
    assert question.target == AnswerSpan("Rome", 24, certain=False)
    (question,) = squad.read_file(write(tmp_path / "d.json", document(answers=[guessed | {"answer_start": 3}])))
    assert question.target is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"date": []}, r"d.json.data: is missing; expected data\[\]"),
        (document(answers=[{"text": "Rome"}]), r"qas\[0\].answers\[0\].answer_start: expected a number"),
        (document(answers=[{"text": "Rome", "answer_start": 15, "span": "sure"}]), "span: 'sure'; valid: official"),
        (document(question=3), r"paragraphs\[0\].qas\[0\].question: is int, not text"),
        ({"data": []}, "no questions; expected"),
        (document(is_impossible="false"), r"qas\[0\].is_impossible: is 'false'; expected true or false, without quot"),
        (document(is_impossible=0), r"is_impossible: is 0; expected true or false"),
        (document(is_impossible=True), r"qas\[0\]: is_impossible is true, but there are 1 answers; .* plausible_"),
        (
            document(answers=[{"text": "", "answer_start": -1}]),
            r"answers\[0\].answer_start: .* from 0 on, not -1; an unans",
        ),
        (document(answers=[{"text": "Rome", "answer_start": True}]), r"answers\[0\].answer_start: .* not True"),
        (document(answers=[{"text": "Rome", "answer_start": 10**4000}]), r"answers\[0\].answer_start: .* not 1000"),
        (document(answers=[{"text": "Rome", "answer_start": 15.0}]), r"answers\[0\].answer_start: .* not 15.0"),
        (document(id=[1]), r"qas\[0\]: the id is list; expected a string or an integer"),
    ],
)
def test_mistakes_in_squad_are_refused_by_place(tmp_path: Path, content: dict, message: str):
    with pytest.raises(UserError, match=message):
        squad.read_file(write(tmp_path / "d.json", content))


def test_files_that_are_not_json_are_refused(tmp_path: Path):
    (tmp_path / "d.json").write_text('{"data":\n]')
    with pytest.raises(UserError, match=r"d.json:2: not JSON"):
        squad.read_file(tmp_path / "d.json")


def test_subjqa(tmp_path: Path):
    rows = [
        {"question": "How?", "context": "It is good.", "answer": "good", "answer_start": 6},
        {"question": "Why?", "context": "It is good.", "answer": None, "answer_start": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = SubjQa(train=("a.jsonl", "a.jsonl"), dev=("a.jsonl",), test={"test": "a.jsonl"})
    splits = subjqa.read(config, tmp_path)
    assert [len(part) for part in splits.splits().values()] == [4, 2, 2]
    assert [question.target for question in splits.dev] == [AnswerSpan("good", 6), None]
    for wrong, message in (
        ({"answer": None}, "must both be null"),
        ({"context": None}, "must not be null"),
        ({"question": 1}, "is int, not text"),
        ({"answer_start": -3}, "answer_start: expected a number of characters from 0 on, not -3"),
        ({"answer_start": True}, "answer_start: expected a number of characters from 0 on, not True"),
        ({"id": {}}, "the id is dict; expected a string or an integer"),
    ):
        (tmp_path / "b.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[0] | wrong))
        with pytest.raises(UserError, match=f"b.jsonl:2: .*{message}"):
            subjqa.read_file(tmp_path / "b.jsonl")


def test_a_folder_in_the_hubs_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    row = {"id": "q", "title": "t", "context": PASSAGE, "question": "Where?"}
    rows = [
        row | {"answers": {"text": ["Rome"], "answer_start": [15]}},
        row | {"answers": {"text": [], "answer_start": []}},
    ]
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("train", "validation", "test"):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = squad.read_hub(PassageQuestionHub(path="mine"), tmp_path)
    assert [len(part) for part in splits.splits().values()] == [2, 2, 2]
    assert [question.target for question in splits.train] == [AnswerSpan("Rome", 15), None]


def test_repeated_ids_are_refused(tmp_path: Path):
    given = document()
    entries = given["data"][0]["paragraphs"][0]["qas"]
    entries += [entries[0] | {"id": "r"}, entries[0] | {"question": "Where not?"}]
    with pytest.raises(UserError, match=r"d.json: 2 questions have the id 'q'; ids must be unique"):
        squad.read_file(write(tmp_path / "d.json", given))
    entries[2]["id"] = None
    assert len({question.id for question in squad.read_file(write(tmp_path / "d.json", given))}) == 3, "null is no name"
    row = {"id": "same", "question": "How?", "context": "It is good.", "answer": "good", "answer_start": 6}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [row, row | {"answer": "is", "answer_start": 3}, row])))
    names = unique_ids(question.id for question in subjqa.read_file(tmp_path / "a.jsonl"))
    assert names == ["same", "same#2", "same#3"], "SubjQA's annotators share an id; none is lost"
    assert unique_ids(["a", "a#2", "a", "a"]) == ["a", "a#2", "a#3", "a#4"]


def test_rows_of_the_hub_are_checked_as_files_are():
    row = {"id": "q", "question": "Where?", "context": PASSAGE}
    for answers, message in (
        ({"text": ["Rome"], "answer_start": []}, "two lists of equal length"),
        ({"text": "Rome", "answer_start": [1, 2, 3, 4]}, "two lists of equal length"),
        ({"text": ["Rome"], "answer_start": [-1]}, r"answers\[0\].answer_start: .* not -1"),
    ):
        with pytest.raises(UserError, match=f"here, row 3.*{message}"):
            squad._row(row | {"answers": answers}, "here, row 3", 3)


EMOJI = "😀 Zoë met Bob 😀😀 in Köln, 한국. Then Bob left."
COUNTED = {
    "UTF-16 units": lambda text: len(text.encode("utf-16-le")) // 2,
    "bytes of UTF-8": lambda text: len(text.encode()),
    "characters of the decomposed text (NFD)": lambda text: len(unicodedata.normalize("NFD", text)),
    "characters from 1 on": lambda text: len(text) + 1,
}


@pytest.mark.parametrize("rule", COUNTED)
def test_places_counted_by_another_rule_are_converted(rule: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Whatever a file counts throughout, its answers stand in the end; the message names the file and the rule."""
    words = ["Zoë", "Bob", "Köln", "한국", "left"]
    places = [COUNTED[rule](EMOJI[: EMOJI.index(word)]) for word in words]
    given = document(answers=[{"text": w, "answer_start": p} for w, p in zip(words, places, strict=True)])
    given["data"][0]["paragraphs"][0]["context"] = EMOJI
    (question,) = squad.read_file(write(tmp_path / "d.json", given))
    assert [(answer.text, answer.start) for answer in question.answers] == [(word, EMOJI.index(word)) for word in words]
    message = capfd.readouterr().err
    assert f"d.json: answer_start counts {rule}; converted" in message
    assert message.count("\n") == 1
    rows = [
        {"question": "?", "context": EMOJI, "answer": w, "answer_start": p} for w, p in zip(words, places, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [question.answers[0].start for question in subjqa.read_file(tmp_path / "a.jsonl")] == [
        EMOJI.index(w) for w in words
    ]


def test_places_counted_in_the_composed_text_are_converted(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The passage is decomposed, the answers and their places are not: each answer gets the passage's spelling."""
    given = document(answers=[{"text": word, "answer_start": EMOJI.index(word)} for word in ("Köln", "한국", "left")])
    given["data"][0]["paragraphs"][0]["context"] = passage = unicodedata.normalize("NFD", EMOJI)
    (question,) = squad.read_file(write(tmp_path / "d.json", given))
    assert [answer.text for answer in question.answers] == [
        unicodedata.normalize("NFD", w) for w in ("Köln", "한국", "left")
    ]
    assert all(passage.startswith(answer.text, answer.start) for answer in question.answers)
    assert "counts characters of the composed text (NFC)" in capfd.readouterr().err


def test_what_no_rule_explains_stays_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Right places are not touched, and a rule that would lose right ones for a wrong one is none."""
    words = ["Zoë", "Bob", "Köln", "left"]
    right = [{"text": word, "answer_start": EMOJI.index(word)} for word in words]
    for answers in (
        right,
        [*right, {"text": "Köln", "answer_start": EMOJI.index("Köln") + 3}],
        [*right, right[0] | {"text": "x"}],
    ):
        given = document(answers=answers)
        given["data"][0]["paragraphs"][0]["context"] = EMOJI
        (question,) = squad.read_file(write(tmp_path / "d.json", given))
        assert [(answer.text, answer.start) for answer in question.answers] == [
            (a["text"], a["answer_start"]) for a in answers
        ]
    assert capfd.readouterr().err == ""


def official(gold: list[list[str]], answers: list[str], no_answer: list[float]) -> dict[str, float]:
    """What evaluate-v2.0.py computes (Rajpurkar, Jia & Liang 2018), written from its get_raw_scores and
    find_best_thresh: whether there is an answer is asked of the file, only then are answers normalized."""
    has = [bool(texts) for texts in gold]
    scores = [
        max(exact(text, answer) for text in [t for t in texts if normalize(t)] or [""])
        for texts, answer in zip(gold, answers, strict=True)
    ]
    now = best = has.count(False)
    threshold = 0.0
    for n in sorted(range(len(gold)), key=lambda n: no_answer[n]):
        now += scores[n] if has[n] else -1 if answers[n] else 0
        if now > best:
            best, threshold = now, no_answer[n]
    result = {"best_exact": 100.0 * best / len(gold), "best_exact_thresh": threshold}
    for name, kind in (("HasAns", True), ("NoAns", False)):
        part = [score for score, flag in zip(scores, has, strict=True) if flag == kind]
        result |= {f"{name}_exact": 100.0 * sum(part) / len(part), f"{name}_total": len(part)}
    return result


@pytest.mark.parametrize("seed", range(5))
def test_a_gold_answer_without_a_word_is_an_answer(seed: int):
    """ "The" is nothing when normalized, and an answer all the same, as in the official program."""
    draw = random.Random(seed)
    gold = [["The"], ["the", "an"], [], ["cat"], ["!"], *([draw.choice(["The", "cat", "?"])] for _ in range(9)), []]
    answers = [draw.choice(["", "The", "cat", "dog"]) for _ in gold]
    no_answer = [draw.uniform(-1, 1) for _ in gold]
    scores = squad_scores(gold, answers) | best_by_threshold(gold, answers, no_answer)
    right = official(gold, answers, no_answer)
    assert {name: scores[name] for name in right} == pytest.approx(right)
    assert right["HasAns_total"] == 13


def test_windows_hold_every_token_and_overlap():
    for length in range(30):
        spans = windows(length, 7, 3)
        assert {n for start, end in spans for n in range(start, end)} == set(range(length))
        assert spans[-1][1] == length
        assert all(b[0] - a[0] == 3 for a, b in itertools.pairwise(spans))
    with pytest.raises(ValueError, match="stride 8"):
        windows(9, 7, 8)


def test_tokens_of_characters():
    offsets = [(0, 3), (4, 7), (7, 8)]
    assert tokens_of((5, 6), offsets) == (1, 1)
    assert tokens_of((3, 4), offsets) is None


def test_best_spans_are_those_of_trying_all():
    rng = np.random.default_rng(0)
    for length in (1, 2, 7):
        start, end = rng.normal(size=(2, length))
        every = [(start[i] + end[j], i, j) for i in range(length) for j in range(i, min(i + 3, length))]
        spans = best_spans(start, end, 3, 4)
        assert [span[1:] for span in spans] == [span[1:] for span in sorted(every, reverse=True)[:4]]


def test_the_sliding_window_points_near_the_words_of_the_question():
    passage = "Ann lives in Paris. Bob, a baker, was born in Rome. The town of Oslo is cold."
    assert "Rome" in lexical_baseline.predict(PassageQuestion("", "Where was Bob the baker born?", passage, ()))
    assert lexical_baseline.predict(PassageQuestion("", "Where?", "of the.", ())) == ""
