"""Read the source of custom parts (`kind: custom`) from the files that a config names, and add it to the config."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attnlab.config.custom import imported
from attnlab.config.errors import UserError
from attnlab.config.overrides import apply, parse_override
from attnlab.config.read_file import read_file
from attnlab.config.yaml_text import parse


def functions_with_source(path: Path, overrides: Sequence[str] = ()) -> set[str]:
    """Return the functions (FILE.py:NAME) whose source is in the config itself, as it is in the config of a run."""
    data = parse(read_file(path), str(path)).data
    for change in map(parse_override, overrides):
        apply(data, *change)
    return {str(custom.get("function")) for custom in _custom_sections(data) if "source" in custom}


def add_sources(section: Any, folder: Path) -> None:
    """Add the source of each custom function to its section, unless the section already has it.

    Files are searched for in `folder`, then in the working directory.
    """
    for custom in _custom_sections(section):
        function = custom.get("function")
        file = Path(function.rpartition(":")[0]) if isinstance(function, str) else Path()
        if file.suffix != ".py" or "source" in custom:
            continue
        paths = [path for path in (folder / file, file) if path.is_file()]
        if not paths:
            raise UserError(f"{file}: no such file (function: {function}); searched {folder} and {Path.cwd()}")
        custom["source"] = read_file(paths[0])
        custom.setdefault("modules", _modules(custom["source"], paths[0].parent, {}))


def _custom_sections(section: Any) -> Iterator[dict[str, Any]]:
    if isinstance(section, dict) and section.get("kind") == "custom":
        yield section
    for part in section.values() if isinstance(section, dict) else section if isinstance(section, list) else ():
        yield from _custom_sections(part)


def _modules(source: str, folder: Path, sources: dict[str, str]) -> dict[str, str]:
    """Add the source of the modules of a folder that `source` imports, directly or indirectly, to `sources`."""
    for name in imported(source):
        if name not in sources and (file := folder / f"{name}.py").is_file():
            sources[name] = read_file(file)
            _modules(sources[name], folder, sources)
    return sources
