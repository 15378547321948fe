"""Custom parts that blocks cannot compute are detected: `dense` computes them, other implementations refuse them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from attnlab.functional import extras, masks, mods, normalizers, scores
from attnlab.functional.attention import attention, plan

pytestmark = pytest.mark.optimized

q = jax.random.normal(jax.random.key(0), (1, 1100, 1, 4))
MASK = masks.sliding_window(40, 0)


class Slots(normalizers.Positional):
    """Queries compete for keys (Locatello et al. 2020)."""

    def __call__(self, logits, where, positions):
        return jax.nn.softmax(logits if where is None else jnp.where(where, logits, -1e30), axis=0)


def over_queries(logits, where, *, sharpness):
    return jax.nn.softmax(sharpness * logits, axis=0)


def over_their_number(logits, where):
    return normalizers.softmax(logits, where) / logits.shape[0]


def over_all_keys(logits, where):
    return jnp.where(where, jax.nn.relu(logits) / logits.shape[-1], 0.0)


def tilted(logits, positions, *, slope):
    return logits - slope * abs(positions.rows - positions.columns)


def of_unit_length(query, key):
    return (query / jnp.linalg.norm(query)) @ key.T


class Centered:
    """A part that wraps a part of attnlab and computes something else."""

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, query, key):
        return self.fn(query - query.mean(0), key)


@functools.wraps(scores.dot)
def wrapped(query, key):
    return scores.dot(query - query.mean(0), key)


QUERIES = {
    "class that holds attnlab's": {"score": jax.tree_util.register_static(Centered)(scores.dot)},
    "wraps attnlab's": {"score": wrapped},
    "second neighbor": {"score": lambda query, key: scores.dot(jnp.roll(query, 2, axis=0), key)},
    "positional normalizer": {"normalizer": jax.tree_util.register_static(Slots)()},
    "learned normalizer": {"normalizer": Partial(over_queries, sharpness=jnp.float32(2.0))},
    "number of queries": {"normalizer": over_their_number},
    "score": {"score": of_unit_length},
    "mod": {"mods": (lambda logits, positions: logits - logits.max(0, keepdims=True),)},
    "predicate": {"mask": MASK & ~masks.from_fn(lambda query, key, head: query - query.min() < key)},
}
KEYS = {
    "third neighbor": {"score": lambda query, key: scores.dot(query, jnp.roll(key, 3, axis=0))},
    "score": {"score": lambda query, key: query @ (key - key.mean(0)).T},
    "mod": {"mods": (mods.soft_cap(9.0), lambda logits, positions: logits / logits.std(-1, keepdims=True))},
}
CASES = [*(("queries", options) for options in QUERIES.values()), *(("keys", options) for options in KEYS.values())]


@pytest.mark.parametrize(("mixed", "options"), CASES, ids=[*QUERIES, *(f"keys: {name}" for name in KEYS)])
def test_what_no_block_can_honor_is_for_dense(mixed, options):
    error = plan(q, q, q, **{"mask": MASK, **options})
    assert error.implementation == "dense"
    assert f"mixes {mixed}" in str(error)
    for blocks in ("streaming", "block_sparse"):
        with pytest.raises(ValueError, match=rf'mixes {mixed}.* write implementation="dense"'):
            plan(q, q, q, implementation=blocks, **options)


def test_a_part_that_needs_masked_keys_does_not_run_on_skipped_blocks():
    assert plan(q, q, q, mask=MASK, normalizer=over_all_keys).implementation == "streaming"
    with pytest.raises(ValueError, match=r'mixes masked keys.* write implementation="streaming"'):
        plan(q, q, q, mask=MASK, normalizer=over_all_keys, implementation="block_sparse")


def test_the_output_is_that_of_dense():
    options = {"normalizer": Partial(over_queries, sharpness=jnp.float32(2.0))}
    weights = jax.nn.softmax(2.0 * jnp.einsum("tnd,snd->nts", q[0], q[0]) / 2.0, axis=1)
    expected = np.einsum("nts,snv->tnv", weights, q[0])
    np.testing.assert_allclose(attention(q, q, q, **options)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"score": Partial(lambda query, key, *, w: query @ w @ key.T, w=jnp.eye(4))},
        {"mods": (Partial(tilted, slope=jnp.float32(0.1)),)},
        {"normalizer": lambda logits, where: normalizers.softmax(2.0 * logits, where)},
        {"mask": masks.from_fn(lambda query, key, head: query >= key)},
        {"normalizer": lambda logits, where: logits[:, :1100] * jnp.ones((1, 1100))},
    ],
    ids=["score", "mod", "normalizer", "predicate", "of one size alone"],
)
def test_other_parts_go_in_blocks(options):
    assert plan(q, q, q, **options).implementation == "streaming"
    traced = jax.make_jaxpr(lambda options: attention(q, q, q, implementation="block_sparse", **options))
    traced({name: part for name, part in options.items() if name == "score"})  # its arrays are not known


def test_parts_of_attnlab_are_not_tried(monkeypatch):
    tried = []
    monkeypatch.setattr("attnlab.functional.backends.separable._check", lambda *part: tried.append(part))
    options = {"score": Partial(scores.cosine, scale=2.0), "mods": (mods.soft_cap(3.0),)}
    assert plan(q, q, q, mask=MASK, normalizer=normalizers.sparsemax, **options).implementation == "block_sparse"
    assert not tried
    plan(q, q, q, mods=(lambda logits, positions: logits,))
    assert tried


@pytest.mark.parametrize(
    ("more", "instead"),
    [({"returns": (extras.weights(rows=[1]),)}, 'returns=("weights",)'), ({"mesh": True}, "mesh=None")],
)
def test_some_rows_by_themselves_are_refused(more, instead):
    if "mesh" in more:
        more = {"mesh": jax.make_mesh((2,), ("x",))}
    few = q[:, :6]
    with pytest.raises(ValueError, match="mixes queries") as refused:
        attention(few, few, few, normalizer=over_their_number, **more)
    assert instead in str(refused.value)


def test_an_object_that_changes_is_tried_again():
    class Mode:
        on = False

        def __call__(self, query, key):
            return scores.dot(query - query.mean(0) if self.on else query, key)

    score = jax.tree_util.register_static(type("Mode", (Mode,), {"__hash__": object.__hash__}))()
    assert plan(q, q, q, score=score, mask=MASK).implementation != "dense"
    score.on = True
    assert plan(q, q, q, score=score, mask=MASK).implementation == "dense"


def test_a_mesh_allows_parts_that_mix_masked_keys():
    mesh = jax.make_mesh((1,), ("x",))
    how = {"normalizer": over_all_keys, "mask": MASK, "mesh": mesh}
    assert attention(q, q, q, **how).shape == q.shape
    with pytest.raises(ValueError, match="mesh=None"):
        attention(q, q, q, normalizer=over_their_number, mask=MASK, mesh=mesh)
