"""A part of attention that is a function in a Python file, with the text of the file, which a run keeps."""

import ast
import json
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, PositiveInt, model_validator

from attnlab.config.base import Config


def _file_and_name(given: str) -> str:
    file, _, name = given.rpartition(":")
    if not (file.endswith(".py") and name.isidentifier()):
        raise ValueError(f"{given!r} is not FILE.py:NAME, such as scores.py:bilinear")
    return given


def _numbers_or_truths(settings: Any) -> Any:
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if not isinstance(value, bool | int | float):
            raise ValueError(f"{name}: expected a number, true or false, given {json.dumps(value)}")
    return settings


class Custom(Config):
    """A pure function of one head of one example in a Python file.

    Its signature says what it learns and what can be set (see `layers.custom`). The run keeps the text of the file and
    of the modules beside it, so training, evaluation and `attnlab.load` of a run execute that text."""

    arguments: ClassVar[tuple[str, ...]]
    """What the function takes by position."""
    part: ClassVar[str]
    """The key of an attention's config where it stands."""

    kind: Literal["custom"] = "custom"
    function: Annotated[str, AfterValidator(_file_and_name)]
    """FILE.py:NAME, the file beside the config's or in the working directory."""
    sizes: dict[str, PositiveInt] = {}
    """Of axes of learned arrays that are not those of query and key: name -> size."""
    kwargs: Annotated[dict[str, bool | int | float], BeforeValidator(_numbers_or_truths)] = {}
    """Values for arguments that have a default."""
    source: str
    """The file's text; left out in a config that is written by hand."""
    modules: dict[str, str] = {}
    """The text of each module in the file's folder that the file imports, by the module's name; likewise."""

    @property
    def file(self) -> str:
        """The file's path."""
        return self.function.rpartition(":")[0]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.rpartition(":")[2]

    @property
    def sha256(self) -> str:
        """Fingerprint of all the text that is executed."""
        return sha256(json.dumps([self.source, sorted(self.modules.items())]).encode()).hexdigest()

    @model_validator(mode="after")
    def _defines_the_function(self) -> Self:
        for name, text in self.modules.items():
            _parsed(text, f"{name}.py")
        tree = _parsed(self.source, self.file)
        defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if self.name not in defined:
            near = get_close_matches(self.name, defined, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; it defines {', '.join(defined) or 'none'}"
            raise ValueError(f"{self.file}: no function {self.name}{hint}")
        return self

    def tiny(self) -> Self:
        """Shrink what it learns."""
        return self.replace(sizes={name: min(size, 16) for name, size in self.sizes.items()})

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class CustomScore(Custom):
    """logits by a custom function: f(query [q d], key [k e], *, …) -> [q k]."""

    arguments = ("query", "key")
    part = "score"


class CustomMod(Custom):
    """logits ← a custom function of them: f(logits [q k], positions, *, …) -> [q k]."""

    arguments = ("logits", "positions")
    part = "mods"


class CustomMask(Custom):
    """Keys by a custom function: f(positions, *, …) -> bool [q k], True for may attend; it learns nothing."""

    arguments = ("positions",)
    part = "mask"


class CustomNormalizer(Custom):
    """weights by a custom function: f(logits [q k], where bool [q k], *, …) -> [q k]."""

    arguments = ("logits", "where")
    part = "normalizer"


def custom_parts(config: Any) -> Iterator[Custom]:
    """Go through the custom parts that stand anywhere in a config.

    >>> score = CustomScore(function="mine.py:dot", source="def dot(query, key): return query @ key.T")
    >>> [part.name for part in custom_parts([{"score": score}])]
    ['dot']
    """
    if isinstance(config, Custom):
        yield config
        return
    if isinstance(config, BaseModel):
        config = [getattr(config, name) for name in type(config).model_fields]
    if isinstance(config, dict):
        config = list(config.values())
    for inside in config if isinstance(config, list | tuple) else ():
        yield from custom_parts(inside)


def imported(source: str) -> list[str]:
    """List the modules that a Python text imports by one word; none where it is not Python.

    >>> imported("import shapes, jax.numpy as jnp\\nfrom more import f")
    ['more', 'shapes']
    """
    try:
        nodes = list(ast.walk(_parsed(source, "")))
    except ValueError:
        return []
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return sorted(name for name in names if name.isidentifier())


def _parsed(source: str, file: str) -> ast.Module:
    """Parse a text, and see that it compiles; nothing of it is executed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # they are given when the text is executed
            tree = ast.parse(source)
            compile(tree, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise ValueError(f"{file}{line}: not Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file}: not Python: {error or 'nested too deeply'}") from None
    return tree
