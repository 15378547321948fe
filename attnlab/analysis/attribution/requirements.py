"""What each method needs of a model, and which other method works where a model does not have it."""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Need = Literal[
    "embedded", "removal", "attention", "self_attention_layer", "self_attention", "cross_attention",
    "decoder_self_attention", "weight_gradients", "values", "feed_forward_norm", "layer",
]  # fmt: skip
DESCRIPTIONS: dict[Need, str] = {
    "embedded": "a score that is a differentiable function of the embedded tokens",
    "removal": "a score that is a function of which tokens are removed",
    "attention": "attention weights",
    "self_attention_layer": "a layer of self-attention",
    "self_attention": "self-attention in every layer, of as many queries as keys",
    "cross_attention": "attention from one sequence to another",
    "decoder_self_attention": "self-attention in every layer of a decoder",
    "weight_gradients": "gradients of the score with respect to the attention weights",
    "values": "value vectors, output projections, residual inputs and norms of the attention layers",
    "feed_forward_norm": "the norm behind the feed-forward network, or pre-norm layers, which have none",
    "layer": "a function that recomputes a layer with some values zeroed",
}
IMPLIED: dict[Need, frozenset[Need]] = {
    "self_attention_layer": frozenset({"attention"}),
    "self_attention": frozenset({"attention", "self_attention_layer"}),
    "cross_attention": frozenset({"attention"}),
    "decoder_self_attention": frozenset({"attention", "self_attention_layer"}),
}
"""What a model has that meets these needs."""


@dataclass(frozen=True)
class Requirement:
    """What one method needs, and what to use instead where that is missing."""

    needs: frozenset[Need]
    instead: tuple[str, ...]
    """Methods that answer a similar question, the most similar first."""


def _requirement(*needs: Need, instead: tuple[str, ...] = ()) -> Requirement:
    return Requirement(frozenset(needs), instead)


_ONE_LAYER = ("attention_norms", "raw_attention", "integrated_gradients", "leave_one_out")
ATTRIBUTION_METHODS: dict[str, Requirement] = {
    "saliency": _requirement("embedded", instead=("leave_one_out",)),
    "input_x_gradient": _requirement("embedded", instead=("leave_one_out",)),
    "integrated_gradients": _requirement("embedded", instead=("leave_one_out",)),
    "smooth_grad": _requirement("embedded", instead=("leave_one_out",)),
    "occlusion": _requirement("embedded", instead=("leave_one_out",)),
    "leave_one_out": _requirement("removal", instead=("occlusion",)),
    "greedy_leave_one_out": _requirement("removal", instead=("occlusion",)),
    "random_attribution": _requirement(),
    "raw_attention": _requirement("attention", instead=("integrated_gradients", "leave_one_out")),
    "gradient_x_attention": _requirement(
        "attention", "weight_gradients", instead=("input_x_gradient", "raw_attention", "leave_one_out")
    ),
    "attention_rollout": _requirement(
        "self_attention", instead=_ONE_LAYER
    ),
    "attention_flow": _requirement(
        "self_attention", instead=_ONE_LAYER
    ),
    "attention_relevance": _requirement(
        "self_attention", "weight_gradients", instead=("gradient_x_attention", "integrated_gradients", "leave_one_out")
    ),
    "encoder_decoder_relevance": _requirement(
        "cross_attention", "decoder_self_attention", "weight_gradients",
        instead=("attention_relevance", "gradient_x_attention", "integrated_gradients", "leave_one_out"),
    ),
    "cross_attention_relevance": _requirement(
        "cross_attention", "weight_gradients",
        instead=("attention_relevance", "gradient_x_attention", "integrated_gradients", "leave_one_out"),
    ),
    "attention_norms": _requirement(
        "attention", "values", instead=("raw_attention", "integrated_gradients", "leave_one_out")
    ),
    "block_norms": _requirement(
        "self_attention_layer", "values", instead=_ONE_LAYER
    ),
    "globenc": _requirement(
        "self_attention", "values", "feed_forward_norm", instead=("alti", *_ONE_LAYER)
    ),
    "alti": _requirement(
        "self_attention", "values", instead=_ONE_LAYER
    ),
    "alti_plus": _requirement(
        "cross_attention", "decoder_self_attention", "values", instead=("alti", *_ONE_LAYER)
    ),
    "value_zeroing": _requirement("layer", instead=("attention_norms", "occlusion", "leave_one_out")),
}  # fmt: skip
"""Every method, with what it needs."""


def check_method(method: str, available: Collection[str]) -> None:
    """Raise unless a model has what a method needs; name a method that works instead.

    Args:
        method: a key of `ATTRIBUTION_METHODS`.
        available: the `Need`s that the model meets, keys of `DESCRIPTIONS`; those in `IMPLIED` are added.

    >>> check_method("attention_rollout", {"embedded", "attention", "values"})
    Traceback (most recent call last):
    ValueError: attention_rollout needs self-attention in every layer, of as many queries as keys; use attention_norms
    """
    if method not in ATTRIBUTION_METHODS:
        near = get_close_matches(method, ATTRIBUTION_METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"methods are {', '.join(ATTRIBUTION_METHODS)}"
        raise ValueError(f"there is no attribution method {method!r}; {hint}")
    if unknown := sorted(set(available) - set(DESCRIPTIONS)):
        names = ", ".join(map(repr, unknown))
        raise ValueError(f"check_method: there is no need {names} (in available); needs are {list(DESCRIPTIONS)}")
    met = set(available).union(*(IMPLIED[need] for need in IMPLIED if need in available))
    requirement = ATTRIBUTION_METHODS[method]
    missing = [DESCRIPTIONS[need] for need in DESCRIPTIONS if need in requirement.needs - met]
    if missing:
        others = [*requirement.instead, *(name for name in ATTRIBUTION_METHODS if ATTRIBUTION_METHODS[name].needs)]
        works = [name for name in others if ATTRIBUTION_METHODS[name].needs <= met]
        hint = f"use {works[0]}" if works else "no method of attribution but random_attribution works for this model"
        raise ValueError(f"{method} needs {', and '.join(missing)}; {hint}")
