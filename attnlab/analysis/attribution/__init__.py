"""Attribution: what each input token contributes to one number that a model computes, as pure functions.

- Methods on a function `embedded -> score` (gradients, perturbations) return an `Attribution`: numbers for the tokens
  of one example, and for integrated gradients the completeness gap beside them.
- Methods on captured arrays return a matrix [q k]: the part of key or input token k in query q's output. The row of
  the query whose prediction is explained is the attribution.

All are written for one example; `jax.vmap` gives batches (`attention_flow` alone runs on NumPy arrays). None needs
anything of the lab but `attention_block` and `pooled_values`, which take a record of the capture.
`ATTRIBUTION_METHODS` lists what each needs of a model. Layers are numbered from 1; `valid` is True for real tokens,
`removable` for those that may be removed.
"""

from attnlab.analysis.attribution.aggregation import aggregate_features, aggregate_segments
from attnlab.analysis.attribution.alti import AltiPlus, alti, alti_contributions, alti_plus
from attnlab.analysis.attribution.attention_weights import gradient_x_attention, raw_attention
from attnlab.analysis.attribution.captured import attention_block, pooled_values
from attnlab.analysis.attribution.controls import greedy_leave_one_out, random_attribution
from attnlab.analysis.attribution.decomposition import (
    AttentionBlock,
    Decomposition,
    NormParameters,
    decompose_cross_attention,
    decompose_self_attention,
    weighted_values,
)
from attnlab.analysis.attribution.flow import attention_flow
from attnlab.analysis.attribution.globenc import EncoderBlock, encoder_norms, globenc
from attnlab.analysis.attribution.gradients import input_x_gradient, saliency
from attnlab.analysis.attribution.integrated_gradients import integrated_gradients
from attnlab.analysis.attribution.norms import attention_norms, block_norms, head_attention_norms, mixing_ratio
from attnlab.analysis.attribution.occlusion import leave_one_out, occlusion
from attnlab.analysis.attribution.relevance import (
    BimodalRelevance,
    attention_relevance,
    cross_attention_relevance,
    encoder_decoder_relevance,
    initial_relevance,
    positive_gradient_x_attention,
    self_attention_relevance,
)
from attnlab.analysis.attribution.requirements import ATTRIBUTION_METHODS, check_method
from attnlab.analysis.attribution.rollout import attention_rollout, rollout
from attnlab.analysis.attribution.smooth_grad import smooth_grad
from attnlab.analysis.attribution.value_zeroing import value_zeroing
from attnlab.analysis.record import Attribution

__all__ = [
    "ATTRIBUTION_METHODS", "AltiPlus", "AttentionBlock", "Attribution", "BimodalRelevance", "Decomposition",
    "EncoderBlock", "NormParameters", "aggregate_features", "aggregate_segments", "alti", "alti_contributions",
    "alti_plus", "attention_block", "attention_flow", "attention_norms", "attention_relevance", "attention_rollout",
    "block_norms", "check_method", "cross_attention_relevance", "decompose_cross_attention",
    "decompose_self_attention", "encoder_decoder_relevance", "encoder_norms", "globenc", "gradient_x_attention",
    "greedy_leave_one_out", "head_attention_norms", "initial_relevance", "input_x_gradient", "integrated_gradients",
    "leave_one_out", "mixing_ratio", "occlusion", "pooled_values", "positive_gradient_x_attention",
    "random_attribution", "raw_attention", "rollout", "saliency", "self_attention_relevance", "smooth_grad",
    "value_zeroing", "weighted_values",
]  # fmt: skip
