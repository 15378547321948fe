"""Every committed notebook is its py:percent source, executed without an error, and holds nothing of one machine."""

import doctest
import importlib.util
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
EXECUTED = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Collect the texts of all outputs; pictures are left out."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [text for output in outputs for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return [*shown, *(output.text for output in outputs if "text" in output)]


def test_every_source_has_been_executed():
    assert {path.stem for path in EXECUTED} == {path.stem for path in SOURCES}


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_a_notebook_is_its_source(path: Path):
    source, notebook = jupytext.read(path.with_suffix(".py")), read(path)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ], f"python notebooks/run.py {path.stem}"
    assert source.metadata.jupytext.formats == "ipynb,py:percent"
    assert notebook.cells[0].source.startswith("# "), "the title of its page on the site"


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_a_notebook_was_executed_from_its_first_cell_to_its_last(path: Path):
    code = [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_of_one_machine(path: Path):
    assert path.stat().st_size < 1_000_000
    notebook = read(path)
    assert "language_info" not in notebook.metadata
    for text in texts(notebook):
        assert not re.search(r"/(?:home|root|work|tmp|usr|opt|Users|var)/|[A-Z]:\\|0x[0-9a-f]{6,}|tokens/s", text), text


def test_places_and_addresses_are_replaced():
    spec = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
    assert spec
    assert spec.loader
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    assert doctest.testmod(run) == (0, 1)
    home, folder = Path.home(), run.tempfile.gettempdir()
    before = f"{FOLDER}/run.py {home}/x {folder}/tmpab_12/run <f at 0x7f0012ab34cd> {home}work"
    assert run.replaced(before) == f"./notebooks/run.py ~/x TMP/run <f at 0x...> {home}work"
    progress = nbformat.v4.new_output("stream", name="stderr", text="step 1")
    assert run.is_progress(progress)
    assert not run.is_progress(nbformat.v4.new_output("stream", name="stdout", text="step 1"))
