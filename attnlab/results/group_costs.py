"""What a group of runs cost: seconds of training, and the cost of a step if it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from attnlab.results.groups import RunGroup
from attnlab.results.step_cost import StepCost, amount, read_cost
from attnlab.results.tables import duration


@dataclass(frozen=True)
class GroupCost:
    """The cost of the runs of a group.

    Attributes:
        seconds: mean wall time of training, with compilation and validation.
        step: cost of a step, which is the same for all seeds; None before `attnlab cost`.
    """

    seconds: float
    step: StepCost | None

    def cells(self) -> dict[str, str]:
        """Return the cost as columns of a table: heading -> text, — if it is unknown."""
        step = self.step
        return {
            "training": duration(self.seconds),
            "parameters": f"{step.parameters:,}" if step else "—",
            "FLOPs a step": amount(step.flops) if step else "—",
            "peak memory": amount(step.peak_bytes, "B") if step else "—",
            "seconds a step": f"{step.seconds:.3g}" if step else "—",
            f"{step.unit if step else 'tokens'} a second": f"{step.count_per_second:,.0f}" if step else "—",
        }

    def as_json(self) -> dict[str, Any]:
        """Return the cost as plain data."""
        return {"training_seconds": self.seconds, "step": None if self.step is None else self.step.as_json()}


def group_cost(group: RunGroup) -> GroupCost:
    """Return the cost of a group; that of a step is read from the first run that has it.

    Raises:
        UserError: a cost.json was not written by `attnlab cost`.
    """
    found = (read_cost(run.directory) for run in group.runs)
    return GroupCost(mean(run.seconds for run in group.runs), next(filter(None, found), None))


def costs_table(names: Sequence[str], costs: Sequence[GroupCost]) -> list[list[str]]:
    """Return rows of cells, the headings first; columns without a number are left out.

    Args:
        names: name of every group.
        costs: its cost.
    """
    cells = [cost.cells() for cost in costs]
    headings = max(costs, key=lambda cost: cost.step is not None).cells()
    known = [heading for heading in headings if any(row.get(heading, "—") != "—" for row in cells)]
    rows = ([f"`{name}`", *(row.get(h, "—") for h in known)] for name, row in zip(names, cells, strict=True))
    return [["group", *known], *rows]
