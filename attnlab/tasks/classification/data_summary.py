"""Lines for the log about training texts: the shares of the classes, and texts that are truncated or left out."""

from collections import Counter
from collections.abc import Iterator, Sequence

from attnlab.config.classification import Classification
from attnlab.data.classification.records import LabeledText
from attnlab.data.classification.text_encoder import EncodedText


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
