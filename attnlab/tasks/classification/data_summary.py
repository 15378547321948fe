"""Lines about texts: batches and shares of the classes, texts that are truncated or left out, and their evidence."""

from collections import Counter
from collections.abc import Iterator, Sequence

from attnlab.config.classification import Classification
from attnlab.data.classification.records import LabeledText
from attnlab.data.classification.text_encoder import EncodedText, TextEncoder
from attnlab.data.text.batching import Batches


def batch_counts(batches: Batches, vocabulary: int) -> Iterator[str]:
    """Yield a line each on the training batches and on the size of the vocabulary."""
    yield (
        f"data: {batches.examples:,} training texts, {len(batches)} batches per epoch, "
        f"{100 * batches.real_fraction:.0f}% of positions are not padding"
    )
    yield f"vocabulary: {vocabulary:,} tokens"


def class_shares(examples: Sequence[LabeledText], labels: Sequence[str]) -> Iterator[str]:
    """Yield a line with the share of each class.

    >>> list(class_shares([LabeledText("good", "positive"), LabeledText("bad", "negative")], ["negative", "positive"]))
    ['classes: negative 50.0%, positive 50.0%']
    """
    counts = Counter(example.label for example in examples)
    yield f"classes: {', '.join(f'{label} {100 * counts[label] / max(len(examples), 1):.1f}%' for label in labels)}"


def exclusions(encoded: Sequence[EncodedText], settings: Classification) -> Iterator[str]:
    """Yield a line each on truncated texts, and on texts without a token, which are left out."""
    if truncated := sum(len(text.ids) < text.length for text in encoded):
        kept = {"head": "the head", "tail": "the tail", "both": "head and tail"}[settings.truncation]
        yield f"cut: {truncated:,} texts to {settings.max_length} tokens, {kept} kept (task.max_length)"
    if empty := sum(text.length == 0 for text in encoded):
        yield f"left out: {empty:,} texts without a token"


def evidence_notes(encoder: TextEncoder, examples: Sequence[LabeledText]) -> list[str]:
    """Return a line on the words or phrases that are marked as reasons for labels, and on those without a token."""
    marked = [example for example in examples if example.marked]
    if not marked:
        return []
    spans, without = encoder.unmatched(marked)
    limit = encoder.config.max_length
    reason = f": their tokens are beyond the {limit} that task.max_length keeps" if without else ""
    return [
        f"evidence: {spans:,} marked words or phrases in {len(marked):,} of {len(examples):,} texts; "
        f"{without:,} of them have no token{reason}"
    ]
