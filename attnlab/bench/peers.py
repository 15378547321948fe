"""The implementations in JAX, each a small function from the arrays of a case to the output [b t h d]."""

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

from attnlab.bench.cases import MAX_LOGITS_BYTES, SOFT_CAP, WINDOW, Case, Peer
from attnlab.bench.memory import available_bytes, peak_bytes
from attnlab.bench.ready import Ready, Refusal

Arrays = dict[str, Array]
Forward = Callable[[Arrays], Any]


def attnlab_attention(case: Case, implementation: str | None, mesh: Mesh | None, block: str = "") -> Forward:
    """Return attnlab's attention by an implementation (None: the default choice); `block` is a size like "512x256"."""
    from attnlab.functional.attention import attention

    options = _options(case, implementation, mesh)
    if block:
        queries, keys = map(int, block.split("x"))
        options["block_size"] = queries, keys

    def forward(arrays: Arrays) -> Any:
        return attention(arrays["query"], arrays["key"], arrays["value"], **_score(case, arrays), **options)

    return forward


def describe_plan(case: Case, implementation: str | None, mesh: Mesh | None, arrays: Arrays) -> str:
    """Return the implementation and the block size that `attnlab_attention` uses."""
    from attnlab.functional.attention import plan

    options = _score(case, arrays) | _options(case, implementation, mesh)
    planned = plan(arrays["query"], arrays["key"], arrays["value"], **options)
    if planned.block_size is None:
        return planned.implementation
    return f"{planned.implementation}, blocks of {planned.block_size[0]} × {planned.block_size[1]}"


def jax_nn(case: Case, implementation: str | None) -> Forward:
    """Return `jax.nn.dot_product_attention` with its causal and window masks, and ALiBi as a bias."""
    _refuse_other_scores(case, "jax.nn.dot_product_attention")
    options: dict[str, Any] = {"implementation": implementation, "is_causal": case.variant in ("causal", "alibi")}
    if case.variant == "window":
        options["local_window_size"] = (WINDOW - 1, 0)
        options["is_causal"] = implementation == "cudnn"  # cuDNN supports windows of preceding keys only

    def forward(arrays: Arrays) -> Array:
        bias = _alibi(case) if case.variant == "alibi" else None
        return jax.nn.dot_product_attention(arrays["query"], arrays["key"], arrays["value"], bias, **options)

    return forward


def flax(case: Case) -> Forward:
    """Return `flax.linen.dot_product_attention` with materialized masks, and ALiBi as a bias."""
    _refuse_other_scores(case, "flax.linen.dot_product_attention")

    def forward(arrays: Arrays) -> Array:
        bias = _alibi(case) if case.variant == "alibi" else None
        mask = None if case.variant == "full" else _allowed(case)[None, None]
        return linen.dot_product_attention(arrays["query"], arrays["key"], arrays["value"], bias, mask)

    return forward


def prepare(peer: Peer, case: Case, inputs: dict[str, np.ndarray], check_cotangent: np.ndarray) -> Ready:
    """Compile a case for a peer and place its inputs on the devices.

    With several devices the inputs are sharded over heads, as in a head-parallel program. If the number of heads is
    not a multiple of the number of devices, they are replicated.
    """
    if len(jax.devices()) < peer.devices:
        raise Refusal(f"needs {peer.devices} devices; jax has {len(jax.devices())}")
    if jax.default_backend() != "cpu":
        _refuse_large_logits(peer, case)
    mesh = None
    if peer.devices > 1:
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((peer.devices,), ("heads",), axis_types=auto)
    forward = _forward(peer, case, mesh)
    place, note = _placement(case, mesh)
    placed = {name: place(inputs[name]) for name in case.arrays}
    if peer.name == "plan":
        note = "; ".join(filter(None, [describe_plan(case, None, mesh, placed), note]))
    cotangents = place(inputs["cotangent"]), place(check_cotangent)
    compiled = jax.jit(_computation(case, forward)).lower(placed, cotangents[0]).compile()
    temp_bytes = _temp_bytes(compiled, peer.devices)
    free = available_bytes()
    if jax.default_backend() == "cpu" and temp_bytes and free and temp_bytes > 0.9 * free:
        raise Refusal(f"needs {temp_bytes / 1e9:.1f} GB; {free / 1e9:.1f} GB are free")

    def trace(arrays: Arrays, _: Array) -> None:
        jax.jit(lambda arrays: forward(arrays)).trace(arrays)  # a new function, or jit would not trace it again

    by_mode: dict[str, Callable[[Arrays, Array], Any]] = {"eager": _computation(case, forward), "trace": trace}
    call = by_mode.get(case.mode, compiled)

    def run() -> Arrays | None:
        return jax.block_until_ready(call(placed, cotangents[0]))

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls - 1):
            call(placed, cotangents[0])
        run()
        return time.perf_counter() - start

    def check() -> dict[str, np.ndarray]:
        wide = np.float64 if case.dtype == "float64" else np.float32
        results = (compiled if case.mode == "trace" else call)(placed, cotangents[1])
        return {name: np.asarray(array).astype(wide) for name, array in results.items()}

    def measure_peak() -> int | None:
        if jax.default_backend() != "cpu" or case.mode == "trace":
            return None
        return peak_bytes(run, sum(array.nbytes for array in compiled(placed, cotangents[0]).values()))

    return Ready(run, check, measure_peak, temp_bytes, note, None if jax.default_backend() == "cpu" else seconds)


def describe_runtime() -> str:
    """Return the version of JAX and its devices."""
    count = jax.device_count()
    return f"jax {jax.__version__}, {count} {jax.default_backend()} device{'s' if count > 1 else ''}"


def _forward(peer: Peer, case: Case, mesh: Mesh | None) -> Forward:
    match peer.name:
        case "plan":
            return attnlab_attention(case, None, mesh)
        case "jax.nn":
            return jax_nn(case, None)
        case "flax":
            return flax(case)
        case "cudnn":
            if jax.default_backend() != "gpu":
                raise Refusal(f"cuDNN needs a GPU; jax runs on {jax.default_backend()}")
            return jax_nn(case, "cudnn")
        case name:
            implementation, _, block = name.partition("@")
            return attnlab_attention(case, implementation, mesh, block)


def _refuse_large_logits(peer: Peer, case: Case) -> None:
    """Refuse a case whose logits (float32) or bias (in the case's dtype) would exceed `MAX_LOGITS_BYTES` on a GPU."""
    if peer.name in ("dense", "jax.nn", "flax"):
        array, size = "logits", case.logits_bytes(4)
    elif peer.name == "cudnn" and case.variant == "alibi":
        array, size = "a bias", case.logits_bytes(jnp.dtype(case.dtype).itemsize)
    else:
        return
    if size > MAX_LOGITS_BYTES:
        raise Refusal(f"would materialize {array} of {size / 1e9:.1f} GB")


def _options(case: Case, implementation: str | None, mesh: Mesh | None) -> dict[str, Any]:
    options = {"implementation": implementation, "mesh": mesh}
    return _parts(case) | {name: value for name, value in options.items() if value is not None}


def _score(case: Case, arrays: Arrays) -> dict[str, Any]:
    """Return the score of a variant that does not use the scaled dot product, as keyword arguments."""
    from attnlab.functional import scores

    if case.variant != "additive":
        return {}
    return {"score": Partial(scores.additive, w_query=None, w_key=None, v=arrays["readout"])}


def _parts(case: Case) -> dict[str, Any]:
    """Return the mask and mods of a variant, as keyword arguments of `attention`."""
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


def _computation(case: Case, forward: Forward) -> Callable[[Arrays, Array], Arrays]:
    """Return the function to compile: the output, and in mode forward_backward the gradient of each input."""

    def compute(inputs: Arrays, cotangent: Array) -> Arrays:
        if not case.backward:
            return {"output": forward(inputs)}
        output, pull_back = jax.vjp(forward, inputs)
        return {"output": output} | pull_back(cotangent)[0]

    return compute


def _placement(case: Case, mesh: Mesh | None) -> tuple[Callable[[np.ndarray], Array], str]:
    dtype = jnp.dtype(case.dtype)
    if mesh is None:
        return lambda array: jnp.asarray(array, dtype), ""
    sharded = case.shape.heads % mesh.size == 0
    by_heads, replicated = PartitionSpec(None, None, "heads", None), PartitionSpec()

    def place(array: np.ndarray) -> Array:
        spec = by_heads if sharded and array.ndim == 4 else replicated
        return jax.device_put(jnp.asarray(array, dtype), NamedSharding(mesh, spec))

    return place, "inputs sharded over heads" if sharded else "inputs replicated"


def _temp_bytes(compiled: Any, devices: int) -> int | None:
    """Return the planned temporary memory of all devices; jax reports that of one device."""
    analysis = compiled.memory_analysis()
    return None if analysis is None else devices * int(analysis.temp_size_in_bytes)


def _refuse_other_scores(case: Case, name: str) -> None:
    if case.variant in ("soft_cap", "additive"):
        raise Refusal(f"{name} has no {'soft-cap' if case.variant == 'soft_cap' else 'additive score'}")


def _distance(case: Case) -> Array:
    positions = jnp.arange(case.shape.length, dtype=jnp.int32)
    return positions[:, None] - positions[None, :]


def _allowed(case: Case) -> Array:
    distance = _distance(case)
    return (distance >= 0) & (distance < WINDOW) if case.variant == "window" else distance >= 0


def _alibi(case: Case) -> Array:
    """Return the bias [1 h t s]; it is built inside the compiled function, so that the compiler may fuse it."""
    slopes = jnp.asarray(case.slopes, jnp.float32)[:, None, None]
    return (-slopes * _distance(case).astype(jnp.float32)).astype(case.dtype)[None]
