"""Datasets of the Hugging Face hub, or a local folder in its layout (the extra `hub`)."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from attnlab.config.errors import UserError
from attnlab.config.translation import Hub
from attnlab.data.records import Corpus, Pair
from attnlab.data.text.lines import refuse_broken


class Source(Protocol):
    """What a config says of a dataset."""

    @property
    def path(self) -> str: ...

    @property
    def name(self) -> str | None: ...

    @property
    def revision(self) -> str | None: ...


def read(config: Hub, data_dir: Path | None) -> Corpus:
    """Read all splits; a folder of that path, in the data directory or from here, goes before the hub."""

    def split(name: str) -> tuple[Pair, ...]:
        return _pairs(*rows(config, name, data_dir), config)

    test = {name: split(part) for name, part in config.test.items()}
    languages = (config.source.rpartition(".")[2], config.target.rpartition(".")[2])
    return Corpus(split(config.train), split(config.dev), test, *languages)


def rows(source: Source, split: str, data_dir: Path | None) -> tuple[Any, str]:
    """Load one split of any dataset (a `datasets.Dataset`), and say where it is, for errors."""
    try:
        import datasets
    except ImportError as error:
        raise UserError("task.data.kind hub needs datasets: in the checkout, pip install -e '.[hub]'") from error
    path = _folder(source.path, data_dir)
    where = f"{path} (split {split})"
    try:
        return datasets.load_dataset(path, source.name, revision=source.revision, split=split), where
    except Exception as error:  # the package raises many kinds, of several libraries
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{where}: {line}") from error


def _folder(path: str, data_dir: Path | None) -> str:
    for folder in ([data_dir / path] if data_dir else []) + [Path(path)]:
        if folder.is_dir():
            return str(folder)
    return path


def _pairs(rows: Any, where: str, config: Hub) -> tuple[Pair, ...]:
    pairs = []
    for number, row in enumerate(rows, start=1):
        here = f"{where}, row {number}"
        pairs.append(Pair(_text(row, config.source, here), _text(row, config.target, here)))
    if not pairs:
        raise UserError(f"{where}: no rows; expected one pair a row")
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
        raise UserError(f"{where}: column {name!r} holds {type(value).__name__}, not text")
    refuse_broken(value, f"{where}, column {name!r}")
    return value
