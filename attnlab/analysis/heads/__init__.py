"""Statistics of attention heads: patterns, sinks, similarity, importance, detection, and alarms.

The functions take the weights of one head of one example, or of all heads where they compare them; `jax.vmap` adds the
rest.
"""

from attnlab.analysis.heads.alarms import Alarm as Alarm
from attnlab.analysis.heads.alarms import AlarmKind as AlarmKind
from attnlab.analysis.heads.alarms import attention_alarms as attention_alarms
from attnlab.analysis.heads.alarms import max_difference_from_uniform as max_difference_from_uniform
from attnlab.analysis.heads.alarms import max_divergence_from_mean as max_divergence_from_mean
from attnlab.analysis.heads.coverage import CoverageDeviation as CoverageDeviation
from attnlab.analysis.heads.coverage import coverage as coverage
from attnlab.analysis.heads.coverage import coverage_deviation as coverage_deviation
from attnlab.analysis.heads.detection import duplicate_token_head as duplicate_token_head
from attnlab.analysis.heads.detection import duplicate_token_pattern as duplicate_token_pattern
from attnlab.analysis.heads.detection import induction_head as induction_head
from attnlab.analysis.heads.detection import induction_pattern as induction_pattern
from attnlab.analysis.heads.detection import pattern_score as pattern_score
from attnlab.analysis.heads.detection import previous_token_head as previous_token_head
from attnlab.analysis.heads.detection import previous_token_pattern as previous_token_pattern
from attnlab.analysis.heads.importance import PruningCurve as PruningCurve
from attnlab.analysis.heads.importance import ablate_all_but_one as ablate_all_but_one
from attnlab.analysis.heads.importance import ablate_one as ablate_one
from attnlab.analysis.heads.importance import head_importance as head_importance
from attnlab.analysis.heads.importance import mean_output as mean_output
from attnlab.analysis.heads.importance import normalized_by_layer as normalized_by_layer
from attnlab.analysis.heads.importance import open_gates as open_gates
from attnlab.analysis.heads.importance import pruning_curve as pruning_curve
from attnlab.analysis.heads.patterns import HeadStatistics as HeadStatistics
from attnlab.analysis.heads.patterns import confidence as confidence
from attnlab.analysis.heads.patterns import diagonality as diagonality
from attnlab.analysis.heads.patterns import distance as distance
from attnlab.analysis.heads.patterns import effective_support as effective_support
from attnlab.analysis.heads.patterns import entropy as entropy
from attnlab.analysis.heads.patterns import head_statistics as head_statistics
from attnlab.analysis.heads.patterns import mean_offset_mass as mean_offset_mass
from attnlab.analysis.heads.patterns import mean_over_queries as mean_over_queries
from attnlab.analysis.heads.patterns import normalized_entropy as normalized_entropy
from attnlab.analysis.heads.patterns import offset_mass as offset_mass
from attnlab.analysis.heads.patterns import padding as padding
from attnlab.analysis.heads.similarity import HeadMatch as HeadMatch
from attnlab.analysis.heads.similarity import head_divergence as head_divergence
from attnlab.analysis.heads.similarity import linear_cka as linear_cka
from attnlab.analysis.heads.similarity import match_heads as match_heads
from attnlab.analysis.heads.sinks import received_attention as received_attention
from attnlab.analysis.heads.sinks import sink_rate as sink_rate
from attnlab.analysis.heads.sinks import value_norm_ratio as value_norm_ratio
from attnlab.analysis.heads.states import conicity as conicity
from attnlab.analysis.heads.states import massive_activation_ratio as massive_activation_ratio
