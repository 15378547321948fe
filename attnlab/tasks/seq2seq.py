"""Tasks that generate a text from a text, with a sequence-to-sequence model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import PyTree

from attnlab.config import Decoding, Experiment
from attnlab.config.errors import UserError
from attnlab.config.models.transformer import TransformerSeq2Seq
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batches, Pairs, evaluation_batches, training_pairs
from attnlab.data.text.tokenizer import Tokenizer, Tokenizers, train_tokenizers
from attnlab.data.translation.records import ParallelCorpus, SentencePair
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AttentionMap, RowGroup
from attnlab.tasks.base import TrainingBatches, rows_multiple
from attnlab.tasks.generation import GenerationTask, SourceBatch
from attnlab.tasks.hypotheses import END, START, Hypothesis, padded_length
from attnlab.tasks.input_parts import InputSequence, text_part
from attnlab.tasks.layer_attention import SelectedAttention, self_attention_map, title
from attnlab.tasks.poll import Poll, no_poll
from attnlab.tasks.seq2seq_adapters import adapter
from attnlab.tasks.text_input import words_not_in

DECODING_TOKENS = 4096
"""Source positions times beam in one decoding batch, padding counted."""
EMPTY = Hypothesis("", [], 0.0, np.ones((1, 1), np.float32))
"""The hypothesis of a source without tokens."""


@dataclass(eq=False)
class Seq2SeqTask(GenerationTask):
    """A task that generates a text from a text; its examples are sentence pairs.

    The `task` section of its config has the keys `tokenizer`, `max_length` and `decoding`. A subclass defines the class
    attributes of `Task`, `validation_metrics` and `test_metrics`; `load_data` returns a `ParallelCorpus`.

    Attributes:
        source_name: name of a source in messages.
        config: the experiment.
        tokenizers: the tokenizers of source and target.
    """

    source_name: ClassVar[str] = "sentence"
    hypotheses_of_blank = (EMPTY,)

    config: Experiment
    tokenizers: Tokenizers

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[Any], data_dir: Path | None = None) -> Self:
        """Learn the vocabularies."""
        assert isinstance(splits, ParallelCorpus)
        task: Any = config.task
        return cls(config, train_tokenizers(task.tokenizer, splits))

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabularies of a run."""
        return cls(config, Tokenizers.load(directory / "tokenizer"))

    def files(self) -> Mapping[str, str]:
        """Return the vocabularies."""
        return {f"tokenizer/{name}": text for name, text in self.tokenizers.files().items()}

    @property
    def tokenizer(self) -> Tokenizers:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The tokenizers of source and target."""
        return self.tokenizers

    @property
    def target_tokenizer(self) -> Tokenizer:
        """The tokenizer of the generated text."""
        return self.tokenizers.target

    @property
    def max_length(self) -> int:
        """Largest number of tokens in the source or target of a training pair."""
        task: Any = self.config.task
        return task.max_length

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        return adapter(self.config, self.tokenizers)

    def training_batches(self, examples: Sequence[SentencePair]) -> TrainingBatches:
        """Batch the training pairs; pairs longer than the task's `max_length` are left out."""
        return self.with_summary(self.batched(self.pairs(examples)), len(examples))

    def with_summary(self, batches: Batches, examples: int) -> TrainingBatches:
        """Add the summary of training batches.

        Args:
            batches: the batches of the pairs that are not left out.
            examples: number of training pairs.
        """
        source, target = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        summary = [
            f"data: {batches.examples:,} training pairs, {len(batches)} batches per epoch, "
            f"{100 * batches.real_fraction:.0f}% of target positions are not padding",
            f"vocabulary: {source} source, {target} target tokens",
        ]
        if left_out := examples - batches.examples:
            summary.append(f"left out: {left_out} pairs of more than {self.max_length} tokens (task.max_length)")
        return TrainingBatches(batches, summary)

    def pairs(self, examples: Sequence[SentencePair]) -> Pairs:
        """Return the token numbers of the training pairs, without those longer than the task's `max_length`."""
        return training_pairs(self.source_ids(examples), self.target_ids(examples), self.max_length)

    def source_ids(self, examples: Sequence[SentencePair]) -> list[list[int]]:
        """Return the token numbers of the source of each pair."""
        return [encoding.ids for encoding in self.tokenizers.source.encode_batch([pair.source for pair in examples])]

    def target_ids(self, examples: Sequence[SentencePair]) -> list[list[int]]:
        """Return the token numbers of the target of each pair."""
        return [encoding.ids for encoding in self.tokenizers.target.encode_batch([pair.target for pair in examples])]

    def source_batches(self, examples: Sequence[SentencePair], beam: int) -> Iterator[SourceBatch]:
        """Return batches as `evaluation_batches`; a source with more tokens than positions is a `UserError`."""
        ids, limit = self.source_ids(examples), self.max_positions
        padded_length(max(map(len, ids), default=0) + 1, limit, f"with its end token a {self.source_name}")
        return evaluation_batches(ids, max(DECODING_TOKENS // beam, 1), rows_multiple(), limit)

    def source_input(self, example: SentencePair) -> tuple[list[int], InputSequence]:
        """Return the token numbers of the source, with the labels of its positions."""
        source = self.tokenizers.source.encode(example.source)
        if not source.ids:
            raise UserError(f"the {self.source_name} has no tokens")
        return source.ids, InputSequence((text_part("source", example.source, source.offsets, after=[END]),))

    def generate(
        self, params: PyTree, examples: Sequence[SentencePair], decoding: Decoding, poll: Poll = no_poll
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each example, best first; that of a source without tokens is empty."""
        nonempty = [index for index, ids in enumerate(self.source_ids(examples)) if ids]
        generated = super().generate(params, [examples[index] for index in nonempty], decoding, poll)
        by_index = dict(zip(nonempty, generated, strict=True))
        return [by_index.get(index, [EMPTY]) for index in range(len(examples))]

    def parse_example(self, inputs: Sequence[str]) -> SentencePair:
        """Parse a source text, whose target is unknown."""
        text = " ".join(inputs)
        if not text.split():
            raise UserError(f"the {self.source_name} is empty; expected {self.input_format}")
        return SentencePair(text, "")

    def hypothesis_map(self, example: SentencePair, hypothesis: Hypothesis) -> AttentionMap:
        """Return the attention of a hypothesis to the source text, end tokens included."""
        source, model = self.tokenizers.source.encode(example.source), self.config.model
        groups: tuple[RowGroup, ...] = ()
        if isinstance(model, TransformerSeq2Seq):
            layer = title("cross", model.decoder.reported_layer + 1, model.decoder.layers, model.heads)
            groups = (RowGroup(len(hypothesis.weights), layer, "target"),)
        return AttentionMap(
            column_labels=[*source.surface, END],
            row_labels=[*map(self.target_tokenizer.token, hypothesis.tokens), END],
            weights=hypothesis.weights,
            prediction=hypothesis.text,
            score=hypothesis.score,
            input=example.source,
            row_label="target",
            column_label="source",
            row_groups=groups,
            unknown_words=tuple(dict.fromkeys(source.unknown_words)),
        )

    def selected_map(self, example: SentencePair, hypothesis: Hypothesis, selected: SelectedAttention) -> AttentionMap:
        """Return the attention map of a selected layer and head while the model decodes a hypothesis."""
        best = self.hypothesis_map(example, hypothesis)
        source, target = best.column_labels, best.row_labels
        if selected.kind == "encoder":
            return self_attention_map(best, source, selected)
        columns, row_label, column_label = {
            "cross": (source, "target", "source"),
            "decoder": ([START, *target[:-1]], "next token", "previous tokens"),
        }[selected.kind]
        return replace(
            best,
            column_labels=columns,
            weights=selected.weights[: len(target), : len(columns)],
            column_label=column_label,
            row_label=row_label,
            row_groups=(RowGroup(len(target), selected.title, row_label),),
        )

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words, or pieces of words, that the source vocabulary lacks."""
        return words_not_in(self.tokenizers.source, texts)

    def token_lengths(self, examples: Sequence[SentencePair]) -> dict[str, list[int]]:
        """Return the lengths in tokens of both sides."""
        source, target = self.source_ids(examples), self.target_ids(examples)
        return {"source": list(map(len, source)), "target": list(map(len, target))}
