"""Question answering about stories: predict the answer, one word, with the attention to the supporting facts."""

import re
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
from attnlab.config.story_qa import StoryQA
from attnlab.data.records import Splits
from attnlab.data.story_qa import load
from attnlab.data.story_qa.encoder import EncodedStory, Vocabulary
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.text.batching import evaluation_shapes
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, RowGroup
from attnlab.tasks.base import Metric, Task, TrainingBatches, refuse_n_best, rows_multiple, settings
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection, choice
from attnlab.tasks.layer_attention import Selection, layers_of_first_example, select, self_attention_map
from attnlab.tasks.poll import Poll, no_poll, with_poll
from attnlab.tasks.story_qa.adapters import StoryAdapter, adapter
from attnlab.tasks.story_qa.metrics import story_scores
from attnlab.tasks.text_input import parse_lines, predictions_by_line
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

EVALUATION_POSITIONS = 8192
"""Positions in one batch of an evaluation, padding counted."""
EXAMPLE = "Amira went to the attic. Boris ran to the cellar. Where is Amira?"


class PredictedAnswer(NamedTuple):
    """The prediction for a story and the attention behind it."""

    probabilities: np.ndarray
    """[v] of each word as the answer."""
    weights: np.ndarray
    """[h n] of each step over the sentences."""


@dataclass(eq=False)
class StoryQATask(Task):
    """The model of an experiment with its vocabulary."""

    load_data = staticmethod(load.load)
    monitor = "dev_accuracy"
    loss_unit = "stories"
    input_format = f"a story and its question, such as '{EXAMPLE}'"
    correctness = "accuracy"
    reported_metrics = (
        Metric("accuracy"),
        Metric("facts_found"),
        Metric("fact_mass_max"),
    )

    config: Experiment
    vocabulary: Vocabulary
    words: int
    """Number of words of the longest training sentence."""

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[StoryQuestion], data_dir: Path | None = None) -> Self:
        """Learn the vocabulary."""
        vocabulary = Vocabulary.fit(splits.train)
        return cls(config, vocabulary, _longest_sentence(vocabulary, splits.train))

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabulary of a run."""
        return cls(config, Vocabulary.load(directory / "words.json"), 1)

    def files(self) -> Mapping[str, str]:
        """Return the vocabulary."""
        return {"words.json": self.vocabulary.to_json()}

    @property
    def tokenizer(self) -> Vocabulary:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The vocabulary of stories and questions."""
        return self.vocabulary

    @cached_property
    def adapter(self) -> StoryAdapter:
        """The model with the layout of its batches."""
        return adapter(self.config, self.vocabulary, self.words)

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the answer."""
        logits = self.adapter.forward(params, batch, rng, attention=False).logits
        answer = batch["answer"]
        real = (answer > 0).astype(jnp.int32)
        smoothing = self.config.training.label_smoothing
        smoothed, nll = cross_entropy(logits[:, None], answer[:, None], real, label_smoothing=smoothing)
        correct = jnp.sum(real * (jnp.argmax(logits, axis=1) == answer))
        return Loss(smoothed, jnp.sum(real), {"nll": nll, "accuracy": correct})

    def training_batches(self, examples: Sequence[StoryQuestion]) -> TrainingBatches:
        """Batch the training questions; of longer stories the last `task.memory` sentences are kept."""
        batches = self.batched(self.encode(examples))
        summary = [
            f"data: {batches.examples:,} training questions, {len(batches)} batches per epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions are not padding",
            f"vocabulary: {len(self.vocabulary.words)} words; longer stories are cut to their last "
            f"{self._settings.memory} sentences (task.memory)",
        ]
        return TrainingBatches(batches, summary)

    def validation_metrics(
        self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return accuracy and the attention weight on the supporting facts, of the hop with the most."""
        scores = self._scores(params, examples, poll, resamples=2)
        return {f"dev_{name}": scores[name] for name in ("accuracy", "fact_mass_max") if name in scores}

    def test_metrics(self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll) -> dict[str, Any]:
        """Return the metrics of the answers and of the attention to the supporting facts."""
        cut = sum(story.left_out > 0 for story in self.encode(examples))
        return {"stories": len(examples), **self._scores(params, examples, poll), "stories_cut": cut}

    def parse_example(self, inputs: Sequence[str]) -> StoryQuestion:
        """Parse a story with its question at the end, in one argument or several."""
        return parse(" ".join(inputs))

    def attention_maps(self, params: PyTree, example: StoryQuestion) -> list[AnyAttentionMap]:
        """Return the attention map of the answer: of each step to each sentence."""
        ((probabilities, weights),) = self.predict_answers(params, [example])
        answer = int(probabilities.argmax())
        sentences = example.sentences[-weights.shape[1] :]
        first = len(example.sentences) - len(sentences)
        return [
            AttentionMap(
                column_labels=list(sentences),
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
                unknown_words=tuple(self.unknown_words([*sentences, example.question])),
            )
        ]

    def selected_attention_map(self, params: PyTree, example: StoryQuestion, selection: Selection) -> AnyAttentionMap:
        """Return the selected attention: of a hop, or of each word or sentence of question and story."""
        (best,) = self.attention_maps(params, example)
        assert isinstance(best, AttentionMap)
        labels = self.adapter.position_labels(example, self._settings.memory)
        batch = shard_batch(self.adapter.fill(self.encode([example])))
        selected = select(layers_of_first_example(self.adapter, params, batch), selection, "encoder")
        if selected.kind == "hop":
            return replace(
                best,
                row_labels=["hop"],
                weights=selected.weights[:, : len(best.column_labels)],
                row_label="hop",
                row_groups=(RowGroup(1, selected.title, "hop"),),
            )
        return self_attention_map(best, labels, selected)

    def explained_prediction(
        self, params: PyTree, example: StoryQuestion, selection: TargetSelection
    ) -> ExplainedPrediction:
        """Return the predicted answer, or another one, with the words or sentences of question and story."""
        (encoded,), (predicted,) = self.encode([example]), self.predict_answers(params, [example])
        sentences = example.sentences[encoded.left_out :]
        inputs, best = self.adapter.explained_inputs(sentences, example.question), predicted.probabilities.argmax()
        return choice(encoded, inputs, self.vocabulary.words, int(best), selection, "answer", self.adapter.rows)

    def evidence(self, example: StoryQuestion, explained: ExplainedPrediction) -> np.ndarray | None:
        """Return which words or sentences belong to the supporting facts."""
        if not example.facts:
            return None
        (encoded,) = self.encode([example])
        return self.adapter.facts_among(explained.inputs, len(encoded.sentences), encoded.facts)

    def outputs(self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll) -> list[str]:
        """Return the answer to each question."""
        predicted = self.predict_answers(params, examples, poll)
        return [self.vocabulary.words[int(answer.probabilities.argmax())] for answer in predicted]

    def output_scores(self, outputs: Sequence[str], examples: Sequence[StoryQuestion]) -> dict[str, np.ndarray]:
        """Return the rows of the accuracy."""
        if not all(example.answer for example in examples):
            return {}
        correct = [output == example.answer for output, example in zip(outputs, examples, strict=True)]
        return {"accuracy": 100.0 * np.array(correct, float)}

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of stories and questions that no training story has."""
        return list(dict.fromkeys(word for text in texts for word in self.vocabulary.unknown(text)))

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield the answer to the question of each story; an empty line for an empty one."""
        refuse_n_best(n_best)
        examples = parse_lines(lines, first, parse)
        predicted = self.predict_answers(params, [example for example in examples if example is not None])
        words = (self.vocabulary.words[int(answer.probabilities.argmax())] for answer in predicted)
        yield from predictions_by_line(examples, words)

    def token_lengths(self, examples: Sequence[StoryQuestion]) -> dict[str, list[int]]:
        """Return the number of sentences of each story, and of words of story and question."""
        encoded = [self.vocabulary.encode(example, len(example.sentences)) for example in examples]
        return {
            "sentences": [len(story.sentences) for story in encoded],
            "words": [story.tokens - 2 for story in encoded],
        }

    def encode(self, examples: Sequence[StoryQuestion]) -> list[EncodedStory]:
        """Encode stories; raise `UserError` if the model has fewer positions than a story takes."""
        encoded = [self.vocabulary.encode(example, self._settings.memory) for example in examples]
        limit, longest = self.adapter.max_positions, max(map(self.adapter.length, encoded), default=0)
        if limit is not None and longest > limit:
            raise UserError(
                f"a story takes {longest} positions, and the learned ones hold {limit}: "
                "increase model.encoder.max_length or decrease task.memory"
            )
        return encoded

    def predict_answers(
        self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll = no_poll
    ) -> list[PredictedAnswer]:
        """Return the probabilities of the answers and the attention to the sentences of each story."""
        encoded = self.encode(examples)
        predicted: list[Any] = [None] * len(encoded)
        lengths = [self.adapter.length(story) for story in encoded]
        shapes = evaluation_shapes(lengths, EVALUATION_POSITIONS, rows_multiple(), self.adapter.max_positions)
        for indices, shape in with_poll(shapes, poll, len(encoded)):
            batch = shard_batch(self.adapter.fill([encoded[index] for index in indices], shape))
            probabilities, weights = jax.device_get(self._probabilities_and_attention(params, batch))
            for row, index in enumerate(indices):
                sentences = len(encoded[index].sentences)
                predicted[index] = PredictedAnswer(probabilities[row], weights[row, :, :sentences])
        return predicted

    def _scores(self, params: PyTree, examples: Sequence[StoryQuestion], poll: Poll, **options: int) -> dict[str, Any]:
        predicted, encoded = self.predict_answers(params, examples, poll), self.encode(examples)
        correct = [
            int(answer.probabilities.argmax()) == story.answer for answer, story in zip(predicted, encoded, strict=True)
        ]
        weights, facts = [answer.weights for answer in predicted], [story.facts for story in encoded]
        return story_scores(np.array(correct), weights, facts, **options)

    @property
    def _settings(self) -> StoryQA:
        return settings(self.config, StoryQA)

    @cached_property
    def _probabilities_and_attention(self) -> Callable[..., Any]:
        def probabilities_and_attention(params: PyTree, batch: Any) -> tuple[Array, Array]:
            output = self.adapter.forward(params, batch)
            return jax.nn.softmax(output.logits), self.adapter.sentence_attention(batch, output.attention)

        return jax.jit(probabilities_and_attention)


def parse(text: str) -> StoryQuestion:
    """Split a text into sentences, the last of which is the question.

    >>> parse("Amira went to the attic. Where is Amira?").question
    'Where is Amira?'
    """
    sentences = re.findall(r"[^.?!]+[.?!]+|[^.?!]+$", text)
    sentences = [sentence.strip() for sentence in sentences if sentence.strip()]
    if len(sentences) < 2 or not sentences[-1].endswith("?"):
        raise UserError(f"expected sentences with a question at the end: '{EXAMPLE}'")
    return StoryQuestion(tuple(sentences[:-1]), sentences[-1], "", ())


def _longest_sentence(vocabulary: Vocabulary, examples: Sequence[StoryQuestion]) -> int:
    encoded = (vocabulary.encode(example, len(example.sentences)) for example in examples)
    return max((len(text) for story in encoded for text in (*story.sentences, story.question)), default=1)
