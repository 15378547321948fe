"""Load the questions about passages of an experiment."""

from pathlib import Path

from attnlab.config.extractive_qa import ExtractiveQAData, GeneratedPassages, PassageQuestionHub, SquadJson
from attnlab.data import directory
from attnlab.data.extractive_qa import generated, squad, subjqa
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.records import Splits


def load(config: ExtractiveQAData, data_dir: Path | None) -> Splits[PassageQuestion]:
    """Read or generate all splits of questions about passages.

    Args:
        config: `task.data` of an experiment.
        data_dir: the directory that paths are relative to; may be None for generated data and the hub.

    Raises:
        UserError: a file is missing or invalid; the message names the file and the line.
    """
    if isinstance(config, GeneratedPassages):
        return generated.generate(config)
    if isinstance(config, PassageQuestionHub):
        return squad.read_hub(config, data_dir)
    train = config.train if isinstance(config, SquadJson) else config.train[0]
    folder = directory.require(data_dir, f"task.data.kind {config.kind}", train)
    return squad.read(config, folder) if isinstance(config, SquadJson) else subjqa.read(config, folder)
