"""Find run directories by their files, to suggest one to a person who named none."""

import os
from difflib import get_close_matches
from pathlib import Path

from attnlab.config.errors import UserError

MOST = 4
"""Largest number of runs that an error suggests."""


def missing_run(directory: Path) -> UserError:
    """Return the error that a directory is not a run; it suggests runs inside the directory, beside it, or in runs/."""
    what = "is not a run directory (it has no config.yaml)" if directory.is_dir() else "no such run directory"
    found = next((runs for runs in map(_runs, (directory, directory.parent, Path("runs"))) if runs), [])
    if _is_run(directory.parent):
        found = [directory.parent]
    by_name = {run.name: run for run in found}
    near = [by_name[name] for name in get_close_matches(directory.name, by_name, n=MOST)]
    few = [*near, *(run for run in found if run not in near)][:MOST]
    more = ", ..." if len(found) > MOST else ""
    hints = [f"runs at hand: {', '.join(map(str, few))}{more}"] if few else []
    if not directory.exists():
        hints.append(f"attnlab train CONFIG --out {directory} makes one")
    elif not few:
        hints.append("attnlab train CONFIG makes one, in runs/")
    return UserError(f"{directory}: {what}; {'; '.join(hints)}")


def _runs(folder: Path) -> list[Path]:
    """Return the runs in a folder, newest first."""
    try:
        found = [path for path in folder.iterdir() if _is_run(path)]
        return sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))
    except OSError:
        return []


def _is_run(directory: Path) -> bool:
    return all(os.path.isfile(directory / name) for name in ("config.yaml", "environment.json"))
