"""Load the labeled texts of an experiment."""

from pathlib import Path

from attnlab.config.classification import ClassificationData, LabeledTextHub, SyntheticSentiment, Trees
from attnlab.data import directory
from attnlab.data.classification import hub, labeled_text, synthetic_sentiment, trees
from attnlab.data.classification.records import LabeledTextSplits


def load(config: ClassificationData, data_dir: Path | None) -> LabeledTextSplits:
    """Read or generate all splits of labeled texts.

    Args:
        config: `task.data` of an experiment.
        data_dir: the directory that paths are relative to; may be None for generated data and the hub.

    Raises:
        UserError: a file is missing or invalid; the message names the file and the line.
    """
    if isinstance(config, SyntheticSentiment):
        return synthetic_sentiment.generate(config)
    if isinstance(config, LabeledTextHub):
        return hub.read(config, data_dir)
    folder = directory.require(data_dir, f"task.data.kind {config.kind}", config.train)
    return trees.read(config, folder) if isinstance(config, Trees) else labeled_text.read(config, folder)
