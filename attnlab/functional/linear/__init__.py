"""Linear attention: feature maps, state rules, and the forms of a rule that are equal but for their cost.

    output, state = linear_attention(query, key, value, rule=linear.delta_rule(beta), causal=True)

A feature map is a function of one head, features [t d] -> features [t m]; parameters are bound with
`jax.tree_util.Partial`. A rule is a pytree with an entry of its arrays for each token. `recurrent`, `parallel`,
`chunked` and `bidirectional` compute one head of one example, `linear_attention` all of them.
"""

from attnlab.functional.linear.attention import State, linear_attention
from attnlab.functional.linear.cosformer import Cosformer, cosformer
from attnlab.functional.linear.delta import DeltaRule, GatedDeltaRule, delta_rule, gated_delta_rule
from attnlab.functional.linear.elementwise import elu_plus_one, identity, silu_unit
from attnlab.functional.linear.favor import favor, orthogonal_projection
from attnlab.functional.linear.forms import bidirectional, chunked, init_state, parallel, recurrent
from attnlab.functional.linear.gated import Gated, gated
from attnlab.functional.linear.hedgehog import hedgehog
from attnlab.functional.linear.positional import Positional
from attnlab.functional.linear.retention import Retention, retention, retention_decays
from attnlab.functional.linear.rule import Rule
from attnlab.functional.linear.sum_rule import SumRule, sum_rule

__all__ = [
    "Cosformer",
    "DeltaRule",
    "Gated",
    "GatedDeltaRule",
    "Positional",
    "Retention",
    "Rule",
    "State",
    "SumRule",
    "bidirectional",
    "chunked",
    "cosformer",
    "delta_rule",
    "elu_plus_one",
    "favor",
    "gated",
    "gated_delta_rule",
    "hedgehog",
    "identity",
    "init_state",
    "linear_attention",
    "orthogonal_projection",
    "parallel",
    "recurrent",
    "retention",
    "retention_decays",
    "silu_unit",
    "sum_rule",
]
