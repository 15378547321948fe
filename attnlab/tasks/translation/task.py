"""Translation: texts in, hypotheses with their attention out, and the scores of a test set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Decoding, Experiment
from attnlab.config.errors import UserError
from attnlab.config.models.recurrent import RecurrentSeq2Seq as RecurrentConfig
from attnlab.config.models.transformer import TransformerSeq2Seq as TransformerConfig
from attnlab.config.translation import Translation
from attnlab.data.text.batching import Batch, Pairs, evaluation_batches, training_pairs
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import BOS, EOS, Tokenizers, train_tokenizers
from attnlab.data.translation import check
from attnlab.data.translation.load import load
from attnlab.data.translation.records import ParallelCorpus, SentencePair
from attnlab.tasks import hypotheses
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, RowGroup
from attnlab.tasks.base import Metric, Poll, Task, TrainingBatches, no_poll, rows_multiple, settings, with_poll
from attnlab.tasks.hypotheses import Hypothesis, from_search
from attnlab.tasks.layer_attention import Selection, layers_of, select, title
from attnlab.tasks.translation.adapters import adapter
from attnlab.tasks.translation.alignment import alignment_score, by_word, gold_pairs, hard, word_of_token
from attnlab.tasks.translation.metrics import METRICS, bleu, exact_match_by_length, score_of_counts, translation_scores
from attnlab.training.decoding import Hypotheses, make_decode
from attnlab.training.objective import Loss, cross_entropy, guided_alignment
from attnlab.training.steps import shard_batch

DECODING_TOKENS = 4096
"""Source positions times beam in one decoding batch."""
SHOWN = 3
"""Hypotheses on a page where the config asks for one."""
START, END = "⟨start⟩", "⟨end⟩"
"""How the start and the end token are shown."""


@dataclass(eq=False)
class TranslationTask(Task):
    """The model of an experiment with its tokenizers: what turns text into batches and arrays into text."""

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

    @staticmethod
    def load(config: Experiment, data_dir: Path | None) -> ParallelCorpus:
        """Read or generate the sentence pairs."""
        return load(settings(config, Translation).data, data_dir)

    @classmethod
    def prepare(cls, config: Experiment, splits: ParallelCorpus, data_dir: Path | None = None) -> Self:
        """Learn the vocabularies."""
        return cls(config, train_tokenizers(settings(config, Translation).tokenizer, splits))

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabularies of a run."""
        return cls(config, Tokenizers.load(directory / "tokenizer"))

    def files(self) -> Mapping[str, str]:
        """The vocabularies."""
        return {f"tokenizer/{name}": text for name, text in self.tokenizers.files().items()}

    @property
    def tokenizer(self) -> Tokenizers:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of source and target."""
        return self.tokenizers

    @property
    def _task(self) -> Translation:
        return settings(self.config, Translation)

    @property
    def decoding(self) -> Decoding:
        """How the config searches."""
        return self._task.decoding

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        sizes = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        return adapter(self.config, *sizes, supervised=bool(self._task.guided_alignment))

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Cross entropy of every real target token, given those before it."""
        guided = self._task.guided_alignment
        out = self.adapter.forward(params, batch, rng, attention=False)
        smoothing, lengths = self.config.training.label_smoothing, batch["target_lengths"]
        total, nll = cross_entropy(out.logits, batch["target_out"], lengths, label_smoothing=smoothing)
        metrics = {"nll": nll}
        if guided:
            metrics["alignment"] = guided_alignment(out.weights, batch["links"], lengths)
            total += guided * metrics["alignment"]
        return Loss(total, jnp.sum(lengths), metrics)

    def training_batches(self, examples: Sequence[SentencePair]) -> TrainingBatches:
        """Batch the training pairs; pairs longer than the task's `max_length` are left out."""
        pairs = self.pairs(examples)
        if not self._task.guided_alignment:
            batches = self.batched(pairs)
        else:
            links = self._links(examples)

            def fill(shape: Shape, members: Sequence[int]) -> Batch:
                dense = _dense(shape, [links[i] for i in members])
                return self.adapter.fill([pairs[i] for i in members], shape) | {"links": dense}

            batches = self.batched(pairs, fill)
        source, target = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        summary = [
            f"data: {batches.examples:,} training pairs, {len(batches)} batches an epoch, "
            f"{100 * batches.real_fraction:.0f}% of target positions real",
            f"vocabulary: {source} source, {target} target tokens",
        ]
        if left_out := len(examples) - batches.examples:
            summary.append(f"left out: {left_out} pairs of more than {self._task.max_length} tokens (task.max_length)")
        return TrainingBatches(batches, summary)

    def pairs(self, examples: Sequence[SentencePair]) -> Pairs:
        """What is trained on, as token numbers: the pairs that are not too long."""
        return training_pairs(*self._encoded(examples), self._task.max_length)

    def _links(self, examples: Sequence[SentencePair]) -> list[frozenset[tuple[int, int]]]:
        """Sure gold links (source, target) between tokens of the pairs trained on; the end tokens are linked."""
        sources = self.tokenizers.source.encode_batch([p.source for p in examples])
        targets = self.tokenizers.target.encode_batch([p.target for p in examples])
        longest, found = self._task.max_length, []
        for pair, source, target in zip(examples, sources, targets, strict=True):
            if max(len(source.ids), len(target.ids)) <= longest:
                ends = (len(source.ids), len(target.ids))
                found.append(gold_pairs(pair.alignment or (), source.offsets, target.offsets).sure | {ends})
        return found

    def validation_metrics(
        self, params: PyTree, examples: Sequence[SentencePair], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Score dev quickly: greedy search, BLEU with case."""
        greedy = self.decoding.model_copy(update={"beam": 1, "n_best": 1})
        found = self.translate(params, [p.source for p in examples], greedy, poll)
        return {"dev_bleu": bleu([h[0].text for h in found], [p.target for p in examples])}

    def test_metrics(self, params: PyTree, examples: Sequence[SentencePair], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set by BLEU and chrF, and the attention by gold alignment where there is one."""
        decoding = self.decoding
        sources, references = [p.source for p in examples], [p.target for p in examples]
        texts = [hypotheses[0].text for hypotheses in self.translate(params, sources, decoding, poll)]
        scores = translation_scores(texts, references)
        lengths = [len(e.ids) for e in self.tokenizers.source.encode_batch(sources)]
        if len(examples) >= 3:
            thirds = exact_match_by_length(texts, references, lengths)
            scores |= dict(zip(("exact_match_short", "exact_match_middle", "exact_match_long"), thirds, strict=True))
        scores |= {"decoding": decoding.model_dump()}
        model = self.config.model
        attends = not isinstance(model, RecurrentConfig) or model.attention is not None
        if attends and all(pair.alignment is not None for pair in examples):
            scores |= self._alignment(params, examples, poll)
        return scores

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """BLEU and chrF are made of counts, exact match is a mean."""
        return score_of_counts(metric, rows) if metric in METRICS else Task.aggregate(metric, rows)

    def parse_example(self, inputs: Sequence[str]) -> SentencePair:
        """Take a sentence without its translation."""
        text = " ".join(inputs)
        if not text.split():
            raise UserError('the sentence is empty: attnlab show RUN "ein Satz"')
        return SentencePair(text, "")

    def attention_maps(self, params: PyTree, example: SentencePair) -> list[AnyAttentionMap]:
        """Translate a sentence: its best hypotheses with their attention."""
        decoding = self.decoding
        if decoding.n_best == 1:
            decoding = decoding.model_copy(update={"n_best": min(decoding.beam, SHOWN)})
        return [self.attended(example.source, h) for h in self.translate(params, [example.source], decoding)[0]]

    def selected_attention_map(self, params: PyTree, example: SentencePair, wanted: Selection) -> AnyAttentionMap:
        """Translate a sentence; return one attention of the model while it decodes the best translation."""
        model = self.config.model
        aligned = model.decoder.reported_layer + 1 if isinstance(model, TransformerConfig) else None
        best = self.translate(params, [example.source], self.decoding)[0][0]
        view = self.attended(example.source, best)
        ids = self.tokenizers.source.encode(example.source).ids
        ((_, source, lengths),) = self.source_batches([ids], 1)
        target = [BOS, *best.tokens]
        forced = np.full(
            (len(source), hypotheses.fitting(len(target), self._longest, "the translation")), EOS, np.int32
        )
        forced[0, : len(target)] = target
        batch = shard_batch({"source": source, "source_lengths": lengths, "target_in": forced})
        chosen = select(layers_of(self.adapter, params, batch), wanted, "cross", aligned)
        rows, columns, across, down = {
            "cross": (view.row_labels, view.column_labels, "source", "target"),
            "encoder": (view.column_labels, view.column_labels, "attended to", "attending"),
            "decoder": (view.row_labels, [START, *view.row_labels[:-1]], "written before", "written next"),
        }[chosen.kind]
        return replace(
            view,
            column_labels=columns,
            row_labels=rows,
            weights=chosen.weights[: len(rows), : len(columns)],
            column_label=across,
            row_label=down,
            row_groups=(RowGroup(len(rows), chosen.title, down, from_input=chosen.kind == "encoder"),),
        )

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words, or pieces of them, that the source vocabulary lacks."""
        found = self.tokenizers.source.encode_batch(list(texts))
        return list(dict.fromkeys(word for one in found for word in one.unknown_words))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Translate: an empty line for an empty one.

        With `n_best` (None is the config's) above 1, so many lines for each instead, as Moses writes them:
        `line number ||| translation ||| score`.
        """
        decoding = hypotheses.asked_for(self.decoding, n_best)
        for number, found in enumerate(self.translate(params, lines, decoding), start=first):
            yield from hypotheses.lines(number, found, decoding.n_best)

    def token_lengths(self, examples: Sequence[SentencePair]) -> dict[str, list[int]]:
        """Tokens of both sides."""
        source, target = self._encoded(examples)
        return {"source": list(map(len, source)), "target": list(map(len, target))}

    @classmethod
    def check(cls, config: Experiment, data_dir: Path | None) -> str:
        """Read all data and tell what they are like, both sides and their overlap with training."""
        return str(check.check(config, data_dir, rows_multiple()))

    def attended(self, text: str, hypothesis: Hypothesis) -> AttentionMap:
        """A translation of `text` with names for its tokens and those of the source, end tokens included."""
        source, model = self.tokenizers.source.encode(text), self.config.model
        groups: tuple[RowGroup, ...] = ()
        if isinstance(model, TransformerConfig):
            which = title("cross", model.decoder.reported_layer + 1, model.decoder.layers, model.heads)
            groups = (RowGroup(len(hypothesis.weights), which, "target"),)
        return AttentionMap(
            column_labels=[*source.surface, END],
            row_labels=[*(self.tokenizers.target.token(i) for i in hypothesis.tokens), END],
            weights=hypothesis.weights,
            prediction=hypothesis.text,
            score=hypothesis.score,
            input=text,
            row_label="target",
            column_label="source",
            row_groups=groups,
            unknown_words=tuple(dict.fromkeys(source.unknown_words)),
        )

    def translate(
        self, params: PyTree, texts: Sequence[str], decoding: Decoding, poll: Poll = no_poll
    ) -> list[list[Hypothesis]]:
        """Translate each text; return its hypotheses, best first. A text without tokens is translated to nothing.

        Args:
            params: of `model`.
            texts: in the source language.
            decoding: how to search.
            poll: called between batches; may raise to stop.
        """
        decode = self._decoders.setdefault(decoding, make_decode(self.model, decoding))
        ids = [e.ids for e in self.tokenizers.source.encode_batch(list(texts))]
        results = [[Hypothesis("", [], 0.0, np.ones((1, 1), np.float32))] for _ in texts]
        full = [index for index, tokens in enumerate(ids) if tokens]
        batches = self.source_batches([ids[i] for i in full], decoding.beam)
        for chosen, source, lengths in with_poll(batches, poll, len(full)):
            batch = shard_batch({"source": source, "lengths": lengths})
            found = jax.tree.map(np.asarray, decode(params, batch["source"], batch["lengths"]))
            for row, index in enumerate(chosen):
                results[full[index]] = from_search(found, row, self.tokenizers.target.decode, int(lengths[row]))
        return results

    def attention(self, params: PyTree, pairs: Sequence[SentencePair], poll: Poll = no_poll) -> list[np.ndarray]:
        """Return each pair's attention [t+1 s+1] when the model is made to write the given target (teacher forcing).

        The last row and column are those of the end tokens.
        """
        source, target = self._encoded(pairs)
        target = [[BOS, *ids] for ids in target]
        width = hypotheses.fitting(max(map(len, target), default=1), self._longest, "with its start token a target")
        results: list[np.ndarray] = [np.zeros((0, 0))] * len(pairs)
        for chosen, ids, lengths in with_poll(self.source_batches(source, 1), poll, len(pairs)):
            forced = np.full((len(ids), width), EOS, np.int32)
            for row, index in enumerate(chosen):
                forced[row, : len(target[index])] = target[index]
            batch = shard_batch({"source": ids, "lengths": lengths, "target": forced})
            weights = jax.device_get(self._forced(params, batch["source"], batch["lengths"], batch["target"]))
            for row, index in enumerate(chosen):
                results[index] = weights[row, : len(target[index]), : lengths[row]]
        return results

    @cached_property
    def _forced(self) -> Callable[..., Any]:
        def weights(params: PyTree, source: Any, lengths: Any, target: Any) -> jax.Array:
            out: Any = self.model.apply({"params": params}, source, lengths, target, train=False)
            return out.weights

        return jax.jit(weights)

    def source_batches(self, ids: Sequence[list[int]], beam: int) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Batch sources for a search of this beam, as `evaluation_batches`; one that is too long is told."""
        hypotheses.fitting(max(map(len, ids), default=0) + 1, self._longest, "with its end token a sentence")
        return evaluation_batches(ids, max(DECODING_TOKENS // beam, 1), jax.device_count(), self._longest)

    @property
    def _longest(self) -> int | None:
        """How many positions a model with learned ones has."""
        return self.config.model.max_positions  # pyright: ignore[reportAttributeAccessIssue]

    def _encoded(self, pairs: Sequence[SentencePair]) -> tuple[list[list[int]], list[list[int]]]:
        source = self.tokenizers.source.encode_batch([p.source for p in pairs])
        target = self.tokenizers.target.encode_batch([p.target for p in pairs])
        return [e.ids for e in source], [e.ids for e in target]

    def _alignment(self, params: PyTree, pairs: Sequence[SentencePair], poll: Poll) -> dict[str, float]:
        """Error rate of the attention when it writes the reference, against gold: token by token, or word by word where
        tokens are pieces of words."""
        sources = self.tokenizers.source.encode_batch([p.source for p in pairs])
        targets = self.tokenizers.target.encode_batch([p.target for p in pairs])
        weights = self.attention(params, pairs, poll)
        found = [hard(w, len(s.ids), len(t.ids)) for w, s, t in zip(weights, sources, targets, strict=True)]
        gold = [
            gold_pairs(p.alignment or (), s.offsets, t.offsets) for p, s, t in zip(pairs, sources, targets, strict=True)
        ]
        if self._task.tokenizer.kind == "bpe":
            words = [
                (word_of_token(p.source, s.offsets), word_of_token(p.target, t.offsets))
                for p, s, t in zip(pairs, sources, targets, strict=True)
            ]
            found = [by_word(links, *two) for links, two in zip(found, words, strict=True)]
            gold = [links.by_word(*two) for links, two in zip(gold, words, strict=True)]
        score = alignment_score(found, gold)
        return {"aer": score.aer, "alignment_precision": score.precision, "alignment_recall": score.recall}


def _dense(shape: Shape, links: Sequence[frozenset[tuple[int, int]]]) -> np.ndarray:
    """Write links out as 0 and 1, [b t s]."""
    written = np.zeros((shape.rows, shape.target, shape.source), np.float32)
    for row, pairs in enumerate(links):
        for source, target in pairs:
            written[row, target, source] = 1.0
    return written
