"""The JSON of SQuAD 1.1 and 2.0, and data sets of the Hugging Face hub with SQuAD's columns.

Beside each `answer_start` a file may have `span`: where it is `heuristic` the start was guessed, and an answer whose
start is `official` or `unique` is preferred as what a model is trained on (`Question.target`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import PassageQuestionHub, SquadJson
from attnlab.config.json_text import parse
from attnlab.data import hub
from attnlab.data.extractive_qa.offsets import to_character_offsets
from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion, parse_answer, parse_id, refuse_repeated_ids
from attnlab.data.records import Splits
from attnlab.data.text.lines import find, read_bytes

GUESSED = "heuristic"
SPANS = (None, "official", "unique", GUESSED)


def read(config: SquadJson, data_dir: Path) -> Splits[PassageQuestion]:
    """Read all splits."""
    test = {name: read_file(find(data_dir, path)) for name, path in config.test.items()}
    return Splits(read_file(find(data_dir, config.train)), read_file(find(data_dir, config.dev)), test)


def read_file(path: Path) -> tuple[PassageQuestion, ...]:
    """Read one file, plain or gzip; mistakes are told with their place, such as data[0].paragraphs[2].qas[1]."""
    questions = tuple(_questions(_json(path), path))
    if not questions:
        raise UserError(f"{path}: no question in it; expected data[].paragraphs[].qas[] as SQuAD has them")
    refuse_repeated_ids(questions, str(path))
    return to_character_offsets(questions, str(path))


def read_hub(config: PassageQuestionHub, data_dir: Path | None) -> Splits[PassageQuestion]:
    """Read a data set with the columns id, context, question and answers {text, answer_start}."""

    def split(name: str) -> tuple[PassageQuestion, ...]:
        rows, where = hub.rows(config, name, data_dir)
        found = tuple(_row(row, f"{where}, row {number}", number) for number, row in enumerate(rows, start=1))
        if not found:
            raise UserError(f"{where}: no rows; expected one question a row")
        return to_character_offsets(found, where)

    return Splits(split(config.train), split(config.dev), {name: split(part) for name, part in config.test.items()})


def _questions(document: Any, path: Path) -> Iterator[PassageQuestion]:
    for a, article in enumerate(_list(document, "data", f"{path}")):
        in_article = f"{path}: data[{a}]"
        for p, paragraph in enumerate(_list(article, "paragraphs", in_article)):
            in_paragraph = f"{in_article}.paragraphs[{p}]"
            passage = _text(paragraph, "context", in_paragraph)
            for q, entry in enumerate(_list(paragraph, "qas", in_paragraph)):
                where = f"{in_paragraph}.qas[{q}]"
                question = _text(entry, "question", where)
                yield PassageQuestion(parse_id(entry.get("id"), where), question, passage, _answers(entry, where))


def _answers(entry: dict[str, Any], where: str) -> tuple[AnswerSpan, ...]:
    none = entry.get("is_impossible")
    if not (none is None or isinstance(none, bool)):
        raise UserError(f"{where}.is_impossible: is {repr(none)[:60]}; expected true or false, without quotation marks")
    given = [] if none and entry.get("answers") is None else _list(entry, "answers", where)
    if none and given:
        raise UserError(
            f"{where}: is_impossible is true beside {len(given)} answers; an answer that only seems right belongs in "
            "plausible_answers"
        )
    return tuple(_answer(one, f"{where}.answers[{n}]") for n, one in enumerate(given))


def _answer(given: Any, where: str) -> AnswerSpan:
    text = _text(given, "text", where)
    start, span = given.get("answer_start"), given.get("span")
    if span not in SPANS:
        raise UserError(
            f"{where}.span: {repr(span)[:40]}; valid: {', '.join(str(s) for s in SPANS if s)}, or none given"
        )
    return parse_answer(text, start, f"{where}.", span != GUESSED)


def _row(row: Any, where: str, number: int) -> PassageQuestion:
    question, passage = _text(row, "question", where), _text(row, "context", where)
    answers = row.get("answers")
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= set(answers):
        raise UserError(f"{where}: column 'answers' should hold the lists text and answer_start")
    texts, starts = answers["text"], answers["answer_start"]
    if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
        raise UserError(f"{where}: column 'answers' should hold two lists of one length, text and answer_start")
    pairs = enumerate(zip(texts, starts, strict=True))
    found = tuple(parse_answer(text, start, f"{where}, answers[{n}].") for n, (text, start) in pairs)
    return PassageQuestion(parse_id(row.get("id"), str(number)), question, passage, found)


def _list(section: Any, name: str, where: str) -> list[Any]:
    found = section.get(name) if isinstance(section, dict) else None
    if not isinstance(found, list):
        what = "is missing" if found is None else f"is {type(found).__name__}, not a list"
        raise UserError(f"{where}.{name}: {what}; expected data[].paragraphs[].qas[].answers[] as SQuAD has them")
    return found


def _text(section: Any, name: str, where: str) -> str:
    found = section.get(name) if isinstance(section, dict) else None
    if not isinstance(found, str):
        what = "is missing" if found is None else f"is {type(found).__name__}, not text"
        raise UserError(f"{where}.{name}: {what}")
    return found


def _json(path: Path) -> Any:
    content = read_bytes(path)
    try:
        return parse(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} (0x{content[error.start]:02x}) is not UTF-8") from error
