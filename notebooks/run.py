"""Execute the notebooks and write each, with its outputs, to an .ipynb beside its py:percent source.

`python notebooks/run.py` executes all of them, `python notebooks/run.py 01 03` those whose names begin so. What differs
between two executions of the same code is left out or replaced, so that an .ipynb changes only when its results do.
A notebook whose data are not part of attnlab is left out where `ATTNLAB_DATA` is not set.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = "ATTNLAB_DATA"
"""The variable with the directory of datasets, which some notebooks need."""
PLACES = {str(ROOT): ".", tempfile.gettempdir(): "TMP", str(Path.home()): "~"}
"""Folders of this machine, and what outputs show in their place."""


def executed(source: Path) -> nbformat.NotebookNode:
    """Execute a notebook in the root of the repository and return it with outputs that any machine could have."""
    notebook = jupytext.read(source)
    config = Config({"KernelManager": {"transport": "ipc"}})  # over TCP every kernel warns that it is not encrypted
    resources = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=1200, record_timing=False, resources=resources, config=config).execute()
    notebook.metadata.pop("language_info", None)  # holds the version of Python
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [portable(output) for output in cell.outputs if not is_progress(output)]
    return notebook


def is_progress(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is a warning or a line of progress, which hold times and paths: stderr, and what rich
    displays instead in a notebook."""
    displayed = output.get("data", {}).get("text/html", "")
    return output.get("name") == "stderr" or displayed.startswith('<pre style="white-space:pre;overflow-x:auto')


def portable(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Replace the folders of this machine and the addresses of objects in the texts of an output."""
    if "text" in output:
        output.text = replaced(output.text)
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = replaced(content)
    return output


def replaced(text: str) -> str:
    """Replace the folders of this machine and the addresses of objects in a text.

    >>> replaced("<function f at 0x7f0012ab34cd>")
    '<function f at 0x...>'
    """
    for folder, name in sorted(PLACES.items(), key=lambda place: -len(place[0])):
        text = re.sub(rf"{re.escape(folder)}(?=\W|$)", name, text)
    text = re.sub(r"TMP/tmp\w+", "TMP", text)
    return re.sub(r"\b0x[0-9a-f]{6,}", "0x...", text)


def main(names: list[str]) -> None:
    """Execute the notebooks whose names begin with one of `names`; all of them where it is empty."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for source in sorted(HERE.glob("[0-9]*.py")):
        if names and not source.name.startswith(tuple(names)):
            continue
        if DATA in source.read_text(encoding="utf-8") and not os.environ.get(DATA):
            print(f"{source.name}: left out, as its data are not part of attnlab; set {DATA} to their directory")
            continue
        target = source.with_suffix(".ipynb")
        nbformat.write(executed(source), target)
        print(f"{source.name}: executed, see {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
