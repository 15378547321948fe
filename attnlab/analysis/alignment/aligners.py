"""Statistical aligners as baselines: fast_align and eflomal, where they are installed."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from attnlab.config.errors import UserError
from attnlab.data.translation.alignment_files import read_pharaoh
from attnlab.data.translation.word_alignment import Pairs

INSTALLATION = {
    "fast_align": "build https://github.com/clab/fast_align and add its folder to PATH",
    "eflomal-align": "pip install eflomal",
}


class Directions(NamedTuple):
    """The alignments of both directions, each as links (source, target) of each sentence."""

    forward: list[Pairs]
    """At most one source word for each target word."""
    backward: list[Pairs]
    """At most one target word for each source word."""


def fast_align(source: Sequence[Sequence[str]], target: Sequence[Sequence[str]]) -> Directions:
    """Train and align with fast_align, which must be on PATH, with the options its authors recommend (`-d -o -v`).

    Args:
        source: words of the source sentences. The aligner is trained on the sentences that it aligns: pass
            training and test sentences together and keep the links of the test sentences.
        target: words of their translations.

    Raises:
        UserError: fast_align is not on PATH or fails.

    Reference: Dyer, Chahuneau & Smith 2013.
    """

    def run(file: Path, folder: Path) -> tuple[str, str]:
        del folder
        command = [find_program("fast_align"), "-i", str(file), "-d", "-o", "-v"]
        return _run(command), _run([*command, "-r"])

    return _align(source, target, run)


def eflomal(source: Sequence[Sequence[str]], target: Sequence[Sequence[str]]) -> Directions:
    """Train and align with eflomal, whose `eflomal-align` must be on PATH, with its default model.

    It samples without a seed, so that two runs differ a little.

    Args:
        source: words of the source sentences (see `fast_align`).
        target: words of their translations.

    Raises:
        UserError: eflomal-align is not on PATH or fails.

    Reference: Östling & Tiedemann 2016.
    """

    def run(file: Path, folder: Path) -> tuple[str, str]:
        paths = folder / "forward", folder / "backward"
        command = [find_program("eflomal-align"), "-i", str(file), "-f", str(paths[0]), "-r", str(paths[1])]
        _run(command)
        forward, backward = (path.read_text(encoding="utf-8") for path in paths)
        return forward, backward

    return _align(source, target, run)


def _align(source, target, run) -> Directions:
    """Write the sentences that have words on both sides to a file, run the aligner, and read its links."""
    if len(source) != len(target):
        raise ValueError(f"{len(source)} source and {len(target)} target sentences; pass pairs")
    kept = [number for number, pair in enumerate(zip(source, target, strict=True)) if all(pair)]
    forward, backward = ([frozenset()] * len(source) for _ in range(2))
    if not kept:
        return Directions(forward, backward)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "text"
        lines = [f"{_joined(source[number])} ||| {_joined(target[number])}\n" for number in kept]
        file.write_text("".join(lines), encoding="utf-8", newline="\n")
        for links, output in zip((forward, backward), run(file, folder), strict=True):
            path = folder / "links"
            path.write_text(output, encoding="utf-8", newline="\n")
            sides = ([_joined(side[number]) for number in kept] for side in (source, target))
            for number, gold in zip(kept, read_pharaoh(path, 0, *sides), strict=True):
                links[number] = gold.sure
    return Directions(forward, backward)


def _joined(words: Sequence[str]) -> str:
    """Return the words as a line; white space within a word (a no-break space) is written as _, as is |||."""
    return " ".join("_".join(word.replace("|||", "_").split()) or "_" for word in words)


def find_program(name: str) -> str:
    """Return the path of an aligner's program on PATH.

    Raises:
        UserError: it is not there; says how it is installed.
    """
    path = shutil.which(name)
    if path is None:
        raise UserError(f"{name} is not on PATH: {INSTALLATION[name]}, or use IBM model 1 (attnlab.analysis.alignment)")
    return path


def _run(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"{Path(command[0]).name} failed with exit code {result.returncode}: {lines[-1]}")
    return result.stdout
