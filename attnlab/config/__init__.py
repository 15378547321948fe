"""Experiment configs as frozen pydantic models. Nothing in this package imports jax."""

from attnlab.config.attention import Attention
from attnlab.config.experiment import Experiment
from attnlab.config.models.recurrent import Decoder, Encoder, RecurrentSeq2Seq
from attnlab.config.text import Bpe, Decoding, Words
from attnlab.config.training import AdamW, Sgd, Training
from attnlab.config.translation import Dates, ParallelText, Translation, TranslationHub, Tsv

__all__ = [
    "AdamW",
    "Attention",
    "Bpe",
    "Dates",
    "Decoder",
    "Decoding",
    "Encoder",
    "Experiment",
    "ParallelText",
    "RecurrentSeq2Seq",
    "Sgd",
    "Training",
    "Translation",
    "TranslationHub",
    "Tsv",
    "Words",
]  # fmt: skip
