"""Dividing a call among devices: each gets some of the heads, examples or queries, with what they need."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from attnlab.functional.dense import Options
from attnlab.functional.extras import SUMMED
from attnlab.functional.inputs import Inputs
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
