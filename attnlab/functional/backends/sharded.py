"""Dividing a call among devices: each computes some of the heads, examples or queries.

`run` divides a call by its `mesh`. Inputs that are sharded already are left to the compiler; so are those of an
Explicit mesh, whose sharding is part of their types (`by_compiler`).
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
    mesh = Mesh(mesh.devices, mesh.axis_names)  # of Auto axes, whatever those of the caller are
    devices = mesh.devices.size
    counts = {"k": sizes.key_heads, "b": sizes.examples, "g": sizes.group, "t": sizes.queries}
    letter = next((letter for letter, count in counts.items() if count % devices == 0), None)
    if letter is None:
        lengths = ", ".join(f"{count} {NAMES[letter]}" for letter, count in counts.items())
        raise ValueError(f"attention: {devices} devices divide none of {lengths}")
    if letter == "t" and heads.query_positions is None:
        heads = replace(heads, query_positions=MappedArray(jnp.arange(sizes.queries, dtype=jnp.int32), ("t",)))
    arrays, axes, structure = flatten_mapped(heads)
    arrays = [jnp.asarray(x) for x in arrays]
    specs = [PartitionSpec(*(axis if own == letter else None for own in front)) for front in axes]

    def run_shard(arrays: list[Any]) -> Results:
        own = [MappedArray(x, front) if front else x for x, front in zip(arrays, axes, strict=True)]
        results = backend.run(replace(call, heads=jax.tree.unflatten(structure, own)))
        if letter == "t":
            results |= {name: jax.lax.psum(x, axis) for name, x in results.items() if name in SUMMED}
        return results

    def spec(name: str) -> PartitionSpec:
        where = {"b": 0, "k": 1, "g": 2, "t": 3}[letter]
        return PartitionSpec() if letter == "t" and name in SUMMED else PartitionSpec(*[None] * where, axis)

    names = [*(extra.name for extra in call.options.returns), *(["output"] if heads.value is not None else [])]
    out_specs = {name: spec(name) for name in names}
    return jax.shard_map(run_shard, mesh=mesh, in_specs=(specs,), out_specs=out_specs, check_vma=False)(arrays)


AXES = {"output": "bthv", "weights": "bhts", "scores": "bhts", "logits": "bhts", "key_mass": "bhs"}
"""The axes of a result, with b for all batch axes; of any other result "bht"."""


def by_compiler(function: Callable[[Operands], Results], operands: Operands, extras: tuple[Extra, ...]) -> Results:
    """Return `function(operands)`; where arrays lie on an Explicit mesh, the compiler divides the computation.

    Results are sharded like the queries along examples, queries and heads, and like keys and values along theirs.
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
    """Return how a result is sharded; no axis of the mesh is used twice, nor for selected rows and heads."""
    query, key = (tuple(jax.typeof(x).sharding.spec) for x in (operands.query, operands.key))
    value = key if operands.value is None else tuple(jax.typeof(operands.value).sharding.spec)
    batch = [next((own for own in three if own), None) for three in zip(query[:-3], key[:-3], value[:-3], strict=True)]
    where = {"t": query[-3], "h": query[-2], "s": key[-3], "v": value[-1]}
    axes = AXES.get(name, "bht")
    divided = [*batch, *(None if selects else where[axis] for axis in axes[1:])]
    used: set[str] = set()
    for at, names in enumerate(divided):
        names = {names} if isinstance(names, str) else set(names or ())
        if names & used:
            divided[at] = None
        used |= names
    return PartitionSpec(*divided)
