"""Read trees with a label at every node, one per line, as in the Stanford Sentiment Treebank: `(3 (2 Not) (1 bad))`.

The evidence for the label of a sentence of a validation or test set are its words whose own label, that of the leaf,
lies on the same side of neutral. People labeled every phrase by itself, so that it is what words say without context.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.config.classification import Trees
from attnlab.config.errors import UserError
from attnlab.data.classification.records import LabeledText, LabeledTextSplits
from attnlab.data.records import Span
from attnlab.data.text.lines import find, read_lines

FIVE = ("very negative", "negative", "neutral", "positive", "very positive")
TWO = ("negative", "positive")
NEUTRAL = 2
MAX_DEPTH = 500
"""Largest depth of a tree: as the text of each node is stored, time and memory grow with the square of the depth."""
_PIECE = re.compile(r"[()]|[^\s()]+")
_ESCAPES = {"-LRB-": "(", "-RRB-": ")", "``": '"', "''": '"'}
"""Escape sequences of the Penn Treebank."""


@dataclass(frozen=True)
class Tree:
    """A sentence, and its nodes (first token, end, label), the root first."""

    tokens: tuple[str, ...]
    nodes: tuple[tuple[int, int, int], ...]

    def text(self, node: tuple[int, int, int]) -> str:
        """Return the text of a node, with a space between tokens."""
        return " ".join(self.tokens[node[0] : node[1]])

    def evidence(self) -> tuple[Span, ...] | None:
        """Return the spans of the words whose own label is on the side of the sentence's; None if that is neutral.

        >>> parse("(4 (2 A) (4 (1 hard) (3 hit)))", "here").evidence()
        ((7, 10),)
        """
        side = _side(self.nodes[0][2])
        if not side:
            return None
        words = {node[0]: node[2] for node in self.nodes if node[1] - node[0] == 1}  # of a chain the lowest node counts
        starts = [len(" ".join(self.tokens[:place])) + (place > 0) for place in range(len(self.tokens))]
        spans = [(start, start + len(token)) for start, token in zip(starts, self.tokens, strict=True)]
        return tuple(span for place, span in enumerate(spans) if _side(words[place]) == side)


def read(config: Trees, data_dir: Path) -> LabeledTextSplits:
    """Read all splits: phrases or sentences for training, sentences for validation and test."""
    names = FIVE if config.classes == 5 else TWO

    def sentences(name: str) -> tuple[LabeledText, ...]:
        return tuple(_labeled(read_trees(find(data_dir, name)), names, phrases=False, evidence=True))

    train = tuple(_labeled(read_trees(find(data_dir, config.train)), names, config.phrases))
    test = {name: sentences(path) for name, path in config.test.items()}
    return LabeledTextSplits(train, sentences(config.dev), test, labels=names)


def read_trees(path: Path) -> list[Tree]:
    """Read the trees of a file; an empty line is an error."""
    return [parse(line, f"{path}:{number}") for number, line in enumerate(read_lines(path), start=1)]


def parse(line: str, where: str) -> Tree:
    """Parse a tree.

    Args:
        line: the tree; parentheses of the sentence are written -LRB- and -RRB-.
        where: file and line, for the error.

    >>> tree = parse("(3 (1 Not) (1 bad))", "here")
    >>> [(tree.text(node), node[2]) for node in tree.nodes]
    [('Not bad', 3), ('Not', 1), ('bad', 1)]
    """
    tokens: list[str] = []
    nodes: list[tuple[int, int, int]] = []
    open_nodes: list[int] = []
    before = ""
    for piece in _PIECE.findall(line):
        if before == "(":
            if piece not in ("0", "1", "2", "3", "4"):
                raise UserError(f"{where}: {piece[:40]!r} after '('; expected a label of 0 to 4")
            if len(open_nodes) == MAX_DEPTH:
                raise UserError(f"{where}: nested more than {MAX_DEPTH} deep; expected the tree of a sentence")
            open_nodes.append(len(nodes))
            nodes.append((len(tokens), -1, int(piece)))
        elif nodes and not open_nodes:
            raise UserError(f"{where}: {piece!r} after the end of the tree; expected one tree per line")
        elif piece == ")":
            if not open_nodes or nodes[open_nodes[-1]][0] == len(tokens):
                raise UserError(f"{where}: ')' before any word; expected a tree such as (3 (2 a) (4 hit))")
            start, _, label = nodes[open_nodes[-1]]
            nodes[open_nodes.pop()] = (start, len(tokens), label)
        elif piece != "(":
            if not open_nodes:
                raise UserError(f"{where}: {piece!r} outside a tree; expected a tree such as (3 (2 a) (4 hit))")
            tokens.append(str(_ESCAPES.get(piece, piece)).replace("\\/", "/").replace("\\*", "*"))
        before = piece
    if open_nodes or not nodes or before == "(":
        raise UserError(f"{where}: the tree is not closed: {len(open_nodes) + (before == '(')} ')' missing")
    return Tree(tuple(tokens), tuple(nodes))


def _side(label: int) -> int:
    """Return 1 for a positive label, -1 for a negative one, 0 for neutral."""
    return (label > NEUTRAL) - (label < NEUTRAL)


def _labeled(
    trees: Sequence[Tree], names: tuple[str, ...], phrases: bool, evidence: bool = False
) -> Iterator[LabeledText]:
    """Yield texts with named labels; each phrase is yielded once, with its first label."""
    seen: set[str] = set()
    for tree in trees:
        for node in tree.nodes if phrases else tree.nodes[:1]:
            text, label = tree.text(node), node[2]
            if phrases and text in seen:
                continue
            seen.add(text)
            marked = tree.evidence() if evidence else None
            if len(names) == len(FIVE):
                yield LabeledText(text, names[label], evidence=marked)
            elif label != NEUTRAL:
                yield LabeledText(text, names[label > NEUTRAL], evidence=marked)
