"""The settings of the battery: its methods with their options, what removed means, and the sizes of its tests."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attnlab.analysis.explain import Explainer
from attnlab.analysis.explain.call import BASELINES, Baseline, Removal
from attnlab.analysis.explain.choice import ALL_METHODS, SLOW, choose_methods, named_methods
from attnlab.analysis.explain.methods import EXPLAINERS, options_of, refuse_method
from attnlab.analysis.faithfulness import RATIOS
from attnlab.config.analysis import check_seed
from attnlab.config.errors import UserError
from attnlab.tasks.adapter import ModelAdapter

FLOOR, CEILING, ATTENTION = "random_attribution", "leave_one_out", "raw_attention"
"""The methods that stand beside all others: the random floor, the ceiling, and attention itself."""
ROLES = {FLOOR: "floor", CEILING: "ceiling", ATTENTION: "attention"}
SOFT = ("soft_comprehensiveness", "soft_sufficiency")
"""The soft versions of comprehensiveness and sufficiency."""
SHARES = (0.0, 0.01, 0.05, *(tenth / 10 for tenth in range(1, 11)))
"""Shares of the tokens that curves are computed at; ERASER's `RATIOS` are among them."""
assert set(RATIOS) <= set(SHARES)


@dataclass(frozen=True)
class BatterySettings:
    """What the battery computes.

    Attributes:
        methods: the methods of attribution.
        removal: what removing a token means.
        seed: of random attributions, permutations, soft masks, restarts and random parameters.
        shares: shares of the tokens that curves are computed at.
        soft_samples: draws of the soft versions of comprehensiveness and sufficiency.
        permutations: of the permutation test.
        restarts: of the search for adversarial attention.
        steps: of this search.
        epsilon: largest change of the prediction that counts as none.
        searched: number of examples that adversarial attention is searched for if a prediction has several rows of
            weights, such as one for each token of the output; of one row it is all examples.
        randomized: number of examples whose attributions are compared with those of a randomized model.
    """

    methods: tuple[str, ...]
    removal: Removal = "pad"
    seed: int = 0
    shares: tuple[float, ...] = SHARES
    soft_samples: int = 5
    permutations: int = 100
    restarts: int = 5
    steps: int = 500
    epsilon: float = 0.01
    searched: int = 20
    randomized: int = 100

    def options(self, method: str) -> dict[str, Any]:
        """Return the options of a method: it removes tokens as the metrics do, and has the seed of the battery."""
        given: dict[str, Any] = {}
        defaults = options_of(method, {})
        if "removal" in defaults:
            given["removal"] = self.removal
        if "seed" in defaults:
            given["seed"] = self.seed
        if "baseline" in defaults:
            given["baseline"] = self.baseline
        return options_of(method, given)

    @property
    def baseline(self) -> Baseline:
        """What replaces embeddings in methods that can neither mask attention nor drop tokens."""
        return "pad" if self.removal in ("mask", "drop") else self.removal

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain data, with the options of every method."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return plain | {"options": {method: self.options(method) for method in self.methods}}


def left_out_metrics(removal: str, adapter: ModelAdapter) -> dict[str, str]:
    """Return the metrics that have no meaning where tokens are removed like this, each with its reason."""
    if removal != "drop":
        return {}
    soft = "sets features of embeddings to 0, which does not drop a token; --removal zeros (or pad, mean, mask) has it"
    left_out: dict[str, str] = dict.fromkeys(SOFT, soft)
    if adapter.predicts_places:
        left_out["log_odds"] = (
            "an answer without one of its words has probability 0, whose logarithm is no number; "
            "--removal pad (or zeros, mean, mask) has it"
        )
    return left_out


def battery_settings(
    explainer: Explainer,
    methods: Sequence[str] | str | None = None,
    removal: str = "pad",
    seed: int = 0,
) -> tuple[BatterySettings, dict[str, str]]:
    """Return the settings of the battery of a model, and the methods that are left out, each with its reason.

    Args:
        explainer: of the model.
        methods: names of methods; "all" for those that the model can have; None for those of them that are fast. The
            random floor and the ceiling are always added, and attention itself where the model has it.
        removal: what removing a token means: "pad", "zeros", "mean", "mask" or "drop".
        seed: of everything that is random, below 2³².
    Raises:
        UserError: the model cannot have a method, or there is no such method, removal or seed.
    """
    check_seed(seed)
    explainer.check_removal(removal)
    quick = [method for method in explainer.methods if method not in SLOW]
    chosen, left_out = choose_methods(explainer, methods, quick), {}
    if named_methods(methods) in ([], [ALL_METHODS]):
        left_out = _left_out(explainer, chosen, removal)
        chosen = [name for name in chosen if name not in left_out]
    beside = [name for name in (FLOOR, CEILING, ATTENTION) if name in explainer.methods]
    ordered = [name for name in EXPLAINERS if name in {*chosen, *beside}]
    return BatterySettings(tuple(ordered), removal, seed), left_out  # type: ignore[arg-type]


def _left_out(explainer: Explainer, chosen: Sequence[str], removal: str) -> dict[str, str]:
    """Return the methods that are left out where none is named, each with its reason."""
    reasons = {method: _reason(explainer, method) for method in EXPLAINERS if method not in explainer.methods}
    for method in explainer.methods:
        if method not in chosen:
            reasons[method] = f"slow ({SLOW[method]}); --methods all adds it"
        elif method == "occlusion" and removal in BASELINES:
            reasons[method] = f"the same as leave_one_out where removed tokens are replaced ({removal})"
    return reasons


def _reason(explainer: Explainer, method: str) -> str:
    try:
        refuse_method(method, explainer.needs)
    except UserError as error:
        return str(error).removeprefix("method ")
    raise AssertionError(method)


def displayed_order(methods: Iterable[str]) -> list[str]:
    """Return names of methods in the order of tables: the floor, attention, the others by family, and the ceiling.

    >>> displayed_order(["leave_one_out", "occlusion", "saliency", "raw_attention", "random_attribution"])
    ['random_attribution', 'raw_attention', 'saliency', 'occlusion', 'leave_one_out']
    """
    order = [FLOOR, ATTENTION, *(method for method in EXPLAINERS if method not in ROLES)]
    place = lambda method: order.index(method) if method in order else len(order)  # noqa: E731
    return sorted(methods, key=lambda method: (method == CEILING, place(method), method))
