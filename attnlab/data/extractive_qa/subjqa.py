"""Read SubjQA: JSON lines with `question`, `context`, `answer` and `answer_start`; null answers are unanswerable."""

from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import SubjQa
from attnlab.config.json_text import parse
from attnlab.data.extractive_qa.offsets import to_character_offsets
from attnlab.data.extractive_qa.records import PassageQuestion, parse_answer, parse_id
from attnlab.data.records import Splits
from attnlab.data.text.lines import find, read_lines


def read(config: SubjQa, data_dir: Path) -> Splits[PassageQuestion]:
    """Read all splits; a split may have several files."""

    def split(names: tuple[str, ...]) -> tuple[PassageQuestion, ...]:
        return tuple(question for name in names for question in read_file(find(data_dir, name)))

    return Splits(split(config.train), split(config.dev), {name: split((path,)) for name, path in config.test.items()})


def read_file(path: Path) -> tuple[PassageQuestion, ...]:
    """Read a file, plain or gzip."""
    lines = enumerate(read_lines(path), start=1)
    return to_character_offsets([_question(line, f"{path}:{number}") for number, line in lines], str(path))


def _question(line: str, where: str) -> PassageQuestion:
    row = parse(line, where)
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with question, context, answer and answer_start")
    question, passage = (_field(row, name, str, where) for name in ("question", "context"))
    answer, start = (_field(row, name, kind, where) for name, kind in (("answer", str), ("answer_start", int)))
    if (answer is None) != (start is None):
        raise UserError(f"{where}: answer and answer_start must both be null, or neither")
    if question is None or passage is None:
        raise UserError(f"{where}: question and context must not be null")
    answers = () if answer is None else (parse_answer(answer, start, f"{where}: "),)
    return PassageQuestion(parse_id(row.get("id"), where), question, passage, answers)


def _field(row: dict[str, Any], name: str, kind: type, where: str) -> Any:
    if name not in row:
        raise UserError(f"{where}: no {name!r}; expected question, context, answer and answer_start")
    value = row[name]
    if value is not None and not isinstance(value, kind):
        raise UserError(f"{where}: {name!r} is {type(value).__name__}, not {'text' if kind is str else 'a number'}")
    return value
