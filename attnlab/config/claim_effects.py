"""What is computed for a claim, and shown in its figure: effects, and panels."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from attnlab.config.base import Config

Quantity = Literal["time", "memory"]
"""A cost: milliseconds of a call, or the memory in MB that the compiler plans for it beyond inputs and output."""
Mode = Literal["forward", "forward_backward"]


class Term(Config):
    """A metric of the runs of one setting, as a term of a difference."""

    of: str
    """STUDY/SETTING, or STUDY if it has no axes; the name of a setting is that of its runs, such as `score=dot`."""
    metric: str
    """Name of the metric; of an analysis the path to its mean, such as `methods.raw_attention.auprc_plau`."""
    file: Literal["results", "faithfulness", "alignment"] = "results"
    """Where the metric is: scores of the test sets, or what an analysis has found."""
    split: str | None = None
    """Name of the test set; null for the first."""
    times: float = 1.0
    """Factor of the term."""

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.of.partition("/")[0]

    @property
    def setting(self) -> str:
        """Name of the setting; empty for a study without axes."""
        return self.of.partition("/")[2]


class EffectOf(Config):
    """Base of the effects: a number that is larger the more it speaks for the claim."""

    label: str
    """What is compared, and where: the conditions of a verdict are named by it."""
    at_least: float
    """The smallest effect that counts; negative for "no worse than"."""
    unit: str = ""
    """Unit of the effect, for tables and figures."""
    digits: Annotated[int, Field(ge=0, le=4)] = 1
    """Digits after the decimal point."""
    claimed: bool = True
    """Whether the verdict rests on it; false shows it beside the others."""


class Difference(EffectOf):
    """A sum of metrics of groups of runs: metric of one group minus metric of another, say."""

    kind: Literal["difference"] = "difference"
    two_sided: bool = False
    """Whether the claim is of a difference in either direction, of which at least `at_least` counts."""
    terms: Annotated[tuple[Term, ...], Field(min_length=1)]
    """Terms of the sum; terms of the same runs are subtracted within each run."""


class Ratio(EffectOf):
    """The cost of one variant of attention, divided by that of another at the same sizes."""

    kind: Literal["ratio"] = "ratio"
    cost: str
    """The measurement."""
    first: str
    """Name of the variant in the numerator."""
    second: str
    """Name of the variant in the denominator."""
    mode: Mode
    """Whether gradients are computed too."""
    quantity: Quantity = "time"
    """What is compared."""
    length: PositiveInt | None = None
    """Number of queries and keys; null for the largest."""
    width: PositiveInt | None = None
    """Width; null for the largest."""


class Exponent(EffectOf):
    """The exponent e of cost = c · length^e, or the difference of two exponents."""

    kind: Literal["exponent"] = "exponent"
    cost: str
    """The measurement."""
    variant: str
    """Name of the variant."""
    minus: str | None = None
    """Name of the variant whose exponent is subtracted; null for none."""
    mode: Mode
    """Whether gradients are computed too."""
    quantity: Quantity = "time"
    """What is compared."""
    from_length: PositiveInt = 1
    """Smallest length of the fit; below it other costs than those of attention dominate."""


AnyEffect = Annotated[Difference | Ratio | Exponent, Field(discriminator="kind")]


class Series(Config):
    """A metric of all settings of a study."""

    study: str
    """The study."""
    metric: str
    """Name of the metric, as in a term."""
    file: Literal["results", "faithfulness", "alignment"] = "results"
    """Where the metric is, as in a term."""
    label: str = ""
    """What it is, before the name of the setting."""


class RunsPanel(Config):
    """A panel of the figure: metrics of groups of runs, with intervals."""

    kind: Literal["runs"] = "runs"
    title: str
    """Heading of the panel, with the unit."""
    series: Annotated[tuple[Series, ...], Field(min_length=1)]
    """What is shown."""
    x: str | None = None
    """Name of the axis along which points are placed, on a logarithmic scale; null puts a line for each setting."""
    digits: Annotated[int, Field(ge=0, le=4)] = 1
    """Digits after the decimal point."""


class CostPanel(Config):
    """A panel of the figure: a cost of all variants against the length or the width."""

    kind: Literal["cost"] = "cost"
    cost: str
    """The measurement."""
    mode: Mode
    """Whether gradients are computed too."""
    quantity: Quantity = "time"
    """What is shown."""
    title: str
    """Heading of the panel."""
    x: Literal["length", "width"] = "length"
    """What is on the horizontal axis; the other is the largest measured one."""


AnyPanel = Annotated[RunsPanel | CostPanel, Field(discriminator="kind")]
