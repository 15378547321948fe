"""Scores: functions of one head of one example, (query [q d], key [k e]) -> logits [q k].

Parameters are bound with `jax.tree_util.Partial`, which makes the score a pytree:

    score = Partial(scores.general, w=w)
"""

from attnlab.functional.scores.constant import constant as constant
from attnlab.functional.scores.distances import cosine as cosine
from attnlab.functional.scores.distances import negative_squared_distance as negative_squared_distance
from attnlab.functional.scores.feed_forward import additive as additive
from attnlab.functional.scores.feed_forward import concat as concat
from attnlab.functional.scores.products import dot as dot
from attnlab.functional.scores.products import general as general
from attnlab.functional.scores.products import multiplicative as multiplicative
from attnlab.functional.scores.products import scaled_dot as scaled_dot
from attnlab.functional.scores.trilinear import trilinear as trilinear
