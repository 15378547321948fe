"""A claim about attention as data: studies, measurements of cost, effects with the smallest relevant one, and a figure.

The verdict is no part of it: `claims.verdict` computes it from the effects and their intervals.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError

from attnlab.config.base import Config, FileName
from attnlab.config.errors import UserError
from attnlab.config.explain import dotted, first_mistake
from attnlab.config.read_file import read_file
from attnlab.config.study import Budget, Seeds, Study, is_claim
from attnlab.config.yaml_text import Document, parse

Quantity = Literal["time", "memory"]
"""A cost: milliseconds of a call, or the memory in MB that the compiler plans for it beyond inputs and output."""
Mode = Literal["forward", "forward_backward"]


class Faithfulness(Config):
    """`attnlab faithfulness` with every run."""

    examples: PositiveInt = 200
    """Number of examples."""
    methods: tuple[str, ...] = ("raw_attention", "random_attribution")
    """Methods of attribution."""


class Alignment(Config):
    """`attnlab align` with every run, on the gold alignment of its test set."""

    dev: PositiveInt = 100
    """Number of sentences to choose layer, head and reading on; the others are scored."""


class Analyses(Config):
    """What is computed with every trained run."""

    faithfulness: Faithfulness | None = None
    """The battery of faithfulness."""
    alignment: Alignment | None = None
    """Agreement with gold alignment."""


class Quick(Config):
    """How the quick version of a study differs from the full one."""

    seeds: Seeds = (1, 2)
    """Seeds of every setting."""
    overrides: dict[str, Any] = {}
    """Settings of all runs, besides those of the study."""
    axes: dict[str, tuple[str, ...]] = {}
    """For the name of an axis, the labels of the points that are kept; other axes keep all."""
    budget: Budget = Budget()
    """Training steps of every run, and time of the sweep."""
    analyses: Analyses = Analyses()
    """What is computed with every trained run."""


class ClaimStudy(Study):
    """A study whose runs a claim rests on, with its quick version."""

    quick: Quick | None
    """The quick version; null leaves the study, and the effects that rest on it, out of that of the claim."""
    analyses: Analyses = Analyses()
    """What is computed with every trained run."""
    archive: str | None = None
    """Pattern of archived runs, which the full version reads in place of training; null trains."""

    def quick_study(self) -> "ClaimStudy":
        """Return the quick version: fewer seeds and steps, and some points of the axes.

        Raises:
            UserError: it keeps a point that does not exist.
        """
        axes, quick = {}, self.quick
        if quick is None:
            raise ValueError(f"{self.name} has no quick version")
        for name, values in self.axes.items():
            axes[name] = values
            if (kept := quick.axes.get(name)) is not None:
                named = values if isinstance(values, dict) else {str(value): value for value in values}
                if unknown := [label for label in kept if label not in named]:
                    raise UserError(f"{self.name}: quick.axes.{name}: no point {unknown[0]}; valid: {', '.join(named)}")
                points = {label: named[label] for label in kept}
                axes[name] = points if isinstance(values, dict) else list(points.values())
        return self.model_copy(
            update={
                "axes": axes,
                "overrides": {**self.overrides, **quick.overrides},
                "seeds": quick.seeds,
                "budget": quick.budget,
                "analyses": quick.analyses,
                "archive": None,
            }
        )


class Sizes(Config):
    """Sizes at which a cost is measured: every length with every width."""

    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Numbers of queries, and of keys."""
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Widths of queries, keys and values of a head."""
    rounds: PositiveInt = 11
    """Number of timed calls of each case."""


class Cost(Sizes):
    """A measurement of the cost of one call of attention, by `attnlab bench attention`."""

    variants: Annotated[tuple[str, ...], Field(min_length=1)]
    """Variants of attention, as in `attnlab bench attention --variant`."""
    modes: tuple[Mode, ...] = ("forward", "forward_backward")
    """Whether gradients are computed too."""
    heads: PositiveInt = 1
    """Number of heads."""
    backend: str = "plan"
    """Backend of attnlab that computes it, as in `attnlab bench attention --peers`."""
    quick: Sizes
    """The sizes of the quick version."""

    def sizes(self, quick: bool) -> Sizes:
        """Return the sizes of a version."""
        return self.quick if quick else self


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
    """Variant in the numerator."""
    second: str
    """Variant in the denominator."""
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
    """The variant of attention."""
    minus: str | None = None
    """Variant whose exponent is subtracted; null for none."""
    mode: Mode
    """Whether gradients are computed too."""
    quantity: Quantity = "time"
    """What is compared."""
    from_length: PositiveInt = 1
    """Smallest length of the fit; below it other costs than those of attention dominate."""


AnyEffect = Annotated[Difference | Ratio | Exponent, Field(discriminator="kind")]


class RunsPanel(Config):
    """A panel of the figure: a metric of all settings of a study, with intervals."""

    kind: Literal["runs"] = "runs"
    study: str
    """The study."""
    metric: str
    """Name of the metric, as in a term."""
    file: Literal["results", "faithfulness", "alignment"] = "results"
    """Where the metric is, as in a term."""
    title: str
    """Heading of the panel, with the unit."""
    x: str | None = None
    """Name of the axis along which points are placed, on a logarithmic scale; null puts a line for each setting."""


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


class Claim(Config):
    """A claim about attention, and what it takes to examine it."""

    name: FileName
    """Name of the claim and of its page. By default it is the name of the file."""
    number: PositiveInt
    """Its place in the list of claims."""
    claim: str
    """The claim, one sentence."""
    question: str
    """The question that the studies answer."""
    design: str
    """What is trained or measured, on which data, and what is kept equal."""
    change: str
    """What would change the verdict."""
    studies: dict[str, ClaimStudy] = {}
    """Studies by name; the names of all claims' studies differ."""
    uses: dict[str, FileName] = {}
    """Studies of other claims on which it rests too: name of the study -> name of the claim that has it."""
    costs: dict[str, Cost] = {}
    """Measurements of cost by name."""
    effects: Annotated[tuple[AnyEffect, ...], Field(min_length=1)]
    """The effects; the first is shown in the list of claims."""
    figure: Annotated[tuple[AnyPanel, ...], Field(min_length=1)]
    """Panels of the figure, before that of the effects."""


def read_claim(path: Path) -> Claim:
    """Read a claim from a YAML file.

    Raises:
        UserError: one line with the file and line, the path of the key, the value, and the valid values.
    """
    document = parse(read_file(path), str(path))
    if not is_claim(document.data):
        raise UserError(f"{path}: is not a claim (it has no key claim)")
    document.data.setdefault("name", path.stem)
    studies = document.data.get("studies")
    for name, study in studies.items() if isinstance(studies, dict) else ():
        if isinstance(study, dict):
            study.setdefault("name", name)
    try:
        claim = Claim.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        place, message = first_mistake(error, Claim)
        raise UserError(": ".join(filter(None, (document.line_of(place), dotted(place), message)))) from None
    _check_names(claim, document)
    return claim


def _check_names(claim: Claim, document: Document) -> None:
    """Raise if an effect or a panel names a study or a measurement that the claim does not have."""
    studies, costs = [*claim.studies, *claim.uses], list(claim.costs)
    for section in ("effects", "figure"):
        for number, part in enumerate(getattr(claim, section)):
            for kind, name in _names(part):
                valid = studies if kind == "study" else costs
                if name not in valid:
                    where = document.line_of((section, number))
                    raise UserError(f"{where}: {section}.{number}: no {kind} {name}; valid: {', '.join(valid)}")


def _names(part: Any) -> Iterator[tuple[str, str]]:
    match part:
        case Difference():
            yield from (("study", term.study) for term in part.terms)
        case RunsPanel():
            yield "study", part.study
        case _:
            yield "cost", part.cost
