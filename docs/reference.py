"""Write the pages of `docs/config`: every config key with its type, default and meaning, from the pydantic models.

`python docs/reference.py` writes them; a test fails while a page differs from what this writes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from attnlab.config.experiment import Experiment
from attnlab.config.explain import kind_of, models_of

FOLDER = Path(__file__).parent / "config"
Model = type[BaseModel]
PARTS = ("attention", "masks", "normalizers", "custom")
"""Modules of attnlab.config that page `attention` describes, wherever in an experiment their classes are used."""
INTRODUCTIONS = {
    "index": """# Config keys

An experiment is a YAML file with the keys of this page. Three of its parts have pages of their own:

- [Tasks](tasks.md): the task, its data, its tokenizer and its decoding
- [Models](models.md): the architectures
- [Attention](attention.md): scores, mods, masks and normalizers

`attnlab list settings` prints every `kind`, and `attnlab data check CONFIG` reads a config without training.

On the command line a key is written with dots, and its value as YAML:

    attnlab train experiments/translation/dates_additive.yaml model.encoder.cell=lstm --seed 2 --out runs/lstm

A key with several kinds is a mapping that names one of them, such as `score: {kind: additive, hidden: 64}`. Unknown
keys and values of another type are errors.
""",
    "tasks": """# Config keys of tasks

What stands under `task:` in a config, a section for each `kind`. [Your own data](../data.md) shows the files that each
kind of data reads. Paths are relative to the directory that `--data` or `ATTNLAB_DATA` names.
""",
    "models": """# Config keys of models

What stands under `model:` in a config, a section for each `kind`. The keys of a model's [attention](attention.md) have
a page of their own.
""",
    "attention": """# Config keys of attention

What stands under `attention:`, `cross_attention:` and `per_layer:` in a model's config. The functions behind the kinds
are explained in [Attention](../attention/index.md).
""",
}


@dataclass(frozen=True)
class Group:
    """The config classes that one key allows, described together under one heading."""

    key: str
    parent: str
    models: tuple[Model, ...]
    page: str


def allowed_models(annotation: Any) -> tuple[Model, ...]:
    """Return the config classes of a field: of its value, or of the entries of its list or mapping."""
    entries = [part for part in get_args(annotation) if part is not Ellipsis]
    if get_origin(annotation) in (tuple, dict):
        return tuple(models_of(entries[-1]))
    return tuple(models_of(annotation))


def groups() -> list[Group]:
    """Collect the groups of an experiment's keys, each where it is used first."""
    found = {(Experiment,): Group("experiment", "", (Experiment,), "index")}

    def visit(model: Model, name: str, page: str) -> None:
        for key, field in model.model_fields.items():
            models = allowed_models(field.annotation)
            if not models or models in found:
                continue
            home = {"task": "tasks", "model": "models"}.get(key, page)
            home = "attention" if models[0].__module__.rpartition(".")[2] in PARTS else home
            found[models] = Group(key, name, models, home)
            for each in models:
                visit(each, kind_of(each) or key, home)

    visit(Experiment, "experiment", "index")
    return list(found.values())


def titles(every: list[Group]) -> dict[tuple[Model, ...], str]:
    """Return the heading of each group: its key, and the kind that has the key where several differ."""
    keys = [group.key for group in every]
    return {
        group.models: f"`{group.key}`" if keys.count(group.key) == 1 else f"`{group.key}` of `{group.parent}`"
        for group in every
    }


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def cell(text: str) -> str:
    """Write a text in a cell of a Markdown table."""
    outside = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*<\[])", r"\\\1", part) for part in outside).replace(
        "|", "\\|"
    )


def type_of(schema: dict[str, Any]) -> str:
    """Write the type of a value in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(type_of(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "`null`"}
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if schema.get("type") == "object":
        return f"mapping of names to {type_of(schema['additionalProperties'])}"
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
        "multipleOf": "multiple of",
    }
    limits = [f"{sign} {schema[name]:.10g}" for name, sign in signs.items() if name in schema and schema[name] != 2**32]
    return f"{kind[schema['type']]} {', '.join(limits)}".strip()


def default_of(field: FieldInfo) -> str:
    """Write the default of a field as YAML; "required" where the key must be given."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = written(value) or "its defaults"
    text = (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
    )
    return text if text == "its defaults" else f"`{text}`"


def written(value: Any) -> Any:
    """Return a value as a config would write it: of a section its kind, and what differs from the defaults."""
    if not isinstance(value, BaseModel):
        return [written(each) for each in value] if isinstance(value, tuple) else value
    fields = type(value).model_fields
    return {
        name: written(getattr(value, name))
        for name, field in fields.items()
        if name == "kind" or field.is_required() or getattr(value, name) != field.get_default(call_default_factory=True)
    }


def rows(model: Model, links: dict[tuple[Model, ...], str]) -> Iterator[str]:
    """Write the table of a class: key, type, default, meaning."""
    schema = model.model_json_schema()
    properties = schema.get("$defs", {}).get(model.__name__, schema).get("properties", {})
    keys = {key: field for key, field in model.model_fields.items() if key != "kind"}
    if keys:
        yield from ("", "| key | type | default | meaning |", "|---|---|---|---|")
    for key, field in keys.items():
        models = allowed_models(field.annotation)
        kind = links[models] if models else type_of(properties[key])
        kind = f"list of {kind}" if models and get_origin(field.annotation) is tuple else kind
        kind = f"mapping of layer numbers to {kind}" if models and get_origin(field.annotation) is dict else kind
        kind = f"{kind} or `null`" if models and type(None) in get_args(field.annotation) else kind
        if not field.description:
            raise ValueError(f"{model.__module__}.{model.__name__}.{key} has no meaning; write a docstring below it")
        yield f"| `{key}` | {kind} | {default_of(field).replace('|', chr(92) + '|')} | {cell(field.description)} |"


def section(group: Group, title: str, links: dict[tuple[Model, ...], str]) -> Iterator[str]:
    """Write the section of a group."""
    if len(group.models) == 1 and not kind_of(group.models[0]):
        (model,) = group.models
        yield from ("", f"## {title}", "", cell(model.__doc__ or ""), *rows(model, links))
        return
    yield from ("", f"## {title}", "")
    yield (
        "Kinds: "
        + ", ".join(f"[`{kind_of(model)}`](#{slug(f'{title}: `{kind_of(model)}`')})" for model in group.models)
        + "."
    )
    for model in group.models:
        yield from ("", f"### {title}: `{kind_of(model)}`", "", cell(model.__doc__ or ""), *rows(model, links))


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    every = groups()
    heading = titles(every)
    written = {page: [text.strip()] for page, text in INTRODUCTIONS.items()}
    for group in every:
        links = {
            other.models: f"[{heading[other.models]}]"
            f"({'' if other.page == group.page else other.page + '.md'}#{slug(heading[other.models])})"
            for other in every
        }
        written[group.page] += section(group, heading[group.models], links)
    return {page: "\n".join(lines) + "\n" for page, lines in written.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, text in pages().items():
        (FOLDER / f"{page}.md").write_text(text, encoding="utf-8")
