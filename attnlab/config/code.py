"""The code that a run holds: what is recorded of it at training, and whether it still is that.

A run's config.yaml holds the text of its custom parts, and environment.json their sha256, which editing the config does
not change. So a run is not used with other code than trained it. Who gives away a run may change both: nothing here
protects from malice, and a run with custom code is to be treated as a program.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnlab.config.custom import custom_parts
from attnlab.config.errors import UserError

CODE = "code of "
"""How the names of these fingerprints begin, which stand among the others of a run; the file's name follows."""
TRUST = "read it, then give --trust to execute it"


def code_of(config: Any) -> dict[str, str]:
    """Fingerprint the code of an experiment: {"code of FILE.py": sha256}.

    >>> from attnlab.config.custom import CustomMask
    >>> mask = CustomMask(function="mine.py:all_of_them", source="def all_of_them(positions): ...")
    >>> {name: sha[:6] for name, sha in code_of([mask]).items()}
    {'code of mine.py': '45284f'}
    """
    files: dict[str, set[str]] = {}
    for part in custom_parts(config):
        files.setdefault(part.file, set()).add(part.sha256)
    joined = {file: "".join(sorted(texts)) for file, texts in files.items()}
    return {f"{CODE}{file}": text if len(files[file]) == 1 else sha256(text.encode()).hexdigest()
            for file, text in joined.items()}  # fmt: skip


def recorded_code(directory: Path) -> dict[str, str]:
    """Read what was recorded of the code of a run at its training; nothing where the directory is no run."""
    try:
        kept = json.loads((directory / "environment.json").read_text(encoding="utf-8"))["fingerprint"]
        return {name: str(sha) for name, sha in kept.items() if name.startswith(CODE)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def refuse_other_code(where: Path, code: Mapping[str, str], recorded: Mapping[str, str], instead: str) -> None:
    """Raise where code is not what was recorded.

    Args:
        where: the run, or the config, that the code comes from.
        code: fingerprints of what would be executed.
        recorded: those of what was executed at training.
        instead: what to do.
    """
    for name, sha in code.items():
        if recorded.get(name) != sha:
            there = f"{recorded[name][:12]} at training" if name in recorded else "no record of it at training"
            raise UserError(f"{where}: the {name} is not the one recorded ({sha[:12]} here, {there}); {instead}")


def without_code(data: Any) -> Any:
    """Copy a config as data without the texts of its custom parts, which `refuse_other_code` judges.

    >>> without_code([{"kind": "custom", "function": "mine.py:f", "source": "def f(positions): ...", "modules": {}}])
    [{'kind': 'custom', 'function': 'mine.py:f'}]
    """
    if isinstance(data, list):
        return [without_code(value) for value in data]
    if not isinstance(data, dict):
        return data
    texts = ("source", "modules") if data.get("kind") == "custom" else ()
    return {name: without_code(value) for name, value in data.items() if name not in texts}


def announced(code: Mapping[str, str]) -> str:
    """Say in one line which code is executed.

    >>> announced({"code of mine.py": "45284f7dd14147ce"})
    'executes the code of mine.py (sha256 45284f7dd141)'
    """
    files = (f"{name.removeprefix(CODE)} (sha256 {sha[:12]})" for name, sha in code.items())
    return f"executes the {CODE}{', '.join(files)}"
