"""What there is to choose from: experiments and runs at hand, and the kinds and named choices of every setting."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.explain import kind_of, models_of

CHECKOUT = Path(__file__).resolve().parents[2] / "experiments"
FEW = 4
"""Runs that are named to someone who named none."""
Setting = tuple[str, list[str]]
"""A dotted name, and what may stand there."""


def experiments() -> Iterator[tuple[Path, str]]:
    """List the experiments of the current directory, else of the checkout: each file and its card's first line."""
    folder = next((f for f in (Path("experiments"), CHECKOUT) if f.is_dir()), None)
    for path in sorted(folder.rglob("*.yaml")) if folder else ():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield path, first.removeprefix("#").strip() if first.startswith("#") else ""


def known(config: Path) -> Path:
    """Return the path of a config; where there is none, but experiments of this name, say which."""
    if not config.exists():
        named = [str(path) for path, _ in experiments() if path.stem == config.name.removesuffix(".yaml")]
        if named:
            raise UserError(f"{config}: no such file; did you mean {' or '.join(named)}?")
    return config


def no_run(directory: Path) -> UserError:
    """Say that a directory is no run, and which runs there are inside it, beside it or in runs/."""
    what = "is not a run directory (it has no config.yaml)" if directory.is_dir() else "no such run directory"
    found = next((runs for runs in map(_runs, (directory, directory.parent, Path("runs"))) if runs), [])
    if _is_run(directory.parent):
        found = [directory.parent]
    by_name = {run.name: run for run in found}
    near = [by_name[name] for name in get_close_matches(directory.name, by_name, n=FEW)]
    few = [*near, *(run for run in found if run not in near)][:FEW]
    more = ", ..." if len(found) > FEW else ""
    hints = [f"runs at hand: {', '.join(map(str, few))}{more}"] if few else []
    if not directory.exists():
        hints.append(f"attnlab train CONFIG --out {directory} makes one")
    elif not few:
        hints.append("attnlab train CONFIG makes one, in runs/")
    return UserError(f"{directory}: {what}; {'; '.join(hints)}")


def _runs(folder: Path) -> list[Path]:
    """The runs in a folder, the newest first."""
    try:
        found = [path for path in folder.iterdir() if _is_run(path)]
        return sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))
    except OSError:
        return []


def _is_run(directory: Path) -> bool:
    return all(os.path.isfile(directory / name) for name in ("config.yaml", "environment.json"))


def choices() -> Iterator[tuple[str, list[Setting]]]:
    """List every setting that is chosen by name: under each kind of task what it has, then those of any model.

    >>> dict(dict(choices())["task.kind=stories"])["model.kind"]
    ['memory_network', 'transformer_stories']
    """
    for task in models_of(Experiment.model_fields["task"].annotation):
        models = list(getattr(task, "models"))  # noqa: B009
        yield f"task.kind={kind_of(task)}", [*_settings(task, "task."), ("model.kind", models)]
    fields = {name: Experiment.model_fields[name] for name in ("model", "training")}
    every = [each for name, field in fields.items() for each in _merged(models_of(field.annotation), f"{name}.")]
    yield "model and training (mods are a list, as 'model.attention.mods=[{kind: soft_cap, cap: 30}]')", every


def _settings(model: type[BaseModel], place: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        several = get_origin(field.annotation) is tuple
        models = models_of(get_args(field.annotation)[0] if several else field.annotation)
        if model in models:  # as in a mask made of masks
            continue
        if len(models) > 1:
            yield f"{place}{name}{'[]' if several else ''}.kind", [kind for kind in map(kind_of, models) if kind]
        elif name != "kind":
            if literal := _literals(field.annotation):
                yield f"{place}{name}", literal
        if not several:
            yield from _merged(models, f"{place}{name}.")


def _literals(annotation: Any) -> list[str]:
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _merged(models: list[type[BaseModel]], place: str) -> Iterator[Setting]:
    """Settings of kinds that stand in one place: they may have one alike, and differ in what it may be."""
    merged: dict[str, list[str]] = {}
    for model in models:
        for at, names in _settings(model, place):
            there = merged.setdefault(at, [])
            there += [each for each in names if each not in there]
    yield from merged.items()
