"""Faithfulness: whether attributions, attention weights among them, tell which tokens the model's output depends on.

Functions see one example; `jax.vmap` adds a batch. The model is a plain function: `predict(removed [m n]) -> [m]`. It
returns the target's probability for m versions of one text of n tokens, each without the tokens that are marked True.
What "removed" means (replaced by padding, dropped, masked in attention) is up to the function, and should be reported.
Attributions are an array [n], or the `Attribution` of a method; a NaN among those of tokens that count makes a metric
NaN. `removable` is True for tokens that are neither padding nor special, `valid` for real tokens.

A call has up to n + 1 versions; for long texts let `predict` run them in parts, with `jax.lax.map(…, batch_size=…)`.
"""

from attnlab.analysis.faithfulness.adversarial import AdversarialAttention, adversarial_attention
from attnlab.analysis.faithfulness.adversarial_rows import AdversarialRows, adversarial_rows
from attnlab.analysis.faithfulness.agreement import (
    gradient_magnitudes,
    significant_share,
    taucorr_gradient,
    taucorr_loo,
    taucorr_loo_tvd,
)
from attnlab.analysis.faithfulness.correlation import Correlation, kendall_tau, spearman_rho
from attnlab.analysis.faithfulness.curves import deletion_auc, deletion_curve, insertion_auc, insertion_curve
from attnlab.analysis.faithfulness.erasure import (
    aopc_compr,
    aopc_suff,
    comprehensiveness,
    decision_flip_fraction,
    log_odds,
    normalized_comprehensiveness,
    normalized_sufficiency,
    sufficiency,
)
from attnlab.analysis.faithfulness.input_invariance import input_invariance
from attnlab.analysis.faithfulness.model_consistent import DivergenceCurve, divergence_curve
from attnlab.analysis.faithfulness.permutation import PermutationTest, permutation_test
from attnlab.analysis.faithfulness.polarity import faithfulness_violation
from attnlab.analysis.faithfulness.randomization import mprt, permute_parameters, replace_parameters
from attnlab.analysis.faithfulness.removal import RATIOS, rationale_kept, rationale_removed
from attnlab.analysis.faithfulness.sensitivity import (
    avg_sensitivity,
    infidelity,
    max_sensitivity,
    sensitivities,
    token_infidelity,
)
from attnlab.analysis.faithfulness.soft import soft_comprehensiveness, soft_sufficiency

__all__ = [
    "RATIOS", "AdversarialAttention", "AdversarialRows", "Correlation", "DivergenceCurve",
    "PermutationTest", "adversarial_attention", "adversarial_rows", "aopc_compr", "aopc_suff", "avg_sensitivity",
    "comprehensiveness", "decision_flip_fraction", "deletion_auc", "deletion_curve", "divergence_curve",
    "faithfulness_violation", "gradient_magnitudes", "infidelity", "input_invariance",
    "insertion_auc", "insertion_curve", "kendall_tau", "log_odds", "max_sensitivity", "mprt",
    "normalized_comprehensiveness", "normalized_sufficiency", "permutation_test", "permute_parameters",
    "rationale_kept", "rationale_removed", "replace_parameters", "sensitivities", "significant_share",
    "soft_comprehensiveness", "soft_sufficiency", "spearman_rho", "sufficiency", "taucorr_gradient", "taucorr_loo",
    "taucorr_loo_tvd", "token_infidelity",
]  # fmt: skip
