"""Describe a pydantic validation error in one line: the path of the key, the given value, and what is valid."""

import json
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Place = tuple[str, ...]
_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "finite": "a finite number",
    "string": "a string",
    "bool": "true or false",
    "dict": "a section of name: value",
    "model": "a section",
}


def first_mistake(error: ValidationError, root: type[BaseModel]) -> tuple[Place, str]:
    """Return the place and the message of the first error; unknown keys come first, as they explain missing ones."""
    errors = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    first = errors[0]
    place, section = _follow(root, first["loc"])
    return _message(first, place, section)


def shortened(value: Any) -> str:
    """Return a value as JSON, shortened if it is long."""
    return cut(json.dumps(value, ensure_ascii=False))


def cut(text: str, limit: int = 60) -> str:
    """Shorten text that is too long for a message.

    >>> cut("model.dropout=0.2"), cut("a" * 61, limit=9)
    ('model.dropout=0.2', 'aaaaaa...')
    """
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the config classes that an annotation allows: those of a union, a single class, or none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [model for part in get_args(annotation) for model in models_of(part)]
    return []


def models_of_items(annotation: Any) -> list[type[BaseModel]]:
    """Return the config classes of the entries of a tuple or mapping, as `models_of` does; none for other annotations.

    >>> class Part(BaseModel): pass
    >>> models_of_items(tuple[Part, ...]) == models_of_items(dict[str, Part]) == [Part]
    True
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return models_of_items(arguments[0])
    if origin in (Union, UnionType):
        return [model for part in arguments for model in models_of_items(part)]
    if origin in (tuple, dict):
        return models_of([part for part in arguments if part is not Ellipsis][-1])
    return []


def kind_of(model: type[BaseModel]) -> str | None:
    """Return the `kind` that selects a config class; None for a class without kinds."""
    field = model.model_fields.get("kind")
    return field.default if field else None


def _follow(root: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[Place, type[BaseModel] | None]:
    """Convert pydantic's location, in which kinds are steps, to the path of keys and the class of the last key."""
    place: list[str] = []
    parent: type[BaseModel] | None = None
    choices, items = [root], list[type[BaseModel]]()
    for step in loc:
        if step == "[key]":  # pydantic's step for an invalid key of a mapping
            break
        if items:  # the number or the key of an entry
            place.append(str(step))
            parent, choices, items = None, items, []
            continue
        chosen = {kind_of(model): model for model in choices}
        if len(choices) > 1 and step in chosen:
            choices = [chosen[step]]
            continue
        parent = choices[0] if choices else None
        place.append(str(step))
        field = parent.model_fields.get(str(step)) if parent else None
        choices = models_of(field.annotation) if field else []
        items = models_of_items(field.annotation) if field else []
    return tuple(place), parent


def _message(error: Any, place: Place, parent: type[BaseModel] | None) -> tuple[Place, str]:
    """Return the place and the message of an error.

    Args:
        error: one of pydantic's errors.
        place: path of keys.
        parent: class of the invalid field; None for an entry of a plain mapping and for the whole config.
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
        return place, f"must be {_limits(schema or context)}, got {shortened(given)}"
    if kind == "too_short":
        return place, f"needs at least {context['min_length']}, got {shortened(given)}"
    expected = _EXPECTED.get(kind.split("_")[0], error["msg"])
    return place, f"expected {expected}, got {shortened(given)}"


def _nearest(given: str, names: list[str]) -> str:
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"{hint} valid: {', '.join(names)}"


def _kinds(field: FieldInfo | None) -> list[str]:
    return [kind for model in models_of(field.annotation) if (kind := kind_of(model))] if field else []


def _literals(schema: dict[str, Any]) -> list[str]:
    return [str(value) for value in schema.get("enum", [schema.get("const")])]


def _limits(schema: dict[str, Any]) -> str:
    """Describe the limits in a field's JSON schema, or in pydantic's context for an entry of a mapping."""
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
             "ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # fmt: skip
    limits = {word: schema[key] for key, word in words.items() if key in schema}
    return " and ".join(
        f"{word} {limit if isinstance(limit, int) else format(limit, 'g')}" for word, limit in limits.items()
    )


def _schema_of(parent: type[BaseModel], name: str) -> dict[str, Any]:
    """Return the JSON schema of a field; if null is allowed, that of the other values."""
    schema = parent.model_json_schema()["properties"].get(name, {})
    return schema["anyOf"][0] if "anyOf" in schema else schema


def dotted(place: Place) -> str:
    """Return the path of a key with dots; unprintable parts are escaped.

    >>> dotted(("model", "dropout"))
    'model.dropout'
    """
    return ".".join(name if name.isprintable() else repr(name) for name in map(cut, place))
