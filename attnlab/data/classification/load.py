"""Load the labelled texts that an experiment names, whatever their kind."""

from pathlib import Path

from attnlab.config.classification import ClassificationData, LabelledHub, SyntheticSentiment, Trees
from attnlab.config.errors import UserError
from attnlab.data.classification import hub, labelled_text, synthetic_sentiment, trees
from attnlab.data.classification.records import LabelledTexts


def load(config: ClassificationData, data_dir: Path | None) -> LabelledTexts:
    """Read or generate all splits.

    Args:
        config: which data, `task.data` of an experiment.
        data_dir: the folder that paths are relative to; None where none was given, which is fine for generated data
            and the hub.

    Raises:
        UserError: a file is missing or broken; names the file and the line.
    """
    if isinstance(config, SyntheticSentiment):
        return synthetic_sentiment.generate(config)
    if isinstance(config, LabelledHub):
        return hub.read(config, data_dir)
    if data_dir is None:
        raise UserError(
            f"task.data.kind {config.kind} needs a data directory: give --data DIR or set ATTNLAB_DATA; "
            f"expected DIR/{config.train}"
        )
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such data directory; give --data DIR with DIR/{config.train}")
    return trees.read(config, data_dir) if isinstance(config, Trees) else labelled_text.read(config, data_dir)
