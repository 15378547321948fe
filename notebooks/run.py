"""Execute every notebook (py:percent) beside this file; the executed copies go to build/notebooks."""

from pathlib import Path

import jupytext
import nbclient

HERE = Path(__file__).parent
TARGET = HERE.parent / "build" / "notebooks"

TARGET.mkdir(parents=True, exist_ok=True)
for source in sorted(HERE.glob("[0-9]*.py")):
    notebook = jupytext.read(source)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE.parent)}}).execute()
    jupytext.write(notebook, TARGET / f"{source.stem}.ipynb")
    print(f"{source.name}: ran, see {(TARGET / source.stem).relative_to(HERE.parent)}.ipynb")
