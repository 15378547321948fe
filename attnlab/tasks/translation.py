"""Translation: texts in, hypotheses with their attention out, and the scores of a test set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from attnlab.config import Decoding, Experiment
from attnlab.data.batching import Batches, evaluation_batches, training_pairs
from attnlab.data.corpus import Pair
from attnlab.data.tokenizer import BOS, EOS, Tokenizers
from attnlab.models.seq2seq import RecurrentSeq2Seq
from attnlab.tasks.metrics import bleu
from attnlab.training.decoding import Hypotheses, make_decode
from attnlab.training.steps import place

DECODING_TOKENS = 4096
"""Source positions times beam in one decoding batch."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One translation: `weights[i]` is the attention over the source (end token included) when token i was written."""

    text: str
    tokens: list[int]
    score: float
    weights: np.ndarray


@dataclass(eq=False)
class Translator:
    """The model of an experiment with its tokenizers: what turns text into batches and arrays into text."""

    config: Experiment
    tokenizers: Tokenizers
    _decoders: dict[Decoding, Callable[..., Hypotheses]] = field(default_factory=dict)

    @cached_property
    def model(self) -> RecurrentSeq2Seq:
        """The Linen module; its parameters live elsewhere."""
        source, target = self.tokenizers.source, self.tokenizers.target
        return RecurrentSeq2Seq(self.config.model, source.vocabulary_size, target.vocabulary_size)

    def batches(self, pairs: Sequence[Pair]) -> Batches:
        """The training batches; pairs longer than the task's `max_length` are left out."""
        source = [e.ids for e in self.tokenizers.source.encode_batch([p.source for p in pairs])]
        target = [e.ids for e in self.tokenizers.target.encode_batch([p.target for p in pairs])]
        ids = training_pairs(source, target, self.config.task.max_length)
        training = self.config.training
        return Batches(
            ids, training.batch_tokens, training.buckets, seed=self.config.seed, row_multiple=jax.device_count()
        )

    def describe(self, batches: Batches, pairs: int) -> list[str]:
        """Lines for a person on what is trained on; nothing is left out of the training silently."""
        source, target = self.tokenizers.source.vocabulary_size, self.tokenizers.target.vocabulary_size
        lines = [
            f"data: {batches.pairs:,} training pairs, {len(batches)} batches an epoch, "
            f"{100 * batches.real_fraction:.0f}% of target positions real",
            f"vocabulary: {source} source, {target} target tokens",
        ]
        if left_out := pairs - batches.pairs:
            lines.append(
                f"left out: {left_out} pairs of more than {self.config.task.max_length} tokens (task.max_length)"
            )
        return lines

    def translate(
        self, params: PyTree, texts: Sequence[str], decoding: Decoding, poll: Callable[[], None] = lambda: None
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
        for chosen, source, lengths in self._source_batches([ids[i] for i in full], decoding.beam):
            poll()
            batch = place({"source": source, "lengths": lengths})
            found = jax.tree.map(np.asarray, decode(params, batch["source"], batch["lengths"]))
            for row, index in enumerate(chosen):
                results[full[index]] = self._hypotheses(found, row, int(lengths[row]))
        return results

    def attention(self, params: PyTree, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Return each pair's attention [t+1 s+1] when the model is made to write the given target (teacher forcing).

        The last row and column are those of the end tokens.
        """
        source = [e.ids for e in self.tokenizers.source.encode_batch([p.source for p in pairs])]
        target = [[BOS, *e.ids] for e in self.tokenizers.target.encode_batch([p.target for p in pairs])]
        width = -(-max(map(len, target), default=1) // 16) * 16
        results: list[np.ndarray] = [np.zeros((0, 0))] * len(pairs)
        for chosen, ids, lengths in self._source_batches(source, 1):
            forced = np.full((len(ids), width), EOS, np.int32)
            for row, index in enumerate(chosen):
                forced[row, : len(target[index])] = target[index]
            batch = place({"source": ids, "lengths": lengths, "target": forced})
            weights = jax.device_get(self._forced(params, batch["source"], batch["lengths"], batch["target"]))
            for row, index in enumerate(chosen):
                results[index] = weights[row, : len(target[index]), : lengths[row]]
        return results

    def dev_scores(self, params: PyTree, pairs: Sequence[Pair], poll: Callable[[], None]) -> dict[str, float]:
        """Score dev quickly: greedy search, BLEU with case."""
        greedy = self.config.task.decoding.model_copy(update={"beam": 1, "n_best": 1})
        found = self.translate(params, [p.source for p in pairs], greedy, poll)
        return {"dev_bleu": bleu([h[0].text for h in found], [p.target for p in pairs])}

    @cached_property
    def _forced(self) -> Callable[..., Any]:
        def weights(params: PyTree, source: Any, lengths: Any, target: Any) -> jax.Array:
            out: Any = self.model.apply({"params": params}, source, lengths, target, train=False)
            return out.weights

        return jax.jit(weights)

    def _source_batches(
        self, ids: Sequence[list[int]], beam: int
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        return evaluation_batches(ids, max(DECODING_TOKENS // beam, 1), row_multiple=jax.device_count())

    def _hypotheses(self, found: Hypotheses, row: int, source_length: int) -> list[Hypothesis]:
        hypotheses = []
        for n in range(found.tokens.shape[1]):
            if n > 0 and not np.isfinite(found.scores[row, n]):
                break  # the search found fewer
            length = int(found.lengths[row, n])
            tokens = found.tokens[row, n, :length].tolist()
            weights = np.asarray(found.weights)[row, n, : length + 1, :source_length]
            hypotheses.append(
                Hypothesis(self.tokenizers.target.decode(tokens), tokens, float(found.scores[row, n]), weights)
            )
        return hypotheses


def average(trees: Sequence[PyTree]) -> PyTree:
    """The mean of the parameters of several checkpoints, leaf by leaf."""
    return jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), axis=0), *trees)
