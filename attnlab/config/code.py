"""Fingerprints of the custom code of a run, recorded at training and compared before the code is executed again.

A run's config.yaml holds the source of its custom parts, and environment.json holds their sha256, which editing the
config does not change. A run is therefore not used with code other than the code that trained it. Whoever distributes a
run can change both files: this does not protect from malice, so treat a run with custom code as a program.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnlab.config.custom import custom_parts
from attnlab.config.errors import UserError

CODE = "code of "
"""Prefix of the names of these fingerprints among those of a run; the name of the file follows."""
TRUST = "read it, then give --trust to execute it"


def code_of(config: Any) -> dict[str, str]:
    """Return the fingerprints of the code of an experiment: {"code of FILE.py": sha256}.

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
    """Read the fingerprints of code that a run recorded at training; empty if the directory is not a run."""
    try:
        fingerprints = json.loads((directory / "environment.json").read_text(encoding="utf-8"))["fingerprint"]
        return {name: str(sha) for name, sha in fingerprints.items() if name.startswith(CODE)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def refuse_other_code(where: Path, code: Mapping[str, str], recorded: Mapping[str, str], instead: str) -> None:
    """Raise if code differs from the code recorded at training.

    Args:
        where: the run or config that the code comes from.
        code: fingerprints of the code that would be executed.
        recorded: fingerprints of the code that was executed at training.
        instead: advice at the end of the message.
    """
    for name, sha in code.items():
        if recorded.get(name) != sha:
            trained = f"{recorded[name][:12]} at training" if name in recorded else "not recorded at training"
            raise UserError(
                f"{where}: the {name} differs from the recorded one ({sha[:12]} here, {trained}); {instead}"
            )


def without_code(data: Any) -> Any:
    """Return a copy of a config's data without the source of its custom parts, which `refuse_other_code` compares.

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
    """Return a line that names the code that will be executed.

    >>> announced({"code of mine.py": "45284f7dd14147ce"})
    'executes the code of mine.py (sha256 45284f7dd141)'
    """
    files = (f"{name.removeprefix(CODE)} (sha256 {sha[:12]})" for name, sha in code.items())
    return f"executes the {CODE}{', '.join(files)}"
