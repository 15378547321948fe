"""A custom score: a pure function in a Python file, whose signature says what it learns.

    def bilinear(query: Float[Array, "q d"], key: Float[Array, "k e"], *, w: Float[Array, "d e"]):
        return query @ w @ key.T

- `query` and `key` are one head of one example; the last axes of their annotations name the two widths (d and e where
  there is no annotation).
- A keyword argument annotated as an array is learned, one array a head. Its axes are those two, numbers, or names that
  the config's `sizes` gives. It starts at its default: a number, or an initializer (rng, shape) -> array; without one a
  vector is drawn with variance 1 / n, an array of more axes as Glorot & Bengio 2010 do, and a lone number starts at 1.
- Any other keyword argument has a default, which the config's `settings` may replace.
"""

import inspect
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, get_type_hints

from flax import linen as nn

from attnlab.config.attention import CustomScore
from attnlab.config.errors import UserError


@dataclass(frozen=True)
class Learned:
    """An array that a score learns."""

    name: str
    shape: tuple[int, ...]
    start: Callable[..., Any]
    """Initializer (rng, shape) -> array."""


@dataclass(frozen=True)
class CustomFunction:
    """A function with the widths its arguments name."""

    config: CustomScore
    function: Callable[..., Any]

    def learned(self, query_width: int, key_width: int) -> list[Learned]:
        """List what it learns between queries and keys of these widths."""
        hints, keywords = self._hints, self._keywords
        widths = self._widths(query_width, key_width)
        found = []
        for name, argument in keywords.items():
            if (axes := _axes(hints.get(name))) is not None:
                shape = tuple(self._size(axis, name, widths) for axis in axes)
                found.append(Learned(name, shape, _start(argument.default, shape)))
        return found

    @cached_property
    def part(self) -> Callable[..., Any]:
        """The function with its settings, which stay what they are (no array): it may branch on them under jit.

        One object for a config: jax compiles anew for every other.
        """
        return partial(self.function, **self._settings())

    def _settings(self) -> dict[str, Any]:
        """Values of the arguments that are not learned, where the config gives them."""
        hints = self._hints
        fixed = [name for name in self._keywords if _axes(hints.get(name)) is None]
        for name in fixed:
            if self._keywords[name].default is inspect.Parameter.empty and name not in self.config.settings:
                raise self._wrong(f"{name} is neither an array by its annotation, to be learned, nor has it a default")
        for name in self.config.settings:
            if name not in fixed:
                raise self._wrong(
                    f"settings.{name}: no such argument; there are {', '.join(fixed) or 'none to be set'}"
                )
        return dict(self.config.settings)

    @property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function)
        except Exception as error:
            raise self._wrong(f"its annotations cannot be read ({error})") from None

    @property
    def _keywords(self) -> dict[str, inspect.Parameter]:
        given = list(inspect.signature(self.function).parameters.values())
        kinds = [one.kind for one in given]
        if len(given) < 2 or inspect.Parameter.KEYWORD_ONLY in kinds[:2]:
            raise self._wrong("expected (query, key, *, …)")
        if any(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds[2:]):
            raise self._wrong("after query and key all arguments are by keyword: write * before them")
        return {one.name: one for one in given[2:]}

    def _widths(self, query_width: int, key_width: int) -> dict[str, int]:
        query, key = list(inspect.signature(self.function).parameters)[:2]
        names = [(_axes(self._hints.get(name)) or [default])[-1] for name, default in ((query, "d"), (key, "e"))]
        if names[0] == names[1] and query_width != key_width:
            raise self._wrong(f"{names[0]} is the width of query and key, which are {query_width} and {key_width} wide")
        widths = dict(zip(names, (query_width, key_width), strict=True))
        known = {axis for name in self._keywords for axis in _axes(self._hints.get(name)) or ()}
        for name in self.config.sizes:
            if name in widths or name not in known:
                raise self._wrong(f"sizes.{name}: no axis of a learned array that is free")
        return widths | self.config.sizes

    def _size(self, axis: str, name: str, sizes: dict[str, int]) -> int:
        if axis.isdecimal():
            return int(axis)
        if axis not in sizes:
            raise self._wrong(f"the axis {axis} of {name} has no size; give score.sizes: {{{axis}: 64}}")
        return sizes[axis]

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.config.function}: {what}")


@lru_cache
def custom_function(config: CustomScore) -> CustomFunction:
    """Execute the text that the config holds, once, and take its function."""
    where = f"<{config.file}, as the run keeps it>"
    linecache.cache[where] = (len(config.source), None, config.source.splitlines(keepends=True), where)
    names: dict[str, Any] = {"__name__": config.file.rpartition("/")[2].removesuffix(".py")}
    try:
        exec(compile(config.source, where, "exec"), names)
    except Exception as error:
        raise UserError(f"{config.file}: cannot be executed: {type(error).__name__}: {error}") from error
    return CustomFunction(config, names[config.name])


def _axes(hint: Any) -> list[str] | None:
    """Names of an array's axes by its annotation; None for what is no array."""
    shape = getattr(hint, "dim_str", None)
    return None if shape is None else shape.split()


def _start(default: Any, shape: tuple[int, ...]) -> Callable[..., Any]:
    if default is not inspect.Parameter.empty:
        return default if callable(default) else nn.initializers.constant(default)
    if not shape:
        return nn.initializers.ones
    return nn.initializers.normal(shape[0] ** -0.5) if len(shape) == 1 else nn.initializers.glorot_uniform()
