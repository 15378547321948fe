"""Machine translation: search for the best translations, with the attention behind each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Decoding, Experiment
from attnlab.config.errors import UserError
from attnlab.config.models.recurrent import RecurrentSeq2Seq
from attnlab.config.models.transformer import TransformerSeq2Seq
from attnlab.config.translation import Translation
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batch, Pairs, evaluation_batches, training_pairs
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import BOS, EOS, Encoding, Tokenizers, train_tokenizers
from attnlab.data.translation.load import load
from attnlab.data.translation.records import ParallelCorpus, SentencePair
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.base import Metric, Task, TrainingBatches, settings
from attnlab.tasks.data_check import PartStatistics
from attnlab.tasks.hypotheses import Hypothesis, hypotheses_of_row, output_lines, padded_length, with_n_best
from attnlab.tasks.layer_attention import Selection, layers_of_first_example, select
from attnlab.tasks.poll import Poll, no_poll, with_poll
from attnlab.tasks.text_input import words_not_in
from attnlab.tasks.translation.adapters import adapter
from attnlab.tasks.translation.alignment import attention_alignment
from attnlab.tasks.translation.attention_maps import hypothesis_map, selected_map
from attnlab.tasks.translation.data_statistics import COLUMN_NOTE, pair_statistics
from attnlab.tasks.translation.metrics import METRICS, bleu, exact_match_by_length, score_of_counts, translation_scores
from attnlab.tasks.translation.supervision import gold_links, link_matrix
from attnlab.training.decoding import Hypotheses, make_decode
from attnlab.training.objective import Loss, cross_entropy, guided_alignment
from attnlab.training.steps import shard_batch

DECODING_TOKENS = 4096
"""Source positions times beam in one decoding batch, padding counted."""
MAPS = 3
"""Most hypotheses with an attention map if the config asks for one hypothesis."""


@dataclass(eq=False)
class TranslationTask(Task):
    """The model of an experiment with its tokenizers."""

    load_data = staticmethod(load)
    monitor = "dev_bleu"
    loss_unit = "tokens"
    input_format = "a sentence"
    reported_metrics = (
        Metric("bleu_lowercase"),
        Metric("bleu"),
        Metric("chrf"),
        Metric("exact_match"),
        Metric("exact_match_long"),
        Metric("aer"),
    )

    config: Experiment
    tokenizers: Tokenizers
    _decoders: dict[Decoding, Callable[..., Hypotheses]] = field(default_factory=dict)

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[Any], data_dir: Path | None = None) -> Self:
        """Learn the vocabularies."""
        assert isinstance(splits, ParallelCorpus)
        return cls(config, train_tokenizers(settings(config, Translation).tokenizer, splits))

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
    def _settings(self) -> Translation:
        return settings(self.config, Translation)

    @property
    def decoding(self) -> Decoding:
        """The config of the search."""
        return self._settings.decoding

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        sizes = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        return adapter(self.config, *sizes, supervised=bool(self._settings.guided_alignment))

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the target tokens, plus that of the gold alignment if attention is supervised."""
        weight = self._settings.guided_alignment
        out = self.adapter.forward(params, batch, rng, attention=False)
        smoothing, lengths = self.config.training.label_smoothing, batch["target_lengths"]
        total, nll = cross_entropy(out.logits, batch["target_out"], lengths, label_smoothing=smoothing)
        metrics = {"nll": nll}
        if weight:
            metrics["alignment"] = guided_alignment(out.weights, batch["links"], lengths)
            total += weight * metrics["alignment"]
        return Loss(total, jnp.sum(lengths), metrics)

    def training_batches(self, examples: Sequence[SentencePair]) -> TrainingBatches:
        """Batch the training pairs; pairs longer than the task's `max_length` are left out."""
        pairs = self.pairs(examples)
        if not self._settings.guided_alignment:
            batches = self.batched(pairs)
        else:
            links = gold_links(examples, *self._encode(examples), self._settings.max_length)

            def fill(shape: Shape, indices: Sequence[int]) -> Batch:
                matrix = link_matrix(shape, [links[index] for index in indices])
                return self.adapter.fill([pairs[index] for index in indices], shape) | {"links": matrix}

            batches = self.batched(pairs, fill)
        source, target = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        summary = [
            f"data: {batches.examples:,} training pairs, {len(batches)} batches per epoch, "
            f"{100 * batches.real_fraction:.0f}% of target positions are not padding",
            f"vocabulary: {source} source, {target} target tokens",
        ]
        if left_out := len(examples) - batches.examples:
            limit = self._settings.max_length
            summary.append(f"left out: {left_out} pairs of more than {limit} tokens (task.max_length)")
        return TrainingBatches(batches, summary)

    def pairs(self, examples: Sequence[SentencePair]) -> Pairs:
        """Return the token numbers of the training pairs, without those longer than the task's `max_length`."""
        source, target = self._encode(examples)
        return training_pairs(_ids(source), _ids(target), self._settings.max_length)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[SentencePair], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return cased BLEU of greedy search."""
        greedy = self.decoding.model_copy(update={"beam": 1, "n_best": 1})
        hypotheses = self.translate(params, [pair.source for pair in examples], greedy, poll)
        return {"dev_bleu": bleu([ranked[0].text for ranked in hypotheses], [pair.target for pair in examples])}

    def test_metrics(self, params: PyTree, examples: Sequence[SentencePair], poll: Poll = no_poll) -> dict[str, Any]:
        """Return BLEU, chrF and exact match; with gold alignment also the alignment error rate of the attention."""
        decoding = self.decoding
        sources, references = [pair.source for pair in examples], [pair.target for pair in examples]
        texts = [ranked[0].text for ranked in self.translate(params, sources, decoding, poll)]
        scores = translation_scores(texts, references)
        if len(examples) >= 3:
            lengths = [len(encoding.ids) for encoding in self.tokenizers.source.encode_batch(sources)]
            thirds = exact_match_by_length(texts, references, lengths)
            scores |= dict(zip(("exact_match_short", "exact_match_middle", "exact_match_long"), thirds, strict=True))
        scores |= {"decoding": decoding.model_dump()}
        model = self.config.model
        has_attention = not isinstance(model, RecurrentSeq2Seq) or model.attention is not None
        if has_attention and all(pair.alignment is not None for pair in examples):
            scores |= self._alignment_scores(params, examples, poll)
        return scores

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

    def attention_maps(self, params: PyTree, example: SentencePair) -> list[AnyAttentionMap]:
        """Return the attention map of each of the best hypotheses."""
        decoding = self.decoding
        if decoding.n_best == 1:
            decoding = decoding.model_copy(update={"n_best": min(decoding.beam, MAPS)})
        (hypotheses,) = self.translate(params, [example.source], decoding)
        return [
            hypothesis_map(example.source, hypothesis, self.tokenizers, self.config.model) for hypothesis in hypotheses
        ]

    def selected_attention_map(self, params: PyTree, example: SentencePair, selection: Selection) -> AnyAttentionMap:
        """Return the selected attention while the model decodes the best translation."""
        model = self.config.model
        reported = model.decoder.reported_layer + 1 if isinstance(model, TransformerSeq2Seq) else None
        best = self.translate(params, [example.source], self.decoding)[0][0]
        ids = self.tokenizers.source.encode(example.source).ids
        ((_, source, lengths),) = self.source_batches([ids], 1)
        width = padded_length(len(best.tokens) + 1, self._max_positions, "the translation")
        target = np.full((len(source), width), EOS, np.int32)
        target[0, : len(best.tokens) + 1] = [BOS, *best.tokens]
        batch = shard_batch({"source": source, "source_lengths": lengths, "target_in": target})
        selected = select(layers_of_first_example(self.adapter, params, batch), selection, "cross", reported)
        return selected_map(hypothesis_map(example.source, best, self.tokenizers, model), selected)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words, or pieces of words, that the source vocabulary lacks."""
        return words_not_in(self.tokenizers.source, texts)

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield the translation of each line; an empty line for an empty one.

        With `n_best` (None is the config's) above 1 yield as many lines for each in the format of Moses:
        `line number ||| translation ||| score`.
        """
        decoding = with_n_best(self.decoding, n_best)
        for number, hypotheses in enumerate(self.translate(params, lines, decoding), start=first):
            yield from output_lines(number, hypotheses, decoding.n_best)

    def token_lengths(self, examples: Sequence[SentencePair]) -> dict[str, list[int]]:
        """Return the lengths in tokens of both sides."""
        source, target = self._encode(examples)
        return {"source": list(map(len, _ids(source))), "target": list(map(len, _ids(target)))}

    def part_statistics(
        self, examples: Sequence[SentencePair], train: Sequence[SentencePair]
    ) -> Mapping[str, PartStatistics]:
        """Return lengths of both sides, unknown tokens, empty and too long pairs, and the overlap with training."""
        return pair_statistics(examples, *self._encode(examples), self._settings.max_length, train)

    def check_notes(self, examples: Sequence[SentencePair]) -> list[str]:
        """Return the meaning of the columns, and the sizes of vocabularies and batches."""
        source, target = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        batches = self.batched(pairs) if (pairs := self.pairs(examples)) else None
        shapes = ", ".join("×".join(map(str, shape)) for shape in batches.shapes) if batches else ""
        real = (batches.real_source_fraction, batches.real_fraction) if batches else (0.0, 0.0)
        return [
            COLUMN_NOTE,
            f"Too long: more than task.max_length = {self._settings.max_length} tokens; "
            "left out of training, never of a test.",
            f"Vocabulary: {source:,} source, {target:,} target.",
            f"Batches per epoch: {len(batches) if batches else 0:,} (rows×source×target: {shapes}); {real[0]:.1%} of "
            f"source and {real[1]:.1%} of target positions are real.",
        ]

    def translate(
        self, params: PyTree, texts: Sequence[str], decoding: Decoding, poll: Poll = no_poll
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each text, best first; that of a text without tokens is empty.

        Args:
            params: the parameters of `model`.
            texts: in the source language.
            decoding: the config of the search.
            poll: called between batches; may raise to stop.
        """
        decode = self._decoders.setdefault(decoding, make_decode(self.model, decoding))
        ids = _ids(self.tokenizers.source.encode_batch(list(texts)))
        results = [[Hypothesis("", [], 0.0, np.ones((1, 1), np.float32))] for _ in texts]
        nonempty = [index for index, tokens in enumerate(ids) if tokens]
        batches = self.source_batches([ids[index] for index in nonempty], decoding.beam)
        for indices, source, lengths in with_poll(batches, poll, len(nonempty)):
            batch = shard_batch({"source": source, "lengths": lengths})
            decoded = jax.tree.map(np.asarray, decode(params, batch["source"], batch["lengths"]))
            for row, index in enumerate(indices):
                hypotheses = hypotheses_of_row(decoded, row, self.tokenizers.target.decode, int(lengths[row]))
                results[nonempty[index]] = hypotheses
        return results

    def attention(self, params: PyTree, pairs: Sequence[SentencePair], poll: Poll = no_poll) -> list[np.ndarray]:
        """Return the attention [t+1 s+1] to the source of each pair, with its target as input (teacher forcing).

        The last row and column are those of the end tokens.
        """
        source, target = map(_ids, self._encode(pairs))
        target = [[BOS, *ids] for ids in target]
        width = padded_length(max(map(len, target), default=1), self._max_positions, "with its start token a target")
        results: list[np.ndarray] = [np.zeros((0, 0))] * len(pairs)
        for indices, ids, lengths in with_poll(self.source_batches(source, 1), poll, len(pairs)):
            target_in = np.full((len(ids), width), EOS, np.int32)
            for row, index in enumerate(indices):
                target_in[row, : len(target[index])] = target[index]
            batch = shard_batch({"source": ids, "lengths": lengths, "target": target_in})
            weights = jax.device_get(self._weights(params, batch["source"], batch["lengths"], batch["target"]))
            for row, index in enumerate(indices):
                results[index] = weights[row, : len(target[index]), : lengths[row]]
        return results

    @cached_property
    def _weights(self) -> Callable[..., Any]:
        def weights(params: PyTree, source: Any, lengths: Any, target: Any) -> jax.Array:
            out: Any = self.model.apply({"params": params}, source, lengths, target, train=False)
            return out.weights

        return jax.jit(weights)

    def source_batches(self, ids: Sequence[list[int]], beam: int) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Yield batches of sources for a beam width, as `evaluation_batches`; a source too long is a `UserError`."""
        padded_length(max(map(len, ids), default=0) + 1, self._max_positions, "with its end token a sentence")
        return evaluation_batches(ids, max(DECODING_TOKENS // beam, 1), jax.device_count(), self._max_positions)

    @property
    def _max_positions(self) -> int | None:
        """Number of positions of a model with learned ones; None for any number."""
        assert isinstance(self.config.model, RecurrentSeq2Seq | TransformerSeq2Seq)
        return self.config.model.max_positions

    def _encode(self, pairs: Sequence[SentencePair]) -> tuple[list[Encoding], list[Encoding]]:
        sources = self.tokenizers.source.encode_batch([pair.source for pair in pairs])
        return sources, self.tokenizers.target.encode_batch([pair.target for pair in pairs])

    def _alignment_scores(self, params: PyTree, pairs: Sequence[SentencePair], poll: Poll) -> dict[str, float]:
        """Return the agreement of attention, with the reference as input, and gold alignment.

        It is computed between tokens, or between words if tokens are pieces of words.
        """
        by_words = self._settings.tokenizer.kind == "bpe"
        score = attention_alignment(self.attention(params, pairs, poll), pairs, *self._encode(pairs), by_words)
        return {"aer": score.aer, "alignment_precision": score.precision, "alignment_recall": score.recall}


def _ids(encodings: Sequence[Encoding]) -> list[list[int]]:
    return [encoding.ids for encoding in encodings]
