"""A classifier of texts: the batches, the class probabilities and the attention weights of texts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.classification import Classification
from attnlab.config.models.classifier import TransformerClassifier
from attnlab.data.classification.text_encoder import TextEncoder
from attnlab.data.pretrained.source import Pretrained
from attnlab.data.text.batching import Batch, evaluation_shapes
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.base import rows_multiple, settings
from attnlab.tasks.classification.adapters import ClassifierAdapter, GuidedAdapter, GuidedText
from attnlab.tasks.classification.attention_maps import ClassifiedText, attention_rows, row_labels, special_tokens
from attnlab.tasks.classification.base_model import BaseModel, is_guided
from attnlab.tasks.classification.prediction_lines import softmax
from attnlab.tasks.poll import Poll, no_poll, with_poll
from attnlab.tasks.pretrained_task import PretrainedTask
from attnlab.training.steps import shard_batch

EVALUATION_TOKENS = 8192
"""Tokens in one batch of an evaluation, padding counted."""


@dataclass(eq=False)
class ClassifierTask(PretrainedTask):
    """The model of an experiment with its vocabulary and its classes, as a function of texts.

    Attributes:
        base: the trained model that guides this one, or that an adversary is trained with; None for a trained adversary
            and without such a model.
    """

    config: Experiment
    text_encoder: TextEncoder
    labels: tuple[str, ...]
    pretrained: Pretrained | None = None
    base: BaseModel | None = None

    @property
    def tokenizer(self) -> Tokenizer:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The tokenizer of the texts."""
        return self.text_encoder.tokenizer

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        adapter = GuidedAdapter if is_guided(self.config) else ClassifierAdapter
        return adapter(self.config, self.tokenizer.vocabulary_size, len(self.labels))

    def load_pretrained(self, params: PyTree) -> PyTree:
        """Replace the initial parameters of the encoder with pretrained ones, if there are any."""
        if self.pretrained is None:
            return params
        return params | {"encoder": super().load_pretrained(params["encoder"])}

    def probabilities(self, params: PyTree, texts: Sequence[str], poll: Poll = no_poll) -> np.ndarray:
        """Return the probability of each class for each text, [n c]; uniform for a text without tokens.

        Args:
            params: the parameters of `model`.
            texts: the texts.
            poll: called between batches; may raise to stop.
        """
        probabilities = np.full((len(texts), len(self.labels)), 1 / len(self.labels), np.float64)
        for indices, batch in with_poll(self._batches(self._ids(texts)), poll, len(texts)):
            batch = shard_batch(batch)
            logits = jax.device_get(self._logits(params, batch))
            probabilities[indices] = softmax(logits[: len(indices)])
        return probabilities

    def classify(self, params: PyTree, texts: Sequence[str], poll: Poll = no_poll) -> list[ClassifiedText]:
        """Return the class probabilities of each text with its attention; see `attention_rows`."""
        return self.classify_encoded(params, self._ids(texts), poll)

    def classify_encoded(self, params: PyTree, ids: Sequence[np.ndarray], poll: Poll = no_poll) -> list[ClassifiedText]:
        """Return the class probabilities of each text with its attention, from the ids of its tokens."""
        model = self.config.model
        uniform = np.full(len(self.labels), 1 / len(self.labels))
        results = [ClassifiedText(uniform, np.zeros((1, len(tokens))), ["hop-1"]) for tokens in ids]
        for indices, batch in with_poll(self._batches(ids), poll, len(ids)):
            batch = shard_batch(batch)
            logits, weights = jax.device_get(self._logits_and_attention(params, batch))
            labels = row_labels(model, weights.shape[1])
            for row, index in enumerate(indices):
                real = weights[row, :, : len(ids[index]) + sum(special_tokens(model))]
                results[index] = ClassifiedText(softmax(logits[row : row + 1])[0], real, labels)
        return results

    @property
    def _settings(self) -> Classification:
        return settings(self.config, Classification)

    @cached_property
    def _logits(self) -> Callable[..., Array]:
        def logits(params: PyTree, batch: Mapping[str, Any]) -> Array:
            return self.adapter.forward(params, batch, attention=False).logits

        return jax.jit(logits)

    @cached_property
    def _logits_and_attention(self) -> Callable[..., tuple[Array, Array]]:
        def logits_and_attention(params: PyTree, batch: Mapping[str, Any]) -> tuple[Array, Array]:
            out = self.adapter.forward(params, batch)
            return out.logits, attention_rows(out.attention, self.config.model, batch["lengths"])

        return jax.jit(logits_and_attention)

    def _batches(self, ids: Sequence[np.ndarray]) -> Iterator[tuple[list[int], Batch]]:
        """Yield batches of the texts with tokens, each with the indices of its texts."""
        nonempty = [index for index, tokens in enumerate(ids) if len(tokens)]
        model = self.config.model
        max_tokens = model.max_text_tokens if isinstance(model, TransformerClassifier) else None
        lengths, members = [len(ids[index]) for index in nonempty], self._adapted([ids[index] for index in nonempty])
        for rows, shape in evaluation_shapes(lengths, EVALUATION_TOKENS, rows_multiple(), max_tokens):
            yield [nonempty[row] for row in rows], self.adapter.fill([members[row] for row in rows], shape)

    def _ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [text.ids for text in self.text_encoder.encode(texts)]

    def _adapted(
        self, ids: Sequence[np.ndarray], labels: np.ndarray | None = None, base_texts: Sequence[ClassifiedText] = ()
    ) -> list[tuple[Any, ...]]:
        """Return examples as the adapter takes them, with the weights of the base model that guides this one.

        Args:
            ids: the tokens of each text.
            labels: numbers of the classes; None where they do not matter.
            base_texts: what the base model predicts for the texts, if it is known.
        """
        labels = np.zeros(len(ids), int) if labels is None else labels
        if not is_guided(self.config):
            return list(zip(ids, labels, strict=True))
        assert self.base is not None
        weights = [text.weights.mean(axis=0) for text in base_texts or self.base.classify(ids)]
        return list(map(GuidedText, ids, labels, weights))
