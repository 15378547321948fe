"""Load the data that an experiment names, whatever their kind."""

from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.translation import Data, Dates, Hub, ParallelText, Tsv, TsvToSplit
from attnlab.data import hub
from attnlab.data.records import Corpus, Link, Pair, Span
from attnlab.data.text import tsv
from attnlab.data.text.letters import composed
from attnlab.data.translation import dates, parallel_text

__all__ = ["Corpus", "Link", "Pair", "Span", "load"]


def load(config: Data, data_dir: Path | None) -> Corpus:
    """Read or generate all splits of the data, the letters of both sides composed (NFC), as tokenizers read them.

    Args:
        config: which data, `task.data` of an experiment.
        data_dir: the folder that paths are relative to; None where none was given, which is fine for
            generated data and the hub.

    Raises:
        UserError: a file is missing or broken; names the file and the line.
    """
    if isinstance(config, Dates):
        return dates.generate(config)
    return _read(config, data_dir).mapped(lambda pair: Pair(composed(pair.source), composed(pair.target)))


def _read(config: Hub | ParallelText | Tsv | TsvToSplit, data_dir: Path | None) -> Corpus:
    if isinstance(config, Hub):
        return hub.read(config, data_dir)
    if isinstance(config, TsvToSplit):
        expected = config.file
    else:
        expected = f"{config.train}.{config.source}" if isinstance(config, ParallelText) else config.train
    if data_dir is None:
        raise UserError(
            f"task.data.kind {config.kind} needs a data directory: give --data DIR or set ATTNLAB_DATA; "
            f"expected DIR/{expected}"
        )
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such data directory; give --data DIR with DIR/{expected}")
    if isinstance(config, TsvToSplit):
        return tsv.read_and_split(config, data_dir)
    return parallel_text.read(config, data_dir) if isinstance(config, ParallelText) else tsv.read(config, data_dir)
