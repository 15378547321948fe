"""Statistics of the data of an experiment, without training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnlab.config.experiment import Experiment
from attnlab.config.translation import Translation
from attnlab.data.text.batching import Batches, training_pairs
from attnlab.data.text.tokenizer import UNK, Encoding, Tokenizers, train_tokenizers
from attnlab.data.translation.load import load
from attnlab.data.translation.records import SentencePair

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class SideReport:
    """One side of one split: lengths in tokens at QUANTILES, and the share of tokens that are unknown."""

    lengths: tuple[int, ...]
    unknown_rate: float


@dataclass(frozen=True)
class SplitReport:
    """One split."""

    pairs: int
    empty: int
    """Pairs with a side without a token."""
    too_long: int
    """Pairs with a side of more tokens than task.max_length: left out of training, never of a test."""
    in_train: int
    """Pairs that are training pairs too, both sides equal."""
    source_in_train: int
    """Pairs whose source is the source of a training pair."""
    source: SideReport
    target: SideReport


@dataclass(frozen=True)
class CheckReport:
    """What `attnlab data check` prints."""

    splits: dict[str, SplitReport]
    vocabulary: tuple[int, int]
    """Tokens of the source's and of the target's vocabulary."""
    max_length: int
    batches: int
    """Batches an epoch; 0 where no training pair is short enough."""
    shapes: tuple[tuple[int, int, int], ...]
    real_fraction: tuple[float, float]
    """Share of the batches' source and target positions that hold a token and no padding."""
    fingerprint: str

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Write the report out."""
        width = max(map(len, [*self.splits, "split"]))
        quantiles = "min/50/90/99/max"
        lines = [f"{'split':{width}}  side    {'pairs':>8}  {quantiles:>18}  unknown  empty  too long  in train"]
        for name, split in self.splits.items():
            for side, report in (("source", split.source), ("target", split.target)):
                lengths = "/".join(map(str, report.lengths))
                seen = split.source_in_train if side == "source" else split.in_train
                lines.append(
                    f"{name if side == 'source' else '':{width}}  {side}  {split.pairs:>8,}  {lengths:>18}  "
                    f"{report.unknown_rate:7.2%}  {split.empty:>5,}  {split.too_long:>8,}  "
                    f"{'' if name == 'train' else format(seen, ','):>8}"
                )
        shapes = ", ".join("×".join(map(str, shape)) for shape in self.shapes)
        return [
            *lines,
            "Lengths are in tokens. In train: on the source line, sources that training has too; "
            "on the target line, whole pairs.",
            f"Too long: more than task.max_length = {self.max_length} tokens; left out of training, never of a test.",
            f"Vocabulary: {self.vocabulary[0]:,} source, {self.vocabulary[1]:,} target.",
            f"Batches an epoch: {self.batches:,} (rows×source×target: {shapes}); {self.real_fraction[0]:.1%} of source "
            f"and {self.real_fraction[1]:.1%} of target positions are real.",
            f"Fingerprint: sha256 {self.fingerprint}",
        ]


def check(config: Experiment, data_dir: Path | None, row_multiple: int = 1) -> CheckReport:
    """Read all data of an experiment and describe them.

    Args:
        config: the experiment, of translation.
        data_dir: where the data sets are.
        row_multiple: of the rows of a training batch, the number of devices.
    Raises:
        UserError: the data are missing or broken; names the file and the first bad line.
    """
    task = config.task
    assert isinstance(task, Translation)
    corpus = load(task.data, data_dir)
    tokenizers = train_tokenizers(task.tokenizer, corpus)
    encoded = {name: _encode(tokenizers, pairs) for name, pairs in corpus.splits().items()}
    limit = task.max_length
    splits = {
        name: _split(pairs, encoded[name], limit, () if name == "train" else corpus.train)
        for name, pairs in corpus.splits().items()
    }
    kept = training_pairs(*([e.ids for e in side] for side in encoded["train"]), longest=limit)
    training = config.training
    batches = (
        Batches.of_pairs(kept, training.batch_tokens, training.buckets, config.seed, row_multiple) if kept else None
    )
    return CheckReport(
        splits=splits,
        vocabulary=(tokenizers.source.vocabulary_size, tokenizers.target.vocabulary_size),
        max_length=limit,
        batches=len(batches) if batches else 0,
        shapes=tuple(batches.shapes) if batches else (),
        real_fraction=(batches.real_source_fraction, batches.real_fraction) if batches else (0.0, 0.0),
        fingerprint=corpus.fingerprint(),
    )


Encoded = tuple[list[Encoding], list[Encoding]]


def _encode(tokenizers: Tokenizers, pairs: Sequence[SentencePair]) -> Encoded:
    sources = tokenizers.source.encode_batch([pair.source for pair in pairs])
    return sources, tokenizers.target.encode_batch([pair.target for pair in pairs])


def _split(pairs: Sequence[SentencePair], encoded: Encoded, limit: int, train: Sequence[SentencePair]) -> SplitReport:
    lengths = [(len(source.ids), len(target.ids)) for source, target in zip(*encoded, strict=True)]
    sources = {pair.source for pair in train}
    whole = {(pair.source, pair.target) for pair in train}
    return SplitReport(
        pairs=len(pairs),
        empty=sum(min(both) == 0 for both in lengths),
        too_long=sum(max(both) > limit for both in lengths),
        in_train=sum((pair.source, pair.target) in whole for pair in pairs),
        source_in_train=sum(pair.source in sources for pair in pairs),
        source=_side(encoded[0]),
        target=_side(encoded[1]),
    )


def _side(encodings: Sequence[Encoding]) -> SideReport:
    lengths = [len(encoding.ids) for encoding in encodings]
    unknown = sum(encoding.ids.count(UNK) for encoding in encodings)
    quantiles = np.quantile(lengths, QUANTILES, method="higher")
    return SideReport(tuple(int(length) for length in quantiles), unknown / max(sum(lengths), 1))
