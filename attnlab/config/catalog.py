"""What there is to choose from: experiments and runs at hand, and the kinds and named choices of every setting."""

import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.explain import kind_of, models_of

FOLDER = Path("experiments")
"""Where the paths of experiments begin: in the current directory, or what comes with attnlab."""
FIRST = FOLDER / "translation/dates_additive.yaml"
"""What a newcomer trains: seconds, and no data."""
FEW = 4
"""Runs that are named to someone who named none."""
Setting = tuple[str, list[str]]
"""A dotted name, and what may stand there."""


def experiments() -> Iterator[tuple[Path, str]]:
    """List the experiments of the current directory and those that come with attnlab: path and card's first line.

    All paths begin with `experiments/`; `known` finds the file.
    """
    found = {FOLDER / path.relative_to(folder) for folder in (_embedded(), FOLDER) for path in folder.rglob("*.yaml")}
    for path in sorted(found):
        first = known(path).read_text(encoding="utf-8").partition("\n")[0]
        yield path, first.removeprefix("#").strip() if first.startswith("#") else ""


def _embedded() -> Path:
    """The folder of the experiments that come with attnlab: inside it, or in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


def known(config: Path) -> Path:
    """Return the file of a config: the path itself, or where there is none, what comes with attnlab under that path.

    Where there is neither, but experiments of this name, say which.
    """
    if config.exists():
        return config
    if config.parts[:1] == FOLDER.parts and (embedded := _embedded().joinpath(*config.parts[1:])).is_file():
        return embedded
    named = [str(path) for path, _ in experiments() if path.stem == config.name.removesuffix(".yaml")]
    if named:
        raise UserError(f"{config}: no such file; did you mean {' or '.join(named)}?")
    return config


def listed(topics: Sequence[str]) -> Iterator[str]:
    """Write what there is, in lines.

    Args:
        topics: names of folders of experiments, "settings" or "all"; none is a summary.
    """
    folders: dict[str, list[tuple[Path, str]]] = {}
    for path, question in experiments():
        folders.setdefault("/".join(path.parent.parts[1:]) or ".", []).append((path, question))
    choice = [*folders, "settings", "all"]
    for topic in topics:
        if topic not in choice:
            near = get_close_matches(topic, choice, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"list {topic}: no such topic; {hint}there are {', '.join(choice)}")
    if not topics:
        yield from _summary(folders)
    chosen = choice if "all" in topics else topics
    for name in (name for name in folders if name in chosen):
        yield f"Experiments of {name} (attnlab train FILE):"
        for path, question in folders[name]:
            yield from (f"  {path}", f"      {question}")
        yield ""
    if "settings" in chosen:
        yield from _settings_listed()


def _summary(folders: Mapping[str, Sequence[tuple[Path, str]]]) -> Iterator[str]:
    yield f"{sum(map(len, folders.values()))} experiments, each trained by attnlab train FILE:"
    width = max(map(len, folders), default=0)
    for name, found in folders.items():
        yield f"  {name:<{width}}  {len(found):>3}  {', '.join(_beginnings([path.stem for path, _ in found]))}"
    yield ""
    yield f"To begin with: attnlab train {FIRST}"
    yield f"attnlab list {next(iter(folders), 'NAME'):<12} what the experiments of a folder ask (any name above)"
    yield "attnlab list settings     what every setting can be, by task"
    yield "attnlab list all          all of it"


def _beginnings(names: Sequence[str]) -> list[str]:
    """What names begin with: their first word, and the second where all have the same.

    >>> _beginnings(["easy_vqa_concat", "easy_vqa_image_only", "scenes_cross_attention"])
    ['easy_vqa', 'scenes']
    """
    found = []
    for first, group in groupby(sorted(name.split("_") for name in names), key=lambda words: words[0]):
        alike = list(group)
        seconds = {word for words in alike for word in words[1:2]}
        found.append("_".join((first, *seconds)) if len(seconds) == 1 < len(alike) else first)
    return found


def _settings_listed() -> Iterator[str]:
    yield "Settings that are chosen by name (attnlab train FILE key=value):"
    for heading, settings in choices():
        yield from ("", f"  {heading}")
        width = max(len(key) for key, _ in settings)
        yield from (f"    {key:<{width}}  {', '.join(names)}" for key, names in settings)


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

    >>> dict(dict(choices())["task.kind=story_qa"])["model.kind"]
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
