"""Random combinations of masks with their truth values, for Hypothesis."""

import jax.numpy as jnp
import numpy as np
import oracle_masks as book
from hypothesis import strategies as st

from attnlab.functional import masks

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
