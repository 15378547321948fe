"""Find run directories, to suggest one in the error for a path that is not a run."""

import os
from difflib import get_close_matches
from pathlib import Path

from attnlab.config.errors import UserError

MAX_SUGGESTIONS = 4
"""Largest number of runs that an error suggests."""


def missing_run(directory: Path) -> UserError:
    """Return the error for a directory that is not a run; it suggests runs in the directory, beside it, or in runs/."""
    problem = "is not a run directory (it has no config.yaml)" if directory.is_dir() else "no such run directory"
    runs = next((runs for runs in map(_runs, (directory, directory.parent, Path("runs"))) if runs), [])
    if _is_run(directory.parent):
        runs = [directory.parent]
    by_name = {run.name: run for run in runs}
    near = [by_name[name] for name in get_close_matches(directory.name, by_name, n=MAX_SUGGESTIONS)]
    suggested = [*near, *(run for run in runs if run not in near)][:MAX_SUGGESTIONS]
    more = ", ..." if len(runs) > MAX_SUGGESTIONS else ""
    hints = [f"available runs: {', '.join(map(str, suggested))}{more}"] if suggested else []
    if not directory.exists():
        hints.append(f"attnlab train CONFIG --out {directory} creates it")
    elif not suggested:
        hints.append("attnlab train CONFIG creates a run in runs/")
    return UserError(f"{directory}: {problem}; {'; '.join(hints)}")


def _runs(folder: Path) -> list[Path]:
    """Return the runs in a folder, newest first."""
    try:
        runs = [path for path in folder.iterdir() if _is_run(path)]
        return sorted(runs, key=lambda path: (-path.stat().st_mtime, path.name))
    except OSError:
        return []


def _is_run(directory: Path) -> bool:
    return all(os.path.isfile(directory / name) for name in ("config.yaml", "environment.json"))
