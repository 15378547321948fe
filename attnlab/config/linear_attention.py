"""Configs of linear attention: a state rule and a feature map, each selected by its `kind`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Seed


class RuleConfig(Config):
    """Base class of the configs of state rules, with the properties that models check."""

    ordered: ClassVar[bool] = True
    """Whether the state depends on the order of tokens, so that only a decoder can use the rule."""
    feature_map: ClassVar[str] = "identity"
    """Kind of the feature map of the rule's paper."""


class SumRule(RuleConfig):
    """S_i = S_{i−1} + key_i value_iᵀ (Katharopoulos et al. 2020); in an encoder, the sum over all tokens."""

    ordered = False
    feature_map = "elu_plus_one"
    kind: Literal["sum_rule"] = "sum_rule"
    normalized: bool = True
    """Divide each output by the sum of its weights."""


class Retention(RuleConfig):
    """S_i = γ S_{i−1} + key_i value_iᵀ, with a fixed γ for each head of keys (RetNet, Sun et al. 2023)."""

    kind: Literal["retention"] = "retention"


class Gated(RuleConfig):
    """S_i = diag(α_i) S_{i−1} + key_i value_iᵀ, α_i = sigmoid(x W_1 W_2 + b)^(1 / τ) (GLA, Yang et al. 2024)."""

    kind: Literal["gated"] = "gated"
    rank: PositiveInt = 16
    """Width between W_1 and W_2."""
    temperature: PositiveFloat = 16.0
    """τ: a larger one lets the state decay more slowly."""

    def tiny(self) -> Self:
        return self.with_limits(rank=4)


class DeltaRule(RuleConfig):
    """S_i = (I − β_i key_i key_iᵀ) S_{i−1} + β_i key_i value_iᵀ, β_i = sigmoid(x W + b) (Yang et al. 2024)."""

    feature_map = "silu_unit"
    kind: Literal["delta_rule"] = "delta_rule"


class GatedDeltaRule(RuleConfig):
    """The delta rule of α_i S_{i−1}, α_i = exp(−exp(a) softplus(x W + b)) (Yang, Kautz & Hatamizadeh 2024)."""

    feature_map = "silu_unit"
    kind: Literal["gated_delta_rule"] = "gated_delta_rule"


Rule = Annotated[SumRule | Retention | Gated | DeltaRule | GatedDeltaRule, Field(discriminator="kind")]


class EluPlusOne(Config):
    """φ(x) = elu(x) + 1 (Katharopoulos et al. 2020)."""

    kind: Literal["elu_plus_one"] = "elu_plus_one"


class Identity(Config):
    """φ(x) = x."""

    kind: Literal["identity"] = "identity"


class SiluUnit(Config):
    """φ(x) = silu(x) / ‖silu(x)‖ (Yang et al. 2024)."""

    kind: Literal["silu_unit"] = "silu_unit"


class Favor(Config):
    """Positive orthogonal random features of Performer (Choromanski et al. 2021), drawn once for each layer."""

    kind: Literal["favor"] = "favor"
    features: PositiveInt = 128
    """Number of random features."""
    seed: Seed = 0
    """Seed of the random features; layers draw different ones."""

    def tiny(self) -> Self:
        return self.with_limits(features=16)


class Cosformer(Config):
    """relu features, reweighted by the cosine of the distance; valid up to `max_length` (Qin et al. 2022)."""

    kind: Literal["cosformer"] = "cosformer"


class Hedgehog(Config):
    """φ(x) = [exp(Wᵀ x + b), exp(−Wᵀ x − b)], learned for each head of queries and of keys (Zhang et al. 2024)."""

    kind: Literal["hedgehog"] = "hedgehog"


FeatureMap = Annotated[EluPlusOne | Identity | SiluUnit | Favor | Cosformer | Hedgehog, Field(discriminator="kind")]


class LinearAttention(Config):
    """output_i = S_iᵀ φ(query_i), with a state S of fixed size: time linear in the length, and no weights."""

    rule: Rule = SumRule()
    """How a token changes the state."""
    feature_map: FeatureMap | None = None
    """Features of queries and keys; null uses those of the rule's paper."""
    output_norm: bool | None = None
    """Normalize the output of each head by its root mean square, with a learned scale; null does so unless the rule is
    normalized."""
    chunk: PositiveInt | None = None
    """Number of tokens whose weights are computed at once, which changes only the cost; null uses 64, or 16 for
    `gated`."""

    @property
    def map_kind(self) -> str:
        """Return the kind of the feature map."""
        return self.rule.feature_map if self.feature_map is None else self.feature_map.kind

    @property
    def has_output_norm(self) -> bool:
        """Return whether the output of each head is normalized."""
        normalized = isinstance(self.rule, SumRule) and self.rule.normalized
        return not normalized if self.output_norm is None else self.output_norm

    @model_validator(mode="after")
    def _keys_are_short(self) -> Self:
        if "delta" in self.rule.kind and self.map_kind in ("favor", "hedgehog", "cosformer", "elu_plus_one"):
            raise ValueError(
                f"feature_map: the keys of {self.map_kind} may be longer than 1, with which the state of "
                f"{self.rule.kind} grows without bound; use silu_unit, or null"
            )
        return self
