"""A custom part of attention: a pure function in a Python file, whose signature declares its learned arrays.

    def bilinear(query: Float[Array, "q d"], key: Float[Array, "k e"], *, w: Float[Array, "d e"]):
        return query @ w @ key.T

- Its positional arguments are those of its part of attention, for one head of one example: of a score
  (query [q d], key [k e]), of a mod (logits [q k], positions), of a mask (positions), of a normalizer
  (logits [q k], where [q k]).
- A keyword argument annotated as an array is learned, with one array per head; a mask cannot have learned arrays. Its
  axes are numbers, or names with a size in the config's `sizes`, or for a score the last axes in the annotations of
  query and key (d and e without annotations). Its initial value is its default: a number, or an initializer
  (rng, shape) -> array. Without a default, vectors are drawn with variance 1 / n and matrices as by Glorot & Bengio
  2010, and scalars start at 1.
- Any other keyword argument has a default, which the config's `kwargs` may override.
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
    """A learned array of a custom function."""

    name: str
    shape: tuple[int, ...]
    start: Callable[..., Any]
    """Initializer (rng, shape) -> array."""

    def of_heads(self, heads: int) -> Callable[[Array], Array]:
        """Make an initializer of one array per head."""
        return lambda rng: jax.vmap(lambda head_rng: self.start(head_rng, self.shape))(jax.random.split(rng, heads))


@dataclass(frozen=True)
class CustomFunction:
    """A custom function with its config; the source is executed already."""

    config: Custom
    code: Code
    function: Callable[..., Any]

    def learned(self, *widths: int) -> list[Learned]:
        """List the learned arrays.

        Args:
            widths: features of query and key, for a score.
        """
        hints, keywords = self._hints, self._keywords
        sizes = self._sizes(*widths)
        arrays = []
        for name, argument in keywords.items():
            if (axes := _axes(hints.get(name))) is not None:
                shape = tuple(self._size(axis, name, sizes) for axis in axes)
                arrays.append(Learned(name, shape, self._start(argument, shape)))
        return arrays

    @functools.cached_property
    def part(self) -> Callable[..., Any]:
        """The function with its settings bound as Python values, so that it may branch on them under jit.

        It is the same object for equal configs, since jax compiles again for every new function.
        """
        settings = self._settings()

        def part(*arguments: Any, **learned: Any) -> Array:
            return self._checked(arguments, settings | learned)

        part.__name__ = self.config.name
        return part

    def _checked(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the function, and refuse a result that is not [q k] or not of the dtype of its part of attention."""
        match self.config.arguments:
            case ("query", "key"):
                shape = arguments[0].shape[0], arguments[1].shape[0]
            case ("positions",):
                shape = arguments[0].query.size, arguments[0].key.size
            case _:
                shape = arguments[0].shape
        if self.config.arguments[-1] == "where" and arguments[1] is None:
            arguments = arguments[0], jnp.ones(shape, bool)
        result = self.function(*arguments, **named)
        is_mask = isinstance(self.config, CustomMask)
        kind, dtype = ("truth values", jnp.bool_) if is_mask else ("floating-point numbers", jnp.floating)
        if not isinstance(result, Array):
            raise self._error(f"returned {type(result).__name__}, not an array [q k] of {kind}")
        fits = result.shape == shape
        if is_mask:
            fits = result.ndim == 2 and all(n in (1, size) for n, size in zip(result.shape, shape, strict=True))
        if not fits or not jnp.issubdtype(result.dtype, dtype):
            raise self._error(
                f"returned {result.dtype}{list(result.shape)}; expected {kind} [q k] for one head of one example, "
                f"here {list(shape)}"
            )
        return jnp.broadcast_to(result, shape)

    def _settings(self) -> dict[str, Any]:
        """Return the values that the config sets for arguments that are not learned."""
        hints = self._hints
        fixed = [name for name in self._keywords if _axes(hints.get(name)) is None]
        for name in fixed:
            if self._keywords[name].default is inspect.Parameter.empty and name not in self.config.kwargs:
                raise self._error(f"{name} is not annotated as an array, to be learned, and has no default")
        for name in self.config.kwargs:
            if name not in fixed:
                known = f"expected one of {', '.join(fixed)}" if fixed else "the function has no arguments to set"
                raise self._error(f"kwargs.{name}: no such argument; {known}")
        return dict(self.config.kwargs)

    @property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function)
        except Exception as error:
            raise self._error(f"its annotations cannot be read ({error})") from None

    @property
    def _keywords(self) -> dict[str, inspect.Parameter]:
        parameters, names = list(inspect.signature(self.function).parameters.values()), self.config.arguments
        count, listed = len(names), " and ".join(names)
        if any(parameter.kind is not inspect.Parameter.KEYWORD_ONLY for parameter in parameters[count:]):
            raise self._error(f"all arguments after {listed} must be keyword-only: write * before them")
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if len(parameters) < count or any(parameter.kind not in positional for parameter in parameters[:count]):
            raise self._error(f"expected ({', '.join(names)}, *, …)")
        return {parameter.name: parameter for parameter in parameters[count:]}

    def _sizes(self, *widths: int) -> dict[str, int]:
        """Return the sizes of axes by name: those of `widths` and those in the config."""
        named = self._widths(*widths) if widths else {}
        known = {axis for name in self._keywords for axis in _axes(self._hints.get(name)) or ()}
        for name in self.config.sizes:
            if name in named or name not in known:
                raise self._error(f"sizes.{name}: not an axis of a learned array, or one whose size is fixed")
        return named | self.config.sizes

    def _widths(self, query_width: int, key_width: int) -> dict[str, int]:
        query, key = list(inspect.signature(self.function).parameters)[:2]
        names = [(_axes(self._hints.get(name)) or [default])[-1] for name, default in ((query, "d"), (key, "e"))]
        if names[0] == names[1] and query_width != key_width:
            raise self._error(f"{names[0]} is the width of query and key, but these have {query_width} and {key_width}")
        return dict(zip(names, (query_width, key_width), strict=True))

    def _size(self, axis: str, name: str, sizes: dict[str, int]) -> int:
        if axis.isdecimal():
            return int(axis)
        if axis not in sizes:
            raise self._error(f"the axis {axis} of {name} has no size; set {self.config.part}.sizes: {{{axis}: 64}}")
        return sizes[axis]

    def _start(self, argument: inspect.Parameter, shape: tuple[int, ...]) -> Callable[..., Any]:
        default = argument.default
        if default is inspect.Parameter.empty:
            return _drawn(shape)
        if callable(default):
            return self._drawn_by(argument.name, self.code.guarded(default, f"{argument.name}: "))
        if isinstance(default, bool) or not isinstance(default, int | float):
            raise self._error(f"{argument.name} has default {default!r}, not a number or a function (rng, shape)")
        return nn.initializers.constant(default)

    def _drawn_by(self, name: str, initializer: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(rng: Array, shape: tuple[int, ...]) -> Array:
            array = jnp.asarray(initializer(rng, shape))
            if array.shape != shape:
                raise self._error(f"{name} starts with shape {list(array.shape)}, but is annotated as {list(shape)}")
            return array

        return drawn

    def _error(self, message: str) -> UserError:
        return UserError(f"{self.config.function}: {message}")


@functools.lru_cache
def custom_function(config: Custom) -> CustomFunction:
    """Execute the source in the config, once, and return its function."""
    code = Code(config)
    return CustomFunction(config, code, code.function())


def bound(module: nn.Module, config: Custom, *widths: int, heads: int | None = None, prefix: str = "") -> Any:
    """Return the custom function with its learned arrays bound, which become parameters of the module.

    Args:
        module: owns the parameters; must be in a compact method.
        config: config of the custom part.
        widths: features of query and key, for a score.
        heads: number of heads, each with its own arrays; None: one array for all.
        prefix: prefix of the parameters' names.
    """
    function = custom_function(config)
    arrays = {}
    for learned in function.learned(*widths):
        if heads is None:
            arrays[learned.name] = module.param(prefix + learned.name, learned.start, learned.shape)
        else:
            array = module.param(prefix + learned.name, learned.of_heads(heads))
            arrays[learned.name] = array[0] if heads == 1 else map_over(array, "h")
    return Partial(function.part, **arrays)


@functools.partial(register_dataclass, data_fields=[], meta_fields=["part"])
@dataclass(frozen=True, repr=False)
class FromConfig(Mask):
    """A mask computed by a custom function of the positions; no block is known to be empty or full."""

    part: Callable[..., Any]

    def __call__(self, positions: Positions) -> Where:
        return self.part(positions)

    def expression(self) -> str:
        return f"{self.part.__name__}(...)"


def custom_mask(config: Custom) -> Mask:
    """Make the mask of a config's custom function."""
    function = custom_function(config)
    if learned := function.learned():
        raise UserError(f"{config.function}: {learned[0].name} is a learned array, which a mask cannot have")
    return FromConfig(function.part)


def _axes(hint: Any) -> list[str] | None:
    """Return the names of an array's axes in its annotation; None if it is not annotated as an array."""
    shape = getattr(hint, "dim_str", None)
    return None if shape is None else shape.split()


def _drawn(shape: tuple[int, ...]) -> Callable[..., Any]:
    if not shape:
        return nn.initializers.ones
    return nn.initializers.normal(shape[0] ** -0.5) if len(shape) == 1 else nn.initializers.glorot_uniform()
