"""Write the pages of `docs/config`: all config keys with type, default and meaning, from the pydantic models.

Run `python docs/reference.py`; a test fails if a page is not up to date.
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
"""Modules of attnlab.config whose classes the page `attention` describes."""
INTRODUCTIONS = {
    "index": """# Config keys

An experiment is a YAML file with the keys on this page. Three of its parts have separate pages:

- [Tasks](tasks.md): the task, its data, its tokenizer and its decoding
- [Models](models.md): the architectures
- [Attention](attention.md): scores, mods, masks and normalizers

`attnlab list settings` prints all kinds, and `attnlab data check CONFIG` checks a config and its data without training.

On the command line a key is a path with dots, and its value is YAML:

    attnlab train experiments/translation/dates_additive.yaml model.encoder.cell=lstm --seed 2 --out runs/lstm

The value of a key with several kinds is a mapping with a `kind`, such as `score: {kind: additive, hidden: 64}`. Unknown
keys and values of a wrong type are errors.
""",
    "tasks": """# Config keys of tasks

The keys under `task:` in a config, with a section for each `kind`. [Your own data](../data.md) describes the files of
each kind of data. Paths are relative to the data directory, which is set by `--data` or `ATTNLAB_DATA`.
""",
    "models": """# Config keys of models

The keys under `model:` in a config, with a section for each `kind`. The keys of a model's [attention](attention.md)
have a separate page.
""",
    "attention": """# Config keys of attention

The keys under `attention:`, `cross_attention:` and `per_layer:` in the config of a model.
[Attention](../attention/index.md) describes the functions of the kinds.
""",
}


@dataclass(frozen=True)
class Group:
    """The config classes that a key allows, which are described under a common heading."""

    key: str
    parent: str
    models: tuple[Model, ...]
    page: str


def allowed_models(annotation: Any) -> tuple[Model, ...]:
    """Return the config classes of a field: those of its value, or of the entries of its list or mapping."""
    entries = [part for part in get_args(annotation) if part is not Ellipsis]
    if get_origin(annotation) in (tuple, dict):
        return tuple(models_of(entries[-1]))
    return tuple(models_of(annotation))


def groups() -> list[Group]:
    """Return the groups of the keys of an experiment, in the order of their first use."""
    groups: dict[tuple[Model, ...], Group] = {(Experiment,): Group("experiment", "", (Experiment,), "index")}

    def visit(model: Model, name: str, page: str) -> None:
        for key, field in model.model_fields.items():
            models = allowed_models(field.annotation)
            if not models or models in groups:
                continue
            home = {"task": "tasks", "model": "models"}.get(key, page)
            home = "attention" if models[0].__module__.rpartition(".")[2] in PARTS else home
            groups[models] = Group(key, name, models, home)
            for inner in models:
                visit(inner, kind_of(inner) or key, home)

    visit(Experiment, "experiment", "index")
    return list(groups.values())


def titles(all_groups: list[Group]) -> dict[tuple[Model, ...], str]:
    """Return the heading of each group: its key, and if several groups have the key, the kind that it belongs to."""
    keys = [group.key for group in all_groups]
    return {
        group.models: f"`{group.key}`" if keys.count(group.key) == 1 else f"`{group.key}` of `{group.parent}`"
        for group in all_groups
    }


def slug(heading: str) -> str:
    """Return the anchor of a heading on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def cell(text: str) -> str:
    """Return text as a cell of a Markdown table."""
    outside = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*<\[])", r"\\\1", part) for part in outside).replace(
        "|", "\\|"
    )


def type_of(schema: dict[str, Any]) -> str:
    """Return the type of a value in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(type_of(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "string", "null": "`null`"}
    if schema.get("type") == "array":
        return f"list of {_plural(type_of(schema['items']))}"
    if schema.get("type") == "object":
        return f"mapping of names to {_plural(type_of(schema['additionalProperties']))}"
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
        "multipleOf": "multiple of",
    }
    limits = [f"{sign} {schema[name]:.10g}" for name, sign in signs.items() if name in schema and schema[name] != 2**32]
    return f"{kind[schema['type']]} {', '.join(limits)}".strip()


def _plural(kind: str) -> str:
    return "strings" if kind == "string" else kind


def default_of(field: FieldInfo) -> str:
    """Return the default of a field as YAML, or "required"."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = without_defaults(value) or "its defaults"
    text = (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
    )
    return text if text == "its defaults" else f"`{text}`"


def without_defaults(value: Any) -> Any:
    """Return a value as data; sections have only their kind and the keys that differ from their defaults."""
    if not isinstance(value, BaseModel):
        return [without_defaults(item) for item in value] if isinstance(value, tuple) else value
    fields = type(value).model_fields
    return {
        name: without_defaults(getattr(value, name))
        for name, field in fields.items()
        if name == "kind" or field.is_required() or getattr(value, name) != field.get_default(call_default_factory=True)
    }


def rows(model: Model, links: dict[tuple[Model, ...], str]) -> Iterator[str]:
    """Yield the lines of the table of a class: key, type, default, meaning."""
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
            raise ValueError(f"{model.__module__}.{model.__name__}.{key} has no description; add a docstring below it")
        yield f"| `{key}` | {kind} | {default_of(field).replace('|', chr(92) + '|')} | {cell(field.description)} |"


def section(group: Group, title: str, links: dict[tuple[Model, ...], str]) -> Iterator[str]:
    """Yield the lines of the section of a group."""
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
    all_groups = groups()
    heading = titles(all_groups)
    lines = {page: [text.strip()] for page, text in INTRODUCTIONS.items()}
    for group in all_groups:
        links = {
            other.models: f"[{heading[other.models]}]"
            f"({'' if other.page == group.page else other.page + '.md'}#{slug(heading[other.models])})"
            for other in all_groups
        }
        lines[group.page] += section(group, heading[group.models], links)
    return {page: "\n".join(text) + "\n" for page, text in lines.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, text in pages().items():
        (FOLDER / f"{page}.md").write_text(text, encoding="utf-8")
