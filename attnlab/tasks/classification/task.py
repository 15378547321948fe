"""Text classification: class probabilities of a text, with the attention over its tokens."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.classification import Classification
from attnlab.config.errors import UserError
from attnlab.config.json_text import read_texts
from attnlab.config.models.classifier import TransformerClassifier as ClassifierConfig
from attnlab.config.models.transformer import TransformerEncoder
from attnlab.data.classification.load import load
from attnlab.data.classification.records import LabeledText, LabeledTextSplits
from attnlab.data.classification.text_encoder import EncodedText, TextEncoder
from attnlab.data.pretrained.source import Pretrained
from attnlab.data.text.batching import Batch, evaluation_shapes
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.models import bert
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, RowGroup
from attnlab.tasks.base import Metric, Poll, Task, TrainingBatches, no_poll, rows_multiple, settings, with_poll
from attnlab.tasks.classification.adapters import ClassifierAdapter
from attnlab.tasks.classification.metrics import (
    accuracy,
    classification_scores,
    confusion,
    macro_f1,
    macro_f1_of,
    rationale_scores,
)
from attnlab.tasks.layer_attention import Selection, layers_of, select
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

EVALUATION_TOKENS = 8192
"""Positions in one batch of a test."""
CLS, SEP = "[CLS]", "[SEP]"


@dataclass(eq=False)
class ClassificationTask(Task):
    """The model of an experiment with its vocabulary and its classes."""

    monitor = "dev_accuracy"
    loss_unit = "texts"
    input_format = "a text"
    reported_metrics = (
        Metric("accuracy"),
        Metric("macro_f1"),
        Metric("ece"),
        Metric("majority"),
        Metric("rationale_mass"),
    )

    config: Experiment
    reader: TextEncoder
    labels: tuple[str, ...]
    weights: Pretrained | None = None
    """Where the training starts; a trained model needs them no more."""

    @staticmethod
    def load(config: Experiment, data_dir: Path | None) -> LabeledTextSplits:
        """Read or generate the labeled texts."""
        return load(settings(config, Classification).data, data_dir)

    @classmethod
    def prepare(cls, config: Experiment, splits: Any, data_dir: Path | None = None) -> Self:
        """Learn the vocabulary from the training texts, and take over the classes."""
        weights = bert.find_weights(config.model, data_dir)
        reader = TextEncoder.fit(settings(config, Classification), [example.text for example in splits.train], data_dir)
        return cls(config, reader, splits.labels, weights)

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabulary and the classes of a run."""
        labels = tuple(read_texts(directory / "labels.json", "classes"))
        return cls(
            config,
            TextEncoder(settings(config, Classification), Tokenizer.load(directory / "tokenizer" / "text.json")),
            labels,
        )

    def files(self) -> Mapping[str, str]:
        """The vocabulary and the classes."""
        labels = json.dumps(self.labels, ensure_ascii=False)
        return {"tokenizer/text.json": self.reader.tokenizer.to_json(), "labels.json": f"{labels}\n"}

    @property
    def tokenizer(self) -> Tokenizer:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the texts."""
        return self.reader.tokenizer

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of pretrained weights."""
        return {} if self.weights is None else {"pretrained": self.weights.fingerprint}

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        return ClassifierAdapter(self.config, self.reader.tokenizer.vocabulary_size, len(self.labels))

    def load_pretrained(self, params: PyTree) -> PyTree:
        """Let the encoder start from pretrained weights, if there are."""
        if self.weights is None:
            return params
        return params | {"encoder": bert.replace_parameters(params["encoder"], _encoder(self.config), self.weights)}

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Cross entropy of the right classes, and what the pooling adds (the penalty of its hops)."""
        out = self.adapter.forward(params, batch, rng, attention=False)
        real = jnp.minimum(batch["lengths"], 1)
        smoothing, labels = self.config.training.label_smoothing, batch["labels"]
        smoothed, nll = cross_entropy(out.logits[:, None], labels[:, None], real, label_smoothing=smoothing)
        right = jnp.sum(real * (jnp.argmax(out.logits, axis=1) == labels))
        return Loss(smoothed + jnp.sum(real * out.auxiliary_loss), jnp.sum(real), {"nll": nll, "accuracy": right})

    def training_batches(self, examples: Sequence[LabeledText]) -> TrainingBatches:
        """Batch the training texts; those longer than `max_length` are truncated, those without a token left out."""
        found = self.reader.encode([example.text for example in examples])
        batches = self.batched(
            [(one.ids, label) for one, label in zip(found, self._numbers(examples), strict=True) if one.length]
        )
        real, words = 100 * batches.real_fraction, self.reader.tokenizer.vocabulary_size
        summary = [
            f"data: {batches.examples:,} texts to train on, {len(batches)} batches an epoch, {real:.0f}% not padding",
            f"vocabulary: {words:,} tokens",
            *([] if self.weights is None else [bert.describe_weights(_encoder(self.config), self.weights)]),
            *self._left_out(examples, found),
        ]
        return TrainingBatches(batches, summary)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[LabeledText], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Score dev: accuracy and macro-F1."""
        answers = self.probabilities(params, [example.text for example in examples], poll).argmax(axis=1)
        labels = self._numbers(examples)
        f1 = macro_f1(confusion(answers, labels, len(self.labels)))
        return {"dev_accuracy": accuracy(answers, labels), "dev_macro_f1": f1}

    def test_metrics(self, params: PyTree, examples: Sequence[LabeledText], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set, and where its deciding tokens are known, the attention."""
        texts = [example.text for example in examples]
        found = self.probabilities(params, texts, poll)
        scores = classification_scores(found, self._numbers(examples), self._task.calibration_bins)
        scores = {"texts": len(examples), **scores, "labels": list(self.labels)}
        if all(example.rationale for example in examples):
            weights = [rows for _, rows, _ in self.looks(params, texts, poll)]
            gold = [self.reader.gold(example) for example in examples]
            before, _ = self._marks
            tokens = [rows[:, before : before + len(true)] for rows, true in zip(weights, gold, strict=True)]
            scores |= rationale_scores(tokens, gold)
        return scores

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """Macro-F1 is made of right classes and answers, all else is a mean."""
        return macro_f1_of(rows) if metric == "macro_f1" else Task.aggregate(metric, rows)

    def parse_example(self, inputs: Sequence[str]) -> LabeledText:
        """Take a text without its class."""
        text = " ".join(inputs)
        if not text.split():
            raise UserError('the text is empty: attnlab show RUN "a text"')
        return LabeledText(" ".join(text.split()), "")

    def attention_maps(self, params: PyTree, example: LabeledText) -> list[AnyAttentionMap]:
        """Classify a text and return its attention map, with a row for each hop, or for each layer and head."""
        if not self.reader.surface(example.text):
            raise UserError("the text has no token: nothing of it can be read")
        ((found, rows, names),) = self.looks(params, [example.text])
        tokens, (before, after) = self.reader.surface(example.text), self._marks
        best = int(found.argmax())
        answer = f"{self.labels[best]} ({found[best]:.3f})"
        asking = "[CLS]" if self._pooling == "first" else "the tokens, on average,"
        title = "" if names[0].startswith("hop") else f"what {asking} attended to in each layer and head"
        return [
            AttentionMap(
                column_labels=[CLS] * before + tokens + [SEP] * after,
                row_labels=[self.labels[best]] if len(rows) == 1 else names,
                weights=rows,
                prediction=answer,
                score=float(found[best]),
                reference=example.label,
                input=example.text,
                column_label="text",
                row_label="class" if len(rows) == 1 else "hop or head",
                column_format="text",
                row_groups=(RowGroup(len(rows), title, "hop or head"),) if title else (),
                evidence=self._evidence(example, len(tokens)),
                unknown_words=tuple(self.unknown_words([example.text])),
            )
        ]

    def selected_attention_map(self, params: PyTree, example: LabeledText, wanted: Selection) -> AnyAttentionMap:
        """Classify a text; return the attention of its pooling, or of each of its tokens."""
        (view,) = self.attention_maps(params, example)
        assert isinstance(view, AttentionMap)
        ((_, batch),) = self._evaluated([one.ids for one in self.reader.encode([example.text])])
        chosen = select(layers_of(self.adapter, params, shard_batch(batch)), wanted, "encoder")
        tokens = view.column_labels
        if chosen.kind == "pooling":
            hops = [f"hop-{hop}" for hop in range(1, len(chosen.weights) + 1)]
            weights, groups = chosen.weights[:, : len(tokens)], (RowGroup(len(hops), chosen.title, "hop"),)
            return replace(view, row_labels=hops, weights=weights, row_label="hop", row_groups=groups)
        return replace(
            view,
            row_labels=tokens,
            weights=chosen.weights[: len(tokens), : len(tokens)],
            column_label="attended to",
            row_label="attending",
            column_format="tokens",
            row_groups=(RowGroup(len(tokens), chosen.title, "attending", from_input=True),),
        )

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words, or pieces of them, that the vocabulary lacks; those of long texts that are not read do not count."""
        return list(dict.fromkeys(self.reader.unknown(texts)))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Classify: the class, a tab and its probability; an empty line for an empty one.

        With `n_best` above 1, so many lines for each instead: `line number ||| class ||| probability`; the classes of
        an empty line are empty, of probability 0.
        """
        if n_best is not None and not 1 <= n_best <= len(self.labels):
            raise UserError(f"--n-best {n_best}: must be between 1 and the number of classes, {len(self.labels)}")
        for number, (line, found) in enumerate(zip(lines, self.probabilities(params, lines), strict=True), start=first):
            order = np.argsort(-found, kind="stable")[: n_best or 1]
            if n_best in (None, 1):
                yield f"{self.labels[order[0]]}\t{found[order[0]]:.4f}" if line.split() else ""
            elif not line.split():
                yield from [f"{number} |||  ||| 0.0000"] * n_best
            else:
                yield from (f"{number} ||| {self.labels[one]} ||| {found[one]:.4f}" for one in order)

    def token_lengths(self, examples: Sequence[LabeledText]) -> dict[str, list[int]]:
        """Tokens of each text, as long as it is given."""
        return {"text": [one.length for one in self.reader.encode([example.text for example in examples])]}

    def probabilities(self, params: PyTree, texts: Sequence[str], poll: Poll = no_poll) -> np.ndarray:
        """Return the probability of each class for each text, [n c].

        Args:
            params: of `model`.
            texts: to be classified.
            poll: called between batches; may raise to stop.
        """
        found = np.full((len(texts), len(self.labels)), 1 / len(self.labels), np.float64)
        batches = self._evaluated([one.ids for one in self.reader.encode(texts)])
        for chosen, batch in with_poll(batches, poll, len(texts)):
            batch = shard_batch(batch)
            logits = jax.device_get(self._classify(params, batch["tokens"], batch["lengths"]))
            found[chosen] = _softmax(logits[: len(chosen)])
        return found

    def looks(
        self, params: PyTree, texts: Sequence[str], poll: Poll = no_poll
    ) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
        """Return for each text the probabilities [c], the attention weights [r s], and the names of their rows.

        A row is a hop of the pooling. Where a Transformer pools without attention, it is a head of a layer instead: the
        attention of [CLS] if the class is predicted from it, else the mean over all tokens, special tokens included.
        """
        ids = [one.ids for one in self.reader.encode(texts)]
        uniform = np.full(len(self.labels), 1 / len(self.labels))
        results = [(uniform, np.zeros((1, len(one))), ["hop-1"]) for one in ids]
        for chosen, batch in with_poll(self._evaluated(ids), poll, len(texts)):
            batch = shard_batch(batch)
            logits, rows = jax.device_get(self._look(params, batch["tokens"], batch["lengths"]))
            names = self._row_names(rows.shape[1])
            for row, index in enumerate(chosen):
                kept = rows[row, :, : len(ids[index]) + sum(self._marks)]
                results[index] = (_softmax(logits[row : row + 1])[0], kept, names)
        return results

    @property
    def _task(self) -> Classification:
        return settings(self.config, Classification)

    @cached_property
    def _classify(self) -> Callable[..., Array]:
        def logits(params: PyTree, tokens: Array, lengths: Array) -> Array:
            batch = {"tokens": tokens, "lengths": lengths}
            return self.adapter.forward(params, batch, attention=False).logits

        return jax.jit(logits)

    @cached_property
    def _look(self) -> Callable[..., tuple[Array, Array]]:
        def look(params: PyTree, tokens: Array, lengths: Array) -> tuple[Array, Array]:
            out = self.adapter.forward(params, {"tokens": tokens, "lengths": lengths})
            heads = [layer.weights for layer in out.attention if layer.kind == "self"]
            if not heads or self._pooling in ("attention", "structured"):
                return out.logits, out.weights
            positions = heads[0].shape[2]
            if self._pooling == "first":
                seen = [weights[:, :, 0] for weights in heads]
            else:
                asking = lengths + sum(self._marks)
                real = (jnp.arange(positions)[None, :] < asking[:, None]).astype(jnp.float32)
                mean = real / jnp.maximum(asking, 1)[:, None]
                seen = [jnp.einsum("bhts,bt->bhs", weights, mean) for weights in heads]
            return out.logits, jnp.concatenate(seen, axis=1)

        return jax.jit(look)

    @property
    def _pooling(self) -> str:
        return self.config.model.pooling.kind  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def _marks(self) -> tuple[int, int]:
        """How many marks stand before a text, and after it, as the model reads it."""
        model = self.config.model
        return (
            (model.special_tokens_before, model.special_tokens_after) if isinstance(model, ClassifierConfig) else (0, 0)
        )

    def _evidence(self, example: LabeledText, tokens: int) -> tuple[int, ...]:
        """Return the columns that hold the rationale, marks counted."""
        if not example.rationale:
            return ()
        marked = np.flatnonzero(self.reader.gold(example)[:tokens])
        return tuple(int(place) + self._marks[0] for place in marked)

    def _row_names(self, rows: int) -> list[str]:
        model = self.config.model
        heads = model.encoder.heads if isinstance(model, ClassifierConfig) else 0
        if not heads or self._pooling in ("attention", "structured"):
            return [f"hop-{number}" for number in range(1, rows + 1)]
        return [f"layer-{row // heads + 1}/head-{row % heads + 1}" for row in range(rows)]

    def _evaluated(self, ids: Sequence[np.ndarray]) -> Iterator[tuple[list[int], Batch]]:
        """Batch the texts that have a token."""
        full = [index for index, one in enumerate(ids) if len(one)]
        model = self.config.model
        longest = model.max_text_tokens if isinstance(model, ClassifierConfig) else None
        lengths = [len(ids[i]) for i in full]
        for chosen, shape in evaluation_shapes(lengths, EVALUATION_TOKENS, rows_multiple(), longest):
            members = [full[i] for i in chosen]
            yield members, self.adapter.fill([(ids[i], 0) for i in members], shape)

    def _numbers(self, examples: Sequence[LabeledText]) -> np.ndarray:
        return np.array([self.labels.index(example.label) for example in examples], int)

    def _left_out(self, examples: Sequence[LabeledText], found: Sequence[EncodedText]) -> list[str]:
        cut, empty = sum(len(one.ids) < one.length for one in found), sum(one.length == 0 for one in found)
        counts = Counter(example.label for example in examples)
        shares = ", ".join(f"{label} {100 * counts[label] / max(len(examples), 1):.1f}%" for label in self.labels)
        lines = [f"classes: {shares}"]
        if cut:
            kept = {"head": "the head", "tail": "the tail", "both": "head and tail"}[self._task.truncation]
            lines.append(f"cut: {cut:,} texts to {self._task.max_length} tokens, {kept} kept (task.max_length)")
        if empty:
            lines.append(f"left out: {empty:,} texts without a token")
        return lines


def _encoder(config: Experiment) -> TransformerEncoder:
    assert isinstance(config.model, ClassifierConfig)
    return config.model.encoder


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
