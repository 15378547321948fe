"""Read parallel text from two files per split (plain or gzip): line i of one file translates line i of the other."""

from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.translation import ParallelText
from attnlab.data.text.lines import find, read_lines
from attnlab.data.translation.alignments import with_alignments
from attnlab.data.translation.records import ParallelCorpus, SentencePair


def read(config: ParallelText, data_dir: Path) -> ParallelCorpus:
    """Read all splits."""

    def split(name: str, prefix: str) -> tuple[SentencePair, ...]:
        paths = (find(data_dir, f"{prefix}.{language}") for language in (config.source, config.target))
        return with_alignments(read_pairs(*paths), config.alignments.get(name), data_dir)

    test = {name: split(name, prefix) for name, prefix in config.test.items()}
    return ParallelCorpus(split("train", config.train), split("dev", config.dev), test, config.source, config.target)


def read_pairs(source: Path, target: Path) -> tuple[SentencePair, ...]:
    """Read two files with the same number of lines."""
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        shorter = min((source, sources), (target, targets), key=lambda file: len(file[1]))
        raise UserError(
            f"{shorter[0]}:{len(shorter[1]) + 1}: the line is missing: {source} has {len(sources)} lines, "
            f"{target} has {len(targets)}; line i must translate line i"
        )
    return tuple(map(SentencePair, sources, targets))
