"""Experiments as data: frozen pydantic models. Nothing here imports jax."""

from attnlab.config.attention import Attention
from attnlab.config.experiment import Experiment
from attnlab.config.model import Decoder, Encoder, RecurrentSeq2Seq
from attnlab.config.task import Bpe, Dates, Decoding, Hub, ParallelText, Translation, Tsv, Words
from attnlab.config.training import AdamW, Training

__all__ = [
    "AdamW", "Attention", "Bpe", "Dates", "Decoder", "Decoding", "Encoder", "Experiment", "Hub",
    "ParallelText", "RecurrentSeq2Seq", "Training", "Translation", "Tsv", "Words",
]  # fmt: skip
