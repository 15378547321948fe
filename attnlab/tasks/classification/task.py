"""Text classification: class probabilities of a text, with the attention over its tokens."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.classification import Classification
from attnlab.config.errors import UserError
from attnlab.config.json_text import read_texts
from attnlab.data.classification import yelp_hat
from attnlab.data.classification.load import load
from attnlab.data.classification.records import LabeledText
from attnlab.data.classification.text_encoder import TextEncoder
from attnlab.data.records import EvaluationSet
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.models import bert
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap
from attnlab.tasks.base import Metric, Task, TrainingBatches, settings
from attnlab.tasks.classification import metrics
from attnlab.tasks.classification.adversary import adversary_loss, fill_with_base
from attnlab.tasks.classification.attention_maps import (
    attention_to_text,
    class_map,
    selected_map,
    special_tokens,
)
from attnlab.tasks.classification.base_model import base_summary, is_guided, read_base, read_copy
from attnlab.tasks.classification.classifier import ClassifierTask
from attnlab.tasks.classification.data_summary import batch_counts, class_shares, evidence_notes, exclusions
from attnlab.tasks.classification.losses import label_loss
from attnlab.tasks.classification.prediction_lines import prediction_lines
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection, choice
from attnlab.tasks.input_parts import CLS, SEP, InputSequence, text_part
from attnlab.tasks.layer_attention import Selection, layers_of_first_example, select
from attnlab.tasks.poll import Poll, no_poll
from attnlab.training.objective import Loss
from attnlab.training.steps import shard_batch


class ClassificationTask(ClassifierTask):
    """Text classification: its data, its loss, its metrics, and its inputs and outputs as text."""

    load_data = staticmethod(load)
    monitor = "dev_accuracy"
    loss_unit = "texts"
    input_format = "a text"
    correctness = "accuracy"
    reported_metrics = tuple(map(Metric, ("accuracy", "macro_f1", "ece", "majority", "rationale_mass")))

    @classmethod
    def prepare(cls, config: Experiment, splits: Any, data_dir: Path | None = None) -> Self:
        """Learn the vocabulary from the training texts, or use that of the base model; the classes are the data's."""
        own = settings(config, Classification)
        if base := read_base(config, splits.labels, cls.restore):
            encoder = TextEncoder(own, base.task.tokenizer)
        else:
            encoder = TextEncoder.fit(own, [example.text for example in splits.train], data_dir)
        return cls(config, encoder, splits.labels, bert.find_weights(config.model, data_dir), base)

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabulary and the classes of a run, and the base model that guides it, if there is one."""
        labels = tuple(read_texts(directory / "labels.json", "classes"))
        tokenizer = Tokenizer.load(directory / "tokenizer" / "text.json")

        def with_config(config: Experiment) -> Self:
            return cls(config, TextEncoder(settings(config, Classification), tokenizer), labels)

        task = with_config(config)
        task.base = read_copy(directory, with_config) if is_guided(config) else None
        return task

    def files(self) -> Mapping[str, str | bytes]:
        """Return the vocabulary and the classes, and the base model that guides this one, if there is one."""
        labels = json.dumps(self.labels, ensure_ascii=False)
        copy = self.base.files() if self.base and is_guided(self.config) else {}
        return {"tokenizer/text.json": self.tokenizer.to_json(), "labels.json": f"{labels}\n", **copy}

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of the pretrained weights and of the base model, if there are any."""
        return super().weight_fingerprints() | ({"base": self.base.fingerprint} if self.base else {})

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the labels, or the loss of an adversary, plus the penalty of the pooling."""
        out = self.adapter.forward(params, batch, rng, attention=False)
        if self._settings.objective is not None:
            return adversary_loss(out, batch, self._settings.objective.strength)
        return label_loss(out, batch, self.config.training.label_smoothing)

    def training_batches(self, examples: Sequence[LabeledText]) -> TrainingBatches:
        """Batch the training texts; those longer than `max_length` are truncated, those without tokens left out."""
        encoded = self.text_encoder.encode([example.text for example in examples])
        labels = self._label_numbers(examples)
        kept = [number for number, text in enumerate(encoded) if text.length]
        ids = [encoded[number].ids for number in kept]
        base_texts = self.base.classify_training_texts(ids) if self.base and ids else []
        members = self._adapted(ids, labels[kept], base_texts)
        is_adversary = self._settings.objective is not None and base_texts
        pooling: Any = self.config.model.pooling  # pyright: ignore[reportAttributeAccessIssue]
        fill = fill_with_base(self.adapter, members, base_texts, pooling.hops) if is_adversary else None
        batches = self.batched(members, fill)
        summary = [
            *batch_counts(batches, self.tokenizer.vocabulary_size),
            *self.pretrained_summary(),
            *base_summary(self.config, self.base),
            *class_shares(examples, self.labels),
            *exclusions(encoded, self._settings),
        ]
        return TrainingBatches(batches, summary)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[LabeledText], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return accuracy and macro-F1."""
        predictions = self.probabilities(params, [example.text for example in examples], poll).argmax(axis=1)
        labels = self._label_numbers(examples)
        f1 = metrics.macro_f1(metrics.confusion(predictions, labels, len(self.labels)))
        return {"dev_accuracy": metrics.accuracy(predictions, labels), "dev_macro_f1": f1}

    def test_metrics(self, params: PyTree, examples: Sequence[LabeledText], poll: Poll = no_poll) -> dict[str, Any]:
        """Return the metrics of the predictions, and of the attention if all examples have a rationale."""
        texts = [example.text for example in examples]
        probabilities = self.probabilities(params, texts, poll)
        labels, bins = self._label_numbers(examples), self._settings.calibration_bins
        scores = metrics.classification_scores(probabilities, labels, bins)
        scores = {"texts": len(examples), **scores, "labels": list(self.labels)}
        if all(example.rationale for example in examples):
            rationales = [self.text_encoder.gold(example) for example in examples]
            weights = attention_to_text(self.classify(params, texts, poll), self.config.model)
            scores |= metrics.rationale_scores(weights, rationales)
        return scores

    def outputs(self, params: PyTree, examples: Sequence[LabeledText], poll: Poll = no_poll) -> list[str]:
        """Return the predicted class of each text."""
        probabilities = self.probabilities(params, [example.text for example in examples], poll)
        return [self.labels[number] for number in probabilities.argmax(axis=1)]

    def output_scores(self, outputs: Sequence[str], examples: Sequence[LabeledText]) -> dict[str, np.ndarray]:
        """Return the rows of accuracy and macro-F1."""
        if not all(example.label for example in examples):
            return {}
        predictions = np.array([self.labels.index(name) for name in outputs])
        return metrics.prediction_rows(predictions, self._label_numbers(examples))

    def evaluation_sets(self) -> Mapping[str, Callable[[Path | None], EvaluationSet[LabeledText]]]:
        """Return the reviews of Yelp-HAT, with human marks."""
        return yelp_hat.readers(self.labels)

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """Compute macro-F1 from labels and predictions, any other metric as a mean."""
        return metrics.macro_f1_of(rows) if metric == "macro_f1" else Task.aggregate(metric, rows)

    def parse_example(self, inputs: Sequence[str]) -> LabeledText:
        """Parse a text, whose label is unknown."""
        text = " ".join(inputs)
        if not text.split():
            raise UserError('the text is empty: attnlab show RUN "a text"')
        return LabeledText(" ".join(text.split()), "")

    def attention_maps(self, params: PyTree, example: LabeledText) -> list[AnyAttentionMap]:
        """Return the attention map of the predicted class, with a row for each hop, or for each layer and head."""
        tokens = self.text_encoder.surface(example.text)
        if not tokens:
            raise UserError("the text has no tokens")
        (classified,) = self.classify(params, [example.text])
        rationale = self.text_encoder.gold(example) if example.marked else None
        unknown = tuple(self.unknown_words([example.text]))
        return [class_map(example, tokens, classified, self.labels, self.config.model, rationale, unknown)]

    def selected_attention_map(self, params: PyTree, example: LabeledText, selection: Selection) -> AnyAttentionMap:
        """Return the selected attention: of the pooling, or of each token to each token."""
        (best,) = self.attention_maps(params, example)
        assert isinstance(best, AttentionMap)
        ((_, batch),) = self._batches(self._ids([example.text]))
        return selected_map(
            best, select(layers_of_first_example(self.adapter, params, shard_batch(batch)), selection, "encoder")
        )

    def explained_prediction(
        self, params: PyTree, example: LabeledText, selection: TargetSelection
    ) -> ExplainedPrediction:
        """Return the predicted class, or another one, with the tokens of the text."""
        (encoded,) = self.text_encoder.encode([example.text])
        if not encoded.length:
            raise UserError("the text has no tokens")
        before, after = special_tokens(self.config.model)
        spans = self.text_encoder.spans(example.text)
        part = text_part("text", example.text, spans, before=[CLS] * before, after=[SEP] * after)
        predicted = int(self.probabilities(params, [example.text])[0].argmax())
        (member,) = self._adapted([encoded.ids])
        return choice(member, InputSequence((part,)), self.labels, predicted, selection, "class")

    def evidence(self, example: LabeledText, explained: ExplainedPrediction) -> np.ndarray | None:
        """Return which tokens are marked as reasons for the label."""
        if example.marked is None:
            return None
        return np.pad(self.text_encoder.gold(example), special_tokens(self.config.model))

    def evidence_notes(self, examples: Sequence[LabeledText]) -> list[str]:
        """Return a line on the marked spans and those without a token."""
        return evidence_notes(self.text_encoder, examples)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words, or pieces of words, that the vocabulary lacks, after truncation."""
        return list(dict.fromkeys(self.text_encoder.unknown(texts)))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield the class of each line with its probability, or the best classes; see `prediction_lines`."""
        if n_best is not None and not 1 <= n_best <= len(self.labels):
            raise UserError(f"--n-best {n_best}: must be between 1 and the number of classes, {len(self.labels)}")
        yield from prediction_lines(lines, self.probabilities(params, lines), self.labels, first, n_best)

    def token_lengths(self, examples: Sequence[LabeledText]) -> dict[str, list[int]]:
        """Return the length in tokens of each text, before truncation."""
        return {"text": [text.length for text in self.text_encoder.encode([example.text for example in examples])]}

    def _label_numbers(self, examples: Sequence[LabeledText]) -> np.ndarray:
        return np.array([self.labels.index(example.label) for example in examples], int)
