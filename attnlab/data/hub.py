"""Load datasets of the Hugging Face hub, or local folders in its layout; needs the extra `hub`."""

from pathlib import Path
from typing import Any

from attnlab.config.data import HubDataset
from attnlab.config.errors import UserError


def rows(config: HubDataset, split: str, data_dir: Path | None) -> tuple[Any, str]:
    """Load a split; return a `datasets.Dataset`, and its name for errors.

    A local folder with the path of the config, in the data directory or the working directory, has precedence over the
    hub.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError("task.data.kind hub needs datasets: in the checkout, pip install -e '.[hub]'") from error
    path = _folder(config.path, data_dir)
    where = f"{path} (split {split})"
    try:
        return datasets.load_dataset(path, config.name, revision=config.revision, split=split), where
    except Exception as error:  # of several libraries
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{where}: {line}") from error


def _folder(path: str, data_dir: Path | None) -> str:
    for folder in ([data_dir / path] if data_dir else []) + [Path(path)]:
        if folder.is_dir():
            return str(folder)
    return path
