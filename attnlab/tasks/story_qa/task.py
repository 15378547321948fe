"""Stories: an answer in one word out of one, two or three facts, and how much of the attention these had."""

import re
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
from attnlab.config.errors import UserError
from attnlab.config.story_qa import StoryQA
from attnlab.data.records import Splits
from attnlab.data.story_qa import load
from attnlab.data.story_qa.encoder import EncodedStory, Vocabulary
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.text.batching import evaluation_shapes
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
from attnlab.tasks.layer_attention import Selection, layers_of, select
from attnlab.tasks.story_qa.adapters import StoryAdapter, adapter
from attnlab.tasks.story_qa.metrics import story_scores
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

EVALUATION_POSITIONS = 8192
"""Positions in one batch of a test."""
EXAMPLE = "Amira went to the attic. Boris ran to the cellar. Where is Amira?"


@dataclass(eq=False)
class StoryQATask(Task):
    """The model of an experiment with its vocabulary."""

    monitor = "dev_accuracy"
    loss_unit = "stories"
    input_format = f"a story and its question, such as '{EXAMPLE}'"
    reported_metrics = (
        Metric("accuracy"),
        Metric("facts_found"),
        Metric("fact_mass_max"),
    )

    config: Experiment
    vocabulary: Vocabulary
    words: int
    """Places in a sentence: the most words of a training sentence."""

    @staticmethod
    def load(config: Experiment, data_dir: Path | None) -> Splits[StoryQuestion]:
        """Generate the stories, or read them."""
        return load.load(settings(config, StoryQA).data, data_dir)

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[StoryQuestion], data_dir: Path | None = None) -> Self:
        """Learn the vocabulary."""
        return cls(config, vocabulary := Vocabulary.fit(splits.train), _places(vocabulary, splits.train))

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabulary of a run."""
        return cls(config, Vocabulary.load(directory / "words.json"), 1)

    def files(self) -> Mapping[str, str]:
        """The vocabulary."""
        return {"words.json": self.vocabulary.to_json()}

    @property
    def tokenizer(self) -> Vocabulary:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The words of stories and questions."""
        return self.vocabulary

    @cached_property
    def adapter(self) -> StoryAdapter:
        """The model with the layout of its batches."""
        return adapter(self.config, self.vocabulary, self.words)

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Cross entropy of the answer's word."""
        logits = self.adapter.forward(params, batch, rng, attention=False).logits
        answer = batch["answer"]
        real = (answer > 0).astype(jnp.int32)
        smoothing = self.config.training.label_smoothing
        smoothed, nll = cross_entropy(logits[:, None], answer[:, None], real, label_smoothing=smoothing)
        right = jnp.sum(real * (jnp.argmax(logits, axis=1) == answer))
        return Loss(smoothed, jnp.sum(real), {"nll": nll, "accuracy": right})

    def training_batches(self, examples: Sequence[StoryQuestion]) -> TrainingBatches:
        """Batch the training questions."""
        batches = self.batched(self._read(examples))
        kept = settings(self.config, StoryQA).memory
        summary = [
            f"data: {batches.examples:,} training questions, {len(batches)} batches an epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions real",
            f"vocabulary: {len(self.vocabulary.words)} words; of longer stories the last {kept} sentences "
            "are read (task.memory)",
        ]
        return TrainingBatches(batches, summary)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Score dev: accuracy, and the largest share of a hop's attention that the gold facts had."""
        found: dict[str, Any] = story_scores(*self._judged(params, examples, poll), resamples=2)
        return {f"dev_{name}": found[name] for name in ("accuracy", "fact_mass_max") if name in found}

    def test_metrics(self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set: the answers, and the attention on the gold facts."""
        read = self._read(examples)
        scores = {"stories": len(examples), **story_scores(*self._judged(params, examples, poll))}
        return scores | {"stories_cut": sum(one.left_out > 0 for one in read)}

    def parse_example(self, inputs: Sequence[str]) -> StoryQuestion:
        """Take a story with its question at the end, in one argument or several."""
        return parse(" ".join(inputs))

    def attention_maps(self, params: PyTree, example: StoryQuestion) -> list[AnyAttentionMap]:
        """Answer, and say how much each hop attended to each sentence."""
        ((probabilities, weights),) = self._found(params, [example])
        answer = int(probabilities.argmax())
        shown = example.sentences[-weights.shape[1] :]
        first = len(example.sentences) - len(shown)
        return [
            AttentionMap(
                column_labels=list(shown),
                row_labels=self.adapter.steps,
                weights=weights,
                prediction=self.vocabulary.words[answer],
                score=float(np.log(probabilities[answer])),
                reference=example.answer,
                input=" ".join([*example.sentences, example.question]),
                question=example.question,
                column_label="story",
                row_label="step",
                column_format="sentences",
                row_groups=(RowGroup(len(weights), self.adapter.title, "step"),) if self.adapter.title else (),
                evidence=tuple(fact - first for fact in example.facts if fact >= first),
                unknown_words=tuple(self.unknown_words([*shown, example.question])),
            )
        ]

    def selected_attention_map(self, params: PyTree, example: StoryQuestion, wanted: Selection) -> AnyAttentionMap:
        """Answer; return the attention of a hop, or of every word or sentence of question and story."""
        (view,) = self.attention_maps(params, example)
        assert isinstance(view, AttentionMap)
        labels = self.adapter.labels(example, settings(self.config, StoryQA).memory)
        (read,) = self._read([example])
        chosen = select(layers_of(self.adapter, params, shard_batch(self.adapter.fill([read]))), wanted, "encoder")
        if chosen.kind == "hop":
            weights, groups = chosen.weights[:, : len(view.column_labels)], (RowGroup(1, chosen.title, "hop"),)
            return replace(view, row_labels=["hop"], weights=weights, row_label="hop", row_groups=groups)
        weights = chosen.weights[: len(labels), : len(labels)]
        return replace(
            view,
            column_labels=labels,
            row_labels=labels,
            weights=weights,
            column_label="attended to",
            row_label="attending",
            column_format="tokens",
            row_groups=(RowGroup(len(labels), chosen.title, "attending", from_input=True),),
            evidence=(),
        )

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words of stories and questions that are none of the training's."""
        return list(dict.fromkeys(word for text in texts for word in self.vocabulary.unknown(text)))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Answer story by story: an empty line for an empty one."""
        refuse_n_best(n_best)
        full = [number for number, line in enumerate(lines) if line.strip()]
        try:
            read = [parse(lines[number]) for number in full]
        except UserError as error:
            wrong = next(number for number in full if not _is_story(lines[number]))
            raise UserError(f"line {first + wrong + 1}: {error}") from error
        answers = {
            number: self.vocabulary.words[int(probabilities.argmax())]
            for number, (probabilities, _) in zip(full, self._found(params, read), strict=True)
        }
        yield from (answers.get(number, "") for number in range(len(lines)))

    def token_lengths(self, examples: Sequence[StoryQuestion]) -> dict[str, list[int]]:
        """Sentences of the stories, and words of story and question."""
        read = [self.vocabulary.encode(story, len(story.sentences)) for story in examples]
        return {"sentences": [len(one.sentences) for one in read], "words": [one.tokens - 2 for one in read]}

    def _read(self, examples: Sequence[StoryQuestion]) -> list[EncodedStory]:
        read = [self.vocabulary.encode(story, settings(self.config, StoryQA).memory) for story in examples]
        longest, given = self.adapter.longest, max(map(self.adapter.length, read), default=0)
        if longest is not None and given > longest:
            raise UserError(
                f"a story takes {given} positions, and the learned ones hold {longest}: "
                "a larger model.encoder.max_length, or a smaller task.memory"
            )
        return read

    def _judged(
        self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll
    ) -> tuple[np.ndarray, list[np.ndarray], list[tuple[int, ...]]]:
        """Which answers are right, the weights, and the gold facts."""
        found, read = self._found(params, examples, poll), self._read(examples)
        right = [int(p.argmax()) == one.answer for (p, _), one in zip(found, read, strict=True)]
        return np.array(right), [weights for _, weights in found], [one.facts for one in read]

    def _found(
        self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Probabilities [v] of every word as the answer, and weights [h n], of each story."""
        read = self._read(examples)
        found: list[Any] = [None] * len(read)
        lengths = [self.adapter.length(one) for one in read]
        shapes = evaluation_shapes(lengths, EVALUATION_POSITIONS, rows_multiple(), self.adapter.longest)
        for chosen, shape in with_poll(shapes, poll, len(read)):
            batch = shard_batch(self.adapter.fill([read[i] for i in chosen], shape))
            probabilities, weights = jax.device_get(self._predict_with_attention(params, batch))
            for row, index in enumerate(chosen):
                found[index] = probabilities[row], weights[row, :, : len(read[index].sentences)]
        return found

    @cached_property
    def _predict_with_attention(self) -> Callable[..., Any]:
        def predict(params: PyTree, batch: Any) -> tuple[Array, Array]:
            logits, weights = self.adapter.with_attention(params, batch)
            return jax.nn.softmax(logits), weights

        return jax.jit(predict)


def parse(text: str) -> StoryQuestion:
    """Cut a text into sentences, of which the last is the question.

    >>> parse("Amira went to the attic. Where is Amira?").question
    'Where is Amira?'
    """
    sentences = re.findall(r"[^.?!]+[.?!]+|[^.?!]+$", text)
    sentences = [sentence.strip() for sentence in sentences if sentence.strip()]
    if len(sentences) < 2 or not sentences[-1].endswith("?"):
        raise UserError(f"a story is sentences with a question at the end: '{EXAMPLE}'")
    return StoryQuestion(tuple(sentences[:-1]), sentences[-1], "", ())


def _is_story(text: str) -> bool:
    try:
        return bool(parse(text))
    except UserError:
        return False


def _places(vocabulary: Vocabulary, examples: Sequence[StoryQuestion]) -> int:
    read = (vocabulary.encode(story, len(story.sentences)) for story in examples)
    return max((len(text) for one in read for text in (*one.sentences, one.question)), default=1)
