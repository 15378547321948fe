"""Hypotheses of greedy and beam search, as text with their attention; for translation and captioning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attnlab.config import Decoding
from attnlab.config.errors import UserError
from attnlab.config.text import WIDEST_BEAM
from attnlab.training.decoding import Hypotheses

START, END = "⟨start⟩", "⟨end⟩"
"""Labels of the start and the end token in attention maps."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A generated text.

    Attributes:
        text: the decoded tokens.
        tokens: token numbers, without the end token.
        score: log-probability divided by the length penalty.
        weights: [tokens + 1, sources] attention when each token was generated, the end token last, over the tokens of
            a source text and its end token, or over the cells of an image.
    """

    text: str
    tokens: list[int]
    score: float
    weights: np.ndarray


def hypotheses_of_row(
    batch: Hypotheses, row: int, decode: Callable[[list[int]], str], source_length: int
) -> list[Hypothesis]:
    """Return the hypotheses of one row of a batch, best first.

    Args:
        batch: result of the search.
        row: index in the batch.
        decode: token numbers -> text.
        source_length: source positions, padding not counted.
    """
    hypotheses: list[Hypothesis] = []
    for n in range(batch.tokens.shape[1]):
        if n > 0 and not np.isfinite(batch.scores[row, n]):
            break  # the search returned fewer hypotheses
        length = int(batch.lengths[row, n])
        tokens = batch.tokens[row, n, :length].tolist()
        weights = np.asarray(batch.weights)[row, n, : length + 1, :source_length]
        hypotheses.append(Hypothesis(decode(tokens), tokens, float(batch.scores[row, n]), weights))
    return hypotheses


def with_n_best(decoding: Decoding, n_best: int | None) -> Decoding:
    """Replace the number of hypotheses, and widen a narrower beam to it; None changes nothing."""
    if n_best is None:
        return decoding
    if not 1 <= n_best <= WIDEST_BEAM:
        raise UserError(f"--n-best {n_best}: must be between 1 and {WIDEST_BEAM}, the widest beam")
    return decoding.replace(n_best=n_best, beam=max(decoding.beam, n_best))


def output_lines(
    number: int, hypotheses: Sequence[Hypothesis], n_best: int, alignments: Sequence[str] | None = None
) -> Iterator[str]:
    """Yield the best text, or exactly `n_best` lines in the format of Moses: `line number ||| text ||| score`.

    If there are fewer hypotheses (none for an empty line), lines with an empty text and the score -inf follow, so that
    the output of line i is always lines n_best * i to n_best * (i + 1) - 1.

    Args:
        number: number of the line.
        hypotheses: best first.
        n_best: number of lines.
        alignments: the last field of each line, after `|||` as Marian, OpenNMT and Moses write it; None for no such
            field.

    >>> list(output_lines(3, [Hypothesis("a b", [5, 6], -0.5, np.ones((3, 1)))], 2))
    ['3 ||| a b ||| -0.5000', '3 |||  ||| -inf']
    >>> list(output_lines(3, [Hypothesis("a b", [5, 6], -0.5, np.ones((3, 1)))], 1, ["0-1 1-0"]))
    ['a b ||| 0-1 1-0']
    """
    if n_best == 1:
        lines = [hypotheses[0].text if hypotheses else ""]
    else:
        lines = [f"{number} ||| {hypothesis.text} ||| {hypothesis.score:.4f}" for hypothesis in hypotheses]
        lines += [f"{number} |||  ||| -inf"] * (n_best - len(lines))
    if alignments is None:
        yield from lines
    else:
        last = [*alignments, *[""] * (len(lines) - len(alignments))]
        yield from (f"{line} ||| {alignment}" for line, alignment in zip(lines, last, strict=True))


def padded_length(tokens: int, max_positions: int | None, what: str) -> int:
    """Round a number of tokens up to a multiple of 16, so that few shapes are compiled, but at most to `max_positions`.

    Args:
        tokens: number of tokens, including start and end.
        max_positions: number of positions of the model; None for no limit.
        what: name of the text, for the error message.
    Raises: `UserError` if the model has fewer than `tokens` positions.
    """
    width = -(-tokens // 16) * 16
    if max_positions is None:
        return width
    if tokens > max_positions:
        raise UserError(f"{what} has {tokens} tokens, and the learned positions hold {max_positions} (max_length)")
    return min(width, max_positions)
