"""Machine translation: its metrics, and attention that gold alignments supervise or are compared with."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config.errors import UserError
from attnlab.config.translation import Dates, Translation
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Encoding
from attnlab.data.translation.load import load
from attnlab.data.translation.records import SentencePair
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.base import Metric, Task, TrainingBatches, settings
from attnlab.tasks.data_check import PartStatistics
from attnlab.tasks.explained_prediction import ExplainedPrediction
from attnlab.tasks.poll import Poll, no_poll
from attnlab.tasks.seq2seq import Seq2SeqTask
from attnlab.tasks.seq2seq_adapters import adapter
from attnlab.tasks.translation.alignment import attention_alignment, links_whole_words
from attnlab.tasks.translation.data_statistics import COLUMN_NOTE, pair_statistics
from attnlab.tasks.translation.metrics import (
    METRICS,
    bleu,
    bleu_by_length,
    exact_match_by_length,
    score_of_counts,
    sentence_rows,
    translation_scores,
    undefined,
)
from attnlab.tasks.translation.supervision import gold_links, link_matrix
from attnlab.training.objective import Loss, guided_alignment


class TranslationTask(Seq2SeqTask):
    """The model of an experiment with its tokenizers."""

    load_data = staticmethod(load)
    monitor = "dev_bleu"
    loss_unit = "tokens"
    input_format = "a sentence"
    correctness = "exact_match"
    reported_metrics = (
        Metric("bleu_lowercase"),
        Metric("bleu"),
        Metric("chrf"),
        Metric("exact_match"),
        Metric("exact_match_long"),
        Metric("aer"),
    )

    @property
    def _settings(self) -> Translation:
        return settings(self.config, Translation)

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        return adapter(self.config, self.tokenizers, supervised=bool(self._settings.guided_alignment))

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the target tokens, plus that of the gold alignment if attention is supervised."""
        out = self.adapter.forward(params, batch, rng, attention=False)
        loss, weight = self.token_loss(out, batch), self._settings.guided_alignment
        if not weight:
            return loss
        alignment = guided_alignment(out.weights, batch["links"], batch["target_lengths"])
        return Loss(loss.total + weight * alignment, loss.count, loss.metrics | {"alignment": alignment})

    def training_batches(self, examples: Sequence[SentencePair]) -> TrainingBatches:
        """Batch the training pairs; pairs longer than the task's `max_length` are left out."""
        if not self._settings.guided_alignment:
            return super().training_batches(examples)
        pairs, links = self.pairs(examples), gold_links(examples, *self._encode(examples), self.max_length)

        def fill(shape: Shape, indices: Sequence[int]) -> Batch:
            matrix = link_matrix(shape, [links[index] for index in indices])
            return self.adapter.fill([pairs[index] for index in indices], shape) | {"links": matrix}

        return self.with_summary(self.batched(pairs, fill), len(examples))

    def validation_metrics(
        self, params: PyTree, examples: Sequence[SentencePair], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return cased BLEU of greedy search."""
        texts = self.texts(params, examples, self.greedy, poll)
        return {"dev_bleu": bleu(texts, [pair.target for pair in examples])}

    def test_metrics(self, params: PyTree, examples: Sequence[SentencePair], poll: Poll = no_poll) -> dict[str, Any]:
        """Return BLEU, chrF and exact match; with gold alignment also the alignment error rate of the attention."""
        references = [pair.target for pair in examples]
        texts = self.texts(params, examples, self.decoding, poll)
        scores = translation_scores(texts, references)
        if len(examples) >= 3:
            lengths = list(map(len, self.source_ids(examples)))
            thirds = exact_match_by_length(texts, references, lengths)
            scores |= dict(zip(("exact_match_short", "exact_match_middle", "exact_match_long"), thirds, strict=True))
            if "bleu" not in self.undefined_metrics(examples):
                thirds = bleu_by_length(texts, references, lengths)
                scores |= dict(zip(("bleu_short", "bleu_middle", "bleu_long"), thirds, strict=True))
        scores |= {"decoding": self.decoding.model_dump()}
        if self.has_attention and all(pair.alignment is not None for pair in examples):
            scores |= self._alignment_scores(params, examples, poll)
        return scores

    def output_scores(self, outputs: Sequence[str], examples: Sequence[SentencePair]) -> dict[str, np.ndarray]:
        """Return the rows of BLEU, chrF and exact match."""
        if not all(pair.target for pair in examples):
            return {}
        return sentence_rows(outputs, [pair.target for pair in examples])

    def undefined_metrics(self, examples: Sequence[SentencePair]) -> Mapping[str, str]:
        """Return the metrics that references without enough words leave undefined."""
        return undefined([pair.target for pair in examples])

    def is_correct(self, example: SentencePair, explained: ExplainedPrediction) -> bool | None:
        """Return whether the output is the reference, for generated data, which have a single right output."""
        return super().is_correct(example, explained) if isinstance(self._settings.data, Dates) else None

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """Compute BLEU and chrF from counts, exact match as a mean."""
        return score_of_counts(metric, rows) if metric in METRICS else Task.aggregate(metric, rows)

    def parse_example(self, inputs: Sequence[str]) -> SentencePair:
        """Parse a sentence, whose translation is unknown."""
        text = " ".join(inputs)
        if not text.split():
            raise UserError('the sentence is empty: attnlab show RUN "ein Satz"')
        return SentencePair(text, "")

    def evidence(self, example: SentencePair, explained: ExplainedPrediction) -> np.ndarray | None:
        """Return which source tokens have a sure link in the gold alignment."""
        if example.alignment is None:
            return None
        linked = [link.source for link in example.alignment if link.sure]
        (part,) = explained.inputs.parts
        marks = [span and any(span[0] < end and start < span[1] for start, end in linked) for span in part.spans]
        return np.array(marks, bool)

    def part_statistics(
        self, examples: Sequence[SentencePair], train: Sequence[SentencePair]
    ) -> Mapping[str, PartStatistics]:
        """Return lengths of both sides, unknown tokens, empty and too long pairs, and the overlap with training."""
        return pair_statistics(examples, *self._encode(examples), self.max_length, train)

    def check_notes(self, examples: Sequence[SentencePair]) -> list[str]:
        """Return the meaning of the columns, and the sizes of vocabularies and batches."""
        source, target = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        batches = self.batched(pairs) if (pairs := self.pairs(examples)) else None
        shapes = ", ".join("×".join(map(str, shape)) for shape in batches.shapes) if batches else ""
        real = (batches.real_source_fraction, batches.real_fraction) if batches else (0.0, 0.0)
        return [
            COLUMN_NOTE,
            f"Too long: more than task.max_length = {self.max_length} tokens; left out of training, never of a test.",
            f"Vocabulary: {source:,} source, {target:,} target.",
            f"Batches per epoch: {len(batches) if batches else 0:,} (rows×source×target: {shapes}); {real[0]:.1%} of "
            f"source and {real[1]:.1%} of target positions are real.",
        ]

    def _encode(self, pairs: Sequence[SentencePair]) -> tuple[list[Encoding], list[Encoding]]:
        sources = self.tokenizers.source.encode_batch([pair.source for pair in pairs])
        return sources, self.tokenizers.target.encode_batch([pair.target for pair in pairs])

    def _alignment_scores(self, params: PyTree, pairs: Sequence[SentencePair], poll: Poll) -> dict[str, float]:
        """Return the agreement of attention, with the reference as input, and gold alignment.

        It is computed between words if tokens are pieces of words, or if the gold alignment links whole words. Else,
        as for dates, whose gold alignment links parts of words such as the month in 2003-04-05, it is between tokens.
        """
        by_words = self._settings.tokenizer.kind == "bpe" or links_whole_words(pairs)
        weights = self.attention(params, pairs, poll)
        if any(not np.isfinite(matrix).all() for matrix in weights):
            layer = f"layer {self.reported_layer}, mean of its heads" if self.reported_layer else "its only layer"
            raise UserError(f"no alignment error rate: the attention to the source ({layer}) has NaN or Inf")
        score = attention_alignment(weights, pairs, *self._encode(pairs), by_words)
        return {"aer": score.aer, "alignment_precision": score.precision, "alignment_recall": score.recall}
