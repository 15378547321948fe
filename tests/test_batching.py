"""Batches: every pair once an epoch, few shapes, little padding, and any step's batch from the step alone."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlab.config import Dates, Words
from attnlab.config.errors import UserError
from attnlab.data.text.batching import Batch, Batches, evaluation_batches, evaluation_shapes
from attnlab.data.text.buckets import Shape, assign, choose
from attnlab.data.text.tokenizer import BOS, EOS, train_tokenizers
from attnlab.data.translation.load import load

Ids = tuple[tuple[int, ...], tuple[int, ...]]


def made_up(count: int, longest: int = 40, seed: int = 0) -> list[Ids]:
    """Distinct pairs of correlated lengths, as in translation; empty sides and one very long pair among them."""
    rng = random.Random(seed)
    pairs = []
    for number in range(count):
        length = min(int(rng.lognormvariate(2.4, 0.5)), longest)
        other = max(0, min(length + rng.randint(-3, 3), longest))
        pairs.append(((10 + number, *rng.choices(range(5, 9), k=length)), tuple(rng.choices(range(5, 9), k=other))))
    return [*pairs, ((9,) * (2 * longest), (9,)), ((9,), ())]


def rows(batch: Batch) -> list[Ids]:
    """Take a batch apart again, and check every array of it."""
    pairs = []
    assert all(array.dtype == np.int32 for array in batch.values())
    for row in range(len(batch["source"])):
        s, t = int(batch["source_lengths"][row]), int(batch["target_lengths"][row])
        assert (s == 0) == (t == 0)
        for name, length in (("source", s), ("target_in", t), ("target_out", t)):
            assert not batch[name][row, length:].any()
        if s:
            source, given, wanted = (batch[n][row].tolist() for n in ("source", "target_in", "target_out"))
            assert (source[s - 1], given[0], wanted[t - 1]) == (EOS, BOS, EOS)
            assert given[1:t] == wanted[: t - 1]
            pairs.append((tuple(source[: s - 1]), tuple(wanted[: t - 1])))
    return pairs


def equal(first: Batch, second: Batch) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_arrays_of_a_batch() -> None:
    pairs = [((7, 8), (9,)), ((6,), (5, 4))]
    batch = Batches.of_pairs(pairs, batch_tokens=12, buckets=1, seed=0, row_multiple=3).batch(0)
    order = np.argsort(-batch["source_lengths"], kind="stable")
    written = {name: array[order].tolist() for name, array in batch.items()}
    assert written == {
        "source": [[7, 8, 2], [6, 2, 0], [0, 0, 0]], "source_lengths": [3, 2, 0],
        "target_in": [[1, 9, 0], [1, 5, 4], [0, 0, 0]], "target_out": [[9, 2, 0], [5, 4, 2], [0, 0, 0]],
        "target_lengths": [2, 3, 0],
    }  # fmt: skip


@pytest.mark.parametrize(("count", "tokens", "buckets", "multiple"), [
    (1000, 512, 8, 1), (1000, 512, 8, 2), (1000, 512, 1, 4), (7, 2048, 8, 2), (1, 64, 3, 3), (50, 1, 4, 2),
])  # fmt: skip
def test_each_pair_comes_once_an_epoch_in_few_shapes(count: int, tokens: int, buckets: int, multiple: int) -> None:
    pairs = made_up(count)
    batches = Batches.of_pairs(pairs, tokens, buckets, seed=3, row_multiple=multiple)
    assert len(batches.shapes) <= buckets
    for epoch in range(2):
        epoch_batches = [batches.batch(step) for step in range(epoch * len(batches), (epoch + 1) * len(batches))]
        assert sorted(itertools.chain(*map(rows, epoch_batches))) == sorted(pairs)
        shapes = {(*batch["source"].shape, batch["target_in"].shape[1]) for batch in epoch_batches}
        assert shapes == set(batches.shapes)
    for size, _, target in batches.shapes:
        assert size % multiple == 0
        assert size * target <= tokens or size == multiple


def test_real_fractions_equal_those_of_the_batches() -> None:
    batches = Batches.of_pairs(made_up(800), 512, 6, seed=0, row_multiple=2)
    epoch = [batches.batch(step) for step in range(len(batches))]
    for side, fraction in (("source", batches.real_source_fraction), ("target", batches.real_fraction)):
        array = "source" if side == "source" else "target_in"
        real = sum(int(batch[f"{side}_lengths"].sum()) for batch in epoch)
        assert fraction == pytest.approx(real / sum(batch[array].size for batch in epoch))


def test_a_batch_depends_only_on_its_step() -> None:
    pairs = made_up(300)
    batches, again = (Batches.of_pairs(pairs, 256, 4, seed=5, row_multiple=2) for _ in range(2))
    steps = list(range(3 * len(batches)))
    forward = [batches.batch(step) for step in steps]
    random.Random(0).shuffle(steps)
    assert all(equal(again.batch(step), forward[step]) for step in steps)


def test_epochs_and_seeds_have_other_orders() -> None:
    pairs = made_up(300)
    first, other = Batches.of_pairs(pairs, 256, 4, seed=5), Batches.of_pairs(pairs, 256, 4, seed=6)
    size = len(first)
    epochs = [[rows(first.batch(step)) for step in range(start, start + size)] for start in (0, size)]
    epochs.append([rows(other.batch(step)) for step in range(size)])
    for first, second in itertools.combinations(epochs, 2):
        assert first != second
        assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}, "pairs meet other pairs"


@pytest.mark.parametrize("start", [0, 1, 17, 1000])
def test_iterating_from_a_step_gives_exactly_the_following_batches(start: int) -> None:
    batches = Batches.of_pairs(made_up(200), 256, 4, seed=1, row_multiple=2)
    for step, batch in zip(range(start, start + 2 * len(batches) + 3), batches.iterate(start), strict=False):
        assert equal(batch, batches.batch(step))


def test_the_embedded_task_is_padded_little() -> None:
    corpus = load(Dates(train=6000), None)
    tokenizers = train_tokenizers(Words(), corpus)
    source = [e.ids for e in tokenizers.source.encode_batch([pair.source for pair in corpus.train])]
    target = [e.ids for e in tokenizers.target.encode_batch([pair.target for pair in corpus.train])]
    batches = Batches.of_pairs(list(zip(source, target, strict=True)), 2048, 8, seed=0, row_multiple=2)
    assert batches.real_fraction > 0.85
    assert batches.real_source_fraction > 0.8


def test_no_pairs_are_refused() -> None:
    with pytest.raises(UserError, match=r"task\.max_length"):
        Batches.of_pairs([], 256, 4, seed=1)


def positions(shapes: list[Shape], source: list[int], target: list[int]) -> float:
    parts = zip(shapes, assign(shapes, source, target), strict=True)
    return sum(-(-len(m) // shape.rows) * shape.rows * (shape.target + 0.5 * shape.source) for shape, m in parts)


lengths = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 30), st.integers(1, 3))
def test_no_other_chain_of_shapes_pads_less(pairs: list[tuple[int, int]], tokens: int, multiple: int) -> None:
    """Against all chains of at most two shapes, tried one by one."""
    source, target = [s for s, _ in pairs], [t for _, t in pairs]
    least = positions(choose(source, target, tokens, 2, multiple), source, target)
    whole = (max(source), max(target))
    for s, t in itertools.product(sorted(set(source)), sorted(set(target))):
        inside = sum(a <= s and b <= t for a, b in pairs)
        cost = 0.0
        for (width, height), count in (((s, t), inside), (whole, len(pairs) - inside)):
            fitting = max(tokens // height // multiple, 1) * multiple
            size = min(fitting, max(-(-count // multiple), 1) * multiple)
            cost += -(-count // size) * size * (height + 0.5 * width)
        assert least <= cost + 1e-9


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 60), st.integers(1, 5), st.integers(1, 3))
def test_shapes_hold_every_pair(pairs: list[tuple[int, int]], tokens: int, buckets: int, multiple: int) -> None:
    source, target = [s for s, _ in pairs], [t for _, t in pairs]
    shapes = choose(source, target, tokens, buckets, multiple)
    members = assign(shapes, source, target)
    assert 1 <= len(shapes) <= buckets
    assert sorted(np.concatenate(members).tolist()) == list(range(len(pairs)))
    assert all(len(indices) for indices in members)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 500), st.integers(1, 4))
def test_evaluation_leaves_no_source_out(sizes: list[int], tokens: int, multiple: int) -> None:
    sources = [[5 + index] * size for index, size in enumerate(sizes)]
    seen, shapes = [], set()
    for chosen, source, source_lengths in evaluation_batches(sources, tokens, multiple):
        shapes.add(source.shape)
        assert len(source) % multiple == 0
        assert source.size <= tokens or len(source) == multiple
        assert source_lengths.tolist() == [len(sources[i]) + 1 for i in chosen] + [0] * (len(source) - len(chosen))
        for row, index in enumerate(chosen):
            assert source[row].tolist() == [*sources[index], EOS] + [0] * (source.shape[1] - len(sources[index]) - 1)
        seen += chosen
    assert sorted(seen) == list(range(len(sources)))
    assert [len(sources[i]) for i in seen] == sorted(sizes)
    assert len(shapes) <= 6


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 70), min_size=1, max_size=30), st.integers(0, 9))
def test_evaluation_is_no_wider_than_a_model_reads(sizes: list[int], spare: int) -> None:
    longest, seen = max(*sizes, 1) + spare, []
    for chosen, shape in evaluation_shapes(sizes, 100, longest=longest):
        assert max(sizes[i] for i in chosen) <= shape.source <= longest
        seen += chosen
    assert sorted(seen) == list(range(len(sizes)))
    with pytest.raises(ValueError, match="80 positions, but the model takes 79"):
        list(evaluation_shapes([*sizes, 80], 100, longest=79))


def test_evaluation_meets_the_same_shapes_again() -> None:
    """A thousand lines at a time, ten times: the decoder is compiled for a handful of shapes, not for sixty."""
    shapes = set()
    for seed in range(10):
        sources = [source for source, _ in made_up(1000, seed=seed)]
        shapes |= {source.shape for _, source, _ in evaluation_batches(sources, 1024, 2)}
    assert len(shapes) <= 12
