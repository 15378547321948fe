"""Checks of annotations by beartype that are made once for a function inside of another.

jaxtyping decorates such a function each time that it is defined, that is at every call of the outer one, and makes its
annotations anew. What it has checked is a function without a body, which depends on its signature alone.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

_made: dict[Any, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `beartype(function)`, or what it returned for a function of this place and signature."""
    if "<locals>" not in function.__qualname__:
        return beartype(function)
    annotations = tuple((name, _comparable(annotation)) for name, annotation in function.__annotations__.items())
    key = function.__module__, function.__qualname__, function.__code__, annotations
    if key not in _made:
        _made[key] = beartype(function)
    return _made[key]


def _comparable(annotation: Any) -> Any:
    """Return a class as it is, and what jaxtyping makes anew for the same shape as its text."""
    return annotation if isinstance(annotation, type) and annotation.__module__ != "jaxtyping" else repr(annotation)
