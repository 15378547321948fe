"""A claim about attention as data: studies, measurements of cost, effects with the smallest relevant one, and a figure.

The verdict is no part of it: `claims.verdict` computes it from the effects and their intervals.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from attnlab.config.base import Config, FileName
from attnlab.config.claim_effects import (
    AnyEffect,
    AnyPanel,
    CostPanel,
    Difference,
    Exponent,
    Mode,
    Ratio,
    RunsPanel,
)
from attnlab.config.errors import UserError
from attnlab.config.explain import dotted, first_mistake
from attnlab.config.read_file import read_file
from attnlab.config.study import Budget, Seeds, Study, is_claim
from attnlab.config.yaml_text import Document, parse


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

    @model_validator(mode="after")
    def _widths_are_given(self) -> Self:
        if self.match is not None:
            raise ValueError("match: a study of a claim has the widths in its axes, not found by a search; remove it")
        return self

    def quick_study(self) -> "ClaimStudy":
        """Return the quick version: fewer seeds and steps, and some points of the axes.

        Raises:
            UserError: it keeps a point, or names an axis, that does not exist.
        """
        axes, quick = {}, self.quick
        if quick is None:
            raise ValueError(f"{self.name} has no quick version")
        if unknown := [name for name in quick.axes if name not in self.axes]:
            raise UserError(f"{self.name}: quick.axes: no axis {unknown[0]}; valid: {', '.join(self.axes)}")
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
    """Sizes at which a cost is measured: every length with the largest width, every width with the largest length."""

    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Numbers of queries, and of keys."""
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Widths of queries, keys and values of a head."""
    rounds: PositiveInt = 11
    """Number of timed calls of each case."""


class Cost(Sizes):
    """A measurement of the cost of one call of attention, by `attnlab bench attention`."""

    variants: Annotated[dict[str, str], Field(min_length=1)]
    """Variants of attention: name on the page -> variant of `attnlab bench attention --variant`."""
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
    """Raise if an effect or a panel names a study, a measurement or a case of it that the claim does not have."""
    studies, costs = [*claim.studies, *claim.uses], list(claim.costs)
    for section in ("effects", "figure"):
        for number, part in enumerate(getattr(claim, section)):
            place = f"{document.line_of((section, str(number)))}: {section}.{number}"
            for kind, name in _names(part):
                valid = studies if kind == "study" else costs
                if name not in valid:
                    raise UserError(f"{place}: no {kind} {name}; valid: {', '.join(valid)}")
            if not isinstance(part, Difference | RunsPanel):
                _check_case(part, claim.costs[part.cost], place)


def _check_case(part: Ratio | Exponent | CostPanel, cost: Cost, place: str) -> None:
    """Raise if a measurement does not have what an effect or a panel is of."""
    match part:
        case Ratio():
            named = [("variant", part.first, cost.variants), ("variant", part.second, cost.variants)]
            named += [("length", part.length, cost.lengths), ("width", part.width, cost.widths)]
        case Exponent():
            named = [("variant", part.variant, cost.variants), ("variant", part.minus, cost.variants)]
        case _:
            named = []
    for kind, value, valid in [("mode", part.mode, cost.modes), *named]:
        if value is not None and value not in valid:
            raise UserError(f"{place}: {part.cost} has no {kind} {value}; valid: {', '.join(map(str, valid))}")
    if isinstance(part, Ratio) and (part.length or max(cost.lengths)) < max(cost.lengths):
        if (part.width or max(cost.widths)) < max(cost.widths):
            raise UserError(
                f"{place}: {part.cost} has no length {part.length} at width {part.width}: one of them must be the "
                f"largest, {max(cost.lengths)} or {max(cost.widths)}"
            )


def _names(part: Any) -> Iterator[tuple[str, str]]:
    match part:
        case Difference():
            yield from (("study", term.study) for term in part.terms)
        case RunsPanel():
            yield from (("study", series.study) for series in part.series)
        case _:
            yield "cost", part.cost
