"""Read the JSON files of SQuAD 1.1 and 2.0, and datasets of the Hugging Face hub with the columns of SQuAD.

An answer may have the field `span`: `heuristic` means that its start was guessed, and answers with `official` or
`unique` are preferred for training (`PassageQuestion.target`).
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
    """Read a file, plain or gzip; errors name the place of a mistake, such as data[0].paragraphs[2].qas[1]."""
    questions = tuple(_questions(_json(path), path))
    if not questions:
        raise UserError(f"{path}: no questions; expected data[].paragraphs[].qas[] as in SQuAD")
    refuse_repeated_ids(questions, str(path))
    return to_character_offsets(questions, str(path))


def read_hub(config: PassageQuestionHub, data_dir: Path | None) -> Splits[PassageQuestion]:
    """Read a dataset with the columns id, context, question and answers {text, answer_start}."""

    def split(name: str) -> tuple[PassageQuestion, ...]:
        rows, where = hub.rows(config, name, data_dir)
        questions = tuple(_row(row, f"{where}, row {number}", number) for number, row in enumerate(rows, start=1))
        if not questions:
            raise UserError(f"{where}: no rows; expected one question per row")
        return to_character_offsets(questions, where)

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
    impossible = entry.get("is_impossible")
    if not (impossible is None or isinstance(impossible, bool)):
        raise UserError(f"{where}.is_impossible: is {repr(impossible)[:60]}; expected true or false, without quotes")
    answers = [] if impossible and entry.get("answers") is None else _list(entry, "answers", where)
    if impossible and answers:
        raise UserError(
            f"{where}: is_impossible is true, but there are {len(answers)} answers; answers that only seem correct "
            "belong in plausible_answers"
        )
    return tuple(_answer(answer, f"{where}.answers[{n}]") for n, answer in enumerate(answers))


def _answer(answer: Any, where: str) -> AnswerSpan:
    text = _text(answer, "text", where)
    start, span = answer.get("answer_start"), answer.get("span")
    if span not in SPANS:
        raise UserError(f"{where}.span: {repr(span)[:40]}; valid: {', '.join(str(s) for s in SPANS if s)}, or no span")
    return parse_answer(text, start, f"{where}.", span != GUESSED)


def _row(row: Any, where: str, number: int) -> PassageQuestion:
    question, passage = _text(row, "question", where), _text(row, "context", where)
    answers = row.get("answers")
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= set(answers):
        raise UserError(f"{where}: column 'answers' must contain the lists text and answer_start")
    texts, starts = answers["text"], answers["answer_start"]
    if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
        raise UserError(f"{where}: column 'answers' must contain two lists of equal length, text and answer_start")
    pairs = enumerate(zip(texts, starts, strict=True))
    parsed = tuple(parse_answer(text, start, f"{where}, answers[{n}].") for n, (text, start) in pairs)
    return PassageQuestion(parse_id(row.get("id"), str(number)), question, passage, parsed)


def _list(section: Any, name: str, where: str) -> list[Any]:
    value = section.get(name) if isinstance(section, dict) else None
    if not isinstance(value, list):
        problem = "is missing" if value is None else f"is {type(value).__name__}, not a list"
        raise UserError(f"{where}.{name}: {problem}; expected data[].paragraphs[].qas[].answers[] as in SQuAD")
    return value


def _text(section: Any, name: str, where: str) -> str:
    value = section.get(name) if isinstance(section, dict) else None
    if not isinstance(value, str):
        problem = "is missing" if value is None else f"is {type(value).__name__}, not text"
        raise UserError(f"{where}.{name}: {problem}")
    return value


def _json(path: Path) -> Any:
    content = read_bytes(path)
    try:
        return parse(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} (0x{content[error.start]:02x}) is not UTF-8") from error
