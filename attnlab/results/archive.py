"""Archives of runs, which are small enough for git and have the layout of a run directory.

An archive contains config.yaml, environment.json, metrics.jsonl, results.json and per_example/, cost.json if the run
has it, and what the analyses have found, faithfulness.json, alignment.json and divergence/SPLIT.json, but only numbers:
no text of a dataset, no path of a machine, and only those lines of the log with validation metrics and the last one.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.yaml_text import dump, parse
from attnlab.results.machine_paths import is_machine_path, without_folders
from attnlab.results.per_example import write_per_example
from attnlab.results.record import RunRecord
from attnlab.results.run_files import ALIGNMENT, CONFIG, ENVIRONMENT, FAITHFULNESS, METRICS
from attnlab.results.scores import RESULTS
from attnlab.results.step_cost import read_cost, write_cost
from attnlab.training.atomic_files import write_whole

ARCHIVED = ("attnlab", "commit", "dirty", "python", "packages", "devices", "cores", "processor", "step")
"""Entries of an environment that are archived; command and platform may name a machine."""
OF_EXAMPLES = ("failed",)
"""Entries of an analysis that are archived nowhere, since they may quote the text of an example."""


def archive(record: RunRecord, folder: Path) -> Path:
    """Write the numbers of a run to a directory with the run's name and return the directory.

    Args:
        record: the run.
        folder: parent of the directory.

    Raises:
        UserError: the directory contains another run, or the config contains an absolute path.
    """
    if path := next(_paths(record.config), None):
        raise UserError(f"{record.directory / CONFIG}: {path} is a path of this machine; the run cannot be archived")
    directory = folder / record.directory.resolve().name
    existing = directory / CONFIG
    if existing.exists() and parse(existing.read_text(encoding="utf-8"), str(existing)).data != record.config:
        raise UserError(f"{directory}: contains another run; rename {record.directory} or remove it")
    environment = {
        **_reduced(record.environment),
        "fingerprint": record.environment["fingerprint"],
        **{name: record.environment[name] for name in ("overrides", "interruptions") if name in record.environment},
        **{name: list(map(_reduced, record.environment[name])) for name in ("resumed",) if name in record.environment},
    }
    log = [entry for entry in record.log if record.task.monitor in entry or entry is record.log[-1]]
    results = {split: dict(_numbers(scores)) for split, scores in record.results.items()}
    texts = {
        CONFIG: dump(dict(record.config)),
        ENVIRONMENT: json.dumps(environment, indent=1) + "\n",
        METRICS: "".join(json.dumps(entry) + "\n" for entry in log),
        RESULTS: json.dumps(results, indent=1) + "\n",
    }
    for file in (ALIGNMENT, FAITHFULNESS, *record.divergences()):
        if found := record.analysis(file):
            texts[file] = json.dumps(_without_machine(found), indent=1, ensure_ascii=False) + "\n"
    per_example = {split: record.per_example(split) for split in record.results}
    for name, text in texts.items():
        write_whole(directory / name, text)
    if (cost := read_cost(record.directory)) is not None:
        write_cost(directory, cost)
    for split, scores in per_example.items():
        if scores is not None:
            write_per_example(directory, split, scores)
    return directory


def _reduced(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: environment[name] for name in ARCHIVED if name in environment}


def _without_machine(found: Any) -> Any:
    """Return what an analysis has found without paths, of which the last name is kept, and what names a machine."""
    if isinstance(found, Mapping):
        return {
            name: _reduced(value) if name == "environment" else _without_machine(value)
            for name, value in found.items()
            if name not in OF_EXAMPLES
        }
    if isinstance(found, list):
        return [_without_machine(value) for value in found]
    return without_folders(found)


def _numbers(scores: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield numbers, flat lists of numbers, None, signatures and notes; other values may contain text of a dataset."""
    for name, value in scores.items():
        numbers = value is None or _is_number(value) or (isinstance(value, list) and all(map(_is_number, value)))
        if numbers or (name.endswith(("_signature", "_note")) and isinstance(value, str)):
            yield name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _paths(value: Any, place: str = "") -> Iterator[str]:
    """Yield every absolute path in a config, in the form `task.data.file=/home/...`."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _paths(child, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for child in value:
            yield from _paths(child, place)
    elif isinstance(value, str) and is_machine_path(value):
        yield f"{place}={value}"
