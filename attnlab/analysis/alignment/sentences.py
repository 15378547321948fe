"""The attention of a translation model to sentence pairs, with their words: of gold alignments, and of translations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from attnlab.analysis.alignment.attention import AttendedSentence, AttentionStack, Choice, Reading, cross_attention
from attnlab.config.errors import UserError
from attnlab.config.explain import shortened
from attnlab.data.translation.detokenization import detokenize
from attnlab.data.translation.records import SentencePair
from attnlab.data.translation.word_alignment import (
    AlignedSentence,
    Gold,
    covered_exactly,
    spans_of_any_text,
    word_spans,
    words_of,
    words_of_tokens,
)
from attnlab.tasks.base import Task
from attnlab.tasks.hypotheses import Hypothesis
from attnlab.tasks.poll import Poll, no_poll
from attnlab.tasks.seq2seq import Seq2SeqTask

UNKNOWN = Gold(sure=frozenset(), possible=frozenset())
"""The gold alignment of a translation that has none."""


class SourceAttention(NamedTuple):
    """The layers of a decoder that attend to its source."""

    names: tuple[str, ...]
    heads: int

    @classmethod
    def of(cls, attention: AttentionStack) -> "SourceAttention":
        """Return the layers of the attention to a sentence."""
        return cls(attention.layers, attention.weights.shape[1])

    def choice(self, layer: int | None, head: int | None, reading: Reading) -> Choice:
        """Return the choice of a layer and a head by number, from 1; None is the mean of all.

        Raises:
            UserError: there is no such layer or head; names the option, its value and the valid values.
        """
        for option, number, count in (("layer", layer, len(self.names)), ("head", head, self.heads)):
            if number is not None and not 1 <= number <= count:
                valid = f"has {option}s 1 to {count}" if count > 1 else f"has one {option}, 1"
                raise UserError(f"--{option} {number}: this model's attention to the source {valid}")
        return Choice(None if layer is None else self.names[layer - 1], head, reading)

    def describe(self, choice: Choice) -> str:
        """Return a choice in words.

        >>> SourceAttention(("a", "b"), 4).describe(Choice("b", None, "input_step"))
        'layer 2, mean of 4 heads, input step'
        """
        layer = "mean of all layers" if choice.layer is None else f"layer {self.number(choice)}"
        mean = f"mean of {self.heads} heads" if self.heads > 1 else "its only head"
        head = mean if choice.head is None else f"head {choice.head}"
        quantity = "" if choice.quantity == "weights" else f", {choice.quantity}"
        return f"{layer}, {head}, {choice.reading.replace('_', ' ')}{quantity}"

    def as_data(self, choice: Choice) -> dict[str, Any]:
        """Return a choice as JSON's types: the numbers of its layer and its head, from 1, or null for the mean.

        >>> SourceAttention(("a", "b"), 4).as_data(Choice("b", None, "input_step"))
        {'layer': 2, 'head': None, 'reading': 'input_step', 'quantity': 'weights'}
        """
        names = {"head": choice.head, "reading": choice.reading, "quantity": choice.quantity}
        return {"layer": self.number(choice), **names}

    def number(self, choice: Choice) -> int | None:
        """Return the number of a choice's layer, from 1; None for the mean."""
        return None if choice.layer is None else 1 + self.names.index(choice.layer)


def source_attention(task: Task) -> SourceAttention:
    """Return the layers of a task's model that attend to the source.

    Raises:
        UserError: the task does not translate a text, or its model has no attention.
    """
    if not isinstance(task, Seq2SeqTask):
        raise UserError(f"word alignment is for translation; the task of this run is {task.config.task.kind}")
    if not task.has_attention:
        raise UserError("word alignment is read from attention, and the model of this run has none")
    adapter = task.adapter
    params = jax.eval_shape(task.initialize, jax.random.key(0))
    records = jax.eval_shape(lambda params: adapter.forward(params, adapter.example_batch).attention, params)
    found = [record for record in records if record.kind in ("cross", "decoder")]
    return SourceAttention(tuple(record.name for record in found), found[0].weights.shape[1])


def reported_choice(task: Seq2SeqTask, attention: SourceAttention, reading: Reading = "output_step") -> Choice:
    """Return the attention that `attnlab show` draws: the mean of the heads of the model's reported layer."""
    return attention.choice(task.reported_layer or 1, None, reading)


@dataclass(frozen=True, eq=False)
class TokenizedPair:
    """A sentence pair as the model reads it.

    Attributes:
        source: text of the source.
        target: token numbers of the target, without start and end token.
        source_words: index of the word of each source token.
        target_words: likewise for the target.
        gold: gold alignment between words.
        exact: whether every token is of one word and every word has a token.
    """

    source: str
    target: Sequence[int]
    source_words: Sequence[int]
    target_words: Sequence[int]
    gold: Gold = UNKNOWN
    exact: bool = True


def tokenized(
    task: Seq2SeqTask, sentences: Sequence[AlignedSentence], detokenized: bool = False
) -> list[TokenizedPair]:
    """Encode sentence pairs whose words are separated by single spaces.

    A token is of the word whose characters it covers, wherever the model's tokenizer splits the text. A token that
    covers characters of several words is of the first of them, and a word without a token has no links; `exact` says
    of each pair whether it has neither.

    Args:
        task: a task with tokenizers of source and target.
        sentences: the pairs, with gold alignment.
        detokenized: whether the model reads the text without the spaces that a tokenizer has put around punctuation
            marks (see `detokenize`), as is right for a model that was trained on text as it is written.
    """
    pairs = []
    sides = [[getattr(sentence, side) for sentence in sentences] for side in ("source", "target")]
    texts = [[_text(sentence, detokenized) for sentence in side] for side in sides]
    sources = task.tokenizers.source.encode_batch([text for text, _ in texts[0]])
    targets = task.tokenizers.target.encode_batch([text for text, _ in texts[1]])
    for number, (sentence, source, target) in enumerate(zip(sentences, sources, targets, strict=True), start=1):
        words, exact = [], True
        for side, (name, encoding) in enumerate((("source", source), ("target", target))):
            spans = texts[side][number - 1][1]
            words.append(words_of_tokens(spans, encoding.offsets, f"{name} sentence {number}"))
            exact &= covered_exactly(spans, encoding.offsets)
        pairs.append(TokenizedPair(source.text, target.ids, words[0], words[1], sentence.gold, exact))
    return pairs


def tokenized_hypothesis(task: Seq2SeqTask, source: str, hypothesis: Hypothesis) -> TokenizedPair:
    """Return a source text with a translation of it; words are what spaces separate."""
    encoded, tokenizer = task.tokenizers.source.encode(source), task.tokenizers.target
    source_words = words_of_tokens(spans_of_any_text(source), encoded.offsets, "source")
    offsets = tokenizer.offsets(hypothesis.tokens)
    target_words = words_of_tokens(spans_of_any_text(hypothesis.text), offsets, "translation")
    return TokenizedPair(source, hypothesis.tokens, source_words, target_words)


def attended_sentences(
    task: Seq2SeqTask, params: PyTree, pairs: Sequence[TokenizedPair], poll: Poll = no_poll, *, norms: bool = False
) -> list[AttendedSentence]:
    """Return the attention of all layers to the source of each pair, with the target as input (teacher forcing).

    Args:
        task: a translation task whose model has attention.
        params: its parameters.
        pairs: the sentence pairs.
        poll: called between batches; may raise to stop.
        norms: whether to compute the norms too; models whose layers do not average values have none.

    Raises:
        UserError: there is NaN or Inf in the attention; names layer and head.
    """
    examples = [SentencePair(pair.source, "") for pair in pairs]
    found: list[AttendedSentence | None] = [None] * len(pairs)
    targets = [pair.target for pair in pairs]
    for indices, layers in task.attention_of_layers(params, examples, targets, poll, details=norms):
        for index, stack in zip(indices, cross_attention(layers), strict=False):  # filler follows the examples
            pair = pairs[index]
            attention = stack.cut(len(pair.target) + 1, len(pair.source_words) + 1)
            _refuse_nonfinite(attention, pair)
            found[index] = AttendedSentence(attention, pair.source_words, pair.target_words, pair.gold)
    return [sentence for sentence in found if sentence is not None]


def _refuse_nonfinite(attention: AttentionStack, pair: TokenizedPair) -> None:
    """Raise an error for NaN or Inf in what can be read: no link would be the largest weight of its row."""
    arrays = {"weights": attention.weights} | ({"norms": attention.norms.heads} if attention.norms else {})
    for quantity, array in arrays.items():
        faulty = np.argwhere(~np.isfinite(array).all(axis=(2, 3)))
        if len(faulty):
            layer, head = faulty[0].tolist()
            others = f" (and {len(faulty) - 1} other heads)" if len(faulty) > 1 else ""
            raise UserError(
                f"no alignment can be read: {attention.layers[layer]}, head {head + 1}{others} has NaN or Inf among "
                f"the {quantity}, for the source {shortened(pair.source)}"
            )


def _text(sentence: str, detokenized: bool) -> tuple[str, Sequence[tuple[int, int]]]:
    return detokenize(words_of(sentence)) if detokenized else (sentence, word_spans(sentence))
