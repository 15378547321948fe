"""Axes of a sweep: a setting with several values, from `key=a,b,c` or from a study."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.explain import Place, cut
from attnlab.config.overrides import parse_override
from attnlab.config.yaml_text import parse_value

LONGEST_LABEL = 60
"""Characters of a value in the name of a run; a longer one is cut and gets a hash."""
SECTION_KEYS = ("kind", "function")
"""Keys that determine which other keys a section has; varying one varies the section."""


@dataclass(frozen=True)
class Point:
    """A value of an axis.

    Attributes:
        label: the value in names of runs.
        overrides: texts `key=value`.
    """

    label: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """A setting with its values, or settings that vary together.

    Attributes:
        name: path of the key, or the name of settings that vary together.
        points: the values.
    """

    name: str
    points: tuple[Point, ...]

    @property
    def varied(self) -> list[Place]:
        """The places of a config that may differ between the points."""
        places = (parse_override(text)[0] for point in self.points for text in point.overrides)
        return list(dict.fromkeys(place[:-1] if place[-1] in SECTION_KEYS else place for place in places))


def parse_setting(text: str, is_value: Callable[[str], bool]) -> str | Axis:
    """Return `key=value` as it is, or the axis of `key=a,b,c` or `key=[a, b, c]`.

    Args:
        text: the setting. Commas inside brackets and quotes separate no values.
        is_value: whether a setting is valid as it is; such a list is one value, as in `attnlab train`.

    >>> parse_setting("model.dropout=0.1,0.2", lambda text: False).points[1]
    Point(label='0.2', overrides=('model.dropout=0.2',))
    >>> parse_setting("model.dropout=0.1", lambda text: False)
    'model.dropout=0.1'
    """
    path, equals, value = text.partition("=")
    values = _values(value) if equals else []
    if len(values) < 2:
        place, parsed = parse_override(text)
        if not isinstance(parsed, list) or is_value(text):
            return text
        path, values = ".".join(place), parsed
    return axis_of_values(path.strip(), values)


def axis_of_values(key: str, values: Sequence[Any]) -> Axis:
    """Return the axis of a key and its values.

    Raises:
        UserError: there is no value, or one is given twice.
    """
    return _axis(key, [Point(label_of(value), (f"{key}={value_text(value)}",)) for value in values])


def axis_of_settings(name: str, points: Mapping[str, Mapping[str, Any]]) -> Axis:
    """Return the axis of settings that vary together.

    Args:
        name: name of the axis.
        points: for the label of each point, the values by the paths of their keys.
    """
    return _axis(
        name,
        [
            Point(_file_name(label), tuple(f"{key}={value_text(value)}" for key, value in settings.items()))
            for label, settings in points.items()
        ],
    )


def short_names(axes: Sequence[Axis]) -> list[str]:
    """Return the shortest endings of the names of axes that differ; a final `kind` is left out.

    >>> axes = [axis_of_values(key, [1, 2]) for key in ("model.encoder.hidden", "model.decoder.hidden", "model.a.kind")]
    >>> short_names(axes)
    ['encoder.hidden', 'decoder.hidden', 'a']
    """
    paths = [axis.name.removesuffix(".kind").split(".") for axis in axes]
    lengths = [1] * len(paths)
    while True:
        names = [".".join(path[-length:]) for path, length in zip(paths, lengths, strict=True)]
        repeated = [i for i, name in enumerate(names) if names.count(name) > 1 and lengths[i] < len(paths[i])]
        if not repeated:
            return names
        for i in repeated:
            lengths[i] += 1


def label_of(value: Any) -> str:
    """Return a value as a part of a file name; it depends on the value only, so that more values rename no run.

    >>> label_of(0.2), label_of(None), label_of({"kind": "additive", "hidden": 64}), label_of("a/b")
    ('0.2', 'none', 'additive,hidden=64', 'a_b')
    """
    return _file_name(",".join(_parts(value)))


def value_text(value: Any) -> str:
    """Return a value as the right-hand side of an override.

    >>> value_text("additive"), value_text({"kind": "dot"}), value_text("3"), value_text(None)
    ('additive', '{"kind": "dot"}', '"3"', 'null')
    """
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        if parse_value(value, "value") == value:
            return value
    return json.dumps(value, ensure_ascii=False)


def _axis(name: str, points: Sequence[Point]) -> Axis:
    if not points:
        raise UserError(f"{name}: has no values")
    for place in (parse_override(text)[0] for point in points for text in point.overrides):
        if place in (("seed",), ("name",)):
            hint = "its values are given by --seeds, or `seeds` of a study" if place == ("seed",) else "runs share it"
            raise UserError(f"{name}: cannot vary {place[0]}; {hint}")
    for index, point in enumerate(points):
        for other in points[:index]:
            if point.overrides == other.overrides:
                raise UserError(f"{name}: the value {point.label} is given twice")
            if point.label == other.label:
                raise UserError(
                    f"{name}: two values have the name {point.label} ({cut(other.overrides[0])} and "
                    f"{cut(point.overrides[0])}); give them names of their own in a study"
                )
    return Axis(name, tuple(points))


def _values(text: str) -> list[Any]:
    """Split values at commas outside of brackets and quotes."""
    try:
        values = parse_value(f"[{text}]", "values")
    except UserError:  # such as a comment at the end: a single value
        return []
    return values if isinstance(values, list) else []


def _parts(value: Any, key: str = "") -> list[str]:
    """Return the leaves of a value as `key=value`; those of a `kind` without its key."""
    if isinstance(value, Mapping) and value:
        return [part for name, child in value.items() for part in _parts(child, name)]
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [text if key in ("", *SECTION_KEYS) else f"{key}={text}"]


def _file_name(label: str) -> str:
    name = re.sub(r"[^\w.,=+-]+", "_", label).strip("_. ") or "_"
    if len(name) > LONGEST_LABEL:
        name = f"{name[: LONGEST_LABEL - 9]}-{sha256(label.encode()).hexdigest()[:8]}"
    return name
