"""Dividing a call among devices: each gets some of the heads, examples or queries, with what they need.

`attend` divides as the call's `mesh` says. Inputs that are divided already are left to the compiler; those of an
Explicit mesh, whose types say how, as well: `by_compiler`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from attnlab.functional.dense import Options
from attnlab.functional.extras import SUMMED, Extra, TopKeys
from attnlab.functional.inputs import Call, Inputs
from attnlab.functional.parts import Each, marked

NAMES = {"k": "key heads", "b": "examples", "g": "query heads a key head", "t": "queries"}


def attend(
    implementation: Callable[[Inputs, Options], dict[str, Any]], given: Inputs, options: Options, mesh: Mesh
) -> dict[str, Any]:
    """Attend with the key heads, or else the examples, query heads or queries divided among the mesh's devices."""
    if len(mesh.axis_names) != 1:
        raise ValueError(f"attention: a mesh of one axis is needed, not of {len(mesh.axis_names)} ({mesh.axis_names})")
    (axis,) = mesh.axis_names
    mesh = Mesh(mesh.devices, mesh.axis_names)  # of Auto axes, whatever those of the caller are
    devices = mesh.devices.size
    _, queries, key_heads, group, _ = given.query.array.shape
    counts = {"k": key_heads, "b": given.query.array.shape[0], "g": group, "t": queries}
    letter = next((letter for letter, count in counts.items() if count % devices == 0), None)
    if letter is None:
        told = ", ".join(f"{count} {NAMES[letter]}" for letter, count in counts.items())
        raise ValueError(f"attention: {devices} devices divide none of {told}")
    if letter == "t" and given.query_positions is None:
        given = given._replace(query_positions=Each(jnp.arange(queries, dtype=jnp.int32), ("t",)))
    arrays, axes, structure = marked(given)
    arrays = [jnp.asarray(x) for x in arrays]
    specs = [PartitionSpec(*(axis if own == letter else None for own in front)) for front in axes]

    def local(arrays: list[Any]) -> dict[str, Any]:
        own = [Each(x, front) if front else x for x, front in zip(arrays, axes, strict=True)]
        found = implementation(jax.tree.unflatten(structure, own), options)
        if letter == "t":
            found |= {name: jax.lax.psum(x, axis) for name, x in found.items() if name in SUMMED}
        return found

    def spec(name: str) -> PartitionSpec:
        where = {"b": 0, "k": 1, "g": 2, "t": 3}[letter]
        return PartitionSpec() if letter == "t" and name in SUMMED else PartitionSpec(*[None] * where, axis)

    names = [*(extra.name for extra in options.returns), *(["output"] if given.value is not None else [])]
    out_specs = {name: spec(name) for name in names}
    return jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=out_specs, check_vma=False)(arrays)


AXES = {"output": "bthv", "weights": "bhts", "scores": "bhts", "logits": "bhts", "key_mass": "bhs"}
"""Axes of a result, b for all batch axes; of any other "bht"."""


def by_compiler(function: Callable[[Call], dict[str, Any]], call: Call, extras: tuple[Extra, ...]) -> dict[str, Any]:
    """Return `function(call)`; where arrays lie on an Explicit mesh, computed as the compiler divides it.

    The results are divided as the queries are, along examples, queries and heads, and as keys and values along theirs.
    """
    shardings = [jax.typeof(leaf).sharding for leaf in jax.tree.leaves(call)]
    mesh = next((sharding.mesh for sharding in shardings if AxisType.Explicit in sharding.mesh.axis_types), None)
    if mesh is None:
        return function(call)
    names = [(extra.name, extra.chosen) for extra in extras] + [("output", False)] * (call.value is not None)
    results: dict[str, Any] = {name: NamedSharding(mesh, _result_spec(call, name, chosen)) for name, chosen in names}
    if "top_k" in results:
        results["top_k"] = TopKeys(weights=results["top_k"], keys=results["top_k"])
    automatic: Any = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=results)
    with jax.sharding.use_abstract_mesh(mesh):
        return automatic(call)


def _result_spec(call: Call, name: str, chosen: bool) -> PartitionSpec:
    """Return how a result is divided; no axis of the mesh is used twice, nor for chosen rows and heads."""
    query, key = (tuple(jax.typeof(x).sharding.spec) for x in (call.query, call.key))
    value = key if call.value is None else tuple(jax.typeof(call.value).sharding.spec)
    batch = [next((own for own in three if own), None) for three in zip(query[:-3], key[:-3], value[:-3], strict=True)]
    where = {"t": query[-3], "h": query[-2], "s": key[-3], "v": value[-1]}
    axes = AXES.get(name, "bht")
    divided = [*batch, *(None if chosen else where[axis] for axis in axes[1:])]
    used: set[str] = set()
    for at, names in enumerate(divided):
        names = {names} if isinstance(names, str) else set(names or ())
        if names & used:
            divided[at] = None
        used |= names
    return PartitionSpec(*divided)
