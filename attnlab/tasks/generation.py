"""Tasks whose model generates a text: the loss, greedy and beam search, and the attention behind each token."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Decoding
from attnlab.config.models.transformer import DecoderStack
from attnlab.data.text.batching import Batch
from attnlab.data.text.tokenizer import BOS, EOS, Encoding, Tokenizer
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.adapter import Output
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.base import Task
from attnlab.tasks.explained_output import explained_output
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.hypotheses import Hypothesis, hypotheses_of_row, output_lines, padded_length, with_n_best
from attnlab.tasks.input_parts import InputSequence
from attnlab.tasks.layer_attention import SelectedAttention, Selection, layers_of_first_example, select
from attnlab.tasks.poll import Poll, no_poll, with_poll
from attnlab.training.decoding import Hypotheses, make_decode
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

SourceBatch = tuple[list[int], np.ndarray, np.ndarray]
"""Indices of the examples in the first rows, the sources [b ...], and the length of each [b], which is 0 for filler."""


class GenerationTask(Task):
    """A task whose model generates a text from a source, which is another text or an image.

    The `task` section of the config has the key `decoding`, and the config of the model the property `max_positions`.
    The model has the methods `encode` and `decode` (see `make_decode`). The `input_names` of the adapter are the
    source, its length, and the tokens of the target from the start token on; its batches also have `target_out` and
    `target_lengths`, which count the end token.

    Attributes:
        target_name: name of a target in messages.
        max_maps: most hypotheses with an attention map if the config asks for one hypothesis.
        hypotheses_of_blank: hypotheses of an empty line of `predict`.
    """

    target_name: ClassVar[str] = "target"
    max_maps: ClassVar[int] = 3
    hypotheses_of_blank: ClassVar[Sequence[Hypothesis]] = ()

    @abstractmethod
    def source_batches(self, examples: Sequence[Any], beam: int) -> Iterator[SourceBatch]:
        """Return batches of the sources of all examples, in any order, for a beam width."""

    @abstractmethod
    def target_ids(self, examples: Sequence[Any]) -> list[list[int]]:
        """Return the token numbers of the target of each example, without start and end token."""

    @abstractmethod
    def hypothesis_map(self, example: Any, hypothesis: Hypothesis) -> AnyAttentionMap:
        """Return the attention map of a hypothesis."""

    @abstractmethod
    def selected_map(self, example: Any, hypothesis: Hypothesis, selected: SelectedAttention) -> AnyAttentionMap:
        """Return the attention map of a selected layer and head while the model decodes a hypothesis."""

    @abstractmethod
    def source_input(self, example: Any) -> tuple[Any, InputSequence]:
        """Return the source of an example as the adapter's `fill` takes it, with the labels of its positions."""

    @property
    def target_tokenizer(self) -> Tokenizer:
        """The tokenizer of the generated text."""
        return self.tokenizer

    @property
    def decoding(self) -> Decoding:
        """The config of the search."""
        task: Any = self.config.task
        return task.decoding

    @property
    def greedy(self) -> Decoding:
        """The config of greedy search, for validation."""
        return self.decoding.model_copy(update={"beam": 1, "n_best": 1})

    @property
    def max_positions(self) -> int | None:
        """Number of positions of a model with learned ones; None for any number."""
        model: Any = self.config.model
        return model.max_positions

    @property
    def has_attention(self) -> bool:
        """Whether the decoder attends to the source."""
        return getattr(self.config.model, "attention", self.config.model) is not None

    @property
    def reported_layer(self) -> int | None:
        """The layer whose cross-attention a Transformer reports, counted from 1; None for a recurrent decoder."""
        decoder = getattr(self.config.model, "decoder", None)
        return decoder.reported_layer + 1 if isinstance(decoder, DecoderStack) else None

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the target tokens."""
        return self.token_loss(self.adapter.forward(params, batch, rng, attention=False), batch)

    def token_loss(self, output: Output, batch: Mapping[str, Any]) -> Loss:
        """Return the cross-entropy of the target tokens of a batch, to which `loss` may add terms.

        Args:
            output: the output of the model, with logits [b t v].
            batch: as returned by the adapter.
        """
        smoothing, lengths = self.config.training.label_smoothing, batch["target_lengths"]
        smoothed, nll = cross_entropy(output.logits, batch["target_out"], lengths, label_smoothing=smoothing)
        return Loss(smoothed, jnp.sum(lengths), {"nll": nll})

    def generate(
        self, params: PyTree, examples: Sequence[Any], decoding: Decoding, poll: Poll = no_poll
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each example, best first.

        Args:
            params: the parameters of `model`.
            examples: examples of the task, whose targets are not used.
            decoding: the config of the search.
            poll: called between batches; may raise to stop.
        """
        decode = self._decoders.setdefault(decoding, make_decode(self.model, decoding))
        results: list[list[Hypothesis]] = [[]] * len(examples)
        for indices, source, lengths in with_poll(self.source_batches(examples, decoding.beam), poll, len(examples)):
            batch = shard_batch({"source": source, "lengths": lengths})
            decoded = jax.tree.map(np.asarray, decode(params, batch["source"], batch["lengths"]))
            for row, index in enumerate(indices):
                results[index] = hypotheses_of_row(decoded, row, self.target_tokenizer.decode, int(lengths[row]))
        return results

    def texts(self, params: PyTree, examples: Sequence[Any], decoding: Decoding, poll: Poll = no_poll) -> list[str]:
        """Return the text of the best hypothesis of each example; the arguments are those of `generate`."""
        return [hypotheses[0].text for hypotheses in self.generate(params, examples, decoding, poll)]

    def outputs(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> list[str]:
        """Return the best text of each example."""
        return self.texts(params, examples, self.decoding, poll)

    def attention(self, params: PyTree, examples: Sequence[Any], poll: Poll = no_poll) -> list[np.ndarray]:
        """Return the attention [t+1 s] to the source of each example, with its target as input (teacher forcing).

        The last row is that of the end token; a source text has a column for its end token too.
        """
        targets = self.target_ids(examples)
        results = [np.zeros((0, 0))] * len(examples)
        for indices, batch, lengths in self._teacher_forcing(examples, targets, poll):
            source, source_lengths, target = (batch[name] for name in self.adapter.input_names)
            weights = jax.device_get(self._weights(params, source, source_lengths, target))
            for row, index in enumerate(indices):
                results[index] = weights[row, : len(targets[index]) + 1, : lengths[row]]
        return results

    def attention_of_layers(
        self,
        params: PyTree,
        examples: Sequence[Any],
        targets: Sequence[Sequence[int]],
        poll: Poll = no_poll,
        *,
        details: bool = False,
    ) -> Iterator[tuple[list[int], list[LayerAttention]]]:
        """Yield the attention to the source of all layers, with targets as input, for a few examples at a time.

        Args:
            params: the parameters of `model`.
            examples: examples of the task, whose own targets are not used.
            targets: token numbers of the target of each, without start and end token.
            poll: called between batches; may raise to stop.
            details: record what `capture.apply_with_attention` records besides the weights.
        Yields: indices of the examples in the first rows, and the records of the layers that attend to the source,
            weights [b h t+1 s] with padding.
        """
        for indices, batch, _ in self._teacher_forcing(examples, targets, poll):
            yield indices, jax.device_get(self._layers(params, batch, details=details))

    def _teacher_forcing(
        self, examples: Sequence[Any], targets: Sequence[Sequence[int]], poll: Poll
    ) -> Iterator[tuple[list[int], Batch, np.ndarray]]:
        """Yield indices of the examples in the first rows, the model's inputs, and the lengths of the sources."""
        longest = max(map(len, targets), default=0) + 1
        width = padded_length(longest, self.max_positions, f"with its start token a {self.target_name}")
        for indices, source, lengths in with_poll(self.source_batches(examples, 1), poll, len(examples)):
            target_in = _filled((len(source), width), [[BOS, *targets[index]] for index in indices])
            inputs = dict(zip(self.adapter.input_names, (source, lengths, target_in), strict=True))
            yield indices, shard_batch(inputs), lengths

    def attention_maps(self, params: PyTree, example: Any) -> list[AnyAttentionMap]:
        """Return the attention map of each of the best hypotheses."""
        decoding = self.decoding
        if decoding.n_best == 1:
            decoding = decoding.model_copy(update={"n_best": min(decoding.beam, self.max_maps)})
        (hypotheses,) = self.generate(params, [example], decoding)
        return [self.hypothesis_map(example, hypothesis) for hypothesis in hypotheses]

    def selected_attention_map(self, params: PyTree, example: Any, selection: Selection) -> AnyAttentionMap:
        """Return the selected attention while the model decodes the best hypothesis."""
        best = self.generate(params, [example], self.decoding)[0][0]
        ((_, batch, _),) = self._teacher_forcing([example], [best.tokens], no_poll)
        layers = layers_of_first_example(self.adapter, params, batch)
        return self.selected_map(example, best, select(layers, selection, "cross", self.reported_layer))

    def explained_prediction(self, params: PyTree, example: Any, selection: TargetSelection) -> ExplainedPrediction:
        """Return the generated text or one of its tokens, or another text, with the positions of the source."""
        source, inputs = self.source_input(example)
        best = self.generate(params, [example], self.decoding)[0][0]
        explained = explained_output(source, inputs, best, self.target_tokenizer, self.encode_target, selection)
        longest = max(len(tokens) for _, tokens in explained.examples) + 1
        padded_length(longest, self.max_positions, f"with its start token a {self.target_name}")
        return explained

    def encode_target(self, text: str) -> Encoding:
        """Return the tokens of a target text."""
        return self.target_tokenizer.encode(text)

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Yield the best text for each line; an empty line for an empty one.

        With `n_best` (None is the config's) above 1 yield as many lines for each in the format of Moses:
        `line number ||| text ||| score`.
        """
        decoding = with_n_best(self.decoding, n_best)
        for number, hypotheses in enumerate(self.hypotheses_of_lines(params, lines, decoding), start=first):
            yield from output_lines(number, hypotheses, decoding.n_best)

    def hypotheses_of_lines(
        self, params: PyTree, lines: Sequence[str], decoding: Decoding
    ) -> Iterator[Sequence[Hypothesis]]:
        """Yield the hypotheses for each line, best first; for an empty line `hypotheses_of_blank`."""
        lines = [line.strip() for line in lines]
        examples = [self.parse_example([line]) for line in lines if line]
        generated = iter(self.generate(params, examples, decoding))
        yield from (next(generated) if line else self.hypotheses_of_blank for line in lines)

    @cached_property
    def _decoders(self) -> dict[Decoding, Callable[..., Hypotheses]]:
        """The compiled searches."""
        return {}

    @cached_property
    def _layers(self) -> Callable[..., list[LayerAttention]]:
        def layers(params: PyTree, batch: Mapping[str, Any], details: bool) -> list[LayerAttention]:
            records = self.adapter.forward(params, batch, details=details).attention
            return [record for record in records if record.kind in ("cross", "decoder")]

        return jax.jit(layers, static_argnames="details")

    @cached_property
    def _weights(self) -> Callable[..., Any]:
        def weights(params: PyTree, source: Any, lengths: Any, target: Any) -> jax.Array:
            out: Any = self.model.apply({"params": params}, source, lengths, target, train=False)
            return out.weights

        return jax.jit(weights)


def _filled(shape: tuple[int, int], targets: Sequence[Sequence[int]]) -> np.ndarray:
    """Return targets as the first rows of an array, padded with the end token."""
    target_in = np.full(shape, EOS, np.int32)
    for row, tokens in enumerate(targets):
        target_in[row, : len(tokens)] = tokens
    return target_in
