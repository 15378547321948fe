"""A prediction that is to be explained: its input with labels, and its target as a function of the model's logits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import PyTree

from attnlab.config.errors import UserError
from attnlab.tasks import targets

Target = Callable[[Array, Mapping[str, Any]], Array]
"""(logits [r ...], batch) -> the explained number. It is a `jax.tree_util.Partial` of a function of a module, so that a
compiled function takes it as an argument and is not compiled again for another class."""
SHOWN_NAMES = 12


@dataclass(frozen=True)
class TargetSelection:
    """What to explain; None is the default: the model's own prediction, whole, in contrast to nothing.

    Attributes:
        target: a class, an answer, a span of the passage, or an output text.
        contrast: another one, to explain why the target was predicted rather than this.
        position: number of one token of the output, from 1.
    """

    target: str | None = None
    contrast: str | None = None
    position: int | None = None

    def without_position(self) -> None:
        """Raise `UserError` for a position; for tasks that do not generate a text."""
        if self.position is not None:
            raise UserError(f"position {self.position}: only generated texts have positions; this task has one answer")


@dataclass(frozen=True, eq=False)
class ExplainedPrediction:
    """A prediction, or another target, of one example.

    Attributes:
        examples: as the adapter's `fill` takes them: one, and for the contrast of two output texts a second one that
            differs from it in the output only.
        inputs: an `InputSequence` for each array of the adapter's `embed`, or for a group of arrays with the same
            positions (a tree prefix of what `embed` returns).
        target: the explained number.
        description: the target in words.
        prediction: the model's own prediction in words.
        output: the tokens of the output, end token included; empty if the output is no sequence.
        rows: the queries whose attention leads to the target: positions of the output or, if the model predicts from
            states of the input, of these; None if the model pools its states.
    """

    examples: tuple[Any, ...]
    inputs: PyTree
    target: Target
    description: str
    prediction: str
    output: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None


def choice(
    example: Any,
    inputs: PyTree,
    names: Sequence[str],
    predicted: int,
    selection: TargetSelection,
    what: str,
    rows: tuple[int, ...] | None = None,
) -> ExplainedPrediction:
    """Return the explained prediction of a model that chooses among classes or answers.

    Args:
        example: as the adapter's `fill` takes it.
        inputs: as in `ExplainedPrediction`.
        names: names of the classes in the order of the logits.
        predicted: the class that the model predicts.
        selection: the target.
        what: "class" or "answer".
        rows: as in `ExplainedPrediction`.
    """
    selection.without_position()
    label = predicted if selection.target is None else _number(names, selection.target, "target", what)
    if selection.contrast is None:
        target = Partial(_class_target, label=np.int32(label))
        description = f"log-probability of the {what} {names[label]!r}"
    else:
        other = _number(names, selection.contrast, "contrast", what)
        if other == label:
            raise UserError(f"contrast {selection.contrast!r} is the target itself; name another {what}")
        target = Partial(_class_contrast, label=np.int32(label), other=np.int32(other))
        description = f"log-probability of the {what} {names[label]!r} minus that of {names[other]!r}"
    return ExplainedPrediction((example,), inputs, target, description, names[predicted], rows=rows)


def _number(names: Sequence[str], name: str, option: str, what: str) -> int:
    """Return the index of a name; upper and lower case matter only if there are both."""
    if name in names:
        return names.index(name)
    folded = [other.casefold() for other in names]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    close = get_close_matches(name, names, 1)
    known = ", ".join(map(repr, names[:SHOWN_NAMES])) + (", …" if len(names) > SHOWN_NAMES else "")
    hint = f"did you mean {close[0]!r}?" if close else f"the model knows {known}"
    raise UserError(f"{option} {name!r}: there is no {what} of this name; {hint}")


def _class_target(logits: Array, batch: Any, *, label: Array) -> Array:
    return targets.class_target(logits[0], label)


def _class_contrast(logits: Array, batch: Any, *, label: Array, other: Array) -> Array:
    return targets.class_contrast(logits[0], label, other)


def span_target(logits: Array, batch: Any, *, span: Array) -> Array:
    """Return the log-probability of a span from logits [1 2 places]."""
    return targets.span_target(logits[0, 0], logits[0, 1], span[0], span[1])


def span_contrast(logits: Array, batch: Any, *, span: Array, other: Array) -> Array:
    """Return the difference of the log-probabilities of two spans from logits [1 2 places]."""
    return span_target(logits, batch, span=span) - span_target(logits, batch, span=other)


def text_target(logits: Array, batch: Any) -> Array:
    """Return the log-probability of the whole output from logits [1 t v]."""
    return targets.sequence_target(logits[0], batch["target_out"][0], batch["target_lengths"][0])


def text_contrast(logits: Array, batch: Any) -> Array:
    """Return the difference of the log-probabilities of two whole outputs from logits [2 t v]."""
    first, second = (
        targets.sequence_target(logits[row], batch["target_out"][row], batch["target_lengths"][row]) for row in (0, 1)
    )
    return first - second


def token_target(logits: Array, batch: Any, *, position: Array) -> Array:
    """Return the log-probability of one token of the output from logits [1 t v]."""
    return targets.token_target(logits[0], batch["target_out"][0], position)


def token_contrast(logits: Array, batch: Any, *, position: Array, other: Array) -> Array:
    """Return by how much one token of the output is more probable than another one at its place."""
    return targets.class_contrast(logits[0, position], batch["target_out"][0, position], other)
