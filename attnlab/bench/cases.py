"""The cases of `bench attention`: a variant of attention at a shape, forward only or with all gradients.

Besides these modes, "eager" is a forward call outside of `jax.jit`, and "trace" is the trace of a forward call by
`jax.jit`, without lowering and compilation: what a call costs before it computes anything.

Variants, for T queries on T keys of width D:

- full: softmax(q·k / √D) v
- causal: a query attends to its own key and all earlier keys
- window: a query attends to its own key and the 255 keys before it
- alibi: causal, with a bias −2^(−8 (h + 1) / H) (i − j)
- soft_cap: full, with logits bounded by 50 tanh(logits / 50)
- additive: softmax(readout · tanh(q + k)) v, queries and keys already projected (D is the hidden width)

Imports neither jax nor numpy, so that invalid options are reported without delay.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from attnlab.config.errors import UserError

VARIANTS = ("full", "causal", "window", "alibi", "soft_cap", "additive")
MODES = ("forward", "forward_backward")
OVERHEADS = ("eager", "trace")
"""Modes that are measured only on request."""
DTYPES = ("float32", "bfloat16", "float16", "float64")
WINDOW = 256
SOFT_CAP = 50.0
OURS = ("dense", "streaming", "block_sparse", "plan")
"""The backends of attnlab; `plan` lets `attention` choose among them."""
OTHERS = ("jax.nn", "flax", "torch", "flex")
ON_GPU = ("cudnn", "torch_flash", "torch_efficient", "torch_cudnn")
"""Peers that need a GPU: cuDNN through jax.nn, and the kernels of PyTorch's `scaled_dot_product_attention`."""
IN_TORCH = ("torch", "flex", "torch_flash", "torch_efficient", "torch_cudnn")
AGAINST = ("torch", "flex", "jax.nn")
"""Baselines of the ratios: the first of these that was timed in the case."""
MAX_LOGITS_BYTES = 2**31
"""Largest array over queries × keys that a peer may materialize on a GPU, whose memory all peers share."""


class Shape(NamedTuple):
    """Batch size, heads, length (of queries and keys alike), and width of a head."""

    batch: int
    heads: int
    length: int
    width: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


SHAPES = (
    Shape(1, 1, 16, 16), Shape(8, 8, 64, 64), Shape(8, 8, 128, 64), Shape(4, 8, 512, 64), Shape(1, 8, 2048, 64),
    Shape(1, 8, 4096, 64),
)  # fmt: skip
ADDITIVE_SHAPES = (Shape(64, 1, 32, 256), Shape(1, 1, 512, 256))
QUICK_SHAPES = (Shape(1, 2, 128, 64), Shape(1, 2, 256, 64), Shape(1, 2, 512, 64))


@dataclass(frozen=True)
class Case:
    """One row of a benchmark."""

    variant: str
    mode: str
    shape: Shape
    dtype: str

    @property
    def backward(self) -> bool:
        """Whether gradients are computed too."""
        return self.mode == "forward_backward"

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the inputs; `backward` computes the gradients of all."""
        return ("query", "key", "value", "readout") if self.variant == "additive" else ("query", "key", "value")

    @property
    def slopes(self) -> list[float]:
        """ALiBi slope of each head."""
        return [2.0 ** (-8.0 * (head + 1) / self.shape.heads) for head in range(self.shape.heads)]

    def logits_bytes(self, item: int) -> int:
        """Return the bytes of an array over queries × keys of all heads, with `item` bytes per element."""
        return self.shape.batch * self.shape.heads * self.shape.length**2 * item

    def __str__(self) -> str:
        return f"{self.variant}, {self.mode.replace('_', ' + ')}, {self.shape}, {self.dtype}"

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Case":
        """Build a case from its JSON form."""
        return cls(data["variant"], data["mode"], Shape(*data["shape"]), data["dtype"])


class Peer(NamedTuple):
    """An implementation and the number of devices it runs on."""

    name: str
    devices: int = 1

    def __str__(self) -> str:
        return self.name if self.devices == 1 else f"{self.name} ×{self.devices}"


@dataclass(frozen=True)
class Plan:
    """The options of `bench attention`."""

    shapes: Sequence[Shape] = ()
    """Shapes that every variant is measured at."""
    lengths: Sequence[int] = ()
    """Lengths measured with one example of 8 heads of width 64 (additive: one head of hidden width 256). Without shapes
    and lengths, the shapes are `SHAPES` (additive: `ADDITIVE_SHAPES`)."""
    variants: Sequence[str] = VARIANTS
    modes: Sequence[str] = MODES
    dtype: str | None = None
    """None: float32 on CPU, bfloat16 on GPU."""
    peers: Sequence[str] | None = None
    """None: all peers that can run on the machine."""
    devices: str = "both"
    """Devices that the backends of attnlab run on: "one", "all" or "both"."""
    against: Sequence[str] = AGAINST
    rounds: int = 11

    def cases(self, backend: str = "cpu") -> list[Case]:
        """Return all cases in the order in which they are measured."""
        dtype, cases = self.dtype or ("float32" if backend == "cpu" else "bfloat16"), []
        for mode in self.modes:
            for variant in self.variants:
                heads, width = (1, 256) if variant == "additive" else (8, 64)
                chosen = [*self.shapes, *(Shape(1, heads, length, width) for length in self.lengths)]
                chosen = chosen or (ADDITIVE_SHAPES if variant == "additive" else SHAPES)
                cases += [Case(variant, mode, shape, dtype) for shape in chosen]
        return list(dict.fromkeys(cases))

    def select_peers(self, devices: int, backend: str = "cpu") -> list[Peer]:
        """Return the peers; with several devices, the backends of attnlab appear on one device and on all devices."""
        names = self.peers or (*OURS, *OTHERS, *(ON_GPU if backend == "gpu" else ()))
        peers = [Peer(name) for name in names if name not in OURS or self.devices != "all" or devices == 1]
        if devices > 1 and self.devices != "one":
            peers += [Peer(name, devices) for name in names if name in OURS]
        return peers


QUICK = Plan(QUICK_SHAPES, variants=("full", "causal"), modes=("forward",), rounds=3)
"""Small shapes and few rounds, to check that everything works on this machine."""


def shape_of(text: str) -> Shape:
    """Parse a shape B,H,T,D.

    >>> shape_of("1,8,2048,64").length
    2048
    """
    numbers = [_positive_integer(part) for part in text.split(",")]
    if len(numbers) != 4 or None in numbers:
        raise UserError(f"--shape {text}: must be four positive integers B,H,T,D, e.g. 1,8,2048,64")
    return Shape(*(number for number in numbers if number))


def lengths_of(text: str) -> list[int]:
    """Parse comma-separated lengths.

    >>> lengths_of("512,1024")
    [512, 1024]
    """
    numbers = [_positive_integer(part) for part in text.split(",")]
    if None in numbers:
        raise UserError(f"--length {text}: must be comma-separated positive integers, e.g. 512,1024,2048")
    return [number for number in numbers if number]


def names_of(option: str, text: str, valid: Iterable[str]) -> list[str]:
    """Parse comma-separated names; the error suggests the nearest valid name."""
    valid, names = list(valid), list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{option}: unknown name {name!r}; valid: {', '.join(valid)}{hint}")
    return names


def _positive_integer(text: str) -> int | None:
    """Return the text as an integer of at least 1 and fewer than ten digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else None
