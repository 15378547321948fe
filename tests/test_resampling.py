"""Few examples: no interval below twenty, no p of one, and no p smaller than the count allows."""

from itertools import product

import numpy as np
import pytest

from attnlab.tasks.bootstrap import MIN_EXAMPLES, interval, paired_difference, smallest_p
from attnlab.tasks.captioning.metrics import caption_scores
from attnlab.tasks.classification.metrics import classification_scores
from attnlab.tasks.story_qa.metrics import story_scores
from attnlab.tasks.translation.metrics import translation_scores


def classified(count: int) -> dict:
    return classification_scores(np.tile([0.75, 0.25], (count, 1)), np.arange(count) % 2, 5)


def translated(count: int) -> dict:
    return translation_scores(["a b c d e"] * count, ["a b c d f"] * count, bootstrap=20)


def captioned(count: int) -> dict:
    return caption_scores(["a b c d e"] * count, [["a b c d f"], *[["g h i j"]] * (count - 1)], resamples=20)


def answered(count: int) -> dict:
    return story_scores(np.arange(count) % 2 == 0, [np.eye(2)] * count, [(1,)] * count, resamples=20)


@pytest.mark.parametrize("scored", [classified, translated, captioned, answered])
def test_every_score_has_an_interval_from_twenty_examples_on(scored):
    for count in (1, 2, MIN_EXAMPLES - 1, MIN_EXAMPLES):
        result = {name: value for name, value in scored(count).items() if name.endswith("_ci95")}
        assert len(result) >= 3
        for name, value in result.items():
            assert (value is not None) == (count >= MIN_EXAMPLES), (name, count)


def test_of_one_example_nothing_is_sure():
    assert interval(np.array([100.0])) is None
    result = paired_difference(np.array([100.0]), np.array([0.0]))
    assert (result.difference, result.low, result.high, result.p) == (100.0, None, None, None)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_p_is_never_below_that_of_the_exact_sign_flip_test(count):
    rng = np.random.default_rng(count)
    for first in (np.full(count, 100.0), 50.0 + rng.uniform(1, 9, count)):
        apart = first - 50.0
        flips = np.array(list(product([1, -1], repeat=count))) @ apart
        exact = np.mean(np.abs(flips) >= abs(apart.sum()) - 1e-9)
        result = paired_difference(first, np.full(count, 50.0))
        assert exact == pytest.approx(2 / 2**count) == smallest_p(first, np.full(count, 50.0))
        assert result.p is not None
        assert result.p >= exact
        assert result.low is None


def test_only_examples_that_differ_count_for_the_smallest_p():
    same = np.array([[3, 1], [2, 2]] * 50)
    other = same.copy()
    other[:3, 1] = 9
    assert smallest_p(same, other) == 0.25, "three of a hundred, whatever the score is made of"
    assert smallest_p(same, same) == 1.0
    right = np.full(200, 100.0)
    wrong = np.where(np.arange(200) < 5, 0.0, 100.0)
    assert paired_difference(right, wrong).p == pytest.approx(2 / 2**5)
    assert paired_difference(right, wrong).low is not None


def test_many_examples_are_as_before():
    result = paired_difference(np.full(400, 100.0), np.zeros(400))
    assert result.p == pytest.approx(2 / 1001)
    assert (result.low, result.high) == (100.0, 100.0)
