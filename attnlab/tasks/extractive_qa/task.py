"""Extractive question answering: predict the span of a passage that answers a question, or that there is none."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.config.models.extractive_qa import BidafReader, TransformerReader
from attnlab.data.extractive_qa import load
from attnlab.data.extractive_qa.encoder import PassageEncoder, Window
from attnlab.data.extractive_qa.records import PassageQuestion, unique_ids
from attnlab.data.pretrained.source import Pretrained
from attnlab.data.records import Splits
from attnlab.data.text.batching import evaluation_shapes
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.models import bert
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap
from attnlab.tasks.base import Metric, TrainingBatches, refuse_n_best, rows_multiple, settings
from attnlab.tasks.bootstrap import interval, paired_difference
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.extractive_qa import lexical_baseline
from attnlab.tasks.extractive_qa.adapters import ReaderAdapter, adapter
from attnlab.tasks.extractive_qa.attention_maps import WindowAttention, selected_map, span_map, words_around
from attnlab.tasks.extractive_qa.explained_span import NO_ANSWER, explained_span
from attnlab.tasks.extractive_qa.metrics import best_by_threshold, per_question_scores, squad_scores
from attnlab.tasks.extractive_qa.span_prediction import (
    PredictedSpan,
    WindowScores,
    best_span_text,
    no_answer_margin,
    predict_spans,
)
from attnlab.tasks.layer_attention import Selection, layers_of_first_example, select
from attnlab.tasks.poll import Poll, no_poll, with_poll
from attnlab.tasks.pretrained_task import PretrainedTask
from attnlab.tasks.text_input import parse_lines, predictions_by_line, words_not_in
from attnlab.training.objective import Loss
from attnlab.training.steps import shard_batch

EVALUATION_WORDS = 8192
"""Words of passages in one batch of an evaluation, padding counted."""


@dataclass(eq=False)
class ExtractiveQATask(PretrainedTask):
    """The model of an experiment with its vocabularies."""

    load_data = staticmethod(load.load)
    monitor = "dev_f1"
    loss_unit = "questions"
    input_format = "a passage and a question: two arguments, or one line with a tab between them"
    correctness = "exact"
    reported_metrics = (
        Metric("exact"),
        Metric("f1"),
        Metric("lexical_baseline_exact"),
        Metric("lexical_baseline_f1"),
        Metric("f1_over_baseline"),
    )

    config: Experiment
    passage_encoder: PassageEncoder
    pretrained: Pretrained | None = None

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[PassageQuestion], data_dir: Path | None = None) -> Self:
        """Learn the vocabularies."""
        if config.training.label_smoothing:
            raise UserError("training.label_smoothing: the loss of spans is not smoothed; use 0")
        pretrained = bert.find_weights(config.model, data_dir)
        encoder = PassageEncoder.fit(settings(config, ExtractiveQA), _characters(config), splits.train, data_dir)
        return cls(config, encoder, pretrained)

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabularies of a run."""
        return cls(config, PassageEncoder.load(settings(config, ExtractiveQA), _characters(config), directory))

    def files(self) -> Mapping[str, str]:
        """Return the vocabularies."""
        return self.passage_encoder.files()

    @property
    def tokenizer(self) -> Tokenizer:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The tokenizer of questions and passages."""
        return self.passage_encoder.tokenizer

    @cached_property
    def adapter(self) -> ReaderAdapter:
        """The model with the layout of its batches."""
        return adapter(self.config, self.passage_encoder)

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the answer's first and last word, or of "no answer", over a window's words."""
        logits, real = self.adapter.forward(params, batch, rng, attention=False).logits, batch["real"]
        losses, right = jnp.zeros(real.shape), real > 0
        for side, target in enumerate((batch["start"], batch["end"])):
            losses -= jnp.take_along_axis(jax.nn.log_softmax(logits[:, side]), target[:, None], axis=1)[:, 0]
            right &= jnp.argmax(logits[:, side], axis=1) == target
        total = jnp.sum(real * losses)
        return Loss(total, jnp.sum(real), {"nll": total, "accuracy": jnp.sum(right.astype(jnp.int32))})

    def training_batches(self, examples: Sequence[PassageQuestion]) -> TrainingBatches:
        """Batch the windows of each question with a target, and with `unanswerable` of those without an answer."""
        windows = self.passage_encoder.encode(examples)
        trainable = {window.number for window in windows if window.target != (0, 0)}
        if self._settings.unanswerable:
            trainable |= {number for number, example in enumerate(examples) if not example.answers}
        kept = [window for window in windows if window.number in trainable]
        if not kept:
            reason = _reason_left_out(examples[0], self._settings.window)
            raise UserError(f"train: all questions are left out: {reason}")
        batches = self.batched(kept)
        summary = [
            f"data: {len(examples):,} questions, {batches.examples:,} windows, {len(batches)} batches per epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions are not padding; "
            f"vocabulary: {self.tokenizer.vocabulary_size:,}",
            *self.pretrained_summary(),
            *self._exclusions(examples, trainable),
        ]
        return TrainingBatches(batches, summary)

    def _exclusions(self, examples: Sequence[PassageQuestion], trainable: set[int]) -> Iterator[str]:
        """Yield a line each on questions that are left out, have a guessed answer position, or are truncated."""
        if left_out := sorted(set(range(len(examples))) - trainable):
            reason = _reason_left_out(examples[left_out[0]], self._settings.window)
            yield f"left out: {len(left_out)} questions; {reason}"
        if guessed := sum(example.target is not None and not example.target.certain for example in examples):
            yield f"guessed positions: {guessed} answers whose position in the passage the data do not give"
        limit = self._settings.max_question
        encodings = self.tokenizer.encode_batch([example.question for example in examples])
        if truncated := sum(len(encoding.ids) > limit for encoding in encodings):
            yield f"cut: {truncated} questions of more than {limit} tokens (task.max_question)"

    def validation_metrics(
        self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return exact match and F1."""
        answers = [ranked[0].text for ranked in self.predict_spans(params, examples, poll)]
        exacts, f1s = per_question_scores(_references(examples), answers)
        return {"dev_f1": 100.0 * float(f1s.mean()), "dev_exact": 100.0 * float(exacts.mean())}

    def test_metrics(self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll) -> dict[str, Any]:
        """Return the metrics of SQuAD's evaluation program, and those of the lexical baseline for comparison.

        `answers` is the input of the official program: id -> text.
        """
        predictions, references = self.predict_spans(params, examples, poll), _references(examples)
        answers = [ranked[0].text for ranked in predictions]
        scores: dict[str, Any] = dict(squad_scores(references, answers))
        if self._settings.unanswerable:
            texts, margins = map(best_span_text, predictions), map(no_answer_margin, predictions)
            scores |= best_by_threshold(references, list(texts), list(margins))
        exact_and_f1 = per_question_scores(references, answers)
        scores["per_example"] = {
            name: 100.0 * values for name, values in zip(("exact", "f1"), exact_and_f1, strict=True)
        }
        baseline = per_question_scores(references, [lexical_baseline.predict(example) for example in examples])
        for (name, values), baseline_values in zip(scores["per_example"].items(), baseline, strict=True):
            difference = paired_difference(values, 100.0 * baseline_values)
            low, high = difference.low, difference.high
            scores |= {
                f"{name}_ci95": interval(values),
                f"lexical_baseline_{name}": difference.second,
                f"lexical_baseline_{name}_ci95": interval(100.0 * baseline_values),
                f"{name}_over_baseline": difference.difference,
                f"{name}_over_baseline_ci95": None if low is None else [low, high],
            }
        return scores | {"answers": dict(zip(unique_ids(example.id for example in examples), answers, strict=True))}

    def parse_example(self, inputs: Sequence[str]) -> PassageQuestion:
        """Parse a passage and a question."""
        parts = inputs[0].split("\t") if len(inputs) == 1 else list(inputs)
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise UserError(f"expected {self.input_format}, not {len(parts)} text{'s' if len(parts) > 1 else ''}")
        return PassageQuestion("", parts[1].strip(), parts[0].strip(), ())

    def attention_maps(self, params: PyTree, example: PassageQuestion) -> list[AnyAttentionMap]:
        """Return the attention map of each predicted answer, in its window of the passage, best answer first."""
        return [attention_map for attention_map, _, _ in self._span_maps(params, example)]

    def _span_maps(self, params: PyTree, example: PassageQuestion) -> list[tuple[AttentionMap, Window, PredictedSpan]]:
        """Return the attention map of each predicted answer with its window, best answer first."""
        windows = self.passage_encoder.encode([example])
        if not windows[0].length:
            raise UserError("the passage has no tokens")
        attention = self._window_attention(params, windows)
        (ranked,) = self.predict_spans(params, [example])
        question_words, title = self._question_words(example, windows[0]), self.adapter.question_title
        unknown = tuple(self.unknown_words([example.passage, example.question]))
        maps = []
        for span in ranked:
            window, weights = windows[span.window], attention[span.window]
            maps.append((span_map(example, window, span, weights, question_words, title, unknown), window, span))
        return maps

    def selected_attention_map(self, params: PyTree, example: PassageQuestion, selection: Selection) -> AnyAttentionMap:
        """Return the selected attention within or between question and passage, in the best answer's window."""
        best, window, span = self._span_maps(params, example)[0]
        batch = shard_batch(self.adapter.fill([window]))
        selected = select(layers_of_first_example(self.adapter, params, batch), selection, "encoder")
        return selected_map(best, selected, window, words_around(window, span), self._question_words(example, window))

    def explained_prediction(
        self, params: PyTree, example: PassageQuestion, selection: TargetSelection
    ) -> ExplainedPrediction:
        """Return the predicted answer, or another one, with the words of the question and of the answer's window."""
        windows = self.passage_encoder.encode([example])
        if not windows[0].length:
            raise UserError("the passage has no tokens")
        return explained_span(self.adapter, example, windows, self.predict_spans(params, [example])[0][0], selection)

    def outputs(self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll) -> list[str]:
        """Return the answer to each question, `NO_ANSWER` where the prediction is that there is none."""
        return [ranked[0].text or NO_ANSWER for ranked in self.predict_spans(params, examples, poll)]

    def output_scores(self, outputs: Sequence[str], examples: Sequence[PassageQuestion]) -> dict[str, np.ndarray]:
        """Return the rows of exact match and F1; a question without answers has the reference "no answer"."""
        if not all(map(_has_reference, examples)):
            return {}
        answers = ["" if output == NO_ANSWER else output for output in outputs]
        exacts, f1s = per_question_scores(_references(examples), answers)
        return {"exact": 100.0 * exacts, "f1": 100.0 * f1s}

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of passages and questions that the vocabulary lacks."""
        return words_not_in(self.tokenizer, texts)

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield the answer to each line `passage<TAB>question`; it is empty if the prediction is "no answer"."""
        refuse_n_best(n_best)
        examples = parse_lines(lines, first, lambda line: self.parse_example([line]))
        questions = [example for example in examples if example is not None]
        predictions = self.predict_spans(params, questions) if questions else []
        yield from predictions_by_line(examples, (" ".join(ranked[0].text.split()) for ranked in predictions))

    def token_lengths(self, examples: Sequence[PassageQuestion]) -> dict[str, list[int]]:
        """Return the lengths in tokens of passages, questions, and target answers."""
        texts = {
            "passage": [example.passage for example in examples],
            "question": [example.question for example in examples],
            "answer": [example.target.text for example in examples if example.target is not None],
        }
        encode = self.tokenizer.encode_batch
        return {part: [len(encoding.ids) for encoding in encode(batch)] for part, batch in texts.items()}

    def predict_spans(
        self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll
    ) -> list[list[PredictedSpan]]:
        """Return the best answers to each question, best first; see `span_prediction.predict_spans`."""
        windows = self.passage_encoder.encode(examples)
        return predict_spans(self.passage_encoder, examples, windows, self._window_scores(params, windows, poll))

    def _window_scores(self, params: PyTree, windows: Sequence[Window], poll: Poll) -> Iterator[WindowScores]:
        """Yield the log-probabilities of windows, batch by batch."""
        sizes = [self.adapter.lengths(window) for window in windows]
        question = -(-max((source for source, _ in sizes), default=1) // 8) * 8
        model = self.config.model
        max_positions = model.encoder.max_positions if isinstance(model, TransformerReader) else None
        lengths = [target for _, target in sizes]
        shapes = evaluation_shapes(lengths, EVALUATION_WORDS, rows_multiple(), max_positions)
        for indices, shape in with_poll(shapes, poll, len(windows)):
            members = [windows[i] for i in indices]
            batch = shard_batch(self.adapter.fill(members, Shape(shape.rows, question, shape.source)))
            yield indices, *jax.device_get(self._log_probabilities(params, batch))

    def _window_attention(self, params: PyTree, windows: Sequence[Window]) -> list[WindowAttention]:
        """Return the attention of each window."""
        batch = shard_batch(self.adapter.fill(windows))
        logits, attention = jax.device_get(self._logits_and_attention(params, batch))
        first, last = (np.exp(np.asarray(_log_softmax(logits[:, side])))[:, 1:] for side in (0, 1))
        by_word, as_whole = ([None] * len(windows) if weights is None else np.asarray(weights) for weights in attention)
        return [WindowAttention(by_word[n], as_whole[n], first[n], last[n]) for n in range(len(windows))]

    def _question_words(self, example: PassageQuestion, window: Window) -> list[str]:
        """Return the words of the question after truncation."""
        return self.tokenizer.encode(example.question).surface[: len(window.question.ids)]

    @property
    def _settings(self) -> ExtractiveQA:
        return settings(self.config, ExtractiveQA)

    @cached_property
    def _log_probabilities(self) -> Callable[..., Any]:
        def log_probabilities(params: PyTree, batch: Any) -> tuple[Array, Array]:
            logits = self.adapter.forward(params, batch, attention=False).logits
            return jax.nn.log_softmax(logits[:, 0]), jax.nn.log_softmax(logits[:, 1])

        return jax.jit(log_probabilities)

    @cached_property
    def _logits_and_attention(self) -> Callable[..., Any]:
        def logits_and_attention(params: PyTree, batch: Any) -> tuple[Array, Any]:
            output = self.adapter.forward(params, batch)
            return output.logits, self.adapter.question_attention(batch, output.attention)

        return jax.jit(logits_and_attention)


def _characters(config: Experiment) -> int:
    """Return how many characters of each word the model takes."""
    model = config.model
    return model.characters.max_characters if isinstance(model, BidafReader) and model.characters else 0


def _has_reference(example: PassageQuestion) -> bool:
    """Return whether it is known what the answer is, or that there is none: not for a question that a user asks."""
    return bool(example.answers or example.id)


def _references(examples: Sequence[PassageQuestion]) -> list[list[str]]:
    return [[answer.text for answer in example.answers] for example in examples]


def _reason_left_out(example: PassageQuestion, window: int) -> str:
    """Return the reason why a question is left out of training."""
    name = example.id[:60]
    if not example.answers:
        return f"{name} has no answer, which task.unanswerable: true allows"
    for answer in example.answers:
        text = example.passage[slice(*answer.span)]
        if text != answer.text:
            return f"of {name} the answer {answer.text[:60]!r} is not at character {answer.start} ({text[:60]!r} is)"
    return f"of {name} no answer is whole in a window of {window} tokens (task.window)"


def _log_softmax(logits: np.ndarray) -> Any:
    return jax.nn.log_softmax(jnp.asarray(logits))
