"""Visual question answering: the most likely training answer, its attention over the image, and control experiments."""

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
from attnlab.config.models.visual_qa import VisualAnswerer as Config
from attnlab.config.visual_qa import VisualQA
from attnlab.data.images.pixels import as_bytes, pixels
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Tokenizer, train
from attnlab.data.visual_qa import load
from attnlab.data.visual_qa.records import ImageQuestion
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, ImageAttentionMap, RowGroup
from attnlab.tasks.base import (
    Metric,
    Poll,
    Task,
    TrainingBatches,
    no_poll,
    refuse_n_best,
    settings,
    with_poll,
)
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.image_inputs import ImageInputs
from attnlab.tasks.layer_attention import Selection, layers_of, select, title
from attnlab.tasks.visual_qa.adapters import VisualAnswererAdapter
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

VOCABULARY, ANSWERS, SEEN = "tokenizer/words.json", "answers.json", "usual_answers.json"
ROWS = 256
"""Questions answered at a time."""


class Answer(NamedTuple):
    """An answer, its probability, and the attention of each word of the question over the image, [words cells]."""

    text: str
    probability: float
    weights: np.ndarray


@dataclass(eq=False)
class VisualQATask(Task):
    """The model of an experiment with its vocabulary and the answers it knows."""

    monitor = "dev_accuracy"
    loss_unit = "questions"
    input_format = "the path of an image file, a tab, and a question"
    reported_metrics = (
        Metric("accuracy"),
        Metric("accuracy_shuffled_images"),
        Metric("accuracy_question_only"),
        Metric("accuracy_image_only"),
        Metric("usual_answer_to_question"),
    )

    config: Experiment
    tokenizer: Tokenizer
    answers: list[str]
    """What can be answered, in the order of the model's outputs."""
    usual: dict[str, str]
    """The most frequent training answer to each training question; to "" that to all of them together."""

    @staticmethod
    def load(config: Experiment, data_dir: Path | None) -> Splits[ImageQuestion]:
        """Read or generate questions about images."""
        return load.load(settings(config, VisualQA).data, data_dir)

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[ImageQuestion], data_dir: Path | None = None) -> Self:
        """Learn the words of the questions, the answers, and which is usual."""
        by_question: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for example in splits.train:
            by_question[example.question][example.answer] += 1
        total = sum(by_question.values(), Counter())
        best = lambda counts: min(counts, key=lambda answer: (-counts[answer], answer))  # noqa: E731
        usual = {question: best(counts) for question, counts in sorted(by_question.items())} | {"": best(total)}
        vocabulary = train(
            settings(config, VisualQA).tokenizer, [example.question for example in splits.train], "source"
        )
        return cls(config, vocabulary, sorted(total), usual)

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read what a run has learned of its words and answers."""
        answers, usual = read_texts(directory / ANSWERS, "answers"), read(directory / SEEN, dict, "answers")
        return cls(config, Tokenizer.load(directory / VOCABULARY), answers, usual)

    def files(self) -> Mapping[str, str]:
        """The vocabulary and the answers."""
        write = lambda found: json.dumps(found, ensure_ascii=False, indent=1) + "\n"  # noqa: E731
        return {VOCABULARY: self.tokenizer.to_json(), ANSWERS: write(self.answers), SEEN: write(self.usual)}

    @property
    def task(self) -> VisualQA:
        """The task's part of the config."""
        return settings(self.config, VisualQA)

    @cached_property
    def image_inputs(self) -> ImageInputs:
        """How images reach the model."""
        assert isinstance(self.config.model, Config)
        return ImageInputs(self.config.model.image, self.task.image_size)

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of frozen weights of the image encoder."""
        return dict(self.image_inputs.fingerprints())

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        sizes = self.tokenizer.vocabulary_size, len(self.answers)
        return VisualAnswererAdapter(self.config.model, self.image_inputs, *sizes)

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Cross entropy of the answers."""
        out = self.adapter.forward(params, batch, rng, attention=False)
        real = (batch["lengths"] > 0).astype(jnp.int32)
        smoothing = self.config.training.label_smoothing
        smoothed, nll = cross_entropy(out.logits[:, None], batch["answer"][:, None], real, label_smoothing=smoothing)
        right = jnp.sum((jnp.argmax(out.logits, axis=-1) == batch["answer"]) & (real > 0)).astype(jnp.float32)
        return Loss(smoothed, jnp.sum(real), {"nll": nll, "accuracy": right})

    def training_batches(self, examples: Sequence[ImageQuestion]) -> TrainingBatches:
        """Batch the training questions; those longer than the task's `max_length` are left out."""
        ids = self._ids([example.question for example in examples])
        kept = [n for n, tokens in enumerate(ids) if len(tokens) <= self.task.max_length]
        images = self.image_inputs.prepared([e.image for e in examples], [e.name for e in examples])
        number = {answer: n for n, answer in enumerate(self.answers)}

        def fill(shape: Shape, members: Sequence[int]) -> Batch:
            chosen = [kept[i] for i in members]
            return self.adapter.fill([(images[n], ids[n], number[examples[n].answer]) for n in chosen], shape)

        batches = self.batched([(None, ids[n], 0) for n in kept], fill)
        side, size = self.image_inputs.side, self.task.image_size
        summary = [
            f"data: {batches.examples:,} questions, {len(batches)} batches an epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions real",
            f"vocabulary: {self.tokenizer.vocabulary_size} tokens, {len(self.answers)} answers; "
            f"images of {size}×{size} pixels, {side}×{side} cells",
        ]
        if left_out := len(examples) - batches.examples:
            limit = self.task.max_length
            summary.append(f"left out: {left_out} questions of more than {limit} tokens (task.max_length)")
        return TrainingBatches(batches, summary)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Score dev: how many questions are answered as they should be."""
        return {"dev_accuracy": 100.0 * float(np.mean(self._right(params, examples, poll)))}

    def test_metrics(self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set, beside the controls that tell what the accuracy owes to image and question.

        Returns: in percent `accuracy` with its 95% interval and that of each answer; and
            - `accuracy_shuffled_images`: the same model, each question with the image of another example;
            - `accuracy_question_only`: the same model, the image blank; `accuracy_image_only`: the question empty (a
              model that was trained so is `model.fusion.kind` question_only or image_only);
            - `usual_answer`: the most frequent training answer; `usual_answer_to_question`: to this very question.
        """
        right = self._right(params, examples, poll)
        order = np.random.default_rng(0).permutation(len(examples))
        other = [
            replace(example, image=examples[n].image) for example, n in zip(examples, _derange(order), strict=True)
        ]
        percent = lambda found: 100.0 * float(np.mean(found))  # noqa: E731
        usual = [self.usual.get(example.question, self.usual[""]) == example.answer for example in examples]
        by_answer = {
            answer: percent([hit for hit, example in zip(right, examples, strict=True) if example.answer == answer])
            for answer in sorted({example.answer for example in examples})
        }
        return {
            "accuracy": percent(right),
            "accuracy_ci95": interval(100.0 * right),
            "accuracy_shuffled_images": percent(self._right(params, other, poll)),
            "accuracy_question_only": percent(self._right(params, examples, poll, blank=True)),
            "accuracy_image_only": percent(
                self._right(params, [replace(example, question="") for example in examples], poll)
            ),
            "usual_answer": percent([self.usual[""] == example.answer for example in examples]),
            "usual_answer_to_question": percent(usual),
            "questions": len(examples),
            "accuracy_by_answer": by_answer,
            "per_example": {"accuracy": 100.0 * right},
        }

    def parse_example(self, inputs: Sequence[str]) -> ImageQuestion:
        """Read an image file and take a question."""
        if len(inputs) < 2:
            raise UserError('an image and a question are needed: attnlab show RUN image.png "what color is the shape?"')
        return _read(inputs[0], " ".join(inputs[1:]))

    def attention_maps(self, params: PyTree, example: ImageQuestion) -> list[AnyAttentionMap]:
        """Answer a question and return the attention of each of its words over the image."""
        (found,) = self.ask(params, [example])
        words = self.tokenizer.encode(example.question).surface
        side, image = self.image_inputs.side, pixels(example.image, self.task.image_size, example.name)
        weights = found.weights[: len(words)].reshape(-1, side, side)
        unknown = tuple(self.unknown_words([example.question]))
        return [
            ImageAttentionMap(
                image=image,
                row_labels=words,
                weights=weights,
                prediction=found.text,
                score=found.probability,
                reference=example.answer,
                question=example.question,
                title=self._which,
                unknown_words=unknown,
            )
        ]

    @property
    def _which(self) -> str:
        """Say which attention a view shows, where the model has several."""
        assert isinstance(self.config.model, Config)
        fusion = self.config.model.fusion
        layers, heads = getattr(fusion, "layers", 0), getattr(fusion, "heads", 0)
        return title("cross", layers, layers, heads) if layers else ""

    def selected_attention_map(self, params: PyTree, example: ImageQuestion, wanted: Selection) -> AnyAttentionMap:
        """Answer a question; return the attention of its words to the image, or of the image to its words."""
        (view,) = self.attention_maps(params, example)
        assert isinstance(view, ImageAttentionMap)
        (ids,) = self._ids([example.question])
        ((_, image, _),) = self.image_inputs.batches([example.image], [example.name])
        batch = shard_batch(self.adapter.fill([(image[0], ids, 0)]))
        chosen = select(layers_of(self.adapter, params, batch), wanted, "cross")
        if chosen.kind == "image_to_question":
            groups = (RowGroup(1, chosen.title, "image"),)
            return AttentionMap(
                ["image as a whole"],
                view.row_labels,
                chosen.weights[:, : len(view.row_labels)],
                view.prediction,
                view.score,
                reference=view.reference,
                input=example.question,
                question=example.question,
                row_label="image",
                column_label="question",
                row_groups=groups,
                unknown_words=view.unknown_words,
            )
        weights = chosen.weights[: len(ids), : self.image_inputs.cells].reshape(
            -1, self.image_inputs.side, self.image_inputs.side
        )
        rows = view.row_labels if chosen.kind == "cross" else ["question as a whole"]
        return replace(view, row_labels=rows, weights=weights, title=chosen.title)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words of the questions that the vocabulary lacks; what stands before a tab is the path of an image."""
        found = self.tokenizer.encode_batch([text.rpartition("\t")[2] for text in texts])
        return list(dict.fromkeys(word for one in found for word in one.unknown_words))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Answer the question about the image of each line; an empty line for an empty one."""
        refuse_n_best(n_best)
        given = []
        for number, line in enumerate(lines, start=first + 1):
            path, tab, question = line.partition("\t")
            if line.strip() and not (tab and question.strip()):
                raise UserError(f"line {number}: expected {self.input_format}")
            given.append(_read(path.strip(), question.strip()) if line.strip() else None)
        found = iter(self.ask(params, [example for example in given if example is not None]))
        yield from (next(found).text if example is not None else "" for example in given)

    def token_lengths(self, examples: Sequence[ImageQuestion]) -> dict[str, list[int]]:
        """Tokens of the questions."""
        return {"question": [len(ids) for ids in self._ids([example.question for example in examples])]}

    def ask(
        self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll, *, blank: bool = False
    ) -> list[Answer]:
        """Answer each question about its image.

        Args:
            params: of `model`.
            examples: their answers are not looked at.
            poll: called between batches; may raise to stop.
            blank: show an image of nothing in the place of each.
        """
        ids = self._ids([example.question for example in examples])
        width = -(-(max(map(len, ids), default=0) + 1) // 8) * 8
        results = []
        images, names = [e.image for e in examples], [e.name for e in examples]
        for chosen, image, _ in with_poll(self.image_inputs.batches(images, names, ROWS), poll, len(examples)):
            shown = self.image_inputs.blank(len(chosen)) if blank else image[: len(chosen)]
            members = [(picture, ids[n], 0) for picture, n in zip(shown, chosen, strict=True)]
            batch = self.adapter.fill(members, Shape(len(image), width, width))
            found = jax.device_get(self._probabilities(params, shard_batch(batch)))
            for row in range(len(chosen)):
                best = int(np.argmax(found[0][row]))
                results.append(Answer(self.answers[best], float(found[0][row, best]), found[1][row]))
        return results

    @cached_property
    def _probabilities(self) -> Callable[..., Any]:
        def probabilities(params: PyTree, batch: Mapping[str, Array]) -> tuple[Array, Array]:
            out = self.adapter.forward(params, batch, attention=False)
            return jax.nn.softmax(out.logits), out.weights

        return jax.jit(probabilities)

    def _right(
        self, params: PyTree, examples: Sequence[ImageQuestion], poll: Poll = no_poll, *, blank: bool = False
    ) -> np.ndarray:
        found = self.ask(params, examples, poll, blank=blank)
        return np.array([one.text == example.answer for one, example in zip(found, examples, strict=True)], float)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(list(texts))]


def _read(path: str, question: str) -> ImageQuestion:
    try:
        return ImageQuestion(as_bytes(Path(path).read_bytes()), question, "", path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected an image file") from error


def _derange(order: np.ndarray) -> np.ndarray:
    """Give every example the place of another, all in one circle through the shuffled order."""
    places = np.empty_like(order)
    places[order] = np.roll(order, 1)
    return places
