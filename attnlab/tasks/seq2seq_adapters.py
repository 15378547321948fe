"""Adapters of the sequence-to-sequence models: their batches of pairs of token sequences."""

from collections.abc import Sequence
from typing import Any

from attnlab.config import Experiment
from attnlab.data.text.batching import Batch, fill_pairs
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Tokenizers
from attnlab.models.seq2seq import RecurrentSeq2Seq
from attnlab.models.transformer import TransformerSeq2Seq
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.dropping import TokenArrays


class RecurrentAdapter(ModelAdapter):
    """The recurrent encoder-decoder. An example is a pair of source and target token numbers."""

    input_names = ("source", "source_lengths", "target_in")
    embedded_names = ("source",)
    sequences = (TokenArrays(("source",), "source_lengths"),)
    drop_refusal = ""

    def __init__(self, config: Any, source_vocabulary: int, target_vocabulary: int, supervised: bool = False) -> None:
        self.model = RecurrentSeq2Seq(config, source_vocabulary, target_vocabulary)

    @property
    def example_batch(self) -> Batch:
        return self.arrays([([1], [1])], Shape(1, 2, 2))

    def lengths(self, example: tuple[Sequence[int], Sequence[int]]) -> tuple[int, int]:
        return len(example[0]) + 1, len(example[1]) + 1

    def arrays(self, examples: Sequence[Any], shape: Shape) -> Batch:
        return fill_pairs(shape, examples)


class TransformerAdapter(RecurrentAdapter):
    """The Transformer. Training computes its attention weights only if they are supervised."""

    def __init__(self, config: Any, source_vocabulary: int, target_vocabulary: int, supervised: bool = False) -> None:
        self.model = TransformerSeq2Seq(config, source_vocabulary, target_vocabulary)
        self.max_positions = config.max_positions
        self._supervised = supervised

    def options(self, attention: bool) -> dict[str, Any]:
        return {"weights": attention or self._supervised}


ADAPTERS = {"recurrent_seq2seq": RecurrentAdapter, "transformer_seq2seq": TransformerAdapter}


def adapter(config: Experiment, tokenizers: Tokenizers, supervised: bool = False) -> ModelAdapter:
    """Return the adapter of an experiment's model.

    Args:
        config: the experiment.
        tokenizers: of source and target.
        supervised: whether the loss has a term for the attention weights.
    """
    sizes = tokenizers.source.vocabulary_size, tokenizers.target.vocabulary_size
    return ADAPTERS[config.model.kind](config.model, *sizes, supervised)
