"""Labeled texts of the Hugging Face hub, or of a local folder in its layout (the extra `hub`)."""

from pathlib import Path

from attnlab.config.classification import LabeledTextHub
from attnlab.config.errors import UserError
from attnlab.data import hub
from attnlab.data.classification.labeled_text import parse_row
from attnlab.data.classification.records import LabeledText, LabeledTextSplits, labeled_splits


def read(config: LabeledTextHub, data_dir: Path | None) -> LabeledTextSplits:
    """Read all splits; labels that the dataset names (`ClassLabel`) get their names unless the config has others."""
    parts = {"train": config.train, **({"dev": config.dev} if config.dev else {}), **config.test}
    splits: dict[str, tuple[LabeledText, ...]] = {}
    places: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, part in parts.items():
        rows, places[name] = hub.rows(config, part, data_dir)
        found = enumerate(rows, start=1)
        splits[name] = tuple(
            parse_row(row, config.text, config.label, f"{places[name]}, row {number}") for number, row in found
        )
        if not splits[name]:
            raise UserError(f"{places[name]}: no rows; expected one text a row")
        own = getattr(rows.features.get(config.label), "names", None) or ()
        names |= {str(number): label for number, label in enumerate(own)}
    return labeled_splits(splits, places, names | config.label_names, config.dev_share)
