"""The README and the pages of docs: Python in them runs as it stands, and what they point to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", ["README.md", "docs/attention/index.md"])
def test_python_of_a_page_runs(name: str, capsys: pytest.CaptureFixture[str]):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {})
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_experiments_and_files_that_a_page_names_are_there(page: Path):
    text = page.read_text()
    for name in re.findall(r"attnlab (?:train|data check|bench training) (experiments/\S+\.yaml)", text):
        assert (ROOT / name).is_file(), name
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / link).exists(), link
