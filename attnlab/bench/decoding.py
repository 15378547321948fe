"""What a cache buys: greedy search with one beside the same search that reads all that is written again at each step.

Both sides share the encoder's states and the search (`training.decoding.greedy`); they differ in how a step gets its
logits. With the cache the decoder reads one token; without, the whole text so far, in a buffer of the longest length,
as a compiled program with fixed shapes does it. Both must write the same tokens.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Decoding
from attnlab.config.errors import UserError
from attnlab.models.transformer import TransformerSeq2Seq
from attnlab.tasks.base import Task
from attnlab.tasks.translation.task import TranslationTask
from attnlab.training.decoding import Hypotheses, greedy, make_decode
from attnlab.training.steps import shard_batch

ROUNDS = 5
GREEDY = {"beam": 1, "n_best": 1, "coverage_penalty": 0.0}
Search = Callable[[PyTree, Array, Array], Hypotheses]


@dataclass(frozen=True)
class Comparison:
    """Seconds that both sides took for the same sentences, round by round; prints as lines and as JSON."""

    name: str
    about: str
    sentences: int
    length: int | None
    """Tokens that every translation was made to have; None: as long as they come."""
    tokens: int
    """Written by each side, end tokens counted."""
    equal: int
    """Sentences for which both sides wrote the same tokens."""
    largest_difference: float
    """Of a sentence's score between the sides."""
    cached_seconds: tuple[float, ...]
    full_seconds: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast the cache was in each round."""
        return [full / cached for full, cached in zip(self.full_seconds, self.cached_seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """Their median."""
        return median(self.ratios)

    def as_json(self) -> str:
        """Everything measured, on one line."""
        return json.dumps(asdict(self) | {"ratio": self.ratio})

    def __str__(self) -> str:
        length = "of their own length" if self.length is None else f"of {self.length} tokens"
        ratios = self.ratios
        sides = (("cached", self.cached_seconds), ("full", self.full_seconds))
        lines = [
            f"{self.name}: greedy search, {self.sentences} sentences, translations {length}; {self.about}",
            f"the same tokens in {self.equal} of {self.sentences}; scores differ by up to {self.largest_difference:g}",
            f"{'':<8}{'median':>10}{'lowest':>10}{'highest':>10}  seconds of a round",
            *(
                f"{name:<8}{median(seconds):>10.2f}{min(seconds):>10.2f}{max(seconds):>10.2f}"
                f"  {self.tokens / median(seconds):,.0f} tokens/s"
                for name, seconds in sides
            ),
            f"{'ratio':<8}{self.ratio:>10.2f}{min(ratios):>10.2f}{max(ratios):>10.2f}  of {len(ratios)} rounds",
        ]
        return "\n".join([*lines, self.as_json()])


def _encoder_states(model: TransformerSeq2Seq, source: Array, lengths: Array, *, train: bool) -> Array:
    return model.encoder(model.embed(source), lengths, train=train)


def _decoder_output(model: TransformerSeq2Seq, memory: Array, lengths: Array, written: Array, *, train: bool) -> Any:
    return model.decoder(memory, lengths, written, train=train)


def make_full_decode(model: TransformerSeq2Seq, config: Decoding) -> Search:
    """Build the jitted greedy search without a cache; called as what `make_decode` builds."""
    apply: Any = model.apply

    def decode(params: PyTree, source: Array, lengths: Array) -> Hypotheses:
        memory = apply({"params": params}, source, lengths, train=False, method=_encoder_states)
        written = jnp.zeros((source.shape[0], config.max_length + 1), jnp.int32)

        def advance(state: tuple[Array, Array], token: Array) -> tuple[Any, Array, Array]:
            written, step = state
            written = written.at[:, step].set(token)
            logits = apply({"params": params}, memory, lengths, written, train=False, method=_decoder_output).logits
            here = jax.lax.dynamic_index_in_dim(logits, step, axis=1, keepdims=False)
            return (written, step + 1), jax.nn.log_softmax(here), jnp.zeros((written.shape[0], 1))

        return greedy(advance, (written, jnp.zeros((), jnp.int32)), lengths=lengths, positions=1, config=config)

    return jax.jit(decode)


def compare(
    task: Task, params: PyTree, texts: Sequence[str], length: int | None = None, rounds: int = ROUNDS
) -> Comparison:
    """Translate texts in turns with and without the cache.

    Args:
        task: of a trained Transformer that translates.
        params: its parameters.
        texts: in the source language.
        length: tokens of every translation; None lets each end where it ends.
        rounds: turns of each side; which side goes first alternates.
    """
    model = task.model
    if not isinstance(task, TranslationTask) or not isinstance(model, TransformerSeq2Seq):
        kind = task.config.model.kind
        raise UserError(f"bench decoding: model.kind {kind} has no cache to measure; valid: transformer_seq2seq")
    decoding, most = task.decoding.model_copy(update=GREEDY), model.config.max_length
    if length is not None:
        decoding = decoding.model_copy(update={"min_length": length, "max_length": length})
    if not 1 <= decoding.max_length < most:
        raise UserError(
            f"bench decoding: {decoding.max_length} tokens; the run's model.max_length is {most}, start token counted"
        )
    batches = _batches(task, texts)
    searches = {"cached": make_decode(model, decoding), "full": make_full_decode(model, decoding)}
    found = {name: _run(search, params, batches) for name, search in searches.items()}  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(rounds):
        for name in list(searches)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            _run(searches[name], params, batches)
            seconds[name].append(time.perf_counter() - start)
    sentences, same, tokens, difference = 0, 0, 0, 0.0
    for one, other in zip(found["cached"], found["full"], strict=True):
        real = one.lengths[:, 0] > 0
        same += int(
            np.sum(np.all(one.tokens == other.tokens, axis=(1, 2)) & (one.lengths == other.lengths)[:, 0] & real)
        )
        sentences += int(np.sum(real))
        tokens += int(np.sum(one.lengths[:, 0] + real))
        difference = max(difference, float(np.max(np.abs(one.scores - other.scores))))
    about = f"jax {jax.__version__}, {jax.device_count()} {jax.devices()[0].platform} devices"
    return Comparison(
        task.config.name,
        about,
        sentences,
        length,
        tokens,
        same,
        difference,
        tuple(seconds["cached"]),
        tuple(seconds["full"]),
    )


def _batches(task: TranslationTask, texts: Sequence[str]) -> list[tuple[Array, Array]]:
    ids = [found.ids for found in task.tokenizers.source.encode_batch(list(texts)) if found.ids]
    placed = [shard_batch({"source": source, "lengths": lengths}) for _, source, lengths in task.source_batches(ids, 1)]
    return [(batch["source"], batch["lengths"]) for batch in placed]


def _run(search: Search, params: PyTree, batches: Sequence[tuple[Array, Array]]) -> list[Hypotheses]:
    return [jax.device_get(search(params, source, lengths)) for source, lengths in batches]
