"""Load the parallel corpus of an experiment."""

from pathlib import Path

from attnlab.config.translation import Dates, ParallelText, TranslationData, TranslationHub, Tsv, TsvToSplit
from attnlab.data import directory
from attnlab.data.translation import hub, parallel_text, tsv
from attnlab.data.translation.alignments import composed_pair
from attnlab.data.translation.records import ParallelCorpus


def load(config: TranslationData, data_dir: Path | None) -> ParallelCorpus:
    """Read or generate all splits of sentence pairs, with composed characters (NFC), as in tokenizers.

    Args:
        config: `task.data` of an experiment.
        data_dir: the directory that paths are relative to; may be None for generated data and the hub.

    Raises:
        UserError: a file is missing or invalid; the message names the file and the line.
    """
    if isinstance(config, Dates):
        from attnlab.data.translation import dates  # Babel and num2words, which other data do not need

        return dates.generate(config)
    return _read(config, data_dir).map(composed_pair)


def _read(config: TranslationHub | ParallelText | Tsv | TsvToSplit, data_dir: Path | None) -> ParallelCorpus:
    match config:
        case TranslationHub():
            return hub.read(config, data_dir)
        case TsvToSplit():
            return tsv.read_and_split(config, directory.require(data_dir, f"task.data.kind {config.kind}", config.file))
        case Tsv():
            return tsv.read(config, directory.require(data_dir, f"task.data.kind {config.kind}", config.train))
        case ParallelText():
            folder = directory.require(data_dir, f"task.data.kind {config.kind}", f"{config.train}.{config.source}")
            return parallel_text.read(config, folder)
