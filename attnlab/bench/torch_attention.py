"""The implementations in PyTorch: the fused kernels of `scaled_dot_product_attention`, and compiled FlexAttention.

Inputs are contiguous [b h t d], the layout of PyTorch. A window is a materialized mask and ALiBi a materialized bias,
because the kernels have no other way to express them; both are built before timing starts. Additive attention, for
which PyTorch has no kernel, is plain softmax(tanh(a + b) @ v).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from attnlab.bench.cases import MAX_LOGITS_BYTES, SOFT_CAP, WINDOW, Case, Peer
from attnlab.bench.memory import available_bytes, peak_bytes
from attnlab.bench.ready import Ready, Refusal

Forward = Callable[[dict[str, Tensor]], Tensor]
KERNELS = {
    "torch_flash": SDPBackend.FLASH_ATTENTION,
    "torch_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "torch_cudnn": SDPBackend.CUDNN_ATTENTION,
}
"""Kernels of the peers that do not let PyTorch choose, as the peer `torch` does."""


def fused(case: Case, device: str, kernel: SDPBackend | None = None) -> Forward:
    """Return `scaled_dot_product_attention` with a given kernel, or with PyTorch's choice (None)."""
    if case.variant == "soft_cap":
        raise Refusal("scaled_dot_product_attention has no soft-cap")
    causal, mask = case.variant == "causal", _mask_or_bias(case, device)

    def forward(tensors: dict[str, Tensor]) -> Tensor:
        query, key, value = tensors["query"], tensors["key"], tensors["value"]
        if kernel is None:
            return scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
        with sdpa_kernel(kernel):
            return scaled_dot_product_attention(query, key, value, mask, is_causal=causal)

    return forward


def flex(case: Case, device: str) -> Forward:
    """Return compiled FlexAttention, with masks as block masks and ALiBi and soft-cap as score mods."""
    if case.variant == "additive":
        raise Refusal("FlexAttention has no additive score")
    if case.mode == "eager":
        raise Refusal("FlexAttention is compiled")
    if device == "cpu" and case.backward:
        raise Refusal("FlexAttention has no backward on CPU")
    torch.compiler.reset()
    slopes = torch.tensor(case.slopes, dtype=torch.float32, device=device)

    def alibi(logit: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return logit - slopes[h] * (q - k)

    def soft_cap(logit: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return SOFT_CAP * torch.tanh(logit / SOFT_CAP)

    def causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k

    def window(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (q - k < WINDOW)

    allowed = {"causal": causal, "alibi": causal, "window": window}.get(case.variant)
    length = case.shape.length
    blocks = None if allowed is None else create_block_mask(allowed, None, None, length, length, device=device)
    mod = {"alibi": alibi, "soft_cap": soft_cap}.get(case.variant)
    compiled = torch.compile(flex_attention)

    def forward(tensors: dict[str, Tensor]) -> Tensor:
        return compiled(tensors["query"], tensors["key"], tensors["value"], score_mod=mod, block_mask=blocks)  # pyright: ignore

    return forward


def additive(case: Case, device: str) -> Forward:
    """Return softmax(tanh(a + b) @ v), which stores all b·h·t·s·d activations."""
    batch, heads, length, width = case.shape
    needed = batch * heads * length**2 * width * torch.finfo(getattr(torch, case.dtype)).bits // 8 * 2
    free = available_bytes() if device == "cpu" else MAX_LOGITS_BYTES
    if free and needed > 0.9 * free:
        raise Refusal(f"needs {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free")

    def forward(tensors: dict[str, Tensor]) -> Tensor:
        logits = torch.tanh(tensors["query"][:, :, :, None] + tensors["key"][:, :, None]) @ tensors["readout"]
        return torch.softmax(logits, dim=-1) @ tensors["value"]

    return forward


def prepare(peer: Peer, case: Case, inputs: dict[str, np.ndarray], check_cotangent: np.ndarray) -> Ready:
    """Place the inputs on the device and build the function; FlexAttention compiles at the first call."""
    if case.mode == "trace":
        raise Refusal("PyTorch does not trace calls")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.empty_cache()  # the other peers share the GPU's memory
    dtype = getattr(torch, case.dtype)

    def place(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return (tensor.transpose(1, 2).contiguous() if array.ndim == 4 else tensor).to(device=device, dtype=dtype)

    tensors = {name: place(inputs[name]) for name in case.arrays}
    cotangent, checking = place(inputs["cotangent"]), place(check_cotangent)
    forward, backward = _forward(peer, case, device), case.backward
    for tensor in tensors.values():
        tensor.requires_grad_(backward)

    def call(cotangent: Tensor) -> dict[str, Tensor]:
        with torch.set_grad_enabled(backward):
            output = forward(tensors)
            gradients = torch.autograd.grad(output, list(tensors.values()), cotangent) if backward else ()
        return {"output": output.detach()} | dict(zip(tensors, gradients, strict=False))

    def run() -> dict[str, Tensor]:
        results = call(cotangent)
        if device == "cuda":
            torch.cuda.synchronize()
        return results

    def seconds(calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call(cotangent)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def check() -> dict[str, np.ndarray]:
        return {name: _as_array(tensor, case) for name, tensor in call(checking).items()}

    def measure_peak() -> int | None:
        output_bytes = sum(tensor.nbytes for tensor in run().values())
        return peak_bytes(run, output_bytes) if device == "cpu" else _peak_on_gpu(run, output_bytes)

    return Ready(run, check, measure_peak, note=_note(case, peer), seconds=seconds if device == "cuda" else None)


def use_threads(threads: int) -> str:
    """Set the number of threads of this process; return the version of PyTorch and its device."""
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, as in jax
        return f"torch {torch.__version__}, {torch.cuda.get_device_name()}"
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def _forward(peer: Peer, case: Case, device: str) -> Forward:
    if peer.name == "flex":
        return flex(case, device)
    if peer.name in KERNELS and device == "cpu":
        raise Refusal("needs a GPU that PyTorch can use")
    if case.variant == "additive":
        if peer.name != "torch":
            raise Refusal("PyTorch has no kernel with an additive score")
        return additive(case, device)
    return fused(case, device, KERNELS.get(peer.name))


def _note(case: Case, peer: Peer) -> str:
    if peer.name == "flex":
        return ""
    notes = {"window": "materialized mask", "alibi": "materialized bias", "additive": "softmax(tanh(a + b) @ v)"}
    return notes.get(case.variant, "")


def _mask_or_bias(case: Case, device: str) -> Tensor | None:
    if case.variant not in ("window", "alibi"):
        return None
    dtype = getattr(torch, case.dtype)
    size = case.logits_bytes(dtype.itemsize)
    if device != "cpu" and case.variant == "alibi" and size > MAX_LOGITS_BYTES:
        raise Refusal(f"would materialize a bias of {size / 1e9:.1f} GB")
    positions = torch.arange(case.shape.length, device=device, dtype=torch.int32)
    distance = positions[:, None] - positions[None, :]
    if case.variant == "window":
        return (distance >= 0) & (distance < WINDOW)
    slopes = torch.tensor(case.slopes, device=device)[:, None, None]
    bias = torch.where(distance >= 0, -slopes * distance, -torch.inf)
    return bias.to(dtype)[None]


def _as_array(tensor: Tensor, case: Case) -> np.ndarray:
    wide = tensor.to(device="cpu", dtype=torch.float64 if case.dtype == "float64" else torch.float32)
    return (wide.transpose(1, 2) if wide.ndim == 4 else wide).numpy()


def _peak_on_gpu(run: Callable[[], dict[str, Tensor]], output_bytes: int) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = run()
    peak = torch.cuda.max_memory_allocated() - before - output_bytes
    del result
    return peak
