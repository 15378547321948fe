"""Sharding of a call: each device computes some of the heads, examples or queries.

`run` divides a call by its `mesh`. The compiler handles inputs that are sharded already, also those on an Explicit
mesh, whose sharding is part of their types (`by_compiler`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from attnlab.functional.backends.base import Backend, Results
from attnlab.functional.backends.call import Call, Operands
from attnlab.functional.extras import SUMMED, Extra, TopKeys
from attnlab.functional.parts import MappedArray, flatten_mapped

NAMES = {"k": "key heads", "b": "examples", "g": "query heads per key head", "t": "queries"}


def run(backend: Backend, call: Call) -> Results:
    """Run a call with the key heads, or else the examples, query heads or queries divided among the mesh's devices."""
    mesh, heads, sizes = call.options.mesh, call.heads, call.sizes
    assert mesh is not None
    if len(mesh.axis_names) != 1:
        raise ValueError(f"attention: mesh must have one axis, not {len(mesh.axis_names)}: {mesh.axis_names}")
    (axis,) = mesh.axis_names
    mesh = Mesh(mesh.devices, mesh.axis_names)  # with Auto axes, whatever axes the caller's mesh has
    devices = mesh.devices.size
    counts = {"k": sizes.key_heads, "b": sizes.examples, "g": sizes.group, "t": sizes.queries}
    letter = next((letter for letter, count in counts.items() if count % devices == 0), None)
    if letter is None:
        lengths = ", ".join(f"{count} {NAMES[letter]}" for letter, count in counts.items())
        raise ValueError(f"attention: none of {lengths} is divisible by {devices} devices")
    if letter == "t" and heads.query_positions is None:
        heads = replace(heads, query_positions=MappedArray(jnp.arange(sizes.queries, dtype=jnp.int32), ("t",)))
    arrays, axes, structure = flatten_mapped(heads)
    arrays = [jnp.asarray(x) for x in arrays]
    specs = [PartitionSpec(*(axis if name == letter else None for name in front)) for front in axes]

    def run_shard(arrays: list[Any]) -> Results:
        leaves = [MappedArray(x, front) if front else x for x, front in zip(arrays, axes, strict=True)]
        results = backend.run(replace(call, heads=jax.tree.unflatten(structure, leaves)))
        if letter == "t":
            results |= {name: jax.lax.psum(x, axis) for name, x in results.items() if name in SUMMED}
        return results

    def spec(name: str) -> PartitionSpec:
        index = {"b": 0, "k": 1, "g": 2, "t": 3}[letter]
        return PartitionSpec() if letter == "t" and name in SUMMED else PartitionSpec(*[None] * index, axis)

    names = [*(extra.name for extra in call.options.returns), *(["output"] if heads.value is not None else [])]
    out_specs = {name: spec(name) for name in names}
    return jax.shard_map(run_shard, mesh=mesh, in_specs=(specs,), out_specs=out_specs, check_vma=False)(arrays)


AXES = {"output": "bthv", "weights": "bhts", "scores": "bhts", "logits": "bhts", "key_mass": "bhs"}
"""The axes of results, with b for all batch axes; all other results have "bht"."""


def by_compiler(function: Callable[[Operands], Results], operands: Operands, extras: tuple[Extra, ...]) -> Results:
    """Return `function(operands)`; if arrays lie on an Explicit mesh, the compiler divides the computation.

    Axes of examples, queries and heads are sharded like those of the query, axes of keys and value features like those
    of the keys and values.
    """
    shardings = [jax.typeof(leaf).sharding for leaf in jax.tree.leaves(operands)]
    mesh = next((sharding.mesh for sharding in shardings if AxisType.Explicit in sharding.mesh.axis_types), None)
    if mesh is None:
        return function(operands)
    names = [(extra.name, extra.selects) for extra in extras] + [("output", False)] * (operands.value is not None)
    results: dict[str, Any] = {
        name: NamedSharding(mesh, _result_spec(operands, name, selects)) for name, selects in names
    }
    if "top_k" in results:
        results["top_k"] = TopKeys(weights=results["top_k"], keys=results["top_k"])
    automatic: Any = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=results)
    with jax.sharding.use_abstract_mesh(mesh):
        return automatic(operands)


def _result_spec(operands: Operands, name: str, selects: bool) -> PartitionSpec:
    """Return the sharding of a result; no axis of the mesh is used twice, and selected rows and heads use none."""
    query, key = (tuple(jax.typeof(x).sharding.spec) for x in (operands.query, operands.key))
    value = key if operands.value is None else tuple(jax.typeof(operands.value).sharding.spec)
    fronts = zip(query[:-3], key[:-3], value[:-3], strict=True)
    batch = [next((names for names in front if names), None) for front in fronts]
    others = {"t": query[-3], "h": query[-2], "s": key[-3], "v": value[-1]}
    axes = AXES.get(name, "bht")
    spec = [*batch, *(None if selects else others[axis] for axis in axes[1:])]
    used: set[str] = set()
    for index, names in enumerate(spec):
        names = {names} if isinstance(names, str) else set(names or ())
        if names & used:
            spec[index] = None
        used |= names
    return PartitionSpec(*spec)
