"""Normalizers: functions from logits to weights. The mask comes as `where`, never as a large negative number.

A normalizer is called as `normalizer(logits, where)`, with keys along the last axis, and returns weights of the same
shape and dtype; `where` is True where a query may attend to a key, or None. A normalizer that depends on positions
derives from `Positional` and is called as `normalizer(logits, where, positions)`. For all of them: masked keys, and
keys with a logit of −inf, have weight exactly 0, and their logits (NaN, ±inf) reach no other weight and no gradient; a
fully masked row is all 0 with gradient 0; bfloat16 and float16 are computed in float32, and float64 stays float64.
"""

from attnlab.functional.normalizers.exponential import (
    Softmax,
    as_softmax,
    softmax,
    softmax_plus_one,
    softmax_with_sink,
    temperature,
)
from attnlab.functional.normalizers.permutation import Permuted, permuted, reorder
from attnlab.functional.normalizers.pointwise import Sigmoid, linear, relu_over_length, sigmoid
from attnlab.functional.normalizers.positional import Positional
from attnlab.functional.normalizers.selection import GumbelSoftmax, TopK, gumbel_softmax, hardmax, top_k
from attnlab.functional.normalizers.sparse import Entmax, entmax, entmax15, sparsemax
from attnlab.functional.normalizers.window import LocalP, local_p, predicted_center

__all__ = [
    "Entmax",
    "GumbelSoftmax",
    "LocalP",
    "Permuted",
    "Positional",
    "Sigmoid",
    "Softmax",
    "TopK",
    "as_softmax",
    "entmax",
    "entmax15",
    "gumbel_softmax",
    "hardmax",
    "linear",
    "local_p",
    "permuted",
    "predicted_center",
    "relu_over_length",
    "reorder",
    "sigmoid",
    "softmax",
    "softmax_plus_one",
    "softmax_with_sink",
    "sparsemax",
    "temperature",
    "top_k",
]
