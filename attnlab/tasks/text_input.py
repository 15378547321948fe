"""Lines of text as input of a task: parsing, words that the vocabulary lacks."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from attnlab.config.errors import UserError
from attnlab.data.text.tokenizer import Tokenizer

Example = TypeVar("Example")


def parse_lines(lines: Sequence[str], first: int, parse: Callable[[str], Example]) -> list[Example | None]:
    """Parse each line; an empty line is None.

    Args:
        lines: lines of input.
        first: number of the first line, counted from 0.
        parse: text of a line -> example; may raise `UserError`.
    Raises:
        UserError: of `parse`, with the number of the line, counted from 1.

    >>> parse_lines(["7", " "], 0, int)
    [7, None]
    """
    examples: list[Example | None] = []
    for number, line in enumerate(lines, start=first + 1):
        try:
            examples.append(parse(line) if line.strip() else None)
        except UserError as error:
            raise UserError(f"line {number}: {error}") from error
    return examples


def predictions_by_line(examples: Iterable[object], predictions: Iterable[str]) -> Iterable[str]:
    """Yield the prediction of each line; that of an empty line is empty.

    Args:
        examples: as `parse_lines` returns them.
        predictions: of the examples that are not None, in order.

    >>> list(predictions_by_line([7, None, 8], ["a", "b"]))
    ['a', '', 'b']
    """
    remaining = iter(predictions)
    for example in examples:
        yield "" if example is None else next(remaining)


def words_not_in(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Return the words of texts that a tokenizer's vocabulary lacks, each once."""
    return list(
        dict.fromkeys(word for encoding in tokenizer.encode_batch(list(texts)) for word in encoding.unknown_words)
    )
