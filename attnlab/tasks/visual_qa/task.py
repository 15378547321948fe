"""Visual question answering: predict the answer, with the attention over the image, and control experiments."""

import json
from collections import Counter, defaultdict
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
from attnlab.config.json_text import read, read_texts
from attnlab.config.models.visual_qa import VisualAnswerer
from attnlab.config.visual_qa import VisualQA
from attnlab.data.images.pixels import pixels
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Tokenizer, train
from attnlab.data.visual_qa import load
from attnlab.data.visual_qa.records import ImageQuestion
from attnlab.models.visual_qa import VisualEmbeddings
from attnlab.tasks.attention_map import AnyAttentionMap, ImageAttentionMap
from attnlab.tasks.base import Metric, TrainingBatches, refuse_n_best, settings
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection, choice
from attnlab.tasks.hypotheses import END
from attnlab.tasks.image_task import ImageTask, images_and_names, read_image
from attnlab.tasks.input_parts import InputSequence, image_part, text_part
from attnlab.tasks.layer_attention import Selection, layers_of_first_example, select
from attnlab.tasks.poll import Poll, no_poll, with_poll
from attnlab.tasks.text_input import parse_lines, predictions_by_line, words_not_in
from attnlab.tasks.visual_qa.adapters import VisualAnswererAdapter
from attnlab.tasks.visual_qa.attention_maps import answer_map, selected_map
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

VOCABULARY, ANSWERS, FREQUENT_ANSWERS = "tokenizer/words.json", "answers.json", "most_frequent_answers.json"
MAX_ROWS = 256
"""Most questions in a batch of an evaluation."""


class PredictedAnswer(NamedTuple):
    """A predicted answer."""

    text: str
    probability: float
    weights: np.ndarray
    """[words cells] attention of each word of the question to the image."""


@dataclass(eq=False)
class VisualQATask(ImageTask):
    """The model of an experiment with its vocabulary and its answers."""

    load_data = staticmethod(load.load)
    monitor = "dev_accuracy"
    loss_unit = "questions"
    input_format = "the path of an image file, a tab, and a question"
    correctness = "accuracy"
    reported_metrics = (
        Metric("accuracy"),
        Metric("accuracy_shuffled_images"),
        Metric("accuracy_question_only"),
        Metric("accuracy_image_only"),
        Metric("most_frequent_answer_to_question"),
    )

    config: Experiment
    tokenizer: Tokenizer
    answers: list[str]
    """The answers in the order of the model's logits."""
    most_frequent_answers: dict[str, str]
    """The most frequent training answer to each training question, and for "" the most frequent one overall."""

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[ImageQuestion], data_dir: Path | None = None) -> Self:
        """Learn the vocabulary of the questions, the answers, and the most frequent answer to each question."""
        by_question: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for example in splits.train:
            by_question[example.question][example.answer] += 1
        total = sum(by_question.values(), Counter())
        best = lambda counts: min(counts, key=lambda answer: (-counts[answer], answer))  # noqa: E731
        frequent = {question: best(counts) for question, counts in sorted(by_question.items())} | {"": best(total)}
        questions = [example.question for example in splits.train]
        tokenizer = train(settings(config, VisualQA).tokenizer, questions, "source")
        return cls(config, tokenizer, sorted(total), frequent)

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabulary and the answers of a run."""
        answers = read_texts(directory / ANSWERS, "answers")
        frequent = read(directory / FREQUENT_ANSWERS, dict, "answers")
        return cls(config, Tokenizer.load(directory / VOCABULARY), answers, frequent)

    def files(self) -> Mapping[str, str]:
        """Return the vocabulary and the answers."""
        dump = lambda value: json.dumps(value, ensure_ascii=False, indent=1) + "\n"  # noqa: E731
        return {
            VOCABULARY: self.tokenizer.to_json(),
            ANSWERS: dump(self.answers),
            FREQUENT_ANSWERS: dump(self.most_frequent_answers),
        }

    @cached_property
    def adapter(self) -> VisualAnswererAdapter:
        """The model with the layout of its batches."""
        sizes = self.tokenizer.vocabulary_size, len(self.answers)
        return VisualAnswererAdapter(self.config.model, self.image_inputs, *sizes)

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the answers."""
        out = self.adapter.forward(params, batch, rng, attention=False)
        real = (batch["lengths"] > 0).astype(jnp.int32)
        smoothing = self.config.training.label_smoothing
        smoothed, nll = cross_entropy(out.logits[:, None], batch["answer"][:, None], real, label_smoothing=smoothing)
        correct = jnp.sum((jnp.argmax(out.logits, axis=-1) == batch["answer"]) & (real > 0)).astype(jnp.float32)
        return Loss(smoothed, jnp.sum(real), {"nll": nll, "accuracy": correct})

    def training_batches(self, examples: Sequence[ImageQuestion]) -> TrainingBatches:
        """Batch the training questions; those longer than the task's `max_length` are left out."""
        limit = settings(self.config, VisualQA).max_length
        ids = self._ids(examples)
        kept = [n for n, tokens in enumerate(ids) if len(tokens) <= limit]
        images = self.image_inputs.encoder_inputs(*images_and_names(examples))
        number = {answer: n for n, answer in enumerate(self.answers)}

        def fill(shape: Shape, indices: Sequence[int]) -> Batch:
            members = [kept[index] for index in indices]
            return self.adapter.fill([(images[n], ids[n], number[examples[n].answer]) for n in members], shape)

        batches = self.batched([(None, ids[n], 0) for n in kept], fill)
        side, size = self.image_inputs.side, self.image_inputs.size
        summary = [
            f"data: {batches.examples:,} questions, {len(batches)} batches per epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions are not padding",
            f"vocabulary: {self.tokenizer.vocabulary_size} tokens, {len(self.answers)} answers; "
            f"images of {size}×{size} pixels, {side}×{side} cells",
        ]
        if left_out := len(examples) - batches.examples:
            summary.append(f"left out: {left_out} questions of more than {limit} tokens (task.max_length)")
        return TrainingBatches(batches, summary)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return the accuracy."""
        return {"dev_accuracy": _percent(self._correct(params, examples, poll))}

    def test_metrics(self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll) -> dict[str, Any]:
        """Return the accuracy, and control experiments on its dependence on image and question.

        Returns: percentages: `accuracy` with its 95% interval and by answer; and
            - `accuracy_shuffled_images`: the same model, each question with the image of another example;
            - `accuracy_question_only`: the same model with blank images; `accuracy_image_only`: with empty questions
              (for models trained this way see `model.fusion.kind` question_only and image_only);
            - `most_frequent_answer`: the most frequent training answer, overall;
              `most_frequent_answer_to_question`: to the same question.
        """
        correct = self._correct(params, examples, poll)
        order = np.random.default_rng(0).permutation(len(examples))
        shuffled = [
            replace(example, image=examples[n].image) for example, n in zip(examples, _derange(order), strict=True)
        ]
        without_question = [replace(example, question="") for example in examples]
        overall = self.most_frequent_answers[""]
        frequent = [self.most_frequent_answers.get(example.question, overall) == example.answer for example in examples]
        by_answer = {
            answer: _percent([hit for hit, example in zip(correct, examples, strict=True) if example.answer == answer])
            for answer in sorted({example.answer for example in examples})
        }
        return {
            "accuracy": _percent(correct),
            "accuracy_ci95": interval(100.0 * correct),
            "accuracy_shuffled_images": _percent(self._correct(params, shuffled, poll)),
            "accuracy_question_only": _percent(self._correct(params, examples, poll, blank=True)),
            "accuracy_image_only": _percent(self._correct(params, without_question, poll)),
            "most_frequent_answer": _percent([overall == example.answer for example in examples]),
            "most_frequent_answer_to_question": _percent(frequent),
            "questions": len(examples),
            "accuracy_by_answer": by_answer,
            "per_example": {"accuracy": 100.0 * correct},
        }

    def parse_example(self, inputs: Sequence[str]) -> ImageQuestion:
        """Read an image file and parse a question."""
        if len(inputs) < 2:
            raise UserError('expected an image and a question: attnlab show RUN image.png "what color is the shape?"')
        return ImageQuestion(read_image(inputs[0]), " ".join(inputs[1:]), "", inputs[0])

    def _parse_line(self, line: str) -> ImageQuestion:
        path, tab, question = line.partition("\t")
        if not (tab and question.strip()):
            raise UserError(f"expected {self.input_format}")
        return self.parse_example([path.strip(), question.strip()])

    def attention_maps(self, params: PyTree, example: ImageQuestion) -> list[AnyAttentionMap]:
        """Return the attention map of the answer, with a row for each word of the question."""
        return [self._answer_map(params, example)]

    def _answer_map(self, params: PyTree, example: ImageQuestion) -> ImageAttentionMap:
        assert isinstance(self.config.model, VisualAnswerer)
        (predicted,) = self.predict_answers(params, [example])
        image = pixels(example.image, self.image_inputs.size, example.name)
        words = self.tokenizer.encode(example.question).surface
        unknown = tuple(self.unknown_words([example.question]))
        return answer_map(example, *predicted, image, words, self.config.model.fusion, unknown)

    def selected_attention_map(self, params: PyTree, example: ImageQuestion, selection: Selection) -> AnyAttentionMap:
        """Return the selected attention: of the words to the image, or of the image to the words."""
        best = self._answer_map(params, example)
        (ids,) = self._ids([example])
        ((_, image, _),) = self.image_inputs.batches([example.image], [example.name])
        batch = shard_batch(self.adapter.fill([(image[0], ids, 0)]))
        selected = select(layers_of_first_example(self.adapter, params, batch), selection, "cross")
        return selected_map(best, selected, len(ids))

    def explained_prediction(
        self, params: PyTree, example: ImageQuestion, selection: TargetSelection
    ) -> ExplainedPrediction:
        """Return the predicted answer, or another one, with the cells of the image and the words of the question."""
        (image,), side = self.image_inputs.encoder_inputs([example.image], [example.name]), self.image_inputs.side
        encoding = self.tokenizer.encode(example.question)
        parts = image_part("image", side, side), text_part("question", example.question, encoding.offsets, after=[END])
        inputs = VisualEmbeddings(*(InputSequence((part,)) for part in parts))  # type: ignore[arg-type]
        (predicted,) = self.predict_answers(params, [example])
        best, rows = self.answers.index(predicted.text), tuple(range(len(encoding.ids) + 1))
        return choice((image, encoding.ids, 0), inputs, self.answers, best, selection, "answer", rows)

    def outputs(self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll) -> list[str]:
        """Return the answer to each question."""
        return [answer.text for answer in self.predict_answers(params, examples, poll)]

    def output_scores(self, outputs: Sequence[str], examples: Sequence[ImageQuestion]) -> dict[str, np.ndarray]:
        """Return the rows of the accuracy."""
        if not all(example.answer for example in examples):
            return {}
        correct = [output == example.answer for output, example in zip(outputs, examples, strict=True)]
        return {"accuracy": 100.0 * np.array(correct, float)}

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of the questions that the vocabulary lacks; the path of an image before a tab is ignored."""
        return words_not_in(self.tokenizer, [text.rpartition("\t")[2] for text in texts])

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield the answer to each line `image file<TAB>question`; an empty line for an empty one."""
        refuse_n_best(n_best)
        examples = parse_lines(lines, first, self._parse_line)
        predicted = self.predict_answers(params, [example for example in examples if example is not None])
        yield from predictions_by_line(examples, (answer.text for answer in predicted))

    def token_lengths(self, examples: Sequence[ImageQuestion]) -> dict[str, list[int]]:
        """Return the lengths in tokens of the questions."""
        return {"question": list(map(len, self._ids(examples)))}

    def predict_answers(
        self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll, *, blank: bool = False
    ) -> list[PredictedAnswer]:
        """Return the answer to each question about its image.

        Args:
            params: the parameters of `model`.
            examples: the questions; their answers are not used.
            poll: called between batches; may raise to stop.
            blank: replace the images with blank ones.
        """
        ids = self._ids(examples)
        width = -(-(max(map(len, ids), default=0) + 1) // 8) * 8
        results = []
        batches = self.image_inputs.batches(*images_and_names(examples), MAX_ROWS)
        for indices, image, _ in with_poll(batches, poll, len(examples)):
            inputs = self.image_inputs.blank(len(indices)) if blank else image[: len(indices)]
            members = [(image_input, ids[n], 0) for image_input, n in zip(inputs, indices, strict=True)]
            batch = shard_batch(self.adapter.fill(members, Shape(len(image), width, width)))
            probabilities, weights = jax.device_get(self._probabilities_and_attention(params, batch))
            for row in range(len(indices)):
                best = int(np.argmax(probabilities[row]))
                results.append(PredictedAnswer(self.answers[best], float(probabilities[row, best]), weights[row]))
        return results

    @cached_property
    def _probabilities_and_attention(self) -> Callable[..., Any]:
        def probabilities_and_attention(params: PyTree, batch: Mapping[str, Array]) -> tuple[Array, Array]:
            out = self.adapter.forward(params, batch)
            return jax.nn.softmax(out.logits), self.adapter.image_attention(batch, out.attention)

        return jax.jit(probabilities_and_attention)

    def _correct(
        self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll, *, blank: bool = False
    ) -> np.ndarray:
        """Return 1 for each correct answer, else 0."""
        predicted = self.predict_answers(params, examples, poll, blank=blank)
        return np.array(
            [answer.text == example.answer for answer, example in zip(predicted, examples, strict=True)], float
        )

    def _ids(self, examples: Sequence[ImageQuestion]) -> list[list[int]]:
        encodings = self.tokenizer.encode_batch([example.question for example in examples])
        return [encoding.ids for encoding in encodings]


def _percent(correct: Any) -> float:
    return 100.0 * float(np.mean(correct))


def _derange(order: np.ndarray) -> np.ndarray:
    """Return for each example the index of another: the next in the shuffled order, in a single cycle."""
    indices = np.empty_like(order)
    indices[order] = np.roll(order, 1)
    return indices
