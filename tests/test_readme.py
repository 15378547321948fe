"""The README and the pages of docs: Python in them runs as it stands, and what they point to is there."""

import doctest
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import attnlab
from attnlab.config.attention import Mod, Score
from attnlab.config.explain import kind_of, models_of
from attnlab.config.masks import Mask
from attnlab.config.normalizers import Normalizer
from attnlab.tasks.base import Task
from attnlab.tasks.generation import GenerationTask
from attnlab.tasks.registry import CLASS_ATTRIBUTES
from attnlab.tasks.seq2seq import Seq2SeqTask

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


NEEDS_A_RUN = ">>> run = attnlab.load("
"""Marks the snippet that tests/test_commands.py runs, after the trainings of the page."""


def snippets(page: Path) -> list[str]:
    """Find the Python of a page: blocks of that language, and sessions with >>>."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    python = [block for language, block in blocks if language == "python" or block.startswith(">>> ")]
    return [block for block in python if NEEDS_A_RUN not in block]


def given() -> dict[str, object]:
    """Names that a page of the docs may take as there: those of the core, and arrays to attend with."""
    query, key = (jax.random.normal(jax.random.key(n), (2, 8, 4, 16)) for n in (0, 1))
    ours = {name: getattr(attnlab, name) for name in attnlab.__all__}
    return {**ours, "jax": jax, "jnp": jnp, "query": query, "key": key, "value": key}


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda page: page.stem)
def test_python_of_a_page_runs(page: Path, capsys: pytest.CaptureFixture[str]):
    for block in snippets(page):
        names = {} if page.name in ("README.md", "index.md") else given()
        if block.startswith(">>> "):
            session = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
            assert doctest.DocTestRunner().run(session).failed == 0, capsys.readouterr().out
            continue
        exec(compile(block, page.name, "exec"), names)
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == said


def test_every_page_with_python_is_among_them():
    pages = {page.stem for page in PAGES if snippets(page)}
    assert {"README", "index", "adapters", "decoding", "implementations", "masks"} <= pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_experiments_and_files_named_by_a_page_exist(page: Path):
    text = page.read_text()
    for name in re.findall(r"attnlab (?:train|data check|bench training) (experiments/\S+\.yaml)", text):
        assert (ROOT / name).is_file(), name
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / link).exists(), link


def test_the_page_on_extending_names_existing_files_and_all_methods_of_a_task():
    text = (ROOT / "docs/extending.md").read_text()
    files = [name for name in re.findall(r"`((?:attnlab|tests|docs|experiments)/[\w./]+)`", text) if "NAME" not in name]
    assert len(files) > 10
    assert [name for name in files if not (ROOT / name).exists()] == []
    for task in (Task, GenerationTask, Seq2SeqTask):
        assert task.__abstractmethods__ - set(re.findall(r"`(\w+)`", text)) == set()


def test_the_page_on_extending_names_what_a_task_and_the_tests_define():
    text = (ROOT / "docs/extending.md").read_text()
    rows = re.findall(r"^\| `(.+?)` \| (.*) \|$", text.partition("| used by | methods |")[2], re.MULTILINE)
    methods = [name for _, names in rows for name in re.findall(r"`(\w+)`", names)]
    assert len(methods) > 10
    assert [name for name in methods if not hasattr(Task, name)] == []
    after = text.partition("is a subclass of `GenerationTask`")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", after))
    assert len(named) > 8
    assert [name for name in named if not hasattr(GenerationTask, name)] == []
    assert [name for name in CLASS_ATTRIBUTES if f"`{name}`" not in text] == []
    for file, names in re.findall(r"^\| `(tests/\w+\.py)` \| (.*) \|$", text, re.MULTILINE):
        assert [name for name in re.findall(r"`(\w+)`", names) if name not in (ROOT / file).read_text()] == []


@pytest.mark.parametrize(
    ("page", "union"), [("scores", Score), ("mods", Mod), ("masks", Mask), ("normalizers", Normalizer)]
)
def test_the_tables_of_the_pages_on_attention_have_every_kind_of_the_config(page: str, union: Any):
    rows = "\n".join(re.findall(r"^\| .*", (ROOT / f"docs/attention/{page}.md").read_text(), re.MULTILINE))
    kinds = {kind_of(model) for model in models_of(union)} - {"custom", "any_of", "all_of"}  # these combine others
    assert len(kinds) > 4
    assert [kind for kind in kinds if not re.search(rf"^\|[^|]*`{kind}\b", rows, re.MULTILINE)] == []
