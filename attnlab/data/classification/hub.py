"""Labelled texts of the Hugging Face hub, or of a local folder in its layout (the extra `hub`)."""

from pathlib import Path

from attnlab.config.classification import LabelledHub
from attnlab.config.errors import UserError
from attnlab.data import hub
from attnlab.data.classification.labelled_text import labelled
from attnlab.data.classification.records import Labelled, LabelledTexts, assembled


def read(config: LabelledHub, data_dir: Path | None) -> LabelledTexts:
    """Read all splits; labels that the dataset names (`ClassLabel`) get their names unless the config has others."""
    parts = {"train": config.train, **({"dev": config.dev} if config.dev else {}), **config.test}
    splits: dict[str, tuple[Labelled, ...]] = {}
    places: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, part in parts.items():
        rows, places[name] = hub.rows(config, part, data_dir)
        found = enumerate(rows, start=1)
        splits[name] = tuple(
            labelled(row, config.text, config.label, f"{places[name]}, row {number}") for number, row in found
        )
        if not splits[name]:
            raise UserError(f"{places[name]}: no rows; expected one text a row")
        own = getattr(rows.features.get(config.label), "names", None) or ()
        names |= {str(number): label for number, label in enumerate(own)}
    return assembled(splits, places, names | config.names, config.dev_share)
