"""Scores of captions: by hand, by sacrebleu's own rules, and (development only) beside pycocoevalcap."""

import importlib.util
import random

import chex
import numpy as np
import pytest

from attnlab.tasks.captioning import metrics
from attnlab.tasks.captioning.pointing import pointing

WORDS = ["a", "the", "dog", "man", "red", "runs", "on", "over", "in", "green", "field", "two", "with"]


def corpus(images: int = 50, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    rng = random.Random(seed)
    text = lambda: " ".join(rng.choices(WORDS, k=rng.randint(3, 12)))  # noqa: E731
    references = [[text() for _ in range(rng.randint(1, 5))] for _ in range(images)]
    hypotheses = [r[0] if n % 3 == 0 else " ".join(r[-1].split()[:5]) if n % 3 == 1 else text()
                  for n, r in enumerate(references)]  # fmt: skip
    return hypotheses, references


def test_bleu_by_hand():
    # 4 of 5 words, 3 of 4 pairs ("x" breaks none at the end); the nearest reference has 5 words, so no penalty
    scores = metrics.bleu(["a b c d x"], [["a b c d e", "q"]], 2)
    assert scores == pytest.approx(100 * np.sqrt(4 / 5 * 3 / 4), abs=1e-4)


def test_a_short_caption_pays_for_the_nearest_reference():
    assert metrics.bleu(["a b"], [["a b c", "a b c d e f"]], 1) == pytest.approx(100 * np.exp(1 - 3 / 2), abs=1e-4)


def test_all_scores_of_perfect_captions_are_perfect():
    references = [["A man runs over a green field ."], ["Two dogs sit on the red box"]] * 10
    scores = metrics.caption_scores([r[0] for r in references], references, resamples=20)
    for name in ("bleu_1", "bleu_4", "rouge_l", "exact_match"):
        assert scores[name] == 100.0
    assert scores["cider_d"] == pytest.approx(1000.0)
    assert scores["bleu_4_ci95"] == [100.0, 100.0]


def test_intervals_hold_the_score_and_narrow_with_more_images():
    widths = []
    for images in (40, 400):
        scores = metrics.caption_scores(*corpus(images))
        for name in ("bleu_4", "cider_d", "rouge_l", "exact_match"):
            low, high = scores[f"{name}_ci95"]
            assert low <= scores[name] <= high
        widths.append(scores["bleu_4_ci95"][1] - scores["bleu_4_ci95"][0])
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize(
    ("references", "undefined"),
    [
        ([["a dog runs on a field"]], {"cider_d"}),  # one image
        ([["a dog runs", "a cat"], ["a cat", "A dog runs."]] * 15, {"cider_d", "bleu_4"}),  # all alike
        ([["a dog"], ["a cat"]], {"bleu_3", "bleu_4"}),
        ([["..."], ["", "!"]], {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "exact_match"}),
        ([["a dog runs on a field"], ["a dog runs on a field", "a cat"]], set()),
    ],
)
def test_a_score_that_no_caption_can_change_is_a_note(references, undefined):
    for hypotheses in ([several[0] for several in references], ["a cat sits on a red box"] * len(references)):
        scores = metrics.caption_scores(hypotheses, references, resamples=5)
        assert {name for name in scores if name.endswith("_note")} == {f"{name}_note" for name in undefined}
        assert all(scores[name] is None and scores.get(f"{name}_ci95") is None for name in undefined)
        assert set(scores["per_example"]) == {"bleu_4", "rouge_l", "cider_d", "exact_match"} - undefined
        assert all(isinstance(scores[name], float) for name in scores["per_example"])


def test_order_of_references_does_not_matter():
    hypotheses, references = corpus()
    turned = [several[::-1] for several in references]
    scores, same = metrics.caption_scores(hypotheses, references), metrics.caption_scores(hypotheses, turned)
    chex.assert_trees_all_close(scores.pop("per_example"), same.pop("per_example"), rtol=1e-12)
    assert scores == same


def test_empty_caption_scores_nothing_and_no_references_are_an_error():
    scores = metrics.caption_scores(["", "a dog"], [["a dog"], ["a man"]], resamples=5)
    assert metrics.rouge_l(["", "a"], [["a dog"], ["a"]]).tolist() == [0.0, 1.0]
    assert scores["exact_match"] == 0.0
    with pytest.raises(ValueError, match="reference"):
        metrics.caption_scores(["a"], [[]])


def test_pointing_counts_words_with_a_region_only():
    weights = np.zeros((3, 16))
    weights[0, 5], weights[1, 0], weights[2, 5] = 1.0, 1.0, 0.25
    weights[2, 6] = 0.75
    region = (16, 16, 32, 32)  # of 64×64 pixels in 4×4 cells: cell 5
    hits, masses = pointing(weights, [region, None, region], (4, 4), (64, 64))
    assert hits == [True, False]
    assert masses == [1.0, 0.25]
    nowhere = pointing(np.zeros((1, 16)), [(0, 0, 64, 64)], (4, 4), (64, 64))
    assert nowhere == ([False], [0.0])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pycocoevalcap") is None, reason="needs pycocoevalcap")
@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocoevalcap(seed):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references = corpus(seed=seed)
    gold, predicted = dict(enumerate(references)), {n: [text] for n, text in enumerate(hypotheses)}
    np.testing.assert_allclose(
        metrics.cider_d(hypotheses, references), Cider().compute_score(gold, predicted)[1], atol=1e-9
    )
    np.testing.assert_allclose(
        metrics.rouge_l(hypotheses, references), Rouge().compute_score(gold, predicted)[1], atol=1e-9
    )
    ours = [metrics.bleu(hypotheses, references, n) for n in metrics.ORDERS]
    np.testing.assert_allclose(ours, 100 * np.array(Bleu(4).compute_score(gold, predicted, verbose=0)[0]), atol=1e-4)
