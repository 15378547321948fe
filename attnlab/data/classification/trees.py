"""Trees with a label at every node, as the Stanford Sentiment Treebank has them: `(3 (2 Not) (1 bad))`, one a line."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.config.classification import Trees
from attnlab.config.errors import UserError
from attnlab.data.classification.records import LabeledText, LabeledTextSplits
from attnlab.data.text.lines import find, read_lines

FIVE = ("very negative", "negative", "neutral", "positive", "very positive")
TWO = ("negative", "positive")
NEUTRAL = 2
DEEPEST = 500
"""Nodes inside one another: of each the text is written out, so that time and memory grow with their square."""
_PIECE = re.compile(r"[()]|[^\s()]+")
_ESCAPES = {"-LRB-": "(", "-RRB-": ")", "``": '"', "''": '"'}
"""How the Penn treebank writes what would disturb it."""


@dataclass(frozen=True)
class Tree:
    """A sentence and the label of each of its nodes: (first token, end, label), the root first."""

    tokens: tuple[str, ...]
    nodes: tuple[tuple[int, int, int], ...]

    def text(self, node: tuple[int, int, int]) -> str:
        """What stands below a node, with a space between tokens."""
        return " ".join(self.tokens[node[0] : node[1]])


def read(config: Trees, data_dir: Path) -> LabeledTextSplits:
    """Read all splits: phrases or sentences of train, sentences of the others."""
    names = FIVE if config.classes == 5 else TWO

    def sentences(name: str) -> tuple[LabeledText, ...]:
        return tuple(_labeled(read_trees(find(data_dir, name)), names, phrases=False))

    train = tuple(_labeled(read_trees(find(data_dir, config.train)), names, config.phrases))
    test = {name: sentences(path) for name, path in config.test.items()}
    return LabeledTextSplits(train, sentences(config.dev), test, labels=names)


def read_trees(path: Path) -> list[Tree]:
    """Read one file; an empty line is refused."""
    return [parse(line, f"{path}:{number}") for number, line in enumerate(read_lines(path), start=1)]


def parse(line: str, where: str) -> Tree:
    """Read one tree.

    Args:
        line: the tree; the brackets of a sentence are written -LRB- and -RRB-.
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
            if len(open_nodes) == DEEPEST:
                raise UserError(f"{where}: nested more than {DEEPEST} deep; expected the tree of a sentence")
            open_nodes.append(len(nodes))
            nodes.append((len(tokens), -1, int(piece)))
        elif nodes and not open_nodes:
            raise UserError(f"{where}: {piece!r} after the end of the tree; expected one tree a line")
        elif piece == ")":
            if not open_nodes or nodes[open_nodes[-1]][0] == len(tokens):
                raise UserError(f"{where}: ')' where no word has come; expected a tree such as (3 (2 a) (4 hit))")
            start, _, label = nodes[open_nodes[-1]]
            nodes[open_nodes.pop()] = (start, len(tokens), label)
        elif piece != "(":
            if not open_nodes:
                raise UserError(f"{where}: {piece!r} outside a tree; expected a tree such as (3 (2 a) (4 hit))")
            tokens.append(str(_ESCAPES.get(piece, piece)).replace("\\/", "/").replace("\\*", "*"))
        before = piece
    if open_nodes or not nodes or before == "(":
        raise UserError(f"{where}: the tree does not end: {len(open_nodes) + (before == '(')} ')' missing")
    return Tree(tuple(tokens), tuple(nodes))


def _labeled(trees: Sequence[Tree], names: tuple[str, ...], phrases: bool) -> Iterator[LabeledText]:
    """Name the labels; of phrases each text comes once, with the label it has first (the treebank has one a text)."""
    seen: set[str] = set()
    for tree in trees:
        for node in tree.nodes if phrases else tree.nodes[:1]:
            text, label = tree.text(node), node[2]
            if phrases and text in seen:
                continue
            seen.add(text)
            if len(names) == len(FIVE):
                yield LabeledText(text, names[label])
            elif label != NEUTRAL:
                yield LabeledText(text, names[label > NEUTRAL])
