"""The cost of a training step: cost.json of a run, which `attnlab cost` writes and `attnlab compare` reads."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from attnlab.config.errors import UserError
from attnlab.results.run_files import COST
from attnlab.training.atomic_files import write_whole


@dataclass(frozen=True)
class BatchCost:
    """The cost of a step with batches of one shape.

    Attributes:
        rows: examples of a batch, with padding.
        source: positions of the source.
        target: positions of the target.
        steps: steps of an epoch that have such a batch.
        matmul_flops: operations of matrix products and convolutions, on all devices together.
        flops: all floating-point operations, on all devices together.
        peak_bytes: memory of one device while the step runs, as the compiler plans it.
        seconds: median wall time of a step.
        count: tokens or examples of a batch, without padding.
    """

    rows: int
    source: int
    target: int
    steps: int
    matmul_flops: int
    flops: int
    peak_bytes: int
    seconds: float
    count: int


@dataclass(frozen=True)
class StepCost:
    """The cost of a training step.

    Attributes:
        parameters: number of parameters.
        batches: costs by shape of batch.
        unit: what `count` counts, in the plural.
        unbounded_loops: loops whose number of iterations is unknown before they run; counted once.
        devices: number of devices that share a step.
        machine: what the step was timed on.
        jax: version.
    """

    parameters: int
    batches: tuple[BatchCost, ...]
    unit: str
    unbounded_loops: int
    devices: int
    machine: str
    jax: str

    @property
    def flops(self) -> float:
        """All operations of a step, the mean over an epoch."""
        return self._mean("flops")

    @property
    def matmul_flops(self) -> float:
        """Operations of matrix products and convolutions of a step, the mean over an epoch."""
        return self._mean("matmul_flops")

    @property
    def seconds(self) -> float:
        """Seconds of a step, the mean over an epoch."""
        return self._mean("seconds")

    @property
    def peak_bytes(self) -> int:
        """Memory of one device with the batches that need most."""
        return max(batch.peak_bytes for batch in self.batches)

    @property
    def count_per_second(self) -> float:
        """Tokens or examples a second, without padding."""
        return self._mean("count") / self.seconds

    def as_json(self) -> dict[str, Any]:
        """Return the cost with its means as plain data."""
        means = {name: getattr(self, name) for name in ("flops", "matmul_flops", "seconds", "peak_bytes")}
        return asdict(self) | means | {"count_per_second": self.count_per_second}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the cost that `as_json` wrote."""
        names = ("parameters", "unit", "unbounded_loops", "devices", "machine", "jax")
        fields = BatchCost.__dataclass_fields__
        batches = tuple(BatchCost(**{name: batch[name] for name in fields}) for batch in data["batches"])
        if not batches:
            raise ValueError("no batches")
        return cls(batches=batches, **{name: data[name] for name in names})

    def table(self, name: str) -> str:
        """Return the cost as text.

        Args:
            name: name of the experiment.
        """
        return "\n".join(_lines(self, name))

    def _mean(self, name: str) -> float:
        steps = sum(batch.steps for batch in self.batches)
        return sum(batch.steps * getattr(batch, name) for batch in self.batches) / steps


def read_cost(directory: Path) -> StepCost | None:
    """Read the cost of a step of a run; None if it is unknown.

    Raises:
        UserError: the file was not written by `attnlab cost`.
    """
    path = directory / COST
    try:
        return StepCost.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: was not written by attnlab cost ({reason}); attnlab cost {directory}/config.yaml writes it anew"
        ) from None


def write_cost(directory: Path, cost: StepCost) -> Path:
    """Write the cost of a step into a run and return the path."""
    path = directory / COST
    write_whole(path, json.dumps(cost.as_json(), indent=1) + "\n")
    return path


def amount(value: float, unit: str = "") -> str:
    """Format a number with three digits and a prefix.

    >>> amount(2_395_017_216), amount(51_400_000, "B"), amount(812)
    ('2.40 G', '51.4 MB', '812')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{_three_digits(value / factor)} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def _three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - (value >= 9.995) - (value >= 99.95))}f}"


def _lines(cost: StepCost, name: str) -> Iterator[str]:
    count = cost._mean("count")
    yield f"{name}: a training step, the mean over the batches of an epoch"
    yield f"  {'parameters':<14} {cost.parameters:,}"
    least = "at least " if cost.unbounded_loops else ""
    products = (
        f"{amount(cost.matmul_flops)} in matrix products, {amount(cost.flops / count)} for one of the {cost.unit}"
    )
    yield f"  {'FLOPs':<14} {least}{amount(cost.flops)} ({products})"
    devices = f"{cost.devices} device{'s' if cost.devices > 1 else ''}"
    yield f"  {'peak memory':<14} {amount(cost.peak_bytes, 'B')} on each of {devices}, with the largest batch"
    speed = f"{cost.count_per_second:,.0f} {cost.unit} a second, {amount(cost.flops / cost.seconds)}FLOP/s"
    yield f"  {'time':<14} {cost.seconds:.3g} s ({speed})"
    yield f"  {'machine':<14} {cost.machine}, jax {cost.jax}"
    if cost.unbounded_loops:
        yield f"  {cost.unbounded_loops} loop(s) run until the data say so; their bodies are counted once"
    yield from _by_shape(cost.batches, cost.unit)


def _by_shape(batches: Sequence[BatchCost], unit: str) -> Iterator[str]:
    header = ("rows", "source", "target", "steps", unit, "FLOPs", "peak memory", "seconds")
    cells = [
        (
            *map(str, (batch.rows, batch.source, batch.target, batch.steps, batch.count)),
            amount(batch.flops), amount(batch.peak_bytes, "B"), f"{batch.seconds:.3g}",
        )
        for batch in batches
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for row in (header, *cells):
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
