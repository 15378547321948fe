"""Read an experiment from a YAML file and overrides, and write it as YAML. Mistakes are `UserError`s of one line."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attnlab.config.custom_source import add_sources
from attnlab.config.errors import UserError
from attnlab.config.expected import pop_expected
from attnlab.config.experiment import Experiment
from attnlab.config.explain import Place, dotted, first_mistake, shortened
from attnlab.config.overrides import apply, keep_warmup_share, parse_override, schedule
from attnlab.config.read_file import read_file
from attnlab.config.study import is_claim, is_study
from attnlab.config.yaml_text import Document, dump, parse


def load(path: Path, overrides: Sequence[str] = (), seed: int | None = None, tiny: bool = False) -> Experiment:
    """Read an experiment from a YAML file.

    Args:
        path: the file. The experiment is named after it unless the file has a `name`; its `expected:` block is ignored.
        overrides: strings `a.b.c=value` with a YAML value, which override the file. Changing a `kind` resets its
            section to the defaults of the new kind. Reducing `training.steps` shortens the warm-up in proportion.
        seed: replaces the experiment's seed; None keeps it.
        tiny: shrink the experiment so that a run takes seconds; overrides are applied afterward.

    Raises:
        UserError: one line with the file and line, the path of the key, the value, and the valid values.

    >>> load(Path("no_such.yaml"))
    Traceback (most recent call last):
    ...
    attnlab.config.errors.UserError: no_such.yaml: no such file
    """
    if seed is not None:
        overrides = [*overrides, f"seed={seed}"]
    document = parse(read_file(path), str(path))
    changes = [parse_override(text) for text in overrides]
    if is_study(document.data):
        raise UserError(f"{path}: is a study of several runs (it has a base), not an experiment: attnlab sweep {path}")
    if is_claim(document.data):
        raise UserError(f"{path}: is a claim about attention, not an experiment: attnlab claims {path.stem}")
    pop_expected(document)
    if isinstance(document.data, dict):
        document.data.setdefault("name", path.stem.encode(errors="replace").decode())
    if tiny:
        small = _validate(document, ()).tiny()
        document = Document(small.model_dump(mode="json"), document.lines, document.where)
    return _validate(document, changes)


def resolved(experiment: Experiment) -> str:
    """Return an experiment as YAML with all defaults filled in; `load` reads it back to an equal experiment."""
    return dump(experiment.model_dump(mode="json"))


def validated(data: Any, where: str) -> Experiment:
    """Return the experiment of plain data such as `resolved` writes; `where` names the data in an error."""
    return _validate(Document(copy.deepcopy(data), {}, where), ())


def _validate(document: Document, changes: Sequence[tuple[Place, Any]]) -> Experiment:
    data = document.data
    if not isinstance(data, dict):
        sections = ", ".join(Experiment.model_fields)
        raise UserError(f"{document.where}: expected the keys {sections}, got {shortened(data)}")
    before = schedule(data)
    overridden = [apply(data, place, value) for place, value in changes]
    keep_warmup_share(data, before, overridden)
    add_sources(data, Path(document.where).parent)
    try:
        return Experiment.model_validate_json(json.dumps(data))
    except ValidationError as error:
        place, message = first_mistake(error, Experiment)
        where = document.line_of(place)
        if any(place[: len(changed)] == changed for changed in overridden):
            where = "command line"
        elif any(changed[: len(place)] == place for changed in overridden):
            where = f"{where} with the overrides"
        raise UserError(": ".join(part for part in (where, dotted(place), message) if part)) from None
