"""Image captioning: its losses on attention, its metrics, and attention maps over the image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Array, PyTree

from attnlab.config import Experiment
from attnlab.config.captioning import Captioning, Scenes
from attnlab.config.errors import UserError
from attnlab.config.models.captioner import ShowAttendTell
from attnlab.data.captioning import load
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.images.pixels import pixels
from attnlab.data.records import Splits
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Encoding, Tokenizer, train
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AnyAttentionMap, ImageAttentionMap
from attnlab.tasks.base import Metric, Task, TrainingBatches, settings
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.captioning.adapters import CaptionerAdapter
from attnlab.tasks.captioning.attention_maps import hypothesis_map, selected_image_map, selected_word_map
from attnlab.tasks.captioning.losses import attention_supervision, doubly_stochastic
from attnlab.tasks.captioning.metrics import bleu, bleu_of_counts, caption_scores, image_rows, undefined, words
from attnlab.tasks.captioning.pointing import (
    cells_inside,
    pointing,
    pointing_of_center,
    pointing_rate,
    token_cells,
    token_regions,
)
from attnlab.tasks.explained_prediction import ExplainedPrediction
from attnlab.tasks.generation import GenerationTask, SourceBatch
from attnlab.tasks.hypotheses import Hypothesis
from attnlab.tasks.image_inputs import MAX_ROWS
from attnlab.tasks.image_task import ImageTask, images_and_names, read_image
from attnlab.tasks.input_parts import InputSequence, image_part
from attnlab.tasks.layer_attention import SelectedAttention
from attnlab.tasks.poll import Poll, no_poll
from attnlab.training.objective import Loss

VOCABULARY = "tokenizer/words.json"


@dataclass(eq=False)
class CaptioningTask(GenerationTask, ImageTask):
    """The model of an experiment with its vocabulary."""

    load_data = staticmethod(load.load)
    monitor = "dev_bleu"
    loss_unit = "words"
    input_format = "the path of an image file"
    correctness = "exact_match"
    target_name = "caption"
    max_maps = 1
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
        """Return the vocabulary."""
        return {VOCABULARY: self.tokenizer.to_json()}

    @property
    def _settings(self) -> Captioning:
        return settings(self.config, Captioning)

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model with the layout of its batches."""
        return CaptionerAdapter(self.config, self.image_inputs, self.tokenizer.vocabulary_size)

    @property
    def _supervision_weight(self) -> float:
        """The weight of the supervision of attention in the loss."""
        model = self.config.model
        return model.attention_supervision if isinstance(model, ShowAttendTell) else 0.0

    def loss(self, params: PyTree, batch: Mapping[str, Any], rng: Array | None) -> Loss:
        """Return the cross-entropy of the tokens, plus the losses on the attention that the model's config sets."""
        out, lengths = self.adapter.forward(params, batch, rng, attention=False), batch["target_lengths"]
        loss, model = self.token_loss(out, batch), self.config.model
        total = loss.total
        if isinstance(model, ShowAttendTell) and model.doubly_stochastic and self.has_attention:
            total += model.doubly_stochastic * doubly_stochastic(out.weights, lengths)
        if weight := self._supervision_weight:
            total += weight * attention_supervision(out.weights, batch["gold"])
        return Loss(total, loss.count, loss.metrics)

    def training_batches(self, examples: Sequence[CaptionedImage]) -> TrainingBatches:
        """Batch every caption with its image; captions longer than `max_length` are left out."""
        pairs = [(n, ids) for n, example in enumerate(examples) for ids in self._ids(example.captions)]
        gold = self._gold_cells(examples) if self._supervision_weight else None
        kept = [(n, ids) for n, ids in pairs if len(ids) <= self._settings.max_length]
        images = self.image_inputs.encoder_inputs(*images_and_names(examples))

        def fill(shape: Shape, indices: Sequence[int]) -> Batch:
            members = [kept[index] for index in indices]
            batch = self.adapter.fill([(images[n], ids) for n, ids in members], shape)
            if gold is not None:
                batch["gold"] = np.zeros((shape.rows, shape.target, self.image_inputs.cells), bool)
                for row, (n, ids) in enumerate(members):
                    batch["gold"][row, : len(ids)] = gold[n]
            return batch

        batches = self.batched(kept, fill)
        side, size = self.image_inputs.side, self.image_inputs.size
        summary = [
            f"data: {batches.examples:,} captions of {len(examples):,} images, {len(batches)} batches per epoch, "
            f"{100 * batches.real_fraction:.0f}% of positions are not padding",
            f"vocabulary: {self.tokenizer.vocabulary_size} tokens; images of {size}×{size} pixels, {side}×{side} cells",
        ]
        if left_out := len(pairs) - len(kept):
            limit = self._settings.max_length
            summary.append(f"left out: {left_out} captions of more than {limit} tokens (task.max_length)")
        return TrainingBatches(batches, summary)

    def _gold_cells(self, examples: Sequence[CaptionedImage]) -> list[np.ndarray]:
        """Return the cells of the gold region of each token of each image's first caption."""
        encodings = self.tokenizer.encode_batch([example.captions[0] for example in examples])
        return [
            token_cells(example.regions or (), encoding, self.image_inputs.side, self.image_inputs.size)
            for example, encoding in zip(examples, encodings, strict=True)
        ]

    def validation_metrics(
        self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll = no_poll
    ) -> dict[str, float]:
        """Return BLEU-4 and exact match of greedy search."""
        captions = self.texts(params, examples, self.greedy, poll)
        references = [example.captions for example in examples]
        exact = [text in map(words, texts) for text, texts in zip(captions, references, strict=True)]
        return {"dev_bleu": bleu(captions, references), "dev_exact": 100.0 * float(np.mean(exact))}

    def test_metrics(self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll = no_poll) -> dict[str, Any]:
        """Return the metrics of the captions, and of the attention if all examples have gold regions."""
        captions = self.texts(params, examples, self.decoding, poll)
        scores = caption_scores(captions, [example.captions for example in examples])
        if self.has_attention and all(example.regions is not None for example in examples):
            of_attention = self._pointing_scores(params, examples, poll)
            scores["per_example"] |= of_attention.pop("per_example")
            scores |= of_attention
        return scores | {"decoding": self.decoding.model_dump()}

    def output_scores(self, outputs: Sequence[str], examples: Sequence[CaptionedImage]) -> dict[str, np.ndarray]:
        """Return the rows of BLEU-4, ROUGE-L and exact match. CIDEr-D of an image depends on all other images."""
        if not all(example.captions for example in examples):
            return {}
        return image_rows(outputs, [example.captions for example in examples])

    def undefined_metrics(self, examples: Sequence[CaptionedImage]) -> Mapping[str, str]:
        """Return the metrics that references without enough words leave undefined."""
        return undefined([example.captions for example in examples])

    def is_correct(self, example: CaptionedImage, explained: ExplainedPrediction) -> bool | None:
        """Return whether the output is the reference, for generated scenes, which have a single right caption."""
        return super().is_correct(example, explained) if isinstance(self._settings.data, Scenes) else None

    @staticmethod
    def aggregate(metric: str, rows: np.ndarray) -> float:
        """Compute BLEU and pointing from counts, any other metric as a mean."""
        from_counts = {"bleu_4": bleu_of_counts, "pointing": pointing_rate, "pointing_center": pointing_rate}
        return from_counts[metric](rows) if metric in from_counts else Task.aggregate(metric, rows)

    def parse_example(self, inputs: Sequence[str]) -> CaptionedImage:
        """Read an image file."""
        if len(inputs) != 1:
            raise UserError(f"expected one image, not {len(inputs)}: attnlab show RUN image.jpg")
        return CaptionedImage(read_image(inputs[0]), (), name=inputs[0])

    def hypothesis_map(self, example: CaptionedImage, hypothesis: Hypothesis) -> ImageAttentionMap:
        """Return the attention map of a caption, with a row for each of its words."""
        image = pixels(example.image, self.image_inputs.size, example.name)
        return hypothesis_map(example, hypothesis, image, self.tokenizer, self.config.model)

    def selected_map(
        self, example: CaptionedImage, hypothesis: Hypothesis, selected: SelectedAttention
    ) -> AnyAttentionMap:
        """Return the attention map of a selected layer and head while the model decodes a caption."""
        best = self.hypothesis_map(example, hypothesis)
        if selected.kind == "cross":
            return selected_image_map(best, selected)
        return selected_word_map(best, selected, example.name)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return no words, as the input is images."""
        return []

    def token_lengths(self, examples: Sequence[CaptionedImage]) -> dict[str, list[int]]:
        """Return the lengths in tokens of all captions."""
        return {"caption": [len(ids) for example in examples for ids in self._ids(example.captions)]}

    def source_batches(self, examples: Sequence[CaptionedImage], beam: int) -> Iterator[SourceBatch]:
        """Return batches of the inputs of the image encoder, whose lengths are numbers of cells."""
        return self.image_inputs.batches(*images_and_names(examples), max(MAX_ROWS // beam, 1))

    def source_input(self, example: CaptionedImage) -> tuple[np.ndarray, InputSequence]:
        """Return the input of the image encoder, with the labels of the cells."""
        (image,), side = self.image_inputs.encoder_inputs([example.image], [example.name]), self.image_inputs.side
        return image, InputSequence((image_part("image", side, side),))

    def evidence(self, example: CaptionedImage, explained: ExplainedPrediction) -> np.ndarray | None:
        """Return which cells lie in the gold region of any word of the reference."""
        if example.regions is None:
            return None
        side, size = self.image_inputs.side, self.image_inputs.size
        regions = [region for region in example.regions if region is not None]
        cells = [cells_inside(region, (side, side), (size, size)) for region in regions]
        return np.any(cells, axis=0) if cells else np.zeros(side**2, bool)

    def encode_target(self, text: str) -> Encoding:
        """Return the tokens of a caption, in lower case and without punctuation like the training captions."""
        return self.tokenizer.encode(words(text))

    def target_ids(self, examples: Sequence[CaptionedImage]) -> list[list[int]]:
        """Return the token numbers of the first caption of each image."""
        return self._ids([example.captions[0] for example in examples])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch([words(text) for text in texts])]

    def _pointing_scores(self, params: PyTree, examples: Sequence[CaptionedImage], poll: Poll) -> dict[str, Any]:
        """Return the metrics of the attention of each word of the first reference against its gold region."""
        side, size = self.image_inputs.side, self.image_inputs.size
        hits, masses, counts, of_center = [], [], [], []
        encodings = self.tokenizer.encode_batch([example.captions[0] for example in examples])
        for example, encoding, weights in zip(examples, encodings, self.attention(params, examples, poll), strict=True):
            regions = token_regions(example.regions or (), encoding)
            image_hits, image_masses = pointing(weights, regions, (side, side), (size, size))
            hits, masses = hits + image_hits, masses + image_masses
            counts.append((sum(image_hits), len(image_hits)))
            centers = pointing_of_center(regions, (size, size))
            of_center.append((sum(centers), len(centers)))
        return {
            "pointing": 100.0 * float(np.mean(hits)),
            "pointing_ci95": interval(np.asarray(counts), pointing_rate),
            "pointing_center": pointing_rate(np.asarray(of_center)),
            "per_example": {"pointing": np.asarray(counts), "pointing_center": np.asarray(of_center)},
            "region_mass": 100.0 * float(np.mean(masses)),
        }
