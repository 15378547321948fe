"""Identifiers and phrases that are gone: private words for which the field has a word of its own."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from attnlab import cli

ROOT = Path(__file__).parents[1]
IDENTIFIERS = {
    "Attended", "Regarded", "View", "Facts", "Each", "each", "Asked", "asked", "AsSequence", "Between", "Cut", "Entry",
    "Fused", "Lists", "Visits", "Attend", "Storyteller", "SpanReader", "VisualQuestions", "around", "carry_out",
    "contain", "dev_scores", "hopeless", "in_turn", "measure", "plainly", "remember", "told", "with_reverse",
    "sliding_window_exact", "sliding_window_f1", "f1_over_window",
}  # fmt: skip
"""Names that no function, class, argument, attribute or module has."""
PHRASES = (
    r"looks? at dev", r"dev scores", r"what (it|they) gave", r"what it has given", r"ha(s|ve) not the same",
    r"what the mask empties", r"told apart by", r"nobody told", r"was told (what|where|in)", r"where the model looked",
    r"what one does with", r"for a person",
)  # fmt: skip
"""What no docstring, comment, message or page says."""
TASK_NAMES = ("stories", "spans", "rules", "verdicts", "questions", "sentiment")
"""What no task, folder of a task or kind of data is called."""


def modules() -> list[Path]:
    return sorted((ROOT / "attnlab").rglob("*.py"))


def pages() -> list[Path]:
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").rglob("*.yaml")]
    return sorted(page for page in [*found, *(ROOT / "notebooks").glob("*.py")] if page.name != "decisions.md")


def names(source: str) -> set[str]:
    return {
        token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.NAME
    }


def occurrences(text: str) -> list[str]:
    joined = " ".join(text.split())
    return [match[0] for phrase in PHRASES for match in re.finditer(rf"\b{phrase}\b", joined, re.IGNORECASE)]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_them(path):
    source = path.read_text()
    assert not names(source) & IDENTIFIERS
    assert not occurrences(source)
    assert path.stem not in IDENTIFIERS


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_uses_them(path):
    text = path.read_text()
    assert not occurrences(text)
    assert not set(re.findall(r"`(?:\w+\.)*(\w+)", text)) & IDENTIFIERS
    if path.suffix == ".yaml":
        assert not re.findall(rf"^\s*kind: (?:{'|'.join(TASK_NAMES)})\b", text, re.MULTILINE)


def test_no_folder_or_kind_is_called_so():
    folders = {path.name for root in ("attnlab", "experiments") for path in (ROOT / root).rglob("*") if path.is_dir()}
    assert not folders & set(TASK_NAMES)
    kinds = {
        node.value
        for path in (ROOT / "attnlab/config").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Subscript) and isinstance(call.value, ast.Name) and call.value.id == "Literal"
        for node in ast.walk(call.slice)
        if isinstance(node, ast.Constant)
    }
    assert "story_qa" in kinds
    assert not kinds & set(TASK_NAMES)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["sweep"],
        ["evaluate"],
        ["predict"],
        ["show"],
        ["results"],
        ["compare"],
        ["list"],
        ["data"],
        ["bench"],
        ["faithfulness"],
    ],
    ids=lambda command: " ".join(command) or "attnlab",
)
def test_no_help_uses_them(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert text
    assert not occurrences(text)


def test_gone_names_would_be_found():
    assert names("def f(each): return Attended") & IDENTIFIERS == {"each", "Attended"}
    assert occurrences("It looks at\n    dev now and then.") == ["looks at dev"]
