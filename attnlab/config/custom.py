"""Configs of custom parts of attention: a function in a Python file, with the source that a run keeps."""

import ast
import json
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, PositiveInt, model_validator

from attnlab.config.base import Config


def _file_and_name(function: str) -> str:
    file, _, name = function.rpartition(":")
    if not (file.endswith(".py") and name.isidentifier()):
        raise ValueError(f"{function!r} is not FILE.py:NAME, such as scores.py:bilinear")
    return function


def _numbers_or_booleans(settings: Any) -> Any:
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if not isinstance(value, bool | int | float):
            raise ValueError(f"{name}: expected a number, true or false, got {json.dumps(value)}")
    return settings


class Custom(Config):
    """A pure function of one head of one example in a Python file.

    Its signature defines its learned arrays and its settings (see `layers.custom`). The run keeps the source of the
    file and of the modules beside it, and training, evaluation and `attnlab.load` execute that source."""

    arguments: ClassVar[tuple[str, ...]]
    """Names of the function's positional arguments."""
    part: ClassVar[str]
    """The key of this part in an attention config."""

    kind: Literal["custom"] = "custom"
    function: Annotated[str, AfterValidator(_file_and_name)]
    """FILE.py:NAME, where the file is in the folder of the config or in the working directory."""
    sizes: dict[str, PositiveInt] = {}
    """Sizes of the axes of learned arrays, by name, except those of query and key."""
    kwargs: Annotated[dict[str, bool | int | float], BeforeValidator(_numbers_or_booleans)] = {}
    """Values of keyword arguments that have a default."""
    source: str
    """Source of the file. Filled in when the config is read, so leave it out in a config written by hand."""
    modules: dict[str, str] = {}
    """Source of each module that the file imports from its own folder, by name. Filled in like `source`."""

    @property
    def file(self) -> str:
        """Return the path of the file."""
        return self.function.rpartition(":")[0]

    @property
    def name(self) -> str:
        """Return the name of the function."""
        return self.function.rpartition(":")[2]

    @property
    def sha256(self) -> str:
        """Return the fingerprint of all source that is executed."""
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
        """Shrink the learned arrays."""
        return self.replace(sizes={name: min(size, 16) for name, size in self.sizes.items()})

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class CustomScore(Custom):
    """logits computed by a custom function: f(query [q d], key [k e], *, …) -> [q k]."""

    arguments = ("query", "key")
    part = "score"
    equal_widths: ClassVar[bool] = False
    rotation_invariant: ClassVar[bool] = False


class CustomMod(Custom):
    """logits changed by a custom function: f(logits [q k], positions, *, …) -> [q k]."""

    arguments = ("logits", "positions")
    part = "mods"


class CustomMask(Custom):
    """Mask computed by a custom function without learned arrays: f(positions, *, …) -> bool [q k], True = may
    attend."""

    arguments = ("positions",)
    part = "mask"


class CustomNormalizer(Custom):
    """weights computed by a custom function: f(logits [q k], where bool [q k], *, …) -> [q k]."""

    arguments = ("logits", "where")
    part = "normalizer"


def custom_parts(config: Any) -> Iterator[Custom]:
    """Yield all custom parts of a config.

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
    for value in config if isinstance(config, list | tuple) else ():
        yield from custom_parts(value)


def imported(source: str) -> list[str]:
    """Return the top-level modules that Python source imports; empty if it is not valid Python.

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
    """Parse and compile source without executing it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # execution shows them
            tree = ast.parse(source)
            compile(tree, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise ValueError(f"{file}{line}: not Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file}: not Python: {error or 'nested too deeply'}") from None
    return tree
