"""Parse YAML to plain data: YAML 1.2 scalars, no tags, aliases or duplicate keys; the line of each key is recorded."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from attnlab.config.errors import UserError
from attnlab.config.explain import cut

_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$")
_SCALARS = {  # plain scalars that are not strings (so `no` is a string, and 1e-3 is a number)
    "tag:yaml.org,2002:null": (re.compile(r"~$|null$|Null$|NULL$|$"), ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (re.compile(r"true$|True$|TRUE$|false$|False$|FALSE$"), list("tTfF")),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789")),
    "tag:yaml.org,2002:float": (_FLOAT, list("-+.0123456789")),
}
_PLAIN_TAGS = {*_SCALARS, *(f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes strings which YAML 1.1 or `_Loader` would read as another type."""


def _style(text: str) -> str | None:
    """Return the style of a string: a block for several lines, unless it has U+0085, a line end in a block."""
    return ('"' if "\x85" in text else "|") if "\n" in text else None


for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text)),
)


@dataclass(frozen=True)
class Document:
    """The data of a YAML document, the name of its source (`where`), and the line of each key by its path."""

    data: Any
    lines: dict[tuple[str, ...], int]
    where: str

    def line_of(self, place: tuple[str, ...]) -> str:
        """Return file:line of a key, or of the nearest enclosing section."""
        for end in range(len(place), 0, -1):
            if place[:end] in self.lines:
                return f"{self.where}:{self.lines[place[:end]]}"
        return self.where


def parse(text: str, where: str) -> Document:
    """Parse a YAML document; `where` names its source in a `UserError`."""
    lines: dict[tuple[str, ...], int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise UserError(f"{where}: is empty")
        _check(node, (), lines, where, set())
        return Document(loader.construct_document(node), lines, where)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"{where}:{mark.line + 1}" if mark else where
        raise UserError(f"{at}: not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{where}:{line}: not YAML: character {text[error.position]!r} is not allowed") from None
    except (RecursionError, ValueError):
        raise UserError(f"{where}: not a config: nested too deeply, or a number is too long") from None


def parse_value(text: str, where: str) -> Any:
    """Parse a YAML value, such as the right-hand side of an override."""
    try:
        return parse(text, where).data
    except UserError as error:
        raise UserError(str(error).replace(f"{where}:1:", f"{where}:", 1)) from None


def dump(data: Any) -> str:
    """Return data as YAML; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _check(node: yaml.Node, place: tuple[str, ...], lines: dict, where: str, seen: set[int]) -> None:
    at = f"{where}:{node.start_mark.line + 1}"
    if id(node) in seen:
        raise UserError(f"{at}: an alias (*name) is not allowed; write the value out")
    if node.tag not in _PLAIN_TAGS:
        raise UserError(
            f"{at}: the tag {cut(node.tag.replace('tag:yaml.org,2002:', '!!'))} is not allowed; a config is data"
        )
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= character <= "\udfff" for character in node.value):
        raise UserError(f"{at}: not YAML: a lone surrogate (half a character)")
    if isinstance(node, yaml.ScalarNode) and "\0" in node.value:
        raise UserError(f"{at}: the character NUL is not allowed")
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check(item, (*place, str(index)), lines, where, seen)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _check(key, place, {}, where, seen)
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{where}:{line}: a key must be a word, not a list or a section")
            key.tag = "tag:yaml.org,2002:str"
            path = (*place, key.value)
            if path in lines:
                raise UserError(
                    f"{where}:{line}: {'.'.join(map(cut, path))} is given twice, first on line {lines[path]}"
                )
            lines[path] = line
            _check(value, path, lines, where, seen)
