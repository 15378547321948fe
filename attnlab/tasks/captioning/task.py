"""Captioning: images in, captions with their attention out, and the scores of a test set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from attnlab.config import Decoding, Experiment
from attnlab.config.captioning import Captioning
from attnlab.config.errors import UserError
from attnlab.config.models.captioner import ShowAttendTell as ShowAttendTellConfig
from attnlab.config.models.captioner import TransformerCaptioner as TransformerCaptionerConfig
from attnlab.data.captioning import load
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.images.pixels import Box, as_bytes, pixels
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import BOS, EOS, Encoding, Tokenizer, train
from attnlab.tasks import hypotheses
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, ImageAttentionMap, RowGroup
from attnlab.tasks.base import Metric, Poll, Task, TrainingBatches, no_poll, settings, with_poll
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.captioning.adapters import CaptionerAdapter
from attnlab.tasks.captioning.metrics import bleu, bleu_of_counts, caption_scores, inside, pointing, words
from attnlab.tasks.hypotheses import Hypothesis, from_search
from attnlab.tasks.image_inputs import ROWS, ImageInputs
from attnlab.tasks.layer_attention import Selection, layers_of, select, title
from attnlab.training.decoding import Hypotheses, make_decode
from attnlab.training.objective import Loss, cross_entropy
from attnlab.training.steps import shard_batch

VOCABULARY = "tokenizer/words.json"
START, END = "⟨start⟩", "⟨end⟩"
"""How the start and the end token are shown."""


@dataclass(eq=False)
class CaptioningTask(Task):
    """The model of an experiment with its vocabulary: what turns images into batches and arrays into captions."""

    monitor = "dev_bleu"
    loss_unit = "words"
    input_format = "the path of an image file"
    reported_metrics = (
        Metric("bleu_4"),
        Metric("cider_d"),
        Metric("rouge_l"),
        Metric("exact_match"),
        Metric("pointing"),
        Metric("region_mass"),
    )

    config: Experiment
    tokenizer: Tokenizer
    _decoders: dict[Decoding, Callable[..., Hypotheses]] = field(default_factory=dict)

    @staticmethod
    def load(config: Experiment, data_dir: Path | None) -> Splits[CaptionedImage]:
        """Read or generate images and captions."""
        return load.load(settings(config, Captioning).data, data_dir)

    @classmethod
    def prepare(cls, config: Experiment, splits: Splits[CaptionedImage], data_dir: Path | None = None) -> Self:
        """Learn the vocabulary from the training captions."""
        texts = [words(text) for example in splits.train for text in example.captions]
        return cls(config, train(settings(config, Captioning).tokenizer, texts, "target"))

    @classmethod
    def restore(cls, config: Experiment, directory: Path) -> Self:
        """Read the vocabulary of a run."""
        return cls(config, Tokenizer.load(directory / VOCABULARY))

    def files(self) -> Mapping[str, str]:
        """The vocabulary."""
        return {VOCABULARY: self.tokenizer.to_json()}

    @property
    def task(self) -> Captioning:
        """The task's part of the config."""
        return settings(self.config, Captioning)

    @cached_property
    def image_inputs(self) -> ImageInputs:
        """How images reach the model."""
        assert isinstance(self.config.model, ShowAttendTellConfig | TransformerCaptionerConfig)
        return ImageInputs(self.config.model.image, self.task.image_size)

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of frozen weights of the image encoder."""
        return dict(self.image_inputs.fingerprints())

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        return CaptionerAdapter(self.config, self.image_inputs, self.tokenizer.vocabulary_size)

    @property
    def attends(self) -> bool:
        """Whether the model has an attention to look at."""
        return getattr(self.config.model, "attention", self.config.model) is not None

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Cross entropy of every word given those before it, and what `doubly_stochastic` asks for."""
        out = self.adapter.forward(params, batch, rng, attention=False)
        smoothing, lengths = self.config.training.label_smoothing, batch["target_lengths"]
        smoothed, nll = cross_entropy(out.logits, batch["target_out"], lengths, label_smoothing=smoothing)
        uneven = getattr(self.config.model, "doubly_stochastic", 0.0)
        if uneven and self.attends:
            smoothed += uneven * unevenness(out.weights, lengths)
        if guided := self._guided:
            smoothed += guided * elsewhere(out.weights, batch["gold"])
        return Loss(smoothed, jnp.sum(lengths), {"nll": nll})

    def training_batches(self, examples: Sequence[CaptionedImage]) -> TrainingBatches:
        """Batch every caption with its image; captions longer than `max_length` are left out."""
        pairs = [(n, ids) for n, example in enumerate(examples) for ids in self._ids(example.captions)]
        gold = self._gold(examples) if self._guided else None
        kept = [(n, ids) for n, ids in pairs if len(ids) <= self.task.max_length]
        images = self.image_inputs.prepared([e.image for e in examples], [e.name for e in examples])

        def fill(shape: Shape, members: Sequence[int]) -> Batch:
            chosen = [kept[i] for i in members]
            batch = self.adapter.fill([(images[n], ids) for n, ids in chosen], shape)
            if gold is not None:
                batch["gold"] = np.zeros((shape.rows, shape.target, self.image_inputs.cells), bool)
                for row, (n, ids) in enumerate(chosen):
                    batch["gold"][row, : len(ids)] = gold[n]
            return batch

        batches = self.batched(kept, fill)
        side, size = self.image_inputs.side, self.task.image_size
        summary = [
            f"data: {batches.examples:,} captions of {len(examples):,} images, {len(batches)} batches an epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions real",
            f"vocabulary: {self.tokenizer.vocabulary_size} tokens; images of {size}×{size} pixels, {side}×{side} cells",
        ]
        if left_out := len(pairs) - len(kept):
            summary.append(f"left out: {left_out} captions of more than {self.task.max_length} tokens")
        return TrainingBatches(batches, summary)

    @property
    def _guided(self) -> float:
        return getattr(self.config.model, "attention_supervision", 0.0)

    def _gold(self, examples: Sequence[CaptionedImage]) -> list[np.ndarray]:
        """For each token of the first captions the cells of its gold region, [tokens cells]; none where it has none."""
        side, size = self.image_inputs.side, self.task.image_size
        none = np.zeros(self.image_inputs.cells, bool)
        encoded = self.tokenizer.encode_batch([example.captions[0] for example in examples])
        return [
            np.array([
                none if region is None else inside(region, (side, side), (size, size))
                for region in by_token(example.regions or (), encoding)
            ])
            for example, encoding in zip(examples, encoded, strict=True)
        ]  # fmt: skip

    def validation_metrics(
        self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Score dev quickly: greedy search, BLEU-4, and how many captions are right."""
        greedy = self.task.decoding.model_copy(update={"beam": 1, "n_best": 1})
        found = [several[0].text for several in self.caption(params, examples, greedy, poll)]
        references = [example.captions for example in examples]
        right = [text in map(words, several) for text, several in zip(found, references, strict=True)]
        return {"dev_bleu": bleu(found, references), "dev_exact": 100.0 * float(np.mean(right))}

    def test_metrics(self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll = no_poll) -> dict[str, Any]:
        """Score a test set, and the attention by the gold regions where they are known."""
        decoding = self.task.decoding
        found = [several[0].text for several in self.caption(params, examples, decoding, poll)]
        scores = caption_scores(found, [example.captions for example in examples])
        if self.attends and all(example.regions is not None for example in examples):
            pointed = self._pointing(params, examples, poll)
            scores["per_example"] |= pointed.pop("per_example")
            scores |= pointed
        return scores | {"decoding": decoding.model_dump()}

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """BLEU and pointing are made of counts, all else is a mean."""
        of_counts = {"bleu_4": bleu_of_counts, "pointing": pointing_of}
        return of_counts[metric](rows) if metric in of_counts else Task.aggregate(metric, rows)

    def parse_example(self, inputs: Sequence[str]) -> CaptionedImage:
        """Read an image file."""
        if len(inputs) != 1:
            raise UserError(f"one image is described at a time, not {len(inputs)}: attnlab show RUN image.jpg")
        return read_example(inputs[0])

    def attention_maps(self, params: PyTree, example: CaptionedImage) -> list[AnyAttentionMap]:
        """Caption an image; return the attention map of each caption, with a row for each of its words."""
        return [self._image_map(example, found) for found in self.caption(params, [example], self.task.decoding)[0]]

    def _image_map(self, example: CaptionedImage, found: Hypothesis) -> ImageAttentionMap:
        side, model, which = self.image_inputs.side, self.config.model, ""
        if isinstance(model, TransformerCaptionerConfig):
            which = title("cross", model.decoder.reported_layer + 1, model.decoder.layers, model.decoder.heads)
        return ImageAttentionMap(
            image=pixels(example.image, self.task.image_size, example.name),
            row_labels=[self.tokenizer.token(token) for token in found.tokens],
            weights=found.weights[:-1].reshape(-1, side, side),
            prediction=found.text,
            score=found.score,
            reference="".join(example.captions[:1]),
            title=which,
        )

    def selected_attention_map(self, params: PyTree, example: CaptionedImage, wanted: Selection) -> AnyAttentionMap:
        """Describe an image; return one attention of the model while it decodes the best caption."""
        model = self.config.model
        aligned = model.decoder.reported_layer + 1 if isinstance(model, TransformerCaptionerConfig) else None
        best = self.caption(params, [example], self.task.decoding)[0][0]
        ((_, image, cells),) = self.image_inputs.batches([example.image], [example.name])
        target = np.full((len(image), len(best.tokens) + 1), EOS, np.int32)
        target[0] = [BOS, *best.tokens]
        batch = shard_batch({"image": image, "cells": cells, "target_in": target})
        chosen = select(layers_of(self.adapter, params, batch), wanted, "cross", aligned)
        words = [self.tokenizer.token(token) for token in best.tokens]
        if chosen.kind == "cross":
            given = self.image_inputs.cells
            seen = replace(best, weights=chosen.weights[: len(words) + 1, :given])
            return replace(self._image_map(example, seen), title=chosen.title)
        rows = [*words, END]
        return AttentionMap(
            column_labels=[START, *words],
            row_labels=rows,
            weights=chosen.weights[: len(rows), : len(rows)],
            prediction=best.text,
            score=best.score,
            reference="".join(example.captions[:1]),
            input=example.name,
            column_label="written before",
            row_label="written next",
            row_groups=(RowGroup(len(rows), chosen.title, "written next"),),
        )

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """None: what is given are images."""
        return []

    def predict(self, params: PyTree, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Describe the image file of each line; an empty line for an empty one.

        With `n_best` above 1, so many lines for each instead: `line number ||| caption ||| score`.
        """
        decoding = hypotheses.asked_for(self.task.decoding, n_best)
        given = [line.strip() for line in lines]
        found = iter(self.caption(params, [read_example(path) for path in given if path], decoding))
        for number, path in enumerate(given, start=first):
            yield from hypotheses.lines(number, next(found) if path else [], decoding.n_best)

    def token_lengths(self, examples: Sequence[CaptionedImage]) -> dict[str, list[int]]:
        """Tokens of all captions."""
        return {"caption": [len(ids) for example in examples for ids in self._ids(example.captions)]}

    def caption(
        self, params: PyTree, examples: Sequence[CaptionedImage], decoding: Decoding, poll: Poll = no_poll
    ) -> list[list[Hypothesis]]:
        """Describe each image; return its captions, best first."""
        decode = self._decoders.setdefault(decoding, make_decode(self.model, decoding))
        results: list[list[Hypothesis]] = []
        images, names = [e.image for e in examples], [e.name for e in examples]
        batches = self.image_inputs.batches(images, names, max(ROWS // decoding.beam, 1))
        for chosen, image, cells in with_poll(batches, poll, len(examples)):
            batch = shard_batch({"image": image, "cells": cells})
            found = jax.tree.map(np.asarray, decode(params, batch["image"], batch["cells"]))
            given = self.image_inputs.cells
            results += [from_search(found, row, self.tokenizer.decode, given) for row, _ in enumerate(chosen)]
        return results

    def attention(self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll = no_poll) -> list[np.ndarray]:
        """Return the attention [words + 1, cells] when the model is made to write each image's first caption."""
        targets = [[BOS, *ids] for ids in self._ids([e.captions[0] for e in examples])]
        longest = self.config.model.max_positions  # pyright: ignore[reportAttributeAccessIssue]
        width = hypotheses.fitting(max(map(len, targets), default=1), longest, "with its start token a caption")
        results: list[np.ndarray] = []
        images, names = [e.image for e in examples], [e.name for e in examples]
        for chosen, image, cells in with_poll(self.image_inputs.batches(images, names), poll, len(examples)):
            forced = np.full((len(image), width), EOS, np.int32)
            for row, index in enumerate(chosen):
                forced[row, : len(targets[index])] = targets[index]
            batch = shard_batch({"image": image, "cells": cells, "target": forced})
            weights = jax.device_get(self._forced(params, batch["image"], batch["cells"], batch["target"]))
            results += [weights[row, : len(targets[index])] for row, index in enumerate(chosen)]
        return results

    @cached_property
    def _forced(self) -> Callable[..., Any]:
        def weights(params: PyTree, image: Any, cells: Any, target: Any) -> jax.Array:
            out: Any = self.model.apply({"params": params}, image, cells, target, train=False)
            return out.weights

        return jax.jit(weights)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch([words(text) for text in texts])]

    def _pointing(self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll) -> dict[str, Any]:
        """Where the model looks when it writes the first reference, word by word, against the gold regions."""
        side, size = self.image_inputs.side, self.task.image_size
        hits, masses, ends = [], [], []
        encoded = self.tokenizer.encode_batch([example.captions[0] for example in examples])
        for example, encoding, weights in zip(examples, encoded, self.attention(params, examples, poll), strict=True):
            regions = by_token(example.regions or (), encoding)
            pointed, mass = pointing(weights, regions, (side, side), (size, size))
            hits, masses, ends = hits + pointed, masses + mass, [*ends, (sum(pointed), len(pointed))]
        return {
            "pointing": 100.0 * float(np.mean(hits)),
            "pointing_ci95": interval(np.asarray(ends), pointing_of),
            "per_example": {"pointing": np.asarray(ends)},
            "region_mass": 100.0 * float(np.mean(masses)),
        }


def read_example(path: str) -> CaptionedImage:
    """Read an image file; what is in it is decoded later."""
    try:
        return CaptionedImage(as_bytes(Path(path).read_bytes()), (), name=path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected an image file") from error


def by_token(regions: Sequence[Box | None], encoding: Encoding) -> list[Box | None]:
    """Give each token the region of the word it stands in (words are what stands between spaces)."""
    ends = np.cumsum([len(word) + 1 for word in encoding.text.split(" ")])
    return [regions[int(np.searchsorted(ends, start, side="right"))] for start, _ in encoding.offsets]


def pointing_of(rows: Shaped[np.ndarray, "n 2"]) -> float:
    """Make the percentage of words that pointed at their region of [hits, words] of each image."""
    return 100.0 * float(rows[:, 0].sum() / rows[:, 1].sum())


def unevenness(weights: Float[Array, "b t s"], lengths: Int[Array, " b"]) -> Float[Array, ""]:
    """Sum over captions and cells how far the attention to a cell, over all words, is from 1: Σ_s (1 − Σ_t w_ts)².

    Reference: Xu et al. 2015, equation 14.
    """
    counts = jnp.arange(weights.shape[1])[None, :] < lengths[:, None]
    totals = jnp.sum(jnp.where(counts[..., None], weights, 0.0), axis=1)
    return jnp.sum(jnp.where(lengths[:, None] > 0, (1.0 - totals) ** 2, 0.0))


def elsewhere(weights: Float[Array, "b t s"], gold: Bool[Array, "b t s"]) -> Float[Array, ""]:
    """Sum over the words that have a gold region how little of their attention lies in it: −log Σ_{s in region} w_ts.

    Numerics: a word that looks elsewhere alone costs 9.2 (the share is kept above 0.0001).
    Reference: Liu, Mao, Sha & Yuille 2017, "Attention correctness in neural image captioning", section 3.2.
    """
    share = jnp.sum(jnp.where(gold, weights, 0.0), axis=-1)
    return jnp.sum(jnp.where(jnp.any(gold, axis=-1), -jnp.log(jnp.maximum(share, 1e-4)), 0.0))
