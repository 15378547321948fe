"""The record of how far runs are from a base run in their attention weights and predictions: divergence/SPLIT.json."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from attnlab.analysis.faithfulness.attention_divergence import Bin

Kind = Literal["seed", "adversary", "other"]
"""seed: runs that differ from the base run only in the seed; adversary: model-consistent adversaries of the base model
with one λ; other: runs of another config."""


@dataclass(frozen=True)
class Divergence:
    """How far a run or a group is from the base run, as means over the texts of a split, and its own scores."""

    accuracy: float
    """In percent, like macro_f1."""
    macro_f1: float
    weight_jsd: float
    """Jensen–Shannon divergence of the attention weights, in [0, ln 2]."""
    weight_jsd_ci95: list[float] | None
    """95% bootstrap interval over texts; None for too few of them."""
    prediction_tvd: float
    """Total variation distance of the predictions, in [0, 1]."""
    prediction_tvd_ci95: list[float] | None


@dataclass(frozen=True)
class RunDivergence:
    """The divergence of a run from the base run."""

    run: str
    """The run directory."""
    seed: int
    divergence: Divergence


@dataclass(frozen=True)
class GroupDivergence:
    """The divergence of runs that differ only in the seed: means over texts and runs, with intervals over texts."""

    label: str
    kind: Kind
    strength: float | None
    """λ of an adversary, else None."""
    runs: tuple[RunDivergence, ...]
    divergence: Divergence
    bins: tuple[Bin, ...]
    """Distribution of the JSD over all texts and runs, by the largest weight of the base model."""


@dataclass(frozen=True)
class Curve:
    """Adversaries that differ only in λ and the seed, in the order of the JSD, and the area under TVD over JSD."""

    label: str
    """Name of their experiment, with the settings that tell it from other curves of that name."""
    strengths: list[float]
    weight_jsd: list[float]
    prediction_tvd: list[float]
    area: float
    """From (0, 0), the base model, to the last adversary."""


@dataclass(frozen=True)
class DivergenceReport:
    """All groups of runs that were compared with a base run on one split."""

    base: str
    split: str
    texts: int
    accuracy: float
    """Of the base run, in percent, like macro_f1."""
    macro_f1: float
    groups: tuple[GroupDivergence, ...]
    curves: tuple[Curve, ...]
    """One for the adversaries of each config; empty without adversaries."""

    def to_json(self) -> str:
        """Return the report as JSON."""
        report = asdict(self)
        for group, record in zip(report["groups"], self.groups, strict=True):
            group["bins"] = [part._asdict() for part in record.bins]
        return json.dumps(report, indent=1, ensure_ascii=False) + "\n"
