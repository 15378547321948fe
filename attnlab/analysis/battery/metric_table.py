"""The metrics and tests of the battery: their groups, what is better, and what each says and cannot say."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricText:
    """A metric as a column of a table.

    Attributes:
        better: which values are better; "" for a number that is neither good nor bad.
        text: what it is, in a sentence.
    """

    better: Literal["higher", "lower", ""]
    text: str


@dataclass(frozen=True)
class MetricGroup:
    """Metrics that answer one question.

    Attributes:
        title: heading of the table.
        question: what it says and what it cannot say.
        metrics: by name.
        ceiling: whether leave-one-out is the ceiling of these metrics: it is none of plausibility.
    """

    title: str
    question: str
    metrics: dict[str, MetricText]
    ceiling: bool = True


ERASURE = MetricGroup(
    "Erasure",
    "The prediction without the tokens with the largest attributions, and with these alone. It says whether the "
    "model's output depends on these tokens more than on others. It cannot say how the model computes with them, and a "
    "text without tokens is unlike any text of the training: a fall may be due to that. Hence the random floor and the "
    "leave-one-out ceiling, which are computed on the same texts.",
    {
        "aopc_compr": MetricText("higher", "fall of the probability without the top 1, 5, 10, 20, 50% of the tokens"),
        "aopc_suff": MetricText("lower", "fall of the probability with these tokens alone"),
        "normalized_comprehensiveness": MetricText("higher", "the first as a share of the fall without any token"),
        "normalized_sufficiency": MetricText("higher", "share of that fall that the top tokens prevent"),
        "log_odds": MetricText("lower", "change of the log-probability without the top tokens"),
        "deletion_auc": MetricText("lower", "area under the probability as tokens are removed, the largest first"),
        "insertion_auc": MetricText("higher", "area as tokens are added to the empty text"),
        "decision_flip_fraction": MetricText(
            "lower",
            "share of tokens that must go until the decision changes, of texts with another decision without any token",
        ),
        "soft_comprehensiveness": MetricText(
            "higher", "features set to 0 at random (whatever removal is), the more the larger the attribution"
        ),
        "soft_sufficiency": MetricText(
            "higher", "features kept at random, the others 0 (whatever removal is), the more the larger the attribution"
        ),
    },
)
AGREEMENT = MetricGroup(
    "Agreement and sanity",
    "Rank correlation with leave-one-out: with its sign (taucorr_loo, as in ferret, Attanasio et al. 2023), and of the "
    "sizes |a| with the distance of the predictions (taucorr_loo_tvd, Jain & Wallace 2019), as with the sizes of "
    "gradients (taucorr_gradient, the same); the sign of the most important token (violation, Liu et al. 2022); and "
    "the rank correlation with the attributions of a model with random parameters (mprt). A low "
    "correlation between two methods does not say which of them is right; a high mprt says that the method explains "
    "the text or the architecture, not what was learned. The significant share counts texts in which p ≤ 0.05.",
    {
        "taucorr_loo": MetricText("higher", "Kendall's τ of a with the fall of the target without each token"),
        "taucorr_loo_significant": MetricText("", "share of texts in which it is significant"),
        "taucorr_loo_tvd": MetricText("higher", "Kendall's τ of |a| with the change (TVD) without each token"),
        "taucorr_loo_tvd_significant": MetricText("", "share of texts in which it is significant"),
        "taucorr_gradient": MetricText("higher", "Kendall's τ of |a| with |gradient × input| at fixed weights"),
        "taucorr_gradient_significant": MetricText("", "share of texts in which it is significant"),
        "violation": MetricText("lower", "share of texts in which the top token's sign is that of the opposite effect"),
        "mprt": MetricText("lower", "Spearman's ρ with the attributions of a randomized model"),
        "completeness_gap": MetricText("lower", "|Σ attributions − (F(x) − F(baseline))| of integrated gradients"),
    },
)
PLAUSIBILITY = MetricGroup(
    "Plausibility",
    "Agreement with what the data mark as the reason. It says whether people would point at the same tokens. It does "
    "not say that the model uses them: a model may be right for other reasons, and a faithful method then disagrees. "
    "Marks are the reasons of the reference, so that those of wrong predictions are reasons against the target: hence "
    "the means over correct predictions, where the task has a single right answer.",
    {
        "auprc_plau": MetricText("higher", "area under the precision–recall curve of marked tokens"),
        "token_f1_plau": MetricText("higher", "F1 of the top k tokens, k the mean number of marked tokens"),
        "token_iou_plau": MetricText("higher", "intersection over union of the top k tokens and the marked ones"),
        "pointing_game": MetricText("higher", "share of texts (images) whose top token (cell) is marked"),
        "relevance_mass_accuracy": MetricText("higher", "share of the positive attribution on marked tokens"),
    },
    ceiling=False,
)
GROUPS = (ERASURE, AGREEMENT, PLAUSIBILITY)
METRICS = {name: text for group in GROUPS for name, text in group.metrics.items()}
OF_GENERATED = (
    "The target is the whole output: f(x) is the geometric mean of the probabilities of its tokens, "
    "exp(log p(y | x) / |y|), with the output itself as the decoder's input. The decision flips are the mean over "
    "the output tokens that are others without any input."
)
OF_TASK = (
    "The metrics of the task, in percent, on the same examples: with the model's own attention, and with uniform "
    "weights in the attention to the input, where everything else stays as it was learned. Generated texts are "
    "generated anew with these weights. A difference near 0 says that this model does as well without its weights on "
    "these examples. A large one does not say that the task needs them: a model trained with uniform weights may do "
    "as well (Wiegreffe & Pinter 2019)."
)
OF_ONE = "The target is the model's own prediction; f(x) is its probability."
TESTS = MetricGroup(
    "Tests of attention",
    "Other attention weights in the place of the model's own, with everything else fixed. Small changes under permuted "
    "or uniform weights, or an adversary with the same prediction, say that this model's prediction does not need "
    "these weights. They do not say that a model could have learned the others (Wiegreffe & Pinter 2019), nor that the "
    "weights tell nothing: where all states carry the same information, any weights give the same output (Mohankumar "
    "et al. 2020).",
    {
        "permutation_median_tvd": MetricText("", "median change of the prediction over random orders of the weights"),
        "permutation_max_weight": MetricText("", "the largest weight, beside it"),
        "uniform_tvd": MetricText("", "change of the prediction with uniform weights"),
        "uniform_same_decision": MetricText("", "share of decisions that stay the same with uniform weights"),
        "uniform_probability_change": MetricText("", "change of the target's probability with uniform weights"),
        "adversarial_jsd": MetricText(
            "",
            "largest divergence from the weights with the same prediction (at most 0.69); of several rows their mean",
        ),
        "adversarial_tvd": MetricText(
            "", "change of the prediction with these weights; of several decisions their mean"
        ),
        "adversarial_largest_tvd": MetricText("", "the change of the decision that changes most, of several"),
        "adversarial_found": MetricText("", "share of texts with divergence ≥ 0.5 and change ≤ ε = 0.01"),
    },
)
