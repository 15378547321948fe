"""What a search wrote, word by word and with its attention: hypotheses of translation and of captioning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attnlab.config import Decoding
from attnlab.config.errors import UserError
from attnlab.config.text import WIDEST_BEAM
from attnlab.training.decoding import Hypotheses


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One text: `weights[i]` is the attention over what was given (a source with its end token, the cells of an image)
    when token i was written, the end token last."""

    text: str
    tokens: list[int]
    score: float
    weights: np.ndarray


def from_search(found: Hypotheses, row: int, decode: Callable[[list[int]], str], given: int) -> list[Hypothesis]:
    """Take what a search found for one row of a batch, best first.

    Args:
        decode: makes the text of tokens.
        given: positions of what was given, padding not counted.
    """
    best: list[Hypothesis] = []
    for n in range(found.tokens.shape[1]):
        if n > 0 and not np.isfinite(found.scores[row, n]):
            break  # the search found fewer
        length = int(found.lengths[row, n])
        tokens = found.tokens[row, n, :length].tolist()
        weights = np.asarray(found.weights)[row, n, : length + 1, :given]
        best.append(Hypothesis(decode(tokens), tokens, float(found.scores[row, n]), weights))
    return best


def asked_for(decoding: Decoding, n_best: int | None) -> Decoding:
    """Change how many hypotheses are wanted; None leaves it as the config says. A narrower beam is widened to them."""
    if n_best is None:
        return decoding
    if not 1 <= n_best <= WIDEST_BEAM:
        raise UserError(f"--n-best {n_best}: must be between 1 and {WIDEST_BEAM}, the widest beam")
    return decoding.replace(n_best=n_best, beam=max(decoding.beam, n_best))


def lines(number: int, found: Sequence[Hypothesis], n_best: int) -> Iterator[str]:
    """Write the best text, or exactly `n_best` as Moses does: `line number ||| text ||| score`.

    Where fewer were found (none for an empty line), empty texts of score -inf fill the number up, so that line i in
    is always lines n_best * i to n_best * (i + 1) - 1 out.

    >>> list(lines(3, [Hypothesis("a b", [5, 6], -0.5, np.ones((3, 1)))], 2))
    ['3 ||| a b ||| -0.5000', '3 |||  ||| -inf']
    """
    if n_best == 1:
        yield found[0].text if found else ""
    else:
        written = [f"{number} ||| {one.text} ||| {one.score:.4f}" for one in found]
        yield from written + [f"{number} |||  ||| -inf"] * (n_best - len(written))


def fitting(tokens: int, longest: int | None, what: str) -> int:
    """Round a number of tokens up to a multiple of 16, so that few shapes are compiled, but at most to `longest`.

    Args:
        tokens: number of tokens needed, including start and end.
        longest: number of positions of the model; None for no limit.
        what: name of the text, for the error message.
    Raises: `UserError` if the model has fewer than `tokens` positions.
    """
    width = -(-tokens // 16) * 16
    if longest is None:
        return width
    if tokens > longest:
        raise UserError(f"{what} has {tokens} tokens, and the learned positions hold {longest} (max_length)")
    return min(width, longest)
