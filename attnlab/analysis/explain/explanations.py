"""The explanations of one prediction by several methods, side by side: agreement, attention and alarms."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from attnlab.analysis.explain.highlighted import agreement_table, explanation_rows, framed
from attnlab.analysis.explain.layer_maps import LayerMaps
from attnlab.analysis.explain.record import Explanation
from attnlab.analysis.faithfulness.correlation import kendall_tau
from attnlab.analysis.heads.alarms import Alarm

PADDED_TO = 64
"""Numbers of parts are filled up to a multiple of this, so that few shapes are compiled."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far methods order the parts of an input alike.

    Attributes:
        methods: names of the methods.
        tau: [m m] Kendall's τ of each two; NaN if a method gives all parts the same number.
        parts: number of compared parts of the input, special tokens not counted.
    """

    methods: tuple[str, ...]
    tau: Float[np.ndarray, "m m"]
    parts: int


@dataclass(frozen=True, eq=False)
class Explanations:
    """A prediction explained by several methods.

    Attributes:
        by_method: method -> explanation; at least one.
        texts: part of the input -> its text; empty for an image.
        attention: the maps of every layer and head; empty for a model without attention.
        alarms: what is wrong with these maps.
    """

    by_method: Mapping[str, Explanation]
    texts: Mapping[str, str]
    attention: tuple[LayerMaps, ...] = ()
    alarms: tuple[Alarm, ...] = ()

    def __getitem__(self, method: str) -> Explanation:
        if method not in self.by_method:
            raise KeyError(f"{method!r}; the methods are {', '.join(self.by_method)}")
        return self.by_method[method]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.by_method.values())

    def __len__(self) -> int:
        return len(self.by_method)

    def __repr__(self) -> str:
        return f"<Explanations by {', '.join(self.by_method)}: {self.first.target}>"

    def _repr_html_(self) -> str:
        rows = "".join(explanation_rows(one.method, one.parts, one.completeness_gap) for one in self)
        agreement = self.agreement
        body = rows + agreement_table(agreement.methods, agreement.tau, agreement.parts)
        warnings = [alarm.message for alarm in self.alarms]
        return framed(self.first.prediction, self.first.target, self.first.score, body, warnings)

    @property
    def first(self) -> Explanation:
        """Return the first explanation; prediction, target and labels are the same in all."""
        return next(iter(self))

    @cached_property
    def agreement(self) -> Agreement:
        """Return Kendall's τ of each two methods, over all parts of the input but special tokens."""
        numbers = np.stack([np.concatenate([part.attributions for part in one.parts]) for one in self])
        special = np.concatenate([part.special for part in self.first.parts])
        parts, methods = int((~special).sum()), len(numbers)
        width = -(-max(len(special), 1) // PADDED_TO) * PADDED_TO
        padded = np.zeros((methods, width), np.float32)
        padded[:, : len(special)] = numbers
        valid = np.zeros(width, bool)
        valid[: len(special)] = ~special
        tau = np.eye(methods)
        pairs = np.array(list(combinations(range(methods), 2))).reshape(-1, 2)
        if len(pairs):
            found = _tau(padded[pairs[:, 0]], padded[pairs[:, 1]], valid)
            tau[pairs[:, 0], pairs[:, 1]] = tau[pairs[:, 1], pairs[:, 0]] = np.asarray(found)
        return Agreement(tuple(self.by_method), tau, parts)


@jax.jit
def _tau(first: Float[Array, "p n"], second: Float[Array, "p n"], valid: Bool[Array, " n"]) -> Float[Array, " p"]:
    return jax.vmap(lambda one, other: kendall_tau(one, other, valid).statistic)(first, second)
