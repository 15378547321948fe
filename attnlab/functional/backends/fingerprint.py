"""Fingerprints of parts: parts with equal fingerprints compute the same function, so they share a compiled program.

A user's function may read variables that change between two calls. The values that it reads (its closure, defaults and
globals, and those of the functions that it calls) are therefore part of its fingerprint.
"""

import dis
import sys
import types
from collections.abc import Hashable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

IMPURE = {"random", "secrets", "time", "datetime", "uuid"}
"""Modules of the standard library whose functions return something else in every call."""
TRUSTED = {"attnlab", "jax", "jaxlib", "jaxtyping", "beartype", "numpy", "flax", *sys.stdlib_module_names} - {
    "__main__",
    *IMPURE,
}
"""Packages whose functions, classes and modules do not change while a program runs."""
UNSEEN = {
    "globals", "locals", "vars", "eval", "exec", "compile", "__import__", "import_module", "environ", "getenv", "open",
    "input",
}  # fmt: skip
"""Names by which a function may read values that its code does not name."""
INERT = {
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotate__", "__slots__",
    "__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__", "__match_args__",
    "__hash__", "__repr__", "__eq__", "__orig_bases__", "__parameters__", "__abstractmethods__",
    "__dataclass_params__", "__dataclass_fields__", "__init__", "__replace__",
}  # fmt: skip
"""Attributes of a class that calls of its objects do not read; attributes set by `__init__` belong to the object."""
WRITTEN_IN_C = (
    types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
    types.GetSetDescriptorType, types.MemberDescriptorType,
)  # fmt: skip
"""Types of class attributes that hold no other Python values."""
LARGEST = 2**16
"""The most bytes of an array in a fingerprint; larger arrays would be kept alive by the cache."""


class NoFingerprint(Exception):
    """A value without a fingerprint, since it may change unnoticed."""


def of_structure(structure: Any) -> Hashable:
    """Return the fingerprint of a tree's structure, `jax.tree.structure(...)`: its nodes and their static values.

    >>> same = [jax.tree.structure(jax.tree_util.Partial(lambda x: x + 1)) for _ in range(2)]
    >>> of_structure(same[0]) == of_structure(same[1])
    True
    """
    data = structure.node_data()
    if data is None:
        return structure.num_leaves
    kind, static = data
    return _of(kind, ()), _of(static, ()), tuple(map(of_structure, structure.children()))


def _of(value: Any, seen: tuple[int, ...]) -> Hashable:
    """Return the fingerprint of any value in a structure, or read by a function."""
    if (
        value is None
        or value is Ellipsis
        or type(value) in (bool, int, str, bytes)
        or isinstance(value, np.dtype | CodeType)
    ):
        return type(value), value
    if type(value) in (float, complex) or isinstance(value, np.number | np.bool_):
        return type(value), repr(value)  # 0.0 is not −0.0, and NaN is NaN
    if id(value) in seen:
        return seen.index(id(value))
    within = (*seen, id(value))
    if isinstance(value, tuple | list):
        items = tuple(_of(item, within) for item in value)
        return (type(value), items) if type(value) in (tuple, list) else (items, _of_object(value, within))
    if isinstance(value, dict):
        items = tuple((_of(name, within), _of(item, within)) for name, item in value.items())
        return (dict, items) if type(value) is dict else (items, _of_object(value, within))
    if isinstance(value, jax.Array | np.ndarray):
        return _of_array(value)
    if isinstance(value, WRITTEN_IN_C) or is_trusted(value):
        return value
    if isinstance(value, MethodType):
        return MethodType, _of(value.__func__, within), _of(value.__self__, within)
    if isinstance(value, partial):
        return type(value), _of(value.func, within), _of(value.args, within), _of(value.keywords, within)
    if isinstance(value, FunctionType):
        return _of_function(value, within)
    if isinstance(value, type):
        parts = {name: part for name, part in vars(value).items() if name not in INERT}
        kept = {name: getattr(part, "fget", part) for name, part in parts.items() if not name.startswith("_abc_")}
        return value, _of(kept, within), tuple(_of(base, within) for base in value.__bases__)
    if is_dataclass(value):
        read = tuple(_of(getattr(value, field.name), within) for field in fields(value))
        return read, _of_object(value, within)
    raise NoFingerprint(type(value).__name__)


def _of_object(value: Any, within: tuple[int, ...]) -> Hashable:
    """Return the fingerprint of an object's class and all of its attributes."""
    slots = [getattr(kind, "__slots__", ()) for kind in type(value).__mro__]
    slots = {name for names in slots for name in ([names] if isinstance(names, str) else names)} - {"__weakref__"}
    held = {name: getattr(value, name) for name in sorted(slots) if hasattr(value, name)}
    return _of(type(value), within), _of(held | dict(getattr(value, "__dict__", {})), within)


def is_trusted(value: Any) -> bool:
    """Return whether this is a trusted module, or the function or class that a trusted module defines under its name.

    >>> is_trusted(jax.nn.relu), is_trusted(lambda x: x)
    (True, False)
    """
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0] in TRUSTED and not value.__name__.startswith("numpy.random")
    module = getattr(value, "__module__", None) or ("builtins" if isinstance(value, BuiltinFunctionType) else "")
    resolved: Any = sys.modules.get(module) if module.partition(".")[0] in TRUSTED else None
    for name in getattr(value, "__qualname__", "").split("."):
        resolved = getattr(resolved, name, None)
    return resolved is value


def _of_array(value: Any) -> Hashable:
    if isinstance(value, Tracer) or value.nbytes > LARGEST or value.dtype == object:
        raise NoFingerprint("array")
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    weak = getattr(value, "weak_type", False)
    return type(value), value.shape, str(value.dtype), weak, np.asarray(value).tobytes()


def _of_function(function: FunctionType, within: tuple[int, ...]) -> Hashable:
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a variable without a value yet
        raise NoFingerprint(function.__name__) from None
    names = _names(function.__code__)
    if UNSEEN & names or not all(module.partition(".")[0] in TRUSTED for module in _imports(function.__code__)):
        raise NoFingerprint(function.__name__)
    read = {name: function.__globals__[name] for name in sorted(names & function.__globals__.keys())}
    if "random" in names and any(value is np for value in (*cells, *read.values())):  # np.random
        raise NoFingerprint(function.__name__)
    inputs = cells, function.__defaults__, function.__kwdefaults__, vars(function), read
    return function.__code__, *(_of(part, within) for part in inputs)


def _names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in the code of a function and of its inner functions."""
    return set(code.co_names).union(*(_names(part) for part in code.co_consts if isinstance(part, CodeType)))


def _imports(code: CodeType) -> Iterator[str]:
    """Yield the modules that the code of a function and of its inner functions imports when it runs."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield str(instruction.argval)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _imports(part)
