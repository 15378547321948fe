"""Read labeled texts from the Hugging Face hub, or from a local folder in its layout."""

from pathlib import Path

from attnlab.config.classification import LabeledTextHub
from attnlab.config.errors import UserError
from attnlab.data import hub
from attnlab.data.classification.labeled_text import parse_row
from attnlab.data.classification.records import LabeledText, LabeledTextSplits, labeled_splits


def read(config: LabeledTextHub, data_dir: Path | None) -> LabeledTextSplits:
    """Read all splits; labels get the names in the dataset (`ClassLabel`) unless the config has others."""
    parts = {"train": config.train, **({"dev": config.dev} if config.dev else {}), **config.test}
    splits: dict[str, tuple[LabeledText, ...]] = {}
    places: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, part in parts.items():
        rows, places[name] = hub.rows(config, part, data_dir)
        splits[name] = tuple(
            parse_row(row, config.text, config.label, f"{places[name]}, row {number}")
            for number, row in enumerate(rows, start=1)
        )
        if not splits[name]:
            raise UserError(f"{places[name]}: no rows; expected one text per row")
        class_names = getattr(rows.features.get(config.label), "names", None) or ()
        names |= {str(number): label for number, label in enumerate(class_names)}
    return labeled_splits(splits, places, names | config.label_names, config.dev_share)
