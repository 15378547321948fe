"""Statistics of sentence pairs for the data check: unknown tokens, empty and too long pairs, overlap with training."""

from collections.abc import Sequence

from attnlab.data.text.tokenizer import UNK, Encoding
from attnlab.data.translation.records import SentencePair
from attnlab.tasks.data_check import PartStatistics, length_quantiles

COLUMN_NOTE = (
    "Lengths are in tokens. In train: on the source line, pairs whose source is also the source of a training pair; "
    "on the target line, pairs that are also training pairs."
)


def pair_statistics(
    pairs: Sequence[SentencePair],
    source: Sequence[Encoding],
    target: Sequence[Encoding],
    max_length: int,
    train: Sequence[SentencePair],
) -> dict[str, PartStatistics]:
    """Return the statistics of both sides of the sentence pairs of a split.

    Args:
        pairs: the pairs.
        source: their encoded sources.
        target: their encoded targets.
        max_length: most tokens of a side of a training pair.
        train: the training pairs, to count overlap with; empty for the training split itself.
    """
    lengths = [(len(s.ids), len(t.ids)) for s, t in zip(source, target, strict=True)]
    shared = {
        "empty": f"{sum(min(both) == 0 for both in lengths):,}",
        "too long": f"{sum(max(both) > max_length for both in lengths):,}",
    }
    sources, whole = {pair.source for pair in train}, {(pair.source, pair.target) for pair in train}
    overlap = {
        "source": sum(pair.source in sources for pair in pairs),
        "target": sum((pair.source, pair.target) in whole for pair in pairs),
    }
    return {
        side: PartStatistics(
            length_quantiles([len(encoding.ids) for encoding in encodings]),
            {
                "unknown": f"{unknown_rate(encodings):.2%}",
                **shared,
                **({"in train": f"{overlap[side]:,}"} if train else {}),
            },
        )
        for side, encodings in (("source", source), ("target", target))
    }


def unknown_rate(encodings: Sequence[Encoding]) -> float:
    """Return the share of tokens that are unknown."""
    tokens = sum(len(encoding.ids) for encoding in encodings)
    return sum(encoding.ids.count(UNK) for encoding in encodings) / max(tokens, 1)
