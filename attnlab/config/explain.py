"""Describe a validation error of pydantic in one line: the path of the key, what was given, what would be right."""

import json
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Place = tuple[str, ...]
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "text",
    "bool": "true or false",
    "dict": "a section of name: value",
    "model": "a section",
}


def first_mistake(error: ValidationError, root: type[BaseModel]) -> tuple[Place, str]:
    """Return the place and the message of the error to report (an unknown key often explains a missing one)."""
    errors = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    first = errors[0]
    place, section = _follow(root, first["loc"])
    return _message(first, place, section)


def shortened(value: Any) -> str:
    """Show a given value as it would be written, cut when long."""
    return cut(json.dumps(value, ensure_ascii=False))


def cut(text: str, most: int = 60) -> str:
    """Shorten a text that is too long for a message.

    >>> cut("model.dropout=0.2"), cut("a" * 61, most=9)
    ('model.dropout=0.2', 'aaaaaa...')
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """List the config classes that an annotation allows (a union by `kind`, one, or none)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [model for part in get_args(annotation) for model in models_of(part)]
    return []


def kind_of(model: type[BaseModel]) -> str | None:
    """Say the `kind` by which a config class is chosen; None for a class without kinds."""
    field = model.model_fields.get("kind")
    return field.default if field else None


def _follow(root: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[Place, type[BaseModel] | None]:
    """Convert pydantic's location, in which a kind is a step, to the path of keys and the class of the last key."""
    place: list[str] = []
    parent: type[BaseModel] | None = None
    choices = [root]
    for step in loc:
        if step == "[key]":  # pydantic's way to say that the name itself is wrong
            break
        chosen = {kind_of(model): model for model in choices}
        if len(choices) > 1 and step in chosen:
            choices = [chosen[step]]
            continue
        parent = choices[0] if choices else None
        place.append(str(step))
        field = parent.model_fields.get(str(step)) if parent else None
        choices = models_of(field.annotation) if field else []
    return tuple(place), parent


def _message(error: Any, place: Place, parent: type[BaseModel] | None) -> tuple[Place, str]:
    """Return the place and the message of an error.

    Args:
        error: one of pydantic's errors.
        place: path of keys.
        parent: class of the field that is wrong; None for an entry of a plain mapping, or for the whole config.
    """
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    fields = parent.model_fields if parent else {}
    field = fields.get(place[-1]) if place else None
    if kind == "extra_forbidden":
        return place, f"unknown key{_nearest(place[-1], list(fields))}"
    if kind == "missing":
        return place, "is missing"
    if kind == "value_error":
        return place, str(context["error"])
    if kind == "union_tag_not_found":
        return (*place, "kind"), f"is missing; one of {', '.join(_kinds(field))}"
    if kind == "union_tag_invalid":
        return (*place, "kind"), f"unknown kind {shortened(context['tag'])}{_nearest(context['tag'], _kinds(field))}"
    schema = _schema_of(parent, place[-1]) if parent and field else {}
    if kind == "literal_error":
        return place, f"unknown value {shortened(given)}{_nearest(str(given), _literals(schema))}"
    if kind.startswith(("greater_than", "less_than")):
        return place, f"must be {_limits(schema or context)}, given {shortened(given)}"
    if kind == "too_short":
        return place, f"needs at least {context['min_length']}, given {shortened(given)}"
    expected = _EXPECTED.get(kind.split("_")[0], error["msg"])
    return place, f"expected {expected}, given {shortened(given)}"


def _nearest(given: str, names: list[str]) -> str:
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"{hint} valid: {', '.join(names)}"


def _kinds(field: FieldInfo | None) -> list[str]:
    return [kind for model in models_of(field.annotation) if (kind := kind_of(model))] if field else []


def _literals(schema: dict[str, Any]) -> list[str]:
    return [str(value) for value in schema.get("enum", [schema.get("const")])]


def _limits(schema: dict[str, Any]) -> str:
    """In words, of a field's schema, or what pydantic says of one entry of a mapping."""
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
             "ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # fmt: skip
    limits = {said: schema[key] for key, said in words.items() if key in schema}
    return " and ".join(
        f"{said} {limit if isinstance(limit, int) else format(limit, 'g')}" for said, limit in limits.items()
    )


def _schema_of(parent: type[BaseModel], name: str) -> dict[str, Any]:
    """JSON schema of one field; of its value when null is allowed too."""
    schema = parent.model_json_schema()["properties"].get(name, {})
    return schema["anyOf"][0] if "anyOf" in schema else schema


def dotted(place: Place) -> str:
    """Write the path of a key with dots; parts that cannot be printed are escaped.

    >>> dotted(("model", "dropout"))
    'model.dropout'
    """
    return ".".join(name if name.isprintable() else repr(name) for name in map(cut, place))
