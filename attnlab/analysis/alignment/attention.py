"""Word alignment from attention: reading, layer and head, chosen on sentences for development.

A decoder that is given y_{t−1} at step t predicts y_t. The attention of a step can be read as the alignment of either:

    output step (AWO)   target token y_t takes the weights of step t, at which it is the output
    input step (AWI)    target token y_t takes the weights of step t + 1, at which it is the input ("shift-att")

Which is better must be found on data, layer by layer: in Transformers that translate real text, lower layers of the
decoder align at the input step and upper layers at the output step, the former with the lower AER; a small one on
generated dates aligns at the output step only. In a recurrent decoder attention comes before the output: output step.

Reference: Kobayashi et al. 2020, section 5 (AWO, AWI); Chen et al. 2020, section 3 (shift-att).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from attnlab.data.translation.word_alignment import Gold, Pairs, by_word
from attnlab.tasks.translation.alignment import alignment_counts, hard, pooled_score

Reading = Literal["output_step", "input_step"]
READINGS: tuple[Reading, ...] = ("output_step", "input_step")


@dataclass(frozen=True)
class Choice:
    """Which attention is read as alignment.

    Attributes:
        layer: index from 0; None is the mean over layers.
        head: index from 0; None is the mean over heads.
        reading: at which step.
    """

    layer: int | None = None
    head: int | None = None
    reading: Reading = "output_step"


@dataclass(frozen=True, eq=False)
class AttendedSentence:
    """The attention of a sentence pair, with the words that its tokens belong to and gold alignment between words.

    Attributes:
        weights: weights of all layers and heads, row t the step that predicts target token t, with the target as
            input; what stands beyond the tokens (end token and padding) is never linked.
        source_words: index of the word of each source token; `range` if tokens are words. Its length is the number of
            source tokens, without start, end or padding tokens.
        target_words: likewise for the target.
        gold: gold alignment between words.
    """

    weights: Float[np.ndarray, "l h t s"]
    source_words: Sequence[int]
    target_words: Sequence[int]
    gold: Gold


def aligned_weights(
    weights: Float[np.ndarray, "l h t s"], choice: Choice, source_length: int, target_length: int
) -> Float[np.ndarray, "j i"]:
    """Return the weights of each target token on the source tokens, without end tokens and padding.

    Args:
        weights: all layers and heads; row t belongs to the step that predicts target token t. The input step of
            the last token needs one row more than target tokens: the step that predicts the end token.
        choice: layer, head and reading.
        source_length: number of source tokens.
        target_length: number of target tokens.

    Numerics: the dtype of the weights; rows are not normalized again after the end token's column is removed.

    >>> weights = np.eye(3, dtype=np.float32)[None, None]
    >>> aligned_weights(weights, Choice(0, 0, "input_step"), source_length=3, target_length=2).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    layers, heads, rows, columns = weights.shape
    for name, index, count in (("layer", choice.layer, layers), ("head", choice.head, heads)):
        if index is not None and not 0 <= index < count:
            raise ValueError(
                f"aligned_weights: {name} {index} does not exist; the weights have {name}s 0 to {count - 1}"
            )
    first = 1 if choice.reading == "input_step" else 0
    if source_length > columns or target_length + first > rows:
        end = ", one more than target tokens: the step that predicts the end token" if first else ""
        raise ValueError(
            f"aligned_weights: weights [t s] of {rows} × {columns} are too small for {source_length} source tokens and "
            f"{target_length} target tokens; the {choice.reading} needs {target_length + first} rows{end}"
        )
    part = weights[:, :, first : first + target_length, :source_length]
    part = part.mean(axis=1) if choice.head is None else part[:, choice.head]
    return part.mean(axis=0) if choice.layer is None else part[choice.layer]


def attention_links(sentence: AttendedSentence, choice: Choice) -> Pairs:
    """Link each target token to the source token with the largest weight, and return the links between words.

    Two words are linked if any of their tokens are (see `tasks.translation.alignment.hard` for ties and rows of 0).
    """
    lengths = len(sentence.source_words), len(sentence.target_words)
    matrix = aligned_weights(sentence.weights, choice, *lengths)
    return by_word(hard(matrix, *lengths), sentence.source_words, sentence.target_words)


def attention_counts(sentences: Sequence[AttendedSentence], choice: Choice) -> Int[np.ndarray, "n 4"]:
    """Return what each sentence contributes to the AER (see `tasks.translation.alignment.alignment_counts`)."""
    links = [attention_links(sentence, choice) for sentence in sentences]
    return alignment_counts(links, [sentence.gold for sentence in sentences])


def choices(layers: int, heads: int, readings: Sequence[Reading] = READINGS) -> list[Choice]:
    """Return every layer with every head and the mean of its heads, and the mean of all, for every reading.

    >>> len(choices(layers=2, heads=2))
    14
    """
    pairs = [*product(range(layers), (None, *range(heads))), (None, None)]
    return [Choice(layer, head, reading) for reading in readings for layer, head in pairs]


def aer_of_choices(dev: Sequence[AttendedSentence], candidates: Sequence[Choice]) -> dict[Choice, float]:
    """Return the AER in percent of each choice on the sentences."""
    return {choice: pooled_score(attention_counts(dev, choice)).aer for choice in candidates}


def choose(dev: Sequence[AttendedSentence], candidates: Sequence[Choice] | None = None) -> Choice:
    """Return the choice with the lowest AER; of equal ones the first.

    The AER of the chosen one on the same sentences is too low by construction: report that of other sentences.

    Args:
        dev: sentences for development.
        candidates: the choices; None is `choices` of all layers and heads.

    >>> weights = np.stack([np.eye(2), np.eye(2)[::-1]])[None].astype(np.float32)
    >>> gold = Gold(sure=frozenset({(0, 0), (1, 1)}), possible=frozenset({(0, 0), (1, 1)}))
    >>> choose([AttendedSentence(weights, range(2), range(2), gold)], choices(1, 2, ("output_step",)))
    Choice(layer=0, head=0, reading='output_step')
    """
    if not dev:
        raise ValueError("choose: no sentences; pass at least one with gold alignment")
    if candidates is None:
        candidates = choices(*dev[0].weights.shape[:2])
    if not candidates:
        raise ValueError("choose: no candidates; pass at least one Choice, or None for all")
    scores = aer_of_choices(dev, candidates)
    return min(scores, key=scores.__getitem__)
