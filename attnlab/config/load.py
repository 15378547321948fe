"""From a YAML file and overrides to an experiment, and back. Every mistake is one `UserError` line; no jax here."""

import copy
import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attnlab.config.custom import imported
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.explain import cut, first_mistake, shortened
from attnlab.config.yaml_text import Document, dump, parse, parse_value

Place = tuple[str, ...]
DEEPEST = 50
"""Keys in the path of an override."""
WARMUP: Place = ("training", "optimizer", "warmup_steps")


def load(path: Path, overrides: Sequence[str] = (), seed: int | None = None, tiny: bool = False) -> Experiment:
    """Read the experiment of a YAML file.

    Args:
      path: the file; its stem is the experiment's name when the file gives none.
      overrides: texts `a.b.c=value`, value in YAML. They win over the file.
        One that changes a `kind` starts that section afresh, at the new kind's defaults. One that makes
        `training.steps` fewer shortens the warm-up of the file to the same share of them.
      seed: replaces the experiment's seed; None keeps it.
      tiny: shrink everything so that a run takes seconds; the overrides come after.
    Raises:
      UserError: one line that names the file and line, the path of the key, what was given and what would be right.

    >>> load(Path("no_such.yaml"))
    Traceback (most recent call last):
    ...
    attnlab.config.errors.UserError: no_such.yaml: no such file
    """
    if seed is not None:
        overrides = [*overrides, f"seed={seed}"]
    document = parse(_read(path), str(path))
    changes = [_parse_override(text) for text in overrides]
    if isinstance(document.data, dict):
        document.data.setdefault("name", path.stem.encode(errors="replace").decode())
    if tiny:
        small = _validate(document, ()).tiny()
        document = Document(small.model_dump(mode="json"), document.lines, document.where)
    return _validate(document, changes)


def held_code(path: Path, overrides: Sequence[str] = ()) -> set[str]:
    """List the functions, FILE.py:NAME, whose code stands in the config itself, as in a run's, and not in a file."""
    data = parse(_read(path), str(path)).data
    for change in map(_parse_override, overrides):
        _apply(data, *change)
    return {str(custom.get("function")) for custom in _custom_sections(data) if "source" in custom}


def resolved(experiment: Experiment) -> str:
    """Write the experiment as YAML, every default spelled out; `load` reads it back to an equal one."""
    return dump(experiment.model_dump(mode="json"))


def validated(data: Any, where: str) -> Experiment:
    """Return the experiment that plain data describe, as `resolved` spells it out; `where` names them in an error."""
    return _validate(Document(copy.deepcopy(data), {}, where), ())


def difference(run: Experiment, here: Experiment, there: str = "in the run", this: str = "here") -> list[str]:
    """List the settings that differ, one line each: `model.dropout: 0.1 in the run, 0.2 here`."""
    found = differing(run.model_dump(mode="json"), here.model_dump(mode="json"))
    return [f"{place}: {first} {there}, {second} {this}" for place, first, second in found]


def differing(first: Any, second: Any, place: Place = ()) -> Iterator[tuple[str, str, str]]:
    """Go through the settings that differ between two configs as data: where, and what stands there in each.

    >>> list(differing({"model": {"width": 8, "heads": 2}}, {"model": {"width": 4, "heads": 2}}))
    [('model.width', '8', '4')]
    """
    if isinstance(first, dict) and isinstance(second, dict):
        absent = object()
        for name in [*first, *(name for name in second if name not in first)]:
            yield from differing(first.get(name, absent), second.get(name, absent), (*place, name))
    elif type(first) is not type(second) or first != second:
        yield ".".join(place), _shown(first), _shown(second)


def _shown(value: Any) -> str:
    return "absent" if type(value) is object else shortened(value)


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_nearest_file(path)}") from None
    except IsADirectoryError:
        inside = path / "config.yaml"
        hint = f"did you mean {inside}?" if inside.exists() else "give the YAML file of an experiment"
        raise UserError(f"{path}: is a directory; {hint}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: byte {raw[error.start]:#04x} is not UTF-8 text") from None


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no directory {path.parent} either"
    near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1, cutoff=0.5)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _parse_override(text: str) -> tuple[Place, Any]:
    dotted, equals, value = text.partition("=")
    place = tuple(dotted.strip().split("."))
    told = f"override {cut(text)!r}"
    if not equals or not all(place):
        raise UserError(f"{told}: expected key.path=value, such as model.dropout=0.2")
    if len(place) > DEEPEST:
        raise UserError(f"{told}: {len(place)} keys inside one another; no setting is so deep")
    if not value.strip():
        raise UserError(f"{told}: has no value after '='; null means none")
    return place, parse_value(value, told)


def _apply(data: dict[str, Any], place: Place, value: Any) -> Place:
    """Set the value in place; the answer is the place of what now comes from the override."""
    section = data
    for depth, name in enumerate(place[:-1]):
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            dotted, inside = _dotted(place), _dotted(place[: depth + 1])
            raise UserError(f"override {dotted}: {inside} is {shortened(section)}, not a section with keys in it")
    if place[-1] == "kind" and section.get("kind", value) != value:
        section.clear()
        section["kind"] = value
        return place[:-1]
    section[place[-1]] = copy.deepcopy(value)
    if place[-1] == "function":
        section.pop("source", None)
        section.pop("modules", None)
    return place


def _keep_sources(section: Any, folder: Path) -> None:
    """Write the text of each file that `kind: custom` names into its section, where it is not there yet."""
    for custom in _custom_sections(section):
        function = custom.get("function")
        file = Path(function.rpartition(":")[0]) if isinstance(function, str) else Path()
        if file.suffix != ".py" or "source" in custom:
            continue
        here = [path for path in (folder / file, file) if path.is_file()]
        if not here:
            raise UserError(f"{file}: no such file, of function: {function}; looked in {folder} and in {Path.cwd()}")
        custom["source"] = _read(here[0])
        custom.setdefault("modules", _modules(custom["source"], here[0].parent, {}))


def _custom_sections(section: Any) -> Iterator[dict[str, Any]]:
    if isinstance(section, dict) and section.get("kind") == "custom":
        yield section
    for part in section.values() if isinstance(section, dict) else section if isinstance(section, list) else ():
        yield from _custom_sections(part)


def _modules(source: str, folder: Path, found: dict[str, str]) -> dict[str, str]:
    """Read the modules in a folder that a text imports, and those that they import."""
    for name in imported(source):
        if name not in found and (file := folder / f"{name}.py").is_file():
            found[name] = _read(file)
            _modules(found[name], folder, found)
    return found


def _schedule(data: dict[str, Any]) -> tuple[Any, Any]:
    """Read `steps` and `warmup_steps` of a config that is not checked yet; None for what is not there."""
    training = data.get("training")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    warmup = optimizer.get("warmup_steps") if isinstance(optimizer, dict) else None
    return (training.get("steps") if isinstance(training, dict) else None), warmup


def _keep_warmup_share(data: dict[str, Any], begun: tuple[Any, Any], overridden: Sequence[Place]) -> None:
    """Shorten the file's warm-up with the training, where an override shortens the training alone."""
    (before, warmup), (steps, same) = begun, _schedule(data)
    given = any(WARMUP[: len(place)] == place for place in overridden)
    counts = all(type(number) is int and number > 0 for number in (before, warmup, steps))
    if counts and not given and same == warmup and steps < before:
        data["training"]["optimizer"]["warmup_steps"] = warmup * steps // before


def _validate(document: Document, changes: Sequence[tuple[Place, Any]]) -> Experiment:
    data = document.data
    if not isinstance(data, dict):
        sections = ", ".join(Experiment.model_fields)
        raise UserError(f"{document.where}: expected the keys {sections}; given {shortened(data)}")
    begun = _schedule(data)
    overridden = [_apply(data, place, value) for place, value in changes]
    _keep_warmup_share(data, begun, overridden)
    _keep_sources(data, Path(document.where).parent)
    try:
        return Experiment.model_validate_json(json.dumps(data))
    except ValidationError as error:
        place, message = first_mistake(error, Experiment)
        where = document.line_of(place)
        if any(place[: len(changed)] == changed for changed in overridden):
            where = "command line"
        elif any(changed[: len(place)] == place for changed in overridden):
            where = f"{where} with the overrides"
        raise UserError(": ".join(part for part in (where, _dotted(place), message) if part)) from None


def _dotted(place: Place) -> str:
    return ".".join(name if name.isprintable() else repr(name) for name in map(cut, place))
