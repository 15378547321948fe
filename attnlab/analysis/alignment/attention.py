"""Word alignment from attention: layer, head, reading and quantity, chosen on sentences for development.

A decoder that is given y_{t−1} at step t predicts y_t. The attention of a step can be read as the alignment of either:

    output step (AWO)   target token y_t takes the weights of step t, at which it is the output
    input step (AWI)    target token y_t takes the weights of step t + 1, at which it is the input ("shift-att")

Which is better must be found on data, layer by layer: in Transformers that translate real text, lower layers of the
decoder align at the input step and upper layers at the output step, the former with the lower AER; a small one on
generated dates aligns at the output step only. In a recurrent decoder attention comes before the output: output step.

The quantity that is read is the weights, or the norms of the vectors that they weight (see `norms`).

Reference: Kobayashi et al. 2020, section 5 (AWO, AWI; weights and norms); Chen et al. 2020, section 3 (shift-att).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attnlab.analysis.alignment.norms import SourceNorms, source_norms
from attnlab.data.translation.word_alignment import Gold, Pairs, by_word
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.translation.alignment import alignment_counts, hard, pooled_score

Reading = Literal["output_step", "input_step"]
READINGS: tuple[Reading, ...] = ("output_step", "input_step")
Quantity = Literal["weights", "norms"]
QUANTITIES: tuple[Quantity, ...] = ("weights", "norms")


@dataclass(frozen=True)
class Choice:
    """Which attention is read as alignment.

    Attributes:
        layer: name of the layer (`LayerAttention.name`); None is the mean over layers.
        head: number of the head, from 1; None is the mean over heads, or the norm of the sum over heads.
        reading: at which step.
        quantity: the weights, or the norms of the weighted vectors.
    """

    layer: str | None = None
    head: int | None = None
    reading: Reading = "output_step"
    quantity: Quantity = "weights"


class AttentionStack(NamedTuple):
    """The attention of all layers of a decoder to its source, for one sentence pair."""

    layers: tuple[str, ...]
    """Names of the layers."""
    weights: Float[np.ndarray, "l h t s"]
    """Row t is the step that predicts target token t, with the target as input."""
    norms: SourceNorms | None = None
    """None if they were not captured."""

    def cut(self, rows: int, columns: int) -> "AttentionStack":
        """Return the first rows and columns, without padding."""
        arrays = (self.weights, *(self.norms or ()))
        weights, *norms = (np.ascontiguousarray(array[..., :rows, :columns]) for array in arrays)
        return AttentionStack(self.layers, weights, SourceNorms(*norms) if norms else None)

    def of(self, choice: Choice) -> Float[np.ndarray, "l t s"]:
        """Return the quantity of a choice in every layer: of its head, or of all heads together."""
        heads, together = self.weights, None
        if choice.quantity == "norms":
            if self.norms is None:
                raise ValueError("norms of attention were not captured: pass records with details")
            heads, together = self.norms
        if choice.head is not None:
            return heads[:, choice.head - 1]
        return heads.mean(axis=1) if together is None else together


def cross_attention(records: Iterable[LayerAttention]) -> list[AttentionStack]:
    """Return the attention of a decoder to its source for each example of a batch, from what the model recorded.

    Args:
        records: what `capture.apply_with_attention` returned; those of kind `cross` or `decoder` are taken. Captured
            with details they give the norms too, unless a layer does not average values.

    Raises:
        ValueError: there is no such layer, or the numbers of heads differ.

    >>> from attnlab.layers.layer_attention import layer_attention
    >>> (stack,) = cross_attention([layer_attention("cross", "decoder", 1, np.ones((1, 2, 3, 4)))])
    >>> stack.layers, stack.weights.shape
    (('decoder/layer_1/cross_attention',), (1, 2, 3, 4))
    """
    found = [record for record in records if record.kind in ("cross", "decoder")]
    shapes = {np.shape(record.weights) for record in found}
    if len(shapes) != 1:
        given = ", ".join(f"{record.name} {np.shape(record.weights)}" for record in found) or "none"
        raise ValueError(f"cross_attention: layers that attend to a source must be equal in size, here {given}")
    stacked = np.stack([np.asarray(record.weights) for record in found], axis=1)
    layers, norms = tuple(record.name for record in found), source_norms(found)
    return [AttentionStack(layers, weights, norms[index] if norms else None) for index, weights in enumerate(stacked)]


@dataclass(frozen=True, eq=False)
class AttendedSentence:
    """The attention of a sentence pair, with the words that its tokens belong to and gold alignment between words.

    Attributes:
        attention: weights of all layers and heads; what stands beyond the tokens (end token and padding) is never
            linked.
        source_words: index of the word of each source token; `range` if tokens are words. Its length is the number of
            source tokens, without start, end or padding tokens.
        target_words: likewise for the target.
        gold: gold alignment between words.
    """

    attention: AttentionStack
    source_words: Sequence[int]
    target_words: Sequence[int]
    gold: Gold


def aligned_weights(
    attention: AttentionStack, choice: Choice, source_length: int, target_length: int
) -> Float[np.ndarray, "j i"]:
    """Return the weights (or norms) of each target token on the source tokens, without end tokens and padding.

    Args:
        attention: all layers and heads. The input step of the last token needs one row more than target tokens: the
            step that predicts the end token.
        choice: layer, head, reading and quantity.
        source_length: number of source tokens.
        target_length: number of target tokens.

    Numerics: the dtype of the weights; rows are not normalized again after the end token's column is removed.

    >>> attention = AttentionStack(("decoder/decoder_attention",), np.eye(3, dtype=np.float32)[None, None])
    >>> aligned_weights(attention, Choice(reading="input_step"), source_length=3, target_length=2).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    _, heads, rows, columns = attention.weights.shape
    if choice.layer is not None and choice.layer not in attention.layers:
        raise ValueError(f"aligned_weights: no layer {choice.layer!r}; the layers are {', '.join(attention.layers)}")
    if choice.head is not None and not 1 <= choice.head <= heads:
        raise ValueError(f"aligned_weights: no head {choice.head}; the heads are 1 to {heads}")
    first = 1 if choice.reading == "input_step" else 0
    if source_length > columns or target_length + first > rows:
        end = ", one more than target tokens: the step that predicts the end token" if first else ""
        raise ValueError(
            f"aligned_weights: weights [t s] of {rows} × {columns} are too small for {source_length} source tokens and "
            f"{target_length} target tokens; the {choice.reading} needs {target_length + first} rows{end}"
        )
    part = attention.of(choice)[:, first : first + target_length, :source_length]
    return part.mean(axis=0) if choice.layer is None else part[attention.layers.index(choice.layer)]


def attention_links(sentence: AttendedSentence, choice: Choice) -> Pairs:
    """Link each target token to the source token with the largest weight or norm, and return the links between words.

    Two words are linked if any of their tokens are (see `tasks.translation.alignment.hard` for ties and rows of 0).
    """
    lengths = len(sentence.source_words), len(sentence.target_words)
    matrix = aligned_weights(sentence.attention, choice, *lengths)
    return by_word(hard(matrix, *lengths), sentence.source_words, sentence.target_words)


def attention_counts(sentences: Sequence[AttendedSentence], choice: Choice) -> Int[np.ndarray, "n 4"]:
    """Return what each sentence contributes to the AER (see `tasks.translation.alignment.alignment_counts`)."""
    links = [attention_links(sentence, choice) for sentence in sentences]
    return alignment_counts(links, [sentence.gold for sentence in sentences])


def choices(attention: AttentionStack, readings: Sequence[Reading] = READINGS) -> list[Choice]:
    """Return every layer with every head and the mean of its heads, and the mean of all, for every reading.

    All of them again for the norms, if they were captured. A mean of one head or one layer stands for it.

    >>> len(choices(AttentionStack(("a", "b"), np.zeros((2, 2, 1, 1)))))
    14
    """
    count = attention.weights.shape[1]
    heads = (None, *range(1, count + 1)) if count > 1 else (None,)
    means = [(None, None)] if len(attention.layers) > 1 else []
    pairs = [*product(attention.layers, heads), *means]
    quantities = QUANTITIES if attention.norms else QUANTITIES[:1]
    return [
        Choice(layer, head, reading, quantity)
        for quantity, reading, (layer, head) in product(quantities, readings, pairs)
    ]


def aer_of_choices(dev: Sequence[AttendedSentence], candidates: Sequence[Choice]) -> dict[Choice, float]:
    """Return the AER in percent of each choice on the sentences."""
    return {choice: pooled_score(attention_counts(dev, choice)).aer for choice in candidates}


def choose(dev: Sequence[AttendedSentence], candidates: Sequence[Choice] | None = None) -> Choice:
    """Return the choice with the lowest AER; of equal ones the first.

    The AER of the chosen one on the same sentences is too low by construction: report that of other sentences.

    Args:
        dev: sentences for development.
        candidates: the choices; None is `choices` of all layers and heads.

    >>> weights = np.stack([np.eye(2)[::-1], np.eye(2)])[None].astype(np.float32)
    >>> attention = AttentionStack(("decoder/layer_1/cross_attention",), weights)
    >>> gold = Gold(sure=frozenset({(0, 0), (1, 1)}), possible=frozenset({(0, 0), (1, 1)}))
    >>> choose([AttendedSentence(attention, range(2), range(2), gold)], choices(attention, ("output_step",)))
    Choice(layer='decoder/layer_1/cross_attention', head=2, reading='output_step', quantity='weights')
    """
    if not dev:
        raise ValueError("choose: no sentences; pass at least one with gold alignment")
    if candidates is None:
        candidates = choices(dev[0].attention)
    if not candidates:
        raise ValueError("choose: no candidates; pass at least one Choice, or None for all")
    scores = aer_of_choices(dev, candidates)
    return min(scores, key=scores.__getitem__)
