"""Datasets of the Hugging Face hub, or a local folder in its layout (the extra `hub`)."""

from pathlib import Path
from typing import Any, Protocol

from attnlab.config.errors import UserError


class Source(Protocol):
    """The fields of a config that name a dataset of the hub."""

    @property
    def path(self) -> str: ...

    @property
    def name(self) -> str | None: ...

    @property
    def revision(self) -> str | None: ...


def rows(source: Source, split: str, data_dir: Path | None) -> tuple[Any, str]:
    """Load one split as a `datasets.Dataset`; return it with its place, for errors.

    A local folder of that path, below the data directory or the working directory, comes before the hub.
    """
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
