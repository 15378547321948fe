"""Common mistakes: a call as a user of another library writes it, the name in its error, and the suggested code.

Run as a program it makes every mistake and prints the errors as JSON. It runs in a separate process, because pytest
checks the annotations, so that jaxtyping would raise first.
"""

# ruff: noqa: F401  the calls are texts

import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax.tree_util import Partial

import attnlab
from attnlab import (
    attention,
    attention_weights,
    cache,
    extras,
    jax_nn_dot_product_attention,
    linen_attention_fn,
    masks,
    mods,
    nnx_attention_fn,
    normalizers,
    parts,
    plan,
    pool,
    rotary,
    scores,
)

Tensor = type("Tensor", (SimpleNamespace,), {"__module__": "torch"})

q = jax.random.normal(jax.random.key(0), (2, 5, 4, 8))
k = jax.random.normal(jax.random.key(1), (2, 6, 4, 8))
v = k[..., :3]
n = jnp.ones(4)
same = jax.random.normal(jax.random.key(2), (2, 4, 4, 8))
where = jnp.ones((5, 6), bool)
added = jnp.where(jnp.arange(6) < 3, 0.0, -jnp.inf)[None, :] + jnp.zeros((5, 1))
later = jnp.arange(5) + 3


def two(query_position, key_position):
    return query_position >= key_position


def kept(logits, positions, bias):
    return logits + bias


ARGUMENTS = [  # names of other libraries
    ("attention(q, k, v, scale=0.5)", "scale", "score=Partial(scores.scaled_dot, scale=scale)"),
    ("attention(q, k, v, softmax_scale=0.5)", "softmax_scale", "score=Partial(scores.scaled_dot, scale=scale)"),
    ("attention(q, k, v, bias=added)", "bias", "mods=(mods.bias("),
    ("attention(q, k, v, is_causal=True)", "is_causal", "mask=masks.causal()"),
    ("attention(q, k, v, causal=True)", "causal", "mask=masks.causal()"),
    ("attention(q, k, v, attn_mask=where)", "attn_mask", "mask=masks.array("),
    ("attention(q, k, v, key_padding_mask=where)", "key_padding_mask", 'mask=masks.array(where, "b k")'),
    ("attention(q, k, v, block_mask=where)", "block_mask", "mask=masks.array("),
    ("attention(q, k, v, mask_mod=two)", "mask_mod", "mask=masks.from_fn("),
    ("attention(q, k, v, score_mod=kept)", "score_mod", "mods=(mod,)"),
    ("attention(q, k, v, dropout_rng=jax.random.key(0))", "dropout_rng", "rng=jax.random.key(0)"),
    ("attention(q, k, v, dropout_p=0.1)", "dropout_p", "dropout_rate=0.1"),
    ("attention(q, k, v, deterministic=True)", "deterministic", "dropout_rate=0.0"),
    ("attention(q, k, v, enable_gqa=True)", "enable_gqa", "key and value may have fewer heads"),
    ("attention(q, k, v, logits_soft_cap=50.0)", "logits_soft_cap", "mods=(mods.soft_cap(50.0),)"),
    ("attention(q, k, v, local_window_size=3)", "local_window_size", "mask=masks.sliding_window("),
    ("attention(q, k, v, key_value_seq_lengths=n)", "key_value_seq_lengths", "mask=masks.lengths("),
    ("attention(q, k, v, segment_ids=n)", "segment_ids", "mask=masks.segments("),
    ("attention(q, k, v, alibi_slopes=n)", "alibi_slopes", "mods=(mods.alibi(heads),)"),
    ("attention(q, k, v, need_weights=True)", "need_weights", 'returns=("weights",)'),
    ("attention(q, k, v, return_residual=True)", "return_residual", 'returns=("lse",)'),
    ("attention(q, k, v, precision='highest')", "precision", "jax.default_matmul_precision("),
    ("attention(q, k, v, dtype=jnp.bfloat16)", "dtype", "query.astype(dtype)"),
    ("attention(q, k, v, num_heads=4)", "num_heads", "query.reshape("),
    ("attention(q, k, v, sinks=n)", "sinks", 'normalizers.softmax_with_sink(parts.map_over(sink, "h"))'),
    ("attention(q, k, v, positions=later)", "positions", "query_positions="),
    ("attention(q, keys=k, values=v)", "keys", "key="),
    ("attention(q, k, v, masks=masks.causal(0))", "masks", "mask="),
    ("attention(q, k, v, normaliser=normalizers.softmax)", "normaliser", "normalizer="),
    ("plan(q, k, v, is_causal=True)", "plan: unexpected argument is_causal", "mask=masks.causal()"),
    ("linen_attention_fn(scale=0.5)", "scale", "score=Partial(scores.scaled_dot, scale=scale)"),
    ("nnx_attention_fn(is_causal=True)", "is_causal", "mask=masks.causal()"),
    ("attention_weights(q, k, returns=('lse',))", "returns", "one of"),
    ("jax_nn_dot_product_attention(q, k, v, dropout_rate=0.1)", "dropout_rate", "one of"),
    ("cache.attend(cache.init(k, v, 8), k, k, v, is_causal=True)", "is_causal", "mask=masks.causal()"),
]
ORDER = [  # too few, too many, in another order
    ("attention(q, k)", "value", "attention(query, key, value)"),
    ("attention(q, k, v, masks.causal(0))", "4 arguments by position", "attention(query, key, value, mask=...)"),
    ("attention(q, k, v, key=jax.random.key(0))", "key is given twice", "rng=jax.random.key(0)"),
    ("attention_weights(q, k, v)", "3 arguments by position", "attention_weights(query, key, mask=...)"),
    ("pool(v, attention_weights(q, k))", "weights", "pool(weights, value)"),
    ("parts.map_over('h', n)", "axes", 'map_over(array, "h")'),
    ("parts.map_over(n, 'heads')", "axes", 'map_over(array, "h")'),
    ("masks.sliding_window(128)", "right", "sliding_window(left, right)"),
    ("masks.array(where, 'qk')", "axes", 'axes="q k"'),
    ("masks.array(jnp.ones((2, 6), bool), 'k b')", "axes", 'axes="b k"'),
    ("mods.bias(added)", "axes", 'axes="q k"'),
    ("mods.bias(added, 'q,k')", "axes", 'axes="q k"'),
    ("mods.soft_cap()", "cap", "soft_cap(cap)"),
    ("mods.alibi()", "heads", "alibi(heads)"),
    ("rotary(q, 3)", "positions", "n + jnp.arange(T)"),
    ("rotary(q, tables=jnp.ones((5, 2)))", "tables", "tables=(cos, sin)"),
    ("rotary(q, scaling={'factor': 8.0})", "scaling", "rotary_scaling.llama3(factor=8.0"),
    ("rotary(later, q)", "features", "rotary(query, positions)"),
    ("linen.MultiHeadDotProductAttention(2, attention_fn=linen_attention_fn).init(jax.random.key(0), q[:, :, 0])",
     "linen_attention_fn", "linen_attention_fn()"),
    ("attention(q.swapaxes(1, 2), k.swapaxes(1, 2), v.swapaxes(1, 2))", "5 query heads", "jnp.swapaxes(query, -2, -3)"),
    ("attention(q[0, :, 0], k[0, :, 0], v[0, :, 0])", "query", "query[:, None, :]"),
    ("attention(q, k, v, mods=(kept,))", "kept", "def kept(logits, positions)"),
    ("attention(q, k, v, mods=(lambda logits: logits,))", "mods[0]", "lambda logits, positions: ..."),
    ("attention(q, k, v, score=lambda query: query)", "score", "lambda query, key: ..."),
    ("attention(q, k, v, normalizer=jnp.exp2)", "normalizer", "normalizers.softmax"),
    ("attention(q, k, v, normalizer=lambda logits: logits)", "normalizer", "lambda logits, where: ..."),
    ("masks.from_fn(two)", "fn", "def two(query, key, head)"),
    ("masks.from_fn(where)", "fn", "array(where)"),
]  # fmt: skip
TYPES = [  # the wrong thing
    ("attention(q.tolist(), k, v)", "query", "jnp.asarray(query)"),
    ("attention(q, Tensor(shape=(2, 6, 4, 8)), v)", "key", "jnp.asarray(key.detach().cpu().numpy())"),
    ("attention(q, k, None)", "value", "attention_weights(query, key)"),
    ("attention(jax.ShapeDtypeStruct(q.shape, q.dtype), k, v)", "query", "plan("),
    ("attention(q.astype(int), k, v)", "int32", "query.astype(jnp.float32)"),
    ("attention(q + 1j, k, v)", "complex64", ".real and .imag"),
    ("attention(q, k, v, mask=where)", "mask", 'masks.array(where, axes="q k")'),
    ("attention(q, k, v, mask=where[None, None, :1])", "jax.Array", 'masks.array(where[:, 0, 0], axes="b k")'),
    ("attention(q, k, v, mask=where.tolist())", "mask", 'masks.array(where, axes="q k")'),
    ("attention(q, k, v, mask=added)", "mask", 'mods.bias(mask, "q k")'),
    ("attention(q, k, v, mask=jnp.array([3, 6]))", "mask", "masks.lengths(mask)"),
    ("attention(q, k, v, mask=[masks.causal(0), masks.lengths(3)])", "mask", "mask=causal(0) & lengths("),
    ("attention(q, k, v, mask=masks.causal)", "mask", "masks.causal()"),
    ("attention(q, k, v, mask='causal')", "mask", "masks.causal()"),
    ("attention(q, k, v, mask=two)", "mask", "masks.from_fn(two)"),
    ("attention(q, k, v, mask=True)", "mask", "mask=None"),
    ("masks.causal(0) & where", "bool[5,6]", "masks.array(where, axes)"),
    ("masks.causal(0) and masks.lengths(3)", "mask", "&"),
    ("masks.array(jnp.ones((5, 6)))", "float32", "where.astype(bool)"),
    ("masks.lengths(jnp.ones((2, 6), bool))", "lengths", 'masks.array(where, "b k")'),
    ("masks.lengths(jnp.ones(2))", "lengths", ".astype(jnp.int32)"),
    ("masks.causal(True)", "alignment", 'alignment="lower_right"'),
    ("attention(q, k, v, mods=mods.soft_cap(2.0))", "mods", "mods=(mod,)"),
    ("attention(q, k, v, mods=None)", "mods", "mods=()"),
    ("attention(same, same, same, mods=(mods.alibi,))", "mods[0]", "mods=(mods.alibi(heads),)"),
    ("attention(q, k, v, mods=('soft_cap',))", "mods[0]", "mods=(mods.soft_cap(cap),)"),
    ("attention(q, k, v, mods=(mods.alibi(8),))", "mods[0]", "mods.alibi(4)"),
    ("attention(q, k, v, mods=(mods.relative_bias(jnp.ones((4, 9))),))", "table", 'parts.map_over(table, "h")'),
    ("attention(q, k, v, mods=(mods.t5_bias(jnp.ones((32, 4))),))", "table", 'parts.map_over(table, "h")'),
    ("mods.alibi(n)", "heads", "mods.alibi(8)"),
    ("mods.bias(where, 'q k')", "array", 'masks.array(array, "q k")'),
    ("attention(q, k, v, score='dot')", "score", "score=scores.dot"),
    ("attention(q, k, v, score=scores.dot(q[0, :, 0], k[0, :, 0]))", "score", "attnlab.scores"),
    ("attention(q, k, v, score=scores.general)", "score", "Partial(scores.general, w=w)"),
    ("attention(q, k, v, score=functools.partial(scores.general, w=parts.map_over(jnp.ones((4, 8, 8)), 'h')))",
     "score", "Partial(scores.general"),
    ("attention(q, k, v, normalizer='softmax')", "normalizer", "normalizer=normalizers.softmax"),
    ("attention(q, k, v, normalizer=None)", "normalizer", "attnlab.normalizers"),
    ("attention(q, k, v, normalizer=jax.nn.softmax)", "normalizer", "normalizers.softmax"),
    ("attention(q, k, v, normalizer=jax.nn.sigmoid)", "normalizer", "normalizers.softmax"),
    ("attention(q, k, v, normalizer=normalizers.entmax)", "normalizer", "normalizers.entmax(alpha)"),
    ("attention(q, k, v, normalizer=normalizers.Softmax)", "normalizer", "Softmax(...)"),
    ("normalizers.gumbel_softmax(0)", "rng", "jax.random.key(0)"),
    ("attention(q, k, v, dropout_rate=0.1)", "rng", "rng=jax.random.key(0)"),
    ("attention(q, k, v, dropout_rate=0.1, rng=0)", "rng", "rng=jax.random.key(0)"),
    ("attention(q, k, v, dropout_rate=0.1, rng=nnx.Rngs(0))", "rng", "rng=rngs()"),
    ("attention(q, k, v, dropout_rate=0.1, rng=jax.random.split(jax.random.key(0)))", "rng", "rng=rng[0]"),
    ("attention(q, k, v, dropout_rate=10, rng=jax.random.key(0))", "dropout_rate", "dropout_rate=0.1"),
    ("attention(q, k, v, dropout_rate=None)", "dropout_rate", "dropout_rate=0.1"),
    ("attention(q, k, v, returns='weights')", "returns", "('weights',)"),
    ("attention(q, k, v, returns=True)", "returns", 'returns=("weights",)'),
    ("attention(q, k, v, returns=('weight',))", "returns", 'returns=("weights",)'),
    ("attention(q, k, v, implementation='flash')", "implementation", 'implementation="streaming"'),
    ("attention(q, k, v, block_size=128)", "block_size", "block_size=(256, 256)"),
    ("attention(q, k, v, mesh=jax.devices())", "mesh", "jax.make_mesh("),
    ("attention(q, k, v, query_positions=7)", "query_positions", "query_positions=n + jnp.arange(5)"),
    ("attention(q, k, v, key_positions=list(range(6)))", "key_positions", "key_positions=n + jnp.arange(6)"),
    ("linen_attention_fn()(q, k, v, mask=added)", "mask", "bias=mask"),
    ("linen_attention_fn()(q, k, v, bias=where)", "bias", "mask=bias"),
    ("jax_nn_dot_product_attention(q, k, v, mask=added)", "mask", "bias=mask"),
]  # fmt: skip
SHAPES = [  # taken by clipping or broadcasting
    *((f"attention(same, same, same, mods=(mods.bias(jnp.ones({shape}), 'q k'),))", f"axis {axis}", "the inputs have 4")
      for shape, axis in (((3, 3), "q"), ((9, 9), "q"), ((4, 1), "k"), ((1, 4), "q"))),
    ("attention(same, same, same, mods=(mods.bias(jnp.ones((4, 1, 4)), 'h q k'),))", "axis q", "axes=...) without q"),
    *((f"attention(same, same, same, implementation='{how}', {call})", what, f'parts.map_over({what.split()[-1]}, "h")')
      for how in ("dense", "streaming", "block_sparse")
      for call, what in (
          ("normalizer=normalizers.temperature(n)", "temperature: t"),
          ("normalizer=normalizers.softmax_with_sink(n)", "softmax_with_sink: sink"),
          ("normalizer=normalizers.sigmoid(n)", "sigmoid: bias"),
          ("normalizer=normalizers.entmax(1 + n)", "entmax: alpha"),
          ("normalizer=normalizers.local_p(jnp.zeros(4), n)", "local_p: width"),
          ("mods=(mods.soft_cap(n),)", "soft_cap: cap"),
          ("score=Partial(scores.scaled_dot, scale=n)", "scaled_dot: scale"),
          ("score=Partial(scores.cosine, scale=n)", "cosine: scale"),
          ("score=Partial(scores.negative_squared_distance, scale=n)", "negative_squared_distance: scale"),
      )),
    *((f"attention(q, k, v, query_positions=later, {call})", what, "query_positions go from 3 to 7")
      for call, what in (
          ("mask=masks.array(jnp.ones((5, 6), bool))", "axis q"),
          ("mask=masks.causal(0) & ~masks.segments(jnp.zeros(5, int), jnp.zeros(6, int))", "the ids of queries"),
          ("mask=masks.block_layout(np.ones((5, 6), bool), 1)", "axis q"),
          ("mods=(mods.bias(jnp.ones((5, 6)), 'q k'),)", "axis q"),
      )),
    ("attention(q, k, v, key_positions=jnp.arange(6) - 1, mask=masks.array(where))", "axis k", "from -1 to 4"),
    ("attention(q, k, v, mods=(mods.location(jnp.ones((3, 2)), jnp.ones((2, 6))),))", "query", "the inputs have 5"),
    ("attention(q, k, v, mask=masks.lengths(jnp.array([7, 3])))", "lengths: 7", "the inputs have 6"),
    ("attention(q, k, v, mask=masks.causal(0) | masks.lengths(queries=6))", "lengths: 6", "the inputs have 5"),
    ("attention(q, k, v, mask=masks.lengths(jnp.array([-1, 3])))", "lengths: ", "0 or more, not -1"),
    ("jax.jit(lambda q, mask=masks.lengths(7): attention(q, k, v, mask=mask))(q)", "lengths: 7", "the inputs have 6"),
    *((f"rotary(q, jnp.arange(5, dtype='{dtype}'))", dtype, "positions.astype(jnp.int32)")
      for dtype in ("bfloat16", "float16", "float32")),
]  # fmt: skip
MISTAKES = [*ARGUMENTS, *ORDER, *TYPES, *SHAPES]


def made(call: str) -> str:
    """Make a mistake, and return its error, "" for none."""
    try:
        eval(call)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    print(json.dumps({call: made(call) for call, _, _ in MISTAKES}))
