"""A custom part of attention: a pure function in a Python file, whose signature says what it learns.

    def bilinear(query: Float[Array, "q d"], key: Float[Array, "k e"], *, w: Float[Array, "d e"]):
        return query @ w @ key.T

- By position it takes what its part of attention takes, of one head of one example: a score (query [q d], key [k e]),
  a mod (logits [q k], positions), a mask (positions), a normalizer (logits [q k], where [q k]).
- A keyword argument annotated as an array is learned, one array a head; a mask learns nothing. Its axes are numbers, or
  names that the config's `sizes` gives, or for a score the two widths, by which the annotations of query and key name
  their last axes (d and e where there is no annotation). It starts at its default: a number, or an initializer
  (rng, shape) -> array; without one a vector is drawn with variance 1 / n, an array of more axes as Glorot & Bengio
  2010 do, and a lone number starts at 1.
- Any other keyword argument has a default, which the config's `kwargs` may replace.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial, register_dataclass
from jaxtyping import Array

from attnlab.config.custom import Custom, CustomMask
from attnlab.config.errors import UserError
from attnlab.functional.masks import Mask
from attnlab.functional.parts import map_over
from attnlab.functional.types import Positions, Where
from attnlab.layers.code import Code


@dataclass(frozen=True)
class Learned:
    """An array that a function learns."""

    name: str
    shape: tuple[int, ...]
    start: Callable[..., Any]
    """Initializer (rng, shape) -> array."""

    def of_heads(self, heads: int) -> Callable[[Array], Array]:
        """Make an initializer of one array a head."""
        return lambda rng: jax.vmap(lambda one: self.start(one, self.shape))(jax.random.split(rng, heads))


@dataclass(frozen=True)
class CustomFunction:
    """A function with the widths its arguments name."""

    config: Custom
    code: Code
    function: Callable[..., Any]

    def learned(self, *widths: int) -> list[Learned]:
        """List what it learns; a score between queries and keys of these two widths."""
        hints, keywords = self._hints, self._keywords
        sizes = self._sizes(*widths)
        found = []
        for name, argument in keywords.items():
            if (axes := _axes(hints.get(name))) is not None:
                shape = tuple(self._size(axis, name, sizes) for axis in axes)
                found.append(Learned(name, shape, self._start(argument, shape)))
        return found

    @functools.cached_property
    def part(self) -> Callable[..., Any]:
        """The function with its settings, which stay what they are (no array): it may branch on them under jit.

        One object for a config: jax compiles anew for every other.
        """
        settings = self._settings()

        def part(*given: Any, **learned: Any) -> Array:
            return self._checked(given, settings | learned)

        part.__name__ = self.config.name
        return part

    def _checked(self, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the function, and refuse what is not [q k] of the dtype that its part of attention is of."""
        match self.config.arguments:
            case ("query", "key"):
                shape = given[0].shape[0], given[1].shape[0]
            case ("positions",):
                shape = given[0].query.size, given[0].key.size
            case _:
                shape = given[0].shape
        if self.config.arguments[-1] == "where" and given[1] is None:
            given = given[0], jnp.ones(shape, bool)
        answer = self.function(*given, **named)
        is_mask = isinstance(self.config, CustomMask)
        kind, dtype = ("truth values", jnp.bool_) if is_mask else ("floating-point numbers", jnp.floating)
        if not isinstance(answer, Array):
            raise self._wrong(f"answered {type(answer).__name__}, not an array [q k] of {kind}")
        fits = answer.shape == shape
        if is_mask:
            fits = answer.ndim == 2 and all(n in (1, full) for n, full in zip(answer.shape, shape, strict=True))
        if not fits or not jnp.issubdtype(answer.dtype, dtype):
            raise self._wrong(
                f"answered {answer.dtype}{list(answer.shape)}; for one head of one example {kind} [q k] are needed, "
                f"here {list(shape)}"
            )
        return jnp.broadcast_to(answer, shape)

    def _settings(self) -> dict[str, Any]:
        """Values of the arguments that are not learned, where the config gives them."""
        hints = self._hints
        fixed = [name for name in self._keywords if _axes(hints.get(name)) is None]
        for name in fixed:
            if self._keywords[name].default is inspect.Parameter.empty and name not in self.config.kwargs:
                raise self._wrong(f"{name} is neither an array by its annotation, to be learned, nor has it a default")
        for name in self.config.kwargs:
            if name not in fixed:
                raise self._wrong(f"kwargs.{name}: no such argument; there are {', '.join(fixed) or 'none to be set'}")
        return dict(self.config.kwargs)

    @property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function)
        except Exception as error:
            raise self._wrong(f"its annotations cannot be read ({error})") from None

    @property
    def _keywords(self) -> dict[str, inspect.Parameter]:
        given, names = list(inspect.signature(self.function).parameters.values()), self.config.arguments
        count, listed = len(names), " and ".join(names)
        if any(one.kind is not inspect.Parameter.KEYWORD_ONLY for one in given[count:]):
            raise self._wrong(f"after {listed} all arguments are by keyword: write * before them")
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if len(given) < count or any(one.kind not in positional for one in given[:count]):
            raise self._wrong(f"expected ({', '.join(names)}, *, …)")
        return {one.name: one for one in given[count:]}

    def _sizes(self, *widths: int) -> dict[str, int]:
        """Sizes of axes by name: of `widths`, and those that the config gives."""
        named = self._widths(*widths) if widths else {}
        known = {axis for name in self._keywords for axis in _axes(self._hints.get(name)) or ()}
        for name in self.config.sizes:
            if name in named or name not in known:
                raise self._wrong(f"sizes.{name}: no axis of a learned array that is free")
        return named | self.config.sizes

    def _widths(self, query_width: int, key_width: int) -> dict[str, int]:
        query, key = list(inspect.signature(self.function).parameters)[:2]
        names = [(_axes(self._hints.get(name)) or [default])[-1] for name, default in ((query, "d"), (key, "e"))]
        if names[0] == names[1] and query_width != key_width:
            raise self._wrong(f"{names[0]} is the width of query and key, which are {query_width} and {key_width} wide")
        return dict(zip(names, (query_width, key_width), strict=True))

    def _size(self, axis: str, name: str, sizes: dict[str, int]) -> int:
        if axis.isdecimal():
            return int(axis)
        if axis not in sizes:
            raise self._wrong(f"the axis {axis} of {name} has no size; give {self.config.part}.sizes: {{{axis}: 64}}")
        return sizes[axis]

    def _start(self, argument: inspect.Parameter, shape: tuple[int, ...]) -> Callable[..., Any]:
        default = argument.default
        if default is inspect.Parameter.empty:
            return _drawn(shape)
        if callable(default):
            return self._drawn_by(argument.name, self.code.guarded(default, f"{argument.name}: "))
        if isinstance(default, bool) or not isinstance(default, int | float):
            raise self._wrong(f"{argument.name} starts at {default!r}, not at a number or by a function (rng, shape)")
        return nn.initializers.constant(default)

    def _drawn_by(self, name: str, initializer: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(rng: Array, shape: tuple[int, ...]) -> Array:
            array = jnp.asarray(initializer(rng, shape))
            if array.shape != shape:
                raise self._wrong(f"{name} starts with the shape {list(array.shape)}, its annotation is {list(shape)}")
            return array

        return drawn

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.config.function}: {what}")


@functools.lru_cache
def custom_function(config: Custom) -> CustomFunction:
    """Execute the text that the config holds, once, and take its function."""
    code = Code(config)
    return CustomFunction(config, code, code.function())


def bound(module: nn.Module, config: Custom, *widths: int, heads: int | None = None, prefix: str = "") -> Any:
    """Return the function with what it learns, which are parameters of the module.

    Args:
        widths: of query and key, for a score.
        heads: an array for each head; None: one array for all.
        prefix: of the parameters' names.
    """
    function = custom_function(config)
    arrays = {}
    for one in function.learned(*widths):
        if heads is None:
            arrays[one.name] = module.param(prefix + one.name, one.start, one.shape)
        else:
            array = module.param(prefix + one.name, one.of_heads(heads))
            arrays[one.name] = array[0] if heads == 1 else map_over(array, "h")
    return Partial(function.part, **arrays)


@functools.partial(register_dataclass, data_fields=[], meta_fields=["part"])
@dataclass(frozen=True, repr=False)
class FromConfig(Mask):
    """A mask by a custom function of the positions; nothing is known of its blocks."""

    part: Callable[..., Any]

    def __call__(self, positions: Positions) -> Where:
        return self.part(positions)

    def expression(self) -> str:
        return f"{self.part.__name__}(...)"


def custom_mask(config: Custom) -> Mask:
    """Make the mask of a config's custom function."""
    function = custom_function(config)
    if learned := function.learned():
        raise UserError(f"{config.function}: {learned[0].name} is an array, to be learned, and a mask learns nothing")
    return FromConfig(function.part)


def _axes(hint: Any) -> list[str] | None:
    """Names of an array's axes by its annotation; None for what is no array."""
    shape = getattr(hint, "dim_str", None)
    return None if shape is None else shape.split()


def _drawn(shape: tuple[int, ...]) -> Callable[..., Any]:
    if not shape:
        return nn.initializers.ones
    return nn.initializers.normal(shape[0] ** -0.5) if len(shape) == 1 else nn.initializers.glorot_uniform()
