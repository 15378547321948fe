"""Spans: the piece of a passage that answers a question, or that there is none."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.config.models.extractive_qa import TransformerReader
from attnlab.config.models.transformer import TransformerEncoder
from attnlab.data.extractive_qa import load
from attnlab.data.extractive_qa.encoder import PassageEncoder, Window
from attnlab.data.extractive_qa.records import PassageQuestion, unique_ids
from attnlab.data.extractive_qa.windows import best_spans
from attnlab.data.pretrained.source import Pretrained
from attnlab.data.records import Splits
from attnlab.data.text.batching import evaluation_shapes
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.models import bert
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, RowGroup
from attnlab.tasks.base import (
    Metric,
    Poll,
    Task,
    TrainingBatches,
    no_poll,
    refuse_n_best,
    rows_multiple,
    settings,
    with_poll,
)
from attnlab.tasks.bootstrap import interval, paired_difference
from attnlab.tasks.extractive_qa import lexical_baseline
from attnlab.tasks.extractive_qa.adapters import ReaderAdapter, adapter
from attnlab.tasks.extractive_qa.metrics import best_by_threshold, per_question_scores, squad_scores
from attnlab.tasks.layer_attention import Selection, layers_of, select
from attnlab.training.objective import Loss
from attnlab.training.steps import shard_batch

EVALUATION_POSITIONS = 8192
"""Words of passages in one batch of a test."""
CLS, SEP = "[CLS]", "[SEP]"
LONGEST_SHOWN = 120
"""Words of a passage in a picture: those around the answer."""


class Found(NamedTuple):
    """An answer, best first in a list of them; the text is empty where there is none."""

    text: str
    score: float
    """log p(first word) + log p(last word) in its window, or the same of no answer."""
    window: int
    """Number of its window among those of the question."""
    place: tuple[int, int]
    """First and last word in the window; (-1, -1) for none."""


@dataclass(eq=False)
class ExtractiveQATask(Task):
    """The model of an experiment with its vocabularies."""

    monitor = "dev_f1"
    loss_unit = "questions"
    input_format = "a passage and a question: two arguments, or one line with a tab between them"
    reported_metrics = (
        Metric("exact"),
        Metric("f1"),
        Metric("lexical_baseline_exact"),
        Metric("lexical_baseline_f1"),
        Metric("f1_over_baseline"),
    )

    config: Experiment
    reader: PassageEncoder
    weights: Pretrained | None = None
    """Where the training starts; a trained model needs them no more."""

    @staticmethod
    def load(config: Experiment, data_dir: Path | None) -> Splits[PassageQuestion]:
        """Read the questions with their passages."""
        return load.load(settings(config, ExtractiveQA).data, data_dir)

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[PassageQuestion], data_dir: Path | None = None) -> Self:
        """Learn the vocabularies."""
        if config.training.label_smoothing:
            raise UserError("training.label_smoothing: spans have no smoothed loss; 0 is right")
        weights = bert.find_weights(config.model, data_dir)
        reader = PassageEncoder.fit(settings(config, ExtractiveQA), _letters(config), splits.train, data_dir)
        return cls(config, reader, weights)

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabularies of a run."""
        return cls(config, PassageEncoder.load(settings(config, ExtractiveQA), _letters(config), directory))

    def files(self) -> Mapping[str, str]:
        """The vocabularies."""
        return self.reader.files()

    @property
    def tokenizer(self) -> Tokenizer:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of questions and passages."""
        return self.reader.tokenizer

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of pretrained weights."""
        return {} if self.weights is None else {"pretrained": self.weights.fingerprint}

    @cached_property
    def adapter(self) -> ReaderAdapter:
        """The model with the layout of its batches."""
        return adapter(self.config, self.reader)

    def load_pretrained(self, params: PyTree) -> PyTree:
        """Let the encoder start from pretrained weights, if there are."""
        if self.weights is None:
            return params
        return bert.replace_parameters(params, _encoder(self.config), self.weights)

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Cross entropy of the answer's first and of its last word (or of none) among all words of the window."""
        logits, real = self.adapter.forward(params, batch, rng, attention=False).logits, batch["real"]
        losses, right = jnp.zeros(real.shape), real > 0
        for side, target in enumerate((batch["start"], batch["end"])):
            losses -= jnp.take_along_axis(jax.nn.log_softmax(logits[:, side]), target[:, None], axis=1)[:, 0]
            right &= jnp.argmax(logits[:, side], axis=1) == target
        total = jnp.sum(real * losses)
        return Loss(total, jnp.sum(real), {"nll": total, "accuracy": jnp.sum(right.astype(jnp.int32))})

    def training_batches(self, examples: Sequence[PassageQuestion]) -> TrainingBatches:
        """Batch every window of the questions that have a target, or are known to have no answer."""
        windows = self.reader.encode(examples)
        known = {number for number, one in enumerate(examples) if not one.answers}
        found = {window.number for window in windows if window.target != (0, 0)}
        kept = [window for window in windows if window.number in (found if not self._allows_none else found | known)]
        if not kept:
            reason = _why_left_out(examples[0], settings(self.config, ExtractiveQA).window)
            raise UserError(f"train: no question is left to be trained on: {reason}")
        lost = sorted(set(range(len(examples))) - {window.number for window in kept})
        most = settings(self.config, ExtractiveQA).window
        guessed = sum(one.target is not None and not one.target.certain for one in examples)
        long = sum(len(self.reader.tokenizer.encode(one.question).ids) > self._most_asked for one in examples)
        batches = self.batched(kept)
        vocabulary = self.reader.tokenizer.vocabulary_size
        summary = [
            f"data: {len(examples):,} questions, {batches.examples:,} windows, {len(batches)} batches an epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions real; vocabulary: {vocabulary:,}",
            "" if self.weights is None else bert.describe_weights(_encoder(self.config), self.weights),
            f"left out: {len(lost)} questions; {_why_left_out(examples[lost[0]], most)}" if lost else "",
            f"trained on a guessed place: {guessed} answers (no certain one is given)" if guessed else "",
            f"cut: {long} questions of more than {self._most_asked} tokens (task.max_question)" if long else "",
        ]
        return TrainingBatches(batches, list(filter(None, summary)))

    def validation_metrics(
        self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Score dev: exact match and F1."""
        answers = [found[0].text for found in self.find(params, examples, poll)]
        exacts, f1s = per_question_scores(_gold(examples), answers)
        return {"dev_f1": 100.0 * float(f1s.mean()), "dev_exact": 100.0 * float(exacts.mean())}

    def test_metrics(self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set as SQuAD's program does, with the lexical baseline for comparison.

        `answers` is what the official program reads: id -> text.
        """
        ranked, gold = self.find(params, examples, poll), _gold(examples)
        answers = [one[0].text for one in ranked]
        scores: dict[str, Any] = dict(squad_scores(gold, answers))
        if self._allows_none:
            scores |= best_by_threshold(gold, [_best_span(one) for one in ranked], [_margin(one) for one in ranked])
        scores["per_example"] = {
            name: 100.0 * found for name, found in zip(("exact", "f1"), per_question_scores(gold, answers), strict=True)
        }
        baseline = per_question_scores(gold, [lexical_baseline.answer(one) for one in examples])
        for (name, ours), theirs in zip(scores["per_example"].items(), baseline, strict=True):
            found = paired_difference(ours, 100.0 * theirs)
            scores |= {
                f"{name}_ci95": interval(ours),
                f"lexical_baseline_{name}": found.second,
                f"lexical_baseline_{name}_ci95": interval(100.0 * theirs),
                f"{name}_over_baseline": found.difference,
                f"{name}_over_baseline_ci95": None if found.low is None else [found.low, found.high],
            }
        return scores | {"answers": dict(zip(unique_ids(one.id for one in examples), answers, strict=True))}

    def parse_example(self, inputs: Sequence[str]) -> PassageQuestion:
        """Take a passage and a question."""
        parts = inputs[0].split("\t") if len(inputs) == 1 else list(inputs)
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise UserError(f"expected {self.input_format}, not {len(parts)} text{'s' if len(parts) > 1 else ''}")
        return PassageQuestion("", parts[1].strip(), parts[0].strip(), ())

    def attention_maps(self, params: PyTree, example: PassageQuestion) -> list[AnyAttentionMap]:
        """Answer, best answers first: which words of the passage each word of the question had to do with."""
        windows = self.reader.encode([example])
        if not windows[0].length:
            raise UserError("the passage has no token: nothing of it can be read")
        looks = self._attention(params, windows)
        (found,) = self.find(params, [example])
        return [self._view(example, windows[one.window], looks[one.window], one) for one in found]

    def selected_attention_map(self, params: PyTree, example: PassageQuestion, wanted: Selection) -> AnyAttentionMap:
        """Answer; return the attention within or between question and passage, in the window of the best answer."""
        best, windows = self.attention_maps(params, example)[0], self.reader.encode([example])
        assert isinstance(best, AttentionMap)
        one = self.find(params, [example])[0][0]
        window = windows[one.window]
        chosen = select(layers_of(self.adapter, params, self._batch([window])), wanted, "encoder")
        words, question_words = self._shown(window, one), self._question(example, window)
        if chosen.kind == "context_to_query":
            return replace(
                best,
                row_labels=best.column_labels,
                column_labels=question_words,
                weights=chosen.weights[words, : len(question_words)],
                row_label="passage",
                column_label="question",
                row_groups=(RowGroup(len(best.column_labels), chosen.title, "passage", from_input=True),),
                evidence=(),
            )
        if chosen.kind == "query_to_context":
            weights, groups = chosen.weights[:, words], (RowGroup(1, chosen.title, "question"),)
            rows = ["question as a whole"]
            return replace(best, row_labels=rows, weights=weights, row_label="question", row_groups=groups)
        start = len(question_words) + 2
        places = np.array([*range(start), *range(start + words.start, start + words.stop)])
        tokens = [CLS, *question_words, SEP, *best.column_labels]
        cut = f"; of {window.length} words of the passage {len(best.column_labels)} are shown"
        title = chosen.title + (cut if len(best.column_labels) < window.length else "")
        return replace(
            best,
            column_labels=tokens,
            row_labels=tokens,
            weights=chosen.weights[np.ix_(places, places)],
            column_label="attended to",
            row_label="attending",
            row_groups=(RowGroup(len(tokens), title, "attending", from_input=True),),
            evidence=tuple(start + column for column in best.evidence),
        )

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words of passages and questions that the vocabulary lacks."""
        found = self.reader.tokenizer.encode_batch(list(texts))
        return list(dict.fromkeys(word for one in found for word in one.unknown_words))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Answer line by line, `passage<TAB>question`: an empty line for an empty one, and where there is no answer."""
        refuse_n_best(n_best)
        full = [number for number, line in enumerate(lines) if line.strip()]
        questions = []
        for number in full:
            try:
                questions.append(self.parse_example([lines[number]]))
            except UserError as error:
                raise UserError(f"line {first + number + 1}: {error}") from error
        found = self.find(params, questions) if questions else []
        answers = {number: " ".join(one[0].text.split()) for number, one in zip(full, found, strict=True)}
        yield from (answers.get(number, "") for number in range(len(lines)))

    def token_lengths(self, examples: Sequence[PassageQuestion]) -> dict[str, list[int]]:
        """Tokens of passages, of questions, and of the answers that are trained on."""
        encode = self.reader.tokenizer.encode_batch
        answers = [one.target.text for one in examples if one.target is not None]
        texts = {"passage": [one.passage for one in examples], "question": [one.question for one in examples]}
        return {name: [len(e.ids) for e in encode(found)] for name, found in (texts | {"answer": answers}).items()}

    def find(self, params: PyTree, examples: Sequence[PassageQuestion], poll: Poll = no_poll) -> list[list[Found]]:
        """Find the best answers to each question over all windows of its passage, best first.

        Scores of windows can be compared since in each of them no answer competes with the words. There is no answer
        (where the task allows that) when the score of none, the smallest of all windows, exceeds that of the best span
        by more than `task.null_threshold`. Of spans that read alike, in windows that overlap or in other places, the
        best is returned.
        """
        windows = self.reader.encode(examples)
        task, found = settings(self.config, ExtractiveQA), [[] for _ in examples]
        least, begins = np.full(len(examples), np.inf), {}
        for index, window in enumerate(windows):
            begins.setdefault(window.number, index)
        for chosen, start, end in self._pointed(params, windows, poll):
            for row, index in enumerate(chosen):
                window, question = windows[index], examples[windows[index].number]
                words = slice(1, window.length + 1)
                least[window.number] = min(least[window.number], start[row, 0] + end[row, 0])
                for score, first, last in best_spans(start[row, words], end[row, words], task.max_answer, task.n_best):
                    text = self.reader.answer(question, window, first, last)
                    found[window.number].append(Found(text, score, index - begins[window.number], (first, last)))
        return [self._ranked(spans, float(none)) for spans, none in zip(found, least, strict=True)]

    def _ranked(self, spans: list[Found], none: float) -> list[Found]:
        distinct: dict[str, Found] = {}
        for one in sorted(spans, key=lambda one: -one.score):
            distinct.setdefault(one.text, one)
        best = list(distinct.values())[: settings(self.config, ExtractiveQA).n_best]
        nothing = Found("", none, 0, (-1, -1))
        if not best:
            return [nothing]
        if not self._allows_none:
            return best
        over = none - best[0].score > settings(self.config, ExtractiveQA).null_threshold
        return [nothing, *best] if over else [best[0], nothing, *best[1:]]

    def _pointed(
        self, params: PyTree, windows: Sequence[Window], poll: Poll
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Log-probabilities of the first and last words of windows, batch by batch, with the numbers of the windows."""
        lengths = [self.adapter.lengths(window)[1] for window in windows]
        question = -(-max((self.adapter.lengths(window)[0] for window in windows), default=1) // 8) * 8
        model = self.config.model
        longest = model.encoder.max_positions if isinstance(model, TransformerReader) else None
        shapes = evaluation_shapes(lengths, EVALUATION_POSITIONS, rows_multiple(), longest)
        for chosen, shape in with_poll(shapes, poll, len(windows)):
            batch = shard_batch(
                self.adapter.fill([windows[i] for i in chosen], Shape(shape.rows, question, shape.source))
            )
            yield chosen, *jax.device_get(self._point(params, batch))

    def _attention(self, params: PyTree, windows: Sequence[Window]) -> list[tuple[np.ndarray, ...]]:
        """Weights [j t], and of the passage, the first and the last word [t] each, of every window."""
        pointers, weights = jax.device_get(self._point_with_attention(params, self._batch(windows)))
        probabilities = [np.exp(np.asarray(_log_softmax(a)))[:, 1:] for a in (pointers.start, pointers.end)]
        parts = np.asarray(weights), np.asarray(pointers.passage), *probabilities
        return [tuple(part[row] for part in parts) for row in range(len(windows))]

    def _batch(self, windows: Sequence[Window]) -> Any:
        return shard_batch(self.adapter.fill(windows))

    @staticmethod
    def _shown(window: Window, one: Found) -> slice:
        """Words of a window that are shown: those around the answer."""
        shown = min(window.length, LONGEST_SHOWN)
        start = min(max(one.place[0] - shown // 2, 0), window.length - shown)
        return slice(start, start + shown)

    def _question(self, example: PassageQuestion, window: Window) -> list[str]:
        """Words of the question that are read."""
        return self.reader.tokenizer.encode(example.question).surface[: len(window.question.ids)]

    def _view(
        self, example: PassageQuestion, window: Window, looked: tuple[np.ndarray, ...], one: Found
    ) -> AttentionMap:
        between, of_question, first, last = looked
        words = self._shown(window, one)
        start, shown = words.start, words.stop - words.start
        question_words = self._question(example, window)
        names, rows, title = ["answer starts", "answer ends"], [first[words], last[words]], "Where the answer is"
        if of_question.any():
            names, rows = ["question as a whole", *names], [of_question[words], *rows]
            title = "Where the question as a whole looked, and where the answer is"
        if min(first.sum(), last.sum()) < 0.995:
            title += "; what its rows lack of 1: that there is no answer"
        if shown < window.length:
            title += f" (of {window.length} words the {shown} around the answer; the sums are theirs)"
        groups = [RowGroup(len(rows), title, value_label="weight or probability")]
        if between.any():
            names, rows = [*question_words, *names], [*between[: len(question_words), words], *rows]
            groups = [RowGroup(len(question_words), self.adapter.title, "question", from_input=True), *groups]
        gold = list(dict.fromkeys(answer.text for answer in example.answers))
        spans = window.passage.offsets[window.first + start : window.first + start + shown]
        return AttentionMap(
            column_labels=[example.passage[a:b] for a, b in spans],
            row_labels=names,
            weights=np.stack(rows),
            prediction=one.text or "(no answer)",
            score=one.score,
            reference=" / ".join(gold),
            input=f"{example.question} — {example.passage}",
            question=example.question,
            column_label="passage",
            row_label="question and answer",
            row_groups=tuple(groups),
            evidence=tuple(
                column
                for column, (begin, end) in enumerate(spans)
                if any(begin < answer.span[1] and answer.span[0] < end for answer in example.answers)
            ),
            unknown_words=tuple(self.unknown_words([example.passage, example.question])),
        )

    @property
    def _allows_none(self) -> bool:
        return settings(self.config, ExtractiveQA).unanswerable

    @property
    def _most_asked(self) -> int:
        return settings(self.config, ExtractiveQA).max_question

    @cached_property
    def _point(self) -> Callable[..., Any]:
        def point(params: PyTree, batch: Any) -> tuple[Array, Array]:
            logits = self.adapter.forward(params, batch, attention=False).logits
            return jax.nn.log_softmax(logits[:, 0]), jax.nn.log_softmax(logits[:, 1])

        return jax.jit(point)

    @cached_property
    def _point_with_attention(self) -> Callable[..., Any]:
        def point(params: PyTree, batch: Any) -> tuple[Any, Array]:
            output = self.adapter.forward(params, batch)
            return output.weights, self.adapter.question_attention(batch, output)

        return jax.jit(point)


def _encoder(config: Experiment) -> TransformerEncoder:
    assert isinstance(config.model, TransformerReader)
    return config.model.encoder


def _letters(config: Experiment) -> int:
    characters = getattr(config.model, "characters", None)
    return 0 if characters is None else characters.max_characters


def _gold(examples: Sequence[PassageQuestion]) -> list[list[str]]:
    return [[answer.text for answer in one.answers] for one in examples]


def _why_left_out(one: PassageQuestion, window: int) -> str:
    """Name a question that is not trained on, and the first of its answers that does not stand where the file says."""
    named = one.id[:60]
    if not one.answers:
        return f"{named} has no answer, which task.unanswerable: true allows"
    for answer in one.answers:
        there = one.passage[slice(*answer.span)]
        if there != answer.text:
            return f"of {named} the answer {answer.text[:60]!r} is not at character {answer.start} ({there[:60]!r} is)"
    return f"of {named} no answer is whole in a window of {window} tokens (task.window)"


def _best_span(found: Sequence[Found]) -> str:
    """The best answer that is one, whether the task's threshold lets it through or not."""
    return next((one.text for one in found if one.text), "")


def _margin(found: Sequence[Found]) -> float:
    """By how much the score of no answer exceeds that of the best span."""
    none = next(one.score for one in found if not one.text)
    return none - max((one.score for one in found if one.text), default=none)


def _log_softmax(logits: np.ndarray) -> Any:
    return jax.nn.log_softmax(jnp.asarray(logits))
