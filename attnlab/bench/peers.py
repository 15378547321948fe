"""The implementations in JAX, each a small function: (arrays of the case) -> output [b t h d]."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from attnlab.bench.cases import MOST_WRITTEN, SOFT_CAP, WINDOW, Case, Peer
from attnlab.bench.memory import available_bytes, peak_bytes
from attnlab.bench.ready import Ready, Refusal

Arrays = dict[str, Array]
Forward = Callable[[Arrays], Any]


def ours(case: Case, implementation: str | None, mesh: Mesh | None, block: str = "") -> Forward:
    """attnlab's own attention by one implementation, or by the one it chooses (None), in blocks like "512x256"."""
    from attnlab.functional.attention import attention

    options = _options(case, implementation, mesh)
    if block:
        queries, keys = map(int, block.split("x"))
        options["block_size"] = queries, keys

    def forward(arrays: Arrays) -> Any:
        return attention(arrays["query"], arrays["key"], arrays["value"], **_score(case, arrays), **options)

    return forward


def chosen(case: Case, implementation: str | None, mesh: Mesh | None, arrays: Arrays) -> str:
    """Tell which implementation and which blocks `ours` works with."""
    from attnlab.functional.attention import plan

    options = _score(case, arrays) | _options(case, implementation, mesh)
    found = plan(arrays["query"], arrays["key"], arrays["value"], **options)
    if found.block_size is None:
        return found.implementation
    return f"{found.implementation}, blocks of {found.block_size[0]} × {found.block_size[1]}"


def jax_nn(case: Case, implementation: str | None) -> Forward:
    """`jax.nn.dot_product_attention`: its own causal and window masks; ALiBi as a bias."""
    _dot_products_alone(case, "jax.nn.dot_product_attention")
    options: dict[str, Any] = {"implementation": implementation, "is_causal": case.variant in ("causal", "alibi")}
    if case.variant == "window":
        options["local_window_size"] = (WINDOW - 1, 0)
        options["is_causal"] = implementation == "cudnn"  # it has windows of what came before alone

    def forward(arrays: Arrays) -> Array:
        bias = _alibi(case) if case.variant == "alibi" else None
        return jax.nn.dot_product_attention(arrays["query"], arrays["key"], arrays["value"], bias, **options)

    return forward


def flax(case: Case) -> Forward:
    """`flax.linen.dot_product_attention`: masks written out, ALiBi as a bias."""
    _dot_products_alone(case, "flax.linen.dot_product_attention")

    def forward(arrays: Arrays) -> Array:
        bias = _alibi(case) if case.variant == "alibi" else None
        mask = None if case.variant == "full" else _allowed(case)[None, None]
        return linen.dot_product_attention(arrays["query"], arrays["key"], arrays["value"], bias, mask)

    return forward


def prepare(peer: Peer, case: Case, inputs: dict[str, np.ndarray], check_cotangent: np.ndarray) -> Ready:
    """Compile a case for a peer and put its inputs where they are needed.

    On several devices the inputs stand where a head-parallel program has them: split by heads. Heads that cannot be
    split evenly stand on every device.
    """
    if len(jax.devices()) < peer.devices:
        raise Refusal(f"{peer.devices} devices are asked for, jax has {len(jax.devices())}")
    if jax.default_backend() != "cpu":
        _refuse_too_much(peer, case)
    mesh = None
    if peer.devices > 1:
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((peer.devices,), ("heads",), axis_types=auto)
    forward = _forward(peer, case, mesh)
    place, note = _placement(case, mesh)
    given = {name: place(inputs[name]) for name in case.arrays}
    if peer.name == "plan":
        note = "; ".join(filter(None, [chosen(case, None, mesh, given), note]))
    cotangents = place(inputs["cotangent"]), place(check_cotangent)
    compiled = jax.jit(_computing(case, forward)).lower(given, cotangents[0]).compile()
    temp_bytes = _temp_bytes(compiled, peer.devices)
    free = available_bytes()
    if jax.default_backend() == "cpu" and temp_bytes and free and temp_bytes > 0.9 * free:
        raise Refusal(f"needs {temp_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")

    def run() -> Arrays:
        return jax.block_until_ready(compiled(given, cotangents[0]))

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls - 1):
            compiled(given, cotangents[0])
        run()
        return time.perf_counter() - start

    def check() -> dict[str, np.ndarray]:
        wide = np.float64 if case.dtype == "float64" else np.float32
        return {name: np.asarray(array).astype(wide) for name, array in compiled(given, cotangents[1]).items()}

    def measured() -> int | None:
        if jax.default_backend() != "cpu":
            return None
        return peak_bytes(run, sum(array.nbytes for array in run().values()))

    return Ready(run, check, measured, temp_bytes, note, None if jax.default_backend() == "cpu" else seconds)


def about() -> str:
    """Name what JAX runs on."""
    count = jax.device_count()
    return f"jax {jax.__version__}, {count} {jax.default_backend()} device{'s' if count > 1 else ''}"


def _forward(peer: Peer, case: Case, mesh: Mesh | None) -> Forward:
    match peer.name:
        case "plan":
            return ours(case, None, mesh)
        case "jax.nn":
            return jax_nn(case, None)
        case "flax":
            return flax(case)
        case "cudnn":
            if jax.default_backend() != "gpu":
                raise Refusal(f"cuDNN needs a GPU; jax runs on {jax.default_backend()} here")
            return jax_nn(case, "cudnn")
        case name:
            implementation, _, block = name.partition("@")
            return ours(case, implementation, mesh, block)


def _refuse_too_much(peer: Peer, case: Case) -> None:
    """Refuse what would write out queries × keys beyond what a GPU's peers may; a bias counts in the case's dtype."""
    if peer.name in ("dense", "jax.nn", "flax"):
        what, written = "logits", case.written_bytes(4)
    elif peer.name == "cudnn" and case.variant == "alibi":
        what, written = "a bias", case.written_bytes(jnp.dtype(case.dtype).itemsize)
    else:
        return
    if written > MOST_WRITTEN:
        raise Refusal(f"would write out {what} of {written / 1e9:.1f} GB")


def _options(case: Case, implementation: str | None, mesh: Mesh | None) -> dict[str, Any]:
    said = {"implementation": implementation, "mesh": mesh}
    return _parts(case) | {name: value for name, value in said.items() if value is not None}


def _score(case: Case, arrays: Arrays) -> dict[str, Any]:
    """The score of a variant that has another than the scaled dot product."""
    from attnlab.functional import scores

    if case.variant != "additive":
        return {}
    return {"score": Partial(scores.additive, w_query=None, w_key=None, v=arrays["readout"])}


def _parts(case: Case) -> dict[str, Any]:
    """Mask and mods of a variant, in our words."""
    from attnlab.functional import masks, mods

    match case.variant:
        case "causal":
            return {"mask": masks.causal()}
        case "window":
            return {"mask": masks.sliding_window(WINDOW - 1, 0)}
        case "alibi":
            return {"mask": masks.causal(), "mods": (mods.alibi(case.shape.heads),)}
        case "soft_cap":
            return {"mods": (mods.soft_cap(SOFT_CAP),)}
        case _:
            return {}


def _computing(case: Case, forward: Forward) -> Callable[[Arrays, Array], Arrays]:
    """The function that is compiled: the output, and in mode forward_backward the gradient of each input."""

    def compute(given: Arrays, cotangent: Array) -> Arrays:
        if case.mode == "forward":
            return {"output": forward(given)}
        output, pull_back = jax.vjp(forward, given)
        return {"output": output} | pull_back(cotangent)[0]

    return compute


def _placement(case: Case, mesh: Mesh | None) -> tuple[Callable[[np.ndarray], Array], str]:
    dtype = jnp.dtype(case.dtype)
    if mesh is None:
        return lambda array: jnp.asarray(array, dtype), ""
    split = case.shape.heads % mesh.size == 0
    by_heads, everywhere = PartitionSpec(None, None, "heads", None), PartitionSpec()

    def place(array: np.ndarray) -> Array:
        spec = by_heads if split and array.ndim == 4 else everywhere
        return jax.device_put(jnp.asarray(array, dtype), NamedSharding(mesh, spec))

    return place, "inputs split by heads" if split else "inputs on every device"


def _temp_bytes(compiled: Any, devices: int) -> int | None:
    """The plan of all devices together; jax tells one device's."""
    analysis = compiled.memory_analysis()
    return None if analysis is None else devices * int(analysis.temp_size_in_bytes)


def _dot_products_alone(case: Case, who: str) -> None:
    if case.variant in ("soft_cap", "additive"):
        raise Refusal(f"{who} has no {'soft-cap' if case.variant == 'soft_cap' else 'additive score'}")


def _distance(case: Case) -> Array:
    positions = jnp.arange(case.shape.length, dtype=jnp.int32)
    return positions[:, None] - positions[None, :]


def _allowed(case: Case) -> Array:
    distance = _distance(case)
    return (distance >= 0) & (distance < WINDOW) if case.variant == "window" else distance >= 0


def _alibi(case: Case) -> Array:
    """The bias [1 h t s], written inside the compiled function: the compiler may fuse it."""
    slopes = jnp.asarray(case.slopes, jnp.float32)[:, None, None]
    return (-slopes * _distance(case).astype(jnp.float32)).astype(case.dtype)[None]
