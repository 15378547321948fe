"""What `bench attention` measures: a variant of attention at a shape, forward alone or with all gradients.

Variants, for T queries on T keys of width D:

- full: softmax(q·k / √D) v
- causal: no query sees a later key
- window: a query sees its own key and the 255 before it
- alibi: causal, and a bias −2^(−8 (h + 1) / H) (i − j)
- soft_cap: full, the logits bounded as 50 tanh(logits / 50)
- additive: softmax(readout · tanh(q + k)) v, queries and keys already projected (D is the hidden width)

Imports neither jax nor numpy, so that mistaken options are told at once.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from attnlab.config.errors import UserError

VARIANTS = ("full", "causal", "window", "alibi", "soft_cap", "additive")
MODES = ("forward", "forward_backward")
DTYPES = ("float32", "bfloat16", "float16", "float64")
WINDOW = 256
SOFT_CAP = 50.0
OURS = ("dense", "streaming", "block_sparse", "plan")
"""Our own implementations; `plan` leaves the choice to attention."""
OTHERS = ("jax.nn", "flax", "torch", "flex")
ON_GPU = ("cudnn", "torch_flash", "torch_efficient", "torch_cudnn")
"""Peers that need a GPU: jax.nn's cuDNN, and the kernels that PyTorch chooses among."""
IN_TORCH = ("torch", "flex", "torch_flash", "torch_efficient", "torch_cudnn")
AGAINST = ("torch", "flex", "jax.nn")
"""What a ratio is taken against: the first of these that was timed in the case."""
MOST_WRITTEN = 2**31
"""Bytes of queries × keys that a peer may write out on a GPU, which all peers share."""


class Shape(NamedTuple):
    """Examples, heads, positions (queries and keys alike), width of a head."""

    batch: int
    heads: int
    length: int
    width: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


SHAPES = (Shape(8, 8, 128, 64), Shape(4, 8, 512, 64), Shape(1, 8, 2048, 64), Shape(1, 8, 4096, 64))
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
    def arrays(self) -> tuple[str, ...]:
        """Names of the inputs, all of which get a gradient."""
        return ("query", "key", "value", "readout") if self.variant == "additive" else ("query", "key", "value")

    @property
    def slopes(self) -> list[float]:
        """ALiBi's slope of each head."""
        return [2.0 ** (-8.0 * (head + 1) / self.shape.heads) for head in range(self.shape.heads)]

    def written_bytes(self, item: int) -> int:
        """Tell what queries × keys take for all heads, at so many bytes each."""
        return self.shape.batch * self.shape.heads * self.shape.length**2 * item

    def __str__(self) -> str:
        return f"{self.variant}, {self.mode.replace('_', ' + ')}, {self.shape}, {self.dtype}"

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Case":
        """Read a case from plain data."""
        return cls(data["variant"], data["mode"], Shape(*data["shape"]), data["dtype"])


class Peer(NamedTuple):
    """An implementation on so many devices."""

    name: str
    devices: int = 1

    def __str__(self) -> str:
        return self.name if self.devices == 1 else f"{self.name} ×{self.devices}"


@dataclass(frozen=True)
class Plan:
    """What is measured, as the options say."""

    shapes: Sequence[Shape] = ()
    """Taken by every variant as they are."""
    lengths: Sequence[int] = ()
    """For each, one example of 8 heads of width 64; for additive one head of hidden width 256. Where there are neither
    shapes nor lengths: `SHAPES`, for additive `ADDITIVE_SHAPES`."""
    variants: Sequence[str] = VARIANTS
    modes: Sequence[str] = MODES
    dtype: str | None = None
    """None: float32, on a GPU bfloat16."""
    peers: Sequence[str] | None = None
    """None: all that can run on the machine."""
    devices: str = "both"
    """That ours run on: "one", "all" or "both"."""
    against: Sequence[str] = AGAINST
    rounds: int = 11

    def cases(self, backend: str = "cpu") -> list[Case]:
        """List all cases in the order in which they are measured."""
        dtype, found = self.dtype or ("float32" if backend == "cpu" else "bfloat16"), []
        for mode in self.modes:
            for variant in self.variants:
                heads, width = (1, 256) if variant == "additive" else (8, 64)
                chosen = [*self.shapes, *(Shape(1, heads, length, width) for length in self.lengths)]
                chosen = chosen or (ADDITIVE_SHAPES if variant == "additive" else SHAPES)
                found += [Case(variant, mode, shape, dtype) for shape in chosen]
        return list(dict.fromkeys(found))

    def crew(self, devices: int, backend: str = "cpu") -> list[Peer]:
        """List the implementations; ours stand there twice, on one device and on all, where there are several."""
        names = self.peers or (*OURS, *OTHERS, *(ON_GPU if backend == "gpu" else ()))
        found = [Peer(name) for name in names if name not in OURS or self.devices != "all" or devices == 1]
        if devices > 1 and self.devices != "one":
            found += [Peer(name, devices) for name in names if name in OURS]
        return found


QUICK = Plan(QUICK_SHAPES, variants=("full", "causal"), modes=("forward",), rounds=3)
"""Small and short: does all of it work here?"""


def shape_of(text: str) -> Shape:
    """Read B,H,T,D.

    >>> shape_of("1,8,2048,64").length
    2048
    """
    numbers = [_whole(part) for part in text.split(",")]
    if len(numbers) != 4 or None in numbers:
        raise UserError(f"--shape {text}: four whole numbers from 1 are needed, B,H,T,D, e.g. 1,8,2048,64")
    return Shape(*(number for number in numbers if number))


def lengths_of(text: str) -> list[int]:
    """Read lengths with commas between.

    >>> lengths_of("512,1024")
    [512, 1024]
    """
    numbers = [_whole(part) for part in text.split(",")]
    if None in numbers:
        raise UserError(f"--length {text}: whole numbers from 1 with commas between are needed, e.g. 512,1024,2048")
    return [number for number in numbers if number]


def names_of(option: str, text: str, valid: Iterable[str]) -> list[str]:
    """Read names with commas between; the error gives the nearest valid one."""
    valid, names = list(valid), list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{option}: {name!r} is none of {', '.join(valid)}{hint}")
    return names


def _whole(text: str) -> int | None:
    """A whole number from 1, or None; ten digits are beyond any machine."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else None
