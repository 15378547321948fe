"""Read sentence pairs from the Hugging Face hub, or from a local folder in its layout."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.translation import TranslationHub
from attnlab.data import hub
from attnlab.data.text.lines import refuse_broken
from attnlab.data.translation.records import ParallelCorpus, SentencePair


def read(config: TranslationHub, data_dir: Path | None) -> ParallelCorpus:
    """Read all splits."""

    def split(name: str) -> tuple[SentencePair, ...]:
        return _pairs(*hub.rows(config, name, data_dir), config)

    test = {name: split(part) for name, part in config.test.items()}
    languages = (config.source.rpartition(".")[2], config.target.rpartition(".")[2])
    return ParallelCorpus(split(config.train), split(config.dev), test, *languages)


def _pairs(rows: Any, where: str, config: TranslationHub) -> tuple[SentencePair, ...]:
    pairs = []
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        pairs.append(SentencePair(_text(row, config.source, place), _text(row, config.target, place)))
    if not pairs:
        raise UserError(f"{where}: no rows; expected one pair per row")
    return tuple(pairs)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            names = list(value) if isinstance(value, Mapping) else []
            near = get_close_matches(part, names, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}: no column {name!r}{hint}")
        value = value[part]
    if not isinstance(value, str):
        raise UserError(f"{where}: column {name!r} is {type(value).__name__}, not text")
    refuse_broken(value, f"{where}, column {name!r}")
    return value
