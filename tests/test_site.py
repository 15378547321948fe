"""The site of the documentation builds without a warning; its navigation has every page, its reference every name."""

import doctest
import html
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import attnlab

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def from_docs(name: str) -> ModuleType:
    """Import a module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-b", "html"]
    return subprocess.run(
        [*command, "-c", str(DOCS), str(source), str(target)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    built = build(ROOT, target)
    assert built.returncode == 0, built.stderr
    return target


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site: Path):
    home = (site / "index.html").read_text()
    (target,) = re.findall(r"url=([^\"]+)", home)
    assert (site / target).is_file()


@pytest.mark.slow
def test_the_reference_has_every_public_name(site: Path):
    text = "".join(path.read_text() for path in (site / "docs/api").glob("*.html"))
    named = [name for name in attnlab.__all__ if callable(getattr(attnlab, name))]
    assert len(named) > 8
    for name in named:
        assert re.search(rf'id="attnlab(?:\.lab)?\.{name}"', text), name
    for field in ("Parameters", "Returns", "Numerics", "Reference"):
        assert f"{field}<" in text
    assert "query: Float[Array, 'q d']," in html.unescape(re.sub(r"<[^>]+>", "", text))


def page(folder: Path, text: str) -> Path:
    """Write the source of a site of one page."""
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(f"# Home\n\n{text}\n")
    return folder


@pytest.mark.slow
def test_a_site_without_a_mistake_builds(tmp_path: Path):
    built = build(page(tmp_path, "[itself](index.md#home) <!-- api: attnlab merge -->"), tmp_path / "site")
    assert built.returncode == 0, built.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[a page](no_such_page.md)", "no_such_page.md"),
        ("[a section](index.md#no-such-section)", "no-such-section"),
        ("![a picture](no_such_picture.png)", "no_such_picture.png"),
        ("<!-- api: attnlab no_such_name -->", "no_such_name"),
    ],
)
def test_a_broken_link_fails(text: str, place: str, tmp_path: Path):
    built = build(page(tmp_path, text), tmp_path / "site")
    assert built.returncode != 0
    assert place in built.stderr


def test_the_navigation_has_every_page():
    conf = from_docs("conf")
    pages = {path.resolve() for pattern in ("*.md", "*/*.md") for path in DOCS.glob(pattern)} - {DOCS / "index.md"}
    pages |= {path.resolve() for path in (ROOT / "notebooks").glob("*.ipynb")}
    listed = set()
    for index in DOCS.rglob("index.md"):
        source = [index.read_text()]
        conf.add_navigation(None, index.relative_to(ROOT).with_suffix("").as_posix(), source)
        entries = re.findall(r"^.+ <(.+)>$", source[0].partition("```{toctree}")[2], re.MULTILINE)
        assert entries, index
        listed |= {
            path.resolve()
            for entry in entries
            for path in (index.parent / f"{entry}.md", index.parent / f"{entry}.ipynb")
        }
    assert pages - listed == set()


def test_examples_of_the_extension_run():
    results = doctest.testmod(from_docs("docstrings"))
    assert results.attempted >= 4
    assert results.failed == 0


def test_a_docstring_becomes_fields_equations_and_links():
    docstrings = from_docs("docstrings")
    text = """Score every query with `cosine`.

logits[i, j] = scale · query_i · key_j

Args:
    query: [*B, T, D], see
        `attention`.
    scale: a number.
Returns: logits, at most
    `scale` of them.
Numerics: float32.

>>> 1 + 1
2
"""
    written = [line for line in docstrings.convert(text.splitlines()) if line]
    assert written == [
        "Score every query with :py:obj:`cosine`.",
        ".. code-block:: none",
        "   :class: equation",
        "   logits[i, j] = scale · query_i · key_j",
        ":param query: [\\*B, T, D], see :py:obj:`attention`.",
        ":param scale: a number.",
        ":Returns: logits, at most :py:obj:`scale` of them.",
        ":Numerics: float32.",
        ">>> 1 + 1",
        "2",
    ]
