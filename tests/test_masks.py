"""Masks: their algebra against truth values, their alignment, and their errors."""

import tracemalloc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle_masks as book
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial
from rows import MASKS, SIZES, Size

from attnlab.functional import masks
from attnlab.functional.parts import map_over
from attnlab.functional.types import Positions

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]


ATOMS = {
    "causal": st.tuples(st.integers(-5, 5)),
    "sliding_window": st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-3, 3)),
    "traced_offset": st.tuples(st.integers(-5, 5)),
    "traced_window": st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-3, 3), st.sets(st.integers(0, 2))),
    "window_of_one_side": st.tuples(st.integers(0, 4), st.booleans(), st.integers(-3, 3), st.sets(st.integers(0, 2))),
    "lengths": st.tuples(st.integers(0, 5), st.integers(0, 5)),
    "prefix": st.tuples(st.integers(0, 9), st.booleans()),
    "dilated": st.tuples(st.sampled_from([0, 2, 4]), st.integers(1, 3), st.integers(-3, 3)),
    "strided": st.tuples(st.integers(1, 4), st.integers(-3, 3)),
    "fixed": st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(-3, 3)),
    "global_tokens": st.tuples(st.lists(st.integers(0, 9), max_size=2), st.booleans(), st.integers(-3, 3)),
    "first_tokens": st.tuples(st.integers(0, 3), st.integers(-3, 3)),
    "segments": st.tuples(st.integers(0, 99), st.booleans()),
    "block_layout": st.tuples(st.integers(0, 99), st.integers(1, 4), st.integers(1, 4), st.booleans()),
    "random_blocks": st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 9)),
    "array": st.tuples(st.integers(0, 99)),
    "from_fn": st.tuples(st.integers(1, 3)),
}
RECIPES = st.recursive(
    st.one_of(*(st.tuples(st.just(name), arguments) for name, arguments in ATOMS.items())),
    lambda recipe: st.one_of(
        st.tuples(st.just("not"), recipe),
        st.tuples(st.sampled_from(["and", "or"]), recipe, recipe),
    ),
    max_leaves=4,
)


def table(may, queries: int, keys: int) -> np.ndarray:
    return np.array([[may(i, j) for j in range(keys)] for i in range(queries)])


def atom(name: str, arguments: tuple, queries: int, keys: int) -> tuple[masks.Mask, np.ndarray]:
    """Return a mask that is not a combination, and its truth values."""
    if name in ("causal", "sliding_window", "dilated", "strided"):
        return getattr(masks, name)(*arguments), table(getattr(book, name)(*arguments), queries, keys)
    if name == "fixed":
        stride, summary, offset = arguments[0], min(arguments[:2]), arguments[2]
        return masks.fixed(stride, summary, offset), table(book.fixed(stride, summary, offset), queries, keys)
    if name == "traced_offset":
        return masks.causal(jnp.int32(arguments[0])), table(book.causal(*arguments), queries, keys)
    if name in ("traced_window", "window_of_one_side"):
        *numbers, traced = arguments
        if name == "window_of_one_side":
            numbers = [None if numbers[1] else numbers[0], numbers[0] if numbers[1] else None, numbers[2]]
        error = [jnp.int32(n) if place in traced and n is not None else n for place, n in enumerate(numbers)]
        truth = book.sliding_window(*(queries + keys + 9 if n is None else n for n in numbers))
        return masks.sliding_window(*error), table(truth, queries, keys)
    if name == "lengths":
        real = min(arguments[0], queries), min(arguments[1], keys)
        return masks.lengths(real[1], queries=real[0]), table(book.lengths(*real), queries, keys)
    if name == "prefix":
        n, traced = arguments
        return masks.prefix(jnp.int32(n) if traced else n), table(book.prefix(n), queries, keys)
    if name == "global_tokens":
        tokens, traced, offset = arguments
        positions = jnp.asarray([*tokens, -9], jnp.int32) if traced else tokens
        return masks.global_tokens(positions, offset), table(book.global_tokens(tokens, offset), queries, keys)
    if name == "first_tokens":
        n, offset = arguments
        return masks.global_tokens(n, offset), table(book.global_tokens(range(n), offset), queries, keys)
    if name == "random_blocks":
        block, count, seed = arguments
        mask = masks.random_blocks(block, count, seed=seed).fitted(queries, keys)
        return mask, np.asarray(mask.dense(queries, keys))
    rng = np.random.default_rng(arguments[0])
    if name == "segments":
        ids = rng.integers(0, 3, queries), rng.integers(0, 3, keys)
        ids = [np.sort(x).astype(np.int32) for x in ids] if arguments[1] else [x.astype(np.int32) for x in ids]
        return masks.segments(*map(jnp.asarray, ids)), table(book.segments(*ids), queries, keys)
    if name == "block_layout":
        _, rows, columns, traced = arguments
        layout = rng.random((-(-queries // rows), -(-keys // columns))) < 0.5
        mask = masks.block_layout(jnp.asarray(layout) if traced else layout, (rows, columns))
        return mask, table(book.block_layout(layout, rows, columns), queries, keys)
    if name == "array":
        where = rng.random((queries, keys)) < 0.5
        return masks.array(jnp.asarray(where)), where
    assert name == "from_fn"
    period = arguments[0]
    return (
        masks.from_fn(lambda i, j, head: (i + j) % period == 0),
        table(lambda i, j: (i + j) % period == 0, queries, keys),
    )


def cook(recipe: tuple, queries: int, keys: int) -> tuple[masks.Mask, np.ndarray]:
    """Return the mask of a recipe, and its table of truth values."""
    match recipe:
        case ("not", inner):
            mask, truth = cook(inner, queries, keys)
            return ~mask, ~truth
        case (("and" | "or") as operation, one, other):
            left, right = cook(one, queries, keys), cook(other, queries, keys)
            if operation == "and":
                return left[0] & right[0], left[1] & right[1]
            return left[0] | right[0], left[1] | right[1]
        case (name, arguments):
            return atom(name, arguments, queries, keys)
    raise AssertionError(recipe)


def blocks_of(positions: np.ndarray, size: int) -> np.ndarray:
    """Divide positions into blocks; the last is padded with its last position."""
    short = -len(positions) % size
    return np.concatenate([positions, np.repeat(positions[-1:], short)]).reshape(-1, size)


def truly(truth: np.ndarray, query_blocks: np.ndarray, key_blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each block, whether any pair may attend and whether all may."""
    pairs = [[truth[np.ix_(rows, columns)] for columns in key_blocks] for rows in query_blocks]
    return np.array([[p.any() for p in row] for row in pairs]), np.array([[p.all() for p in row] for row in pairs])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    recipe=RECIPES,
    queries=st.sampled_from([1, 7]),
    keys=st.sampled_from([1, 9]),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    order=st.sampled_from(["straight", "shuffled", "some"]),
)
def test_blocks_classified_as_empty_or_full_are(recipe, queries, keys, sizes, order):
    mask, truth = cook(recipe, queries, keys)
    rng = np.random.default_rng(queries)
    rows, columns = np.arange(queries), np.arange(keys)
    if order != "straight":
        rows, columns = rng.permutation(rows), rng.permutation(columns)
    if order == "some":
        rows, columns = rows[: 1 + queries // 2], columns[: 1 + keys // 2]
    blocks = blocks_of(rows, sizes[0]), blocks_of(columns, sizes[1])
    some, every = truly(truth, *blocks)
    may_some, must_every = mask.classify(*blocks)
    assert may_some.shape == must_every.shape == some.shape
    assert not (some & ~np.asarray(may_some)).any()
    assert not (np.asarray(must_every) & ~every).any()
    assert mask.structured or np.all(may_some)
    if not jax.tree.leaves(mask):
        assert type(may_some) is type(must_every) is np.ndarray
    assert repr(mask)


def test_every_way_to_make_a_mask_is_in_the_recipes():
    made = {name for name in masks.__all__ if name[0].islower()}
    twins = {"first_tokens", "traced_offset", "traced_window", "window_of_one_side"}
    assert made - {"big_bird"} == ATOMS.keys() - twins


EXACT = {
    "causal": ("causal", (0,)),
    "causal_offset": ("causal", (-3,)),
    "sliding_window": ("sliding_window", (5, 2, 1)),
    "traced_offset": ("traced_offset", (-3,)),
    "traced_window": ("traced_window", (5, 2, 1, {0, 2})),
    "window_to_the_left": ("window_of_one_side", (3, False, 1, set())),
    "traced_window_to_the_right": ("window_of_one_side", (3, True, 1, {1})),
    "prefix": ("prefix", (7, False)),
    "traced_prefix": ("prefix", (7, True)),
    "lengths": ("lengths", (13, 6)),
    "block_layout": ("block_layout", (3, 4, 4, False)),
    "narrow_block_layout": ("block_layout", (3, 3, 2, True)),
    "array": ("array", (3,)),
    "global_tokens": ("global_tokens", ([2, 9], False, 0)),
    "strided": ("strided", (3, 0)),
    "fixed": ("fixed", (4, 1, 0)),
    "dilated": ("dilated", (4, 3, 0)),
    "segments": ("segments", (3, True)),
}


@pytest.mark.parametrize("name", EXACT)
def test_contiguous_blocks_are_classified_exactly(name):
    mask, truth = cook(EXACT[name], 16, 20)
    blocks = blocks_of(np.arange(16), 4), blocks_of(np.arange(20), 4)
    some, every = truly(truth, *blocks)
    found_some, found_every = mask.classify(*blocks)
    np.testing.assert_array_equal(found_some, some)
    exact_full = name not in ("strided", "fixed", "dilated")
    np.testing.assert_array_equal(found_every if exact_full else found_every & ~every, every if exact_full else False)


@pytest.mark.parametrize(
    "mask",
    [
        masks.sliding_window(2**30, 0),
        masks.prefix(2**30),
        masks.strided(2**30) & masks.lengths(jnp.int32(3)),
        masks.lengths(jnp.int32(2**30)),
    ],
    ids=lambda mask: mask.expression(),
)
def test_a_pattern_too_long_to_be_seen_is_not_drawn(mask):
    tracemalloc.start()
    assert repr(mask) == mask.expression()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_caches_of_different_lengths_beside_an_array():
    """Two queries of each example continue 1 and 3 tokens; the array is of these queries, not of the whole text."""
    where = jnp.asarray(np.random.default_rng(0).random((2, 2, 6)) < 0.7)
    lengths, widths = np.array([1, 3]), np.array([1, 9])

    @jax.jit
    def call(lengths, widths):
        near = masks.sliding_window(widths, None, lengths)
        return (masks.causal(lengths) & near & masks.array(where, "b q k")).dense(2, 6)

    row, column = np.arange(2)[:, None] + lengths[:, None, None], np.arange(6)[None, :]
    expected = (column <= row) & (column >= row - widths[:, None, None]) & where
    np.testing.assert_array_equal(call(lengths, widths), expected)
    with pytest.raises(ValueError, match=r"batch axes \(3,\), .*the inputs have \(2,\)"):
        masks.causal(jnp.arange(3)).batch_axes((2,))


def test_a_window_leaves_few_blocks():
    blocks = blocks_of(np.arange(8192), 256)
    for mask, most in [(masks.sliding_window(256, 0), 2), (masks.sliding_window(128, 128), 3)]:
        some, _ = mask.fitted(8192, 8192).classify(blocks, blocks)
        assert some.sum(axis=1).max() == most
    assert masks.sliding_window(256, 0).sparsity(8192, 8192, 256) == 1 - (2 * 32 - 1) / 32**2
    assert masks.causal().sparsity(8192, 8192, (128, 256)) == 1 - (32 * 33) / (64 * 32)


def test_blocks_of_segments_are_classified_in_a_compiled_function():
    blocks = blocks_of(np.arange(8), 2)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def classify(mask, blocks):
        return mask.classify(blocks, blocks, jnp.int32(0))

    for ids in ([0, 0, 1, 1, 1, 1, 2, 2], [0, 0, 0, 0, 5, 5, 5, 5]):
        ids = jnp.asarray(ids, jnp.int32)
        mask = masks.segments(ids) & masks.causal(0) & masks.lengths(jnp.int32(7))
        for place in (blocks, jnp.asarray(blocks, jnp.int32)):
            some, every = truly(np.asarray(mask.dense(8, 8)), blocks, blocks)
            found_some, found_every = classify(mask, jnp.asarray(place, jnp.int32))
            np.testing.assert_array_equal(found_some, some)
            np.testing.assert_array_equal(found_every, every)


@pytest.mark.parametrize(
    ("make", "structured", "by_head"),
    [
        (lambda fn, c: c, True, False),
        (lambda fn, c: fn, False, True),
        (lambda fn, c: c & fn, True, True),
        (lambda fn, c: c | fn, False, True),
        (lambda fn, c: ~(c & fn), False, True),
        (lambda fn, c: ~(c | fn), True, True),
        (lambda fn, c: ~c | c, True, False),
        (lambda fn, c: masks.array(jnp.ones((2, 2, 2), bool), "h q k"), True, True),
        (lambda fn, c: masks.array(jnp.ones((2, 2), bool)), True, False),
        (lambda fn, c: masks.block_layout(np.ones((2, 2, 2), bool), 3, "h q k") & c, True, True),
        (lambda fn, c: masks.big_bird(3, seed=0, heads=2), True, True),
        (lambda fn, c: masks.big_bird(3, seed=0), True, False),
    ],
)
def test_what_a_planner_may_ask(make, structured, by_head):
    mask = make(masks.from_fn(lambda i, j, head: i > j), masks.causal())
    assert (mask.structured, mask.by_head) == (structured, by_head)


@pytest.mark.parametrize("traced", [True, False])
def test_each_head_has_its_own_blocks(traced):
    layout = np.array([[[True, False], [True, True]], [[False, False], [False, True]]])
    mask = masks.block_layout(jnp.asarray(layout) if traced else layout, 2, "h q k")
    blocks = blocks_of(np.arange(4), 2)
    for head in range(2):
        for number in (head, jnp.int32(head)):
            some, every = mask.classify(blocks, blocks, number)
            np.testing.assert_array_equal(some, layout[head])
            np.testing.assert_array_equal(every, layout[head])
        np.testing.assert_array_equal(mask.dense(4, 4, head), layout[head].repeat(2, 0).repeat(2, 1))


def test_big_bird_sees_its_window_the_global_blocks_and_some_at_random():
    mask = masks.big_bird(2, window=3, global_blocks=2, random=2, seed=0, heads=2)
    result = np.stack([mask.dense(20, 20, head) for head in range(2)])
    layout = result[:, ::2, ::2]
    np.testing.assert_array_equal(result, layout.repeat(2, 1).repeat(2, 2))
    a, b = np.indices((10, 10))
    error = (abs(a - b) <= 1) | np.isin(a, [0, 9]) | np.isin(b, [0, 9])
    assert layout[:, error].all()
    assert ((layout & ~error).sum(-1)[:, 1:-1] == 2).all()
    assert (layout[0] != layout[1]).any()
    np.testing.assert_array_equal(result[0], masks.big_bird(2, window=3, random=2, seed=0).dense(20, 20))


def test_random_blocks_are_the_same_for_the_same_seed():
    drawn = [masks.random_blocks(3, 2, seed=seed).dense(17, 14) for seed in (0, 0, 1)]
    assert (np.asarray(drawn[0])[::3, ::3].sum(1) == 2).all()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_new_documents_compile_nothing_anew():
    jax.clear_caches()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def count(mask):
        return mask.dense(4, 4).sum()

    def packed(ids, length, seen):
        return (masks.segments(ids) & masks.causal() & masks.lengths(length)) | masks.prefix(seen)

    counts = [int(count(packed(jnp.array(ids), jnp.int32(3), jnp.int32(0)))) for ids in ([0, 0, 1, 1], [0, 0, 0, 1])]
    assert counts == [5, 6]
    assert int(count(packed(jnp.array([0, 1, 2, 3]), jnp.int32(4), jnp.int32(1)))) == 4 + 3


def test_static_masks_that_are_equal_are_one_key():
    def made():
        layout = masks.block_layout(np.eye(2, dtype=bool), 2)
        return masks.causal(1) & masks.sliding_window(2, 1) | ~masks.big_bird(2, seed=1) & layout & masks.prefix(3)

    assert made() == made()
    assert hash(made()) == hash(made())
    assert masks.block_layout(np.eye(2, dtype=bool), 2) != masks.block_layout(np.ones((2, 2), bool), 2)


def test_repr_is_the_expression_and_the_map_of_blocks():
    mask = (masks.causal("upper_left") | masks.prefix(1)) & ~masks.segments(jnp.array([0, 0, 1]))
    assert repr(mask) == (
        "(causal('upper_left') | prefix(1)) & ~segments(int32[3])\n"
        "3 × 3 in blocks of 1 × 1: 78% empty, 22% full\n···\n···\n██·"
    )
    batched = masks.causal() & masks.lengths(jnp.array([2, 3]))
    assert repr(batched).splitlines()[:2] == [
        "causal() & lengths(int32[2])",
        "16 × 16 in blocks of 1 × 1, first example: 88% empty, 12% full",
    ]
    assert masks.sliding_window(4, 0).map(8, 8, block=4).splitlines()[1:] == ["▒·", "▒▒"]
    assert batched.map(4, 4, block=2).splitlines()[1:] == ["▒·", "█·"]


@pytest.mark.parametrize(
    ("mask", "expression"),
    [
        (masks.sliding_window(2, 1, "lower_right"), "sliding_window(2, 1, alignment='lower_right')"),
        (masks.strided(4), "strided(4)"),
        (masks.dilated(4, 2), "dilated(4, 2)"),
        (masks.fixed(4, 2, 0), "fixed(4, 2, alignment=0)"),
        (masks.global_tokens([3, 1]), "global_tokens((1, 3))"),
        (masks.global_tokens(jnp.array([[3, 1]])), "global_tokens(int32[1,2])"),
        (masks.random_blocks(4, 2, seed=0, heads=2), "random_blocks(4, 2, seed=0, heads=2)"),
        (masks.block_layout([[True]], 4), 'block_layout(bool[1,1], (4, 4), "q k")'),
        (masks.lengths(jnp.array([3]), jnp.array([2])), "lengths(int32[1], queries=int32[1])"),
        (masks.array(jnp.ones((2, 3), bool), "b k"), 'array(bool[2,3], "b k")'),
        (masks.from_fn(Partial(max, jnp.int32(3))), "from_fn(max, int32[])"),
        (masks.array(jnp.ones((2, 3), bool)) & masks.causal(), 'array(bool[2,3], "q k") & causal()'),
    ],
)
def test_the_expression_is_the_code_of_the_mask(mask, expression):
    assert repr(mask).splitlines()[0] == expression


def test_repr_inside_jit_is_the_expression_alone():
    concrete = masks.lengths(jnp.array([3]))

    @jax.jit
    def call(mask):
        assert repr(mask) == "causal() & lengths(int32[2])"
        assert len(repr(concrete & masks.causal()).splitlines()) > 2
        with pytest.raises(ValueError, match=r"arrays .*inside jit"):
            mask.map(3, 3)
        return mask

    abstract = jax.eval_shape(call, masks.causal() & masks.lengths(jnp.array([2, 3])))
    assert repr(abstract) == "causal() & lengths(int32[2])"
    assert repr(jax.tree.map(lambda _: object(), concrete)) == "lengths(object)"


def test_a_custom_mask_is_classified_conservatively():
    @jax.tree_util.register_static
    class Diagonal(masks.Mask):
        def __call__(self, positions):
            return positions.rows == positions.columns

    mask = Diagonal()
    blocks = blocks_of(np.arange(4), 2)
    assert mask.classify(blocks, blocks)[0].all()
    assert not mask.classify(blocks, blocks)[1].any()
    assert (mask.structured, mask.by_head) == (False, True)
    assert repr(mask & masks.prefix(1)).startswith("Diagonal() & prefix(1)")
    np.testing.assert_array_equal((mask & masks.prefix(1)).dense(2, 2), [[True, False], [False, False]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(recipe=RECIPES, queries=st.sampled_from([1, 3]), keys=st.sampled_from([1, 4]))
def test_algebra_is_that_of_truth_values(recipe, queries, keys):
    mask, truth = cook(recipe, queries, keys)
    np.testing.assert_array_equal(mask.dense(queries, keys), truth)


@pytest.mark.parametrize("name", [name for name in MASKS if name != "no_mask"])
@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=() if size in SIZES[1:3] else pytest.mark.slow) for size in SIZES], ids=str
)
def test_dense_equals_the_predicate(name, size: Size):
    mask, may = MASKS[name](np.random.default_rng(1), size)
    for head in range(size.N):
        result = np.asarray(mask.dense(size.T, size.S, head))
        full = np.broadcast_to(result, (*size.batch, size.T, size.S))
        expected = [may(place[:-2], head, place[-2], place[-1]) for place in np.ndindex(full.shape)]
        np.testing.assert_array_equal(full, np.reshape(expected, full.shape))


@pytest.mark.parametrize("name", [name for name in MASKS if name != "no_mask"])
def test_a_block_is_a_part_of_the_whole(name):
    size = Size((), T=5, S=7, N=2, K=1, D=1, E=1, V=1, A=1)
    mask = MASKS[name](np.random.default_rng(2), size)[0].fitted(5, 7)
    rows, columns = np.array([4, 2, 2]), np.array([3, 6, 0, 4])
    block = mask(Positions(*(jnp.asarray(x, jnp.int32) for x in (rows, columns, 1, 0))))
    np.testing.assert_array_equal(block, np.asarray(mask.dense(5, 7, 1))[np.ix_(rows, columns)])


def test_causal_alignments_are_the_two_corners():
    lower, upper, shifted = (
        masks.causal(a).dense(2, 4).astype(int).tolist() for a in ("lower_right", "upper_left", -1)
    )
    assert lower == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert upper == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert shifted == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert masks.causal().dense(2, 2).astype(int).tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("name", ["sliding_window", "dilated", "strided", "fixed", "global_tokens"])
def test_every_mask_that_compares_positions_needs_an_alignment(name):
    arguments = {"sliding_window": (2, 0), "dilated": (2, 1), "strided": (2,), "fixed": (2, 1)}.get(name, (1,))
    make, truth = getattr(masks, name), getattr(book, name)
    with pytest.raises(ValueError, match=f"{name}: 3 queries and 5 keys .*alignment"):
        make(*arguments).dense(3, 5)
    with pytest.raises(ValueError, match=f"{name}: evaluated before"):
        make(*arguments).classify(np.array([[0]]), np.array([[0]]))
    with pytest.raises(ValueError, match=f"{name}: alignment .*'middle'"):
        make.__wrapped__(*arguments, "middle")
    output = (range(1),) if name == "global_tokens" else arguments
    for alignment, offset in [("lower_right", 2), ("upper_left", 0), (-1, -1)]:
        result = make(*arguments, alignment=alignment).dense(3, 5)
        np.testing.assert_array_equal(result, table(truth(*output, offset=offset), 3, 5))


@pytest.mark.parametrize(
    "mask", [masks.causal(), ~masks.causal() & masks.lengths(3), masks.lengths(3) | masks.causal()]
)
def test_causal_without_alignment_is_refused_for_unequal_lengths(mask):
    with pytest.raises(ValueError, match=r'2 queries and 3 keys .*alignment: "lower_right"'):
        mask.dense(2, 3)


def test_a_mask_is_a_pytree_with_its_lengths_as_leaves():
    mask = masks.causal("lower_right") & ~masks.lengths(jnp.array([1, 2]), queries=jnp.array([3, 4]))
    assert [leaf.tolist() for leaf in jax.tree.leaves(mask)] == [[1, 2], [3, 4]]
    doubled = jax.jit(lambda mask: jax.tree.map(lambda leaf: 2 * leaf, mask))(mask)
    assert jax.tree.structure(doubled) == jax.tree.structure(mask)
    assert [leaf.tolist() for leaf in jax.tree.leaves(doubled)] == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.causal.__wrapped__("top_left"), "causal: alignment .*'top_left'"),
        (lambda: masks.causal.__wrapped__(True), "causal: alignment .*True"),
        (lambda: masks.lengths(), "lengths: keys, queries or both"),
        (lambda: masks.lengths(jnp.array([1.0])), "lengths: .*integers.*float32"),
        (lambda: masks.array(jnp.ones((2, 2))), "array: .*boolean.*float32"),
        (lambda: masks.array(jnp.ones((2, 2), bool), "k q"), 'array: axes .*"b h q k"'),
        (lambda: masks.array(jnp.ones((2, 2, 2), bool)), "does not have the axes 'q k'"),
        (lambda: masks.array(jnp.ones(2, bool), "b q k"), "does not have the axes 'b q k'"),
        (lambda: masks.array(jnp.ones((2, 3), bool)).dense(2, 4), "axis k of the mask has size 3"),
        (lambda: masks.array(jnp.ones((2, 3), bool)).dense(3, 3), "axis q of the mask has size 2"),
        (
            lambda: masks.array(jnp.ones((2, 3), bool), "h k").fitted(2, 3, heads=4),
            "axis h of the mask has size 2",
        ),
        (lambda: masks.sliding_window(-1, 0), "sliding_window: left .*0.* -1"),
        (lambda: masks.sliding_window(0, jnp.array([1, -2])), "sliding_window: right .*0.* -2"),
        (lambda: masks.sliding_window(jnp.float32(1), 0), "sliding_window: .*integers.*float32"),
        (lambda: masks.sliding_window(None, None), "sliding_window: left and right .*mask=None"),
        (lambda: masks.causal(2**31 - 1), "causal: .*offset.*2147483647"),
        (lambda: masks.strided(1, jnp.array([0.5])), "strided: .*integers.*float32"),
        (lambda: masks.prefix(2**31), "prefix: n .*2147483647.*2147483648"),
        (lambda: masks.sliding_window.__wrapped__(1.5, 0), r"sliding_window: left .*integer.*1\.5"),
        (lambda: masks.dilated(3, 2), "dilated: window .*even.* 3"),
        (lambda: masks.dilated(2, 0), "dilated: dilation .*1.* 0"),
        (lambda: masks.strided(0), "strided: stride .*1.* 0"),
        (lambda: masks.fixed(2, 3), "fixed: summary .*2.* 3"),
        (lambda: masks.prefix(-1), "prefix: n .*0.* -1"),
        (lambda: masks.prefix(jnp.array([1.0])), "prefix: .*integers.*float32"),
        (lambda: masks.global_tokens([-1]), "global_tokens: .*position.*0.* -1"),
        (lambda: masks.global_tokens(jnp.int32(2)), r"global_tokens: .*\[\*B, g\].*Python integer"),
        (lambda: masks.segments(jnp.int32(2)), r"segments: ids .*\[\*B, T\]"),
        (lambda: masks.segments(jnp.array([1.0])), "segments: .*integers.*float32"),
        (
            lambda: masks.segments(jnp.array([1]), jnp.array([1], jnp.int8)),
            "segments: .*dtype.*int32 and int8",
        ),
        (
            lambda: masks.segments(jnp.array([1, 2])).dense(2, 3),
            "segments: ids for 2 queries and 2 keys.*2 and 3",
        ),
        (lambda: masks.block_layout(np.ones((2, 2)), 2), "block_layout: .*boolean.*float64"),
        (lambda: masks.block_layout(np.ones((2, 2), bool), 2, "k q"), "block_layout: axes .*'k q'"),
        (lambda: masks.block_layout(np.ones((2, 2, 2), bool), 2), "does not have the axes 'q k'"),
        (lambda: masks.block_layout(np.ones((2, 2, 2), bool), 2, "b q k"), "block_layout: .*JAX array.*jnp.asarray"),
        (lambda: masks.block_layout([[True]], 0), "block_layout: block .*1.* 0"),
        (lambda: masks.block_layout([[True]], 2).dense(3, 2), "1 × 1 blocks, but 3 queries and 2 keys make 2 × 1"),
        (
            lambda: masks.block_layout(np.ones((2, 1, 1), bool), 2, "h q k").fitted(2, 2, heads=3),
            "block_layout: .*2 heads.* 3",
        ),
        (lambda: masks.big_bird(2, seed=0).dense(4, 6), "big_bird: .*queries and keys.*4 and 6"),
        (lambda: masks.big_bird(2, window=2, seed=0), "big_bird: window .*odd.* 2"),
        (lambda: masks.big_bird(2, seed=0, heads=2).fitted(4, 4, heads=4), "big_bird: heads .*2.* 4 heads"),
        (
            lambda: masks.random_blocks(2, 1, seed=0).classify(np.array([[0]]), np.array([[0]])),
            "random_blocks: .*number of queries.*fitted",
        ),
        (lambda: masks.causal().map(4, 4, block=0), "block size.* 0 × 0"),
        (
            lambda: masks.from_fn(Partial(lambda x, i, j, head: i > j, map_over(jnp.ones(2), "h"))),
            "from_fn: arrays .*map_over",
        ),
        (
            lambda: masks.lengths(jnp.array([1, 2])).batch_axes((3,)),
            r"mask has batch axes \(2,\), .*the inputs have \(3,\)",
        ),
    ],
)
def test_errors_name_the_mask_and_the_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mask_combines_only_with_masks():
    with pytest.raises(TypeError):
        masks.causal() & jnp.ones((2, 2), bool)
    with pytest.raises(TypeError):
        masks.causal() | True
