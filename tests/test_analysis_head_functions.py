"""Detection, importance, ablation, pruning and alarms, against hand-worked cases and loops over the definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled

from attnlab.analysis import heads as library

heads = Compiled(library)

# Detection


def random_causal(size: int, seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(size, size)) * 2
    weights = np.tril(np.exp(logits))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def loop_pattern(name: str, tokens: list[int]) -> np.ndarray:
    """The patterns by their meaning: which earlier key j a query i attends to."""
    size = len(tokens)
    pattern = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            pattern[i, j] = {
                "previous": j == i - 1,
                "duplicate": j < i and tokens[j] == tokens[i],
                "induction": j > 0 and tokens[j - 1] == tokens[i],
            }[name] and j <= i  # fmt: skip
    return pattern


def loop_score(weights, pattern, exclude_bos: bool, exclude_current: bool, error_measure: str) -> float:
    """The score of TransformerLens, cell by cell."""
    hit = total = difference = 0.0
    size = len(weights)
    for i in range(size):
        for j in range(size):
            if (exclude_bos and j == 0) or (exclude_current and i == j):
                continue
            hit += weights[i, j] * pattern[i, j]
            total += weights[i, j]
            difference += abs(weights[i, j] - pattern[i, j])
    return hit / total if error_measure == "mul" else 1 - difference / size


TOKENS = [3, 5, 7, 5, 5, 3, 5, 7]


def test_patterns_by_their_meaning():
    tokens = np.array(TOKENS)
    np.testing.assert_array_equal(heads.previous_token_pattern(8), loop_pattern("previous", TOKENS))
    np.testing.assert_array_equal(heads.duplicate_token_pattern(tokens), loop_pattern("duplicate", TOKENS))
    np.testing.assert_array_equal(heads.induction_pattern(tokens), loop_pattern("induction", TOKENS))
    assert heads.induction_pattern(np.zeros(0, jnp.int32)).shape == (0, 0)


@pytest.mark.parametrize("exclude_bos", [False, True])
@pytest.mark.parametrize("exclude_current", [False, True])
@pytest.mark.parametrize("measured_by", ["mul", "abs"])
def test_scores_against_loops(exclude_bos, exclude_current, measured_by):
    weights, tokens = random_causal(8), np.array(TOKENS)
    options = {
        "exclude_bos": exclude_bos, "exclude_current_token": exclude_current, "error_measure": measured_by,
    }  # fmt: skip
    padded_weights = np.pad(weights, (0, 3), constant_values=np.nan)
    padded_tokens, valid = np.pad(tokens, (0, 3), constant_values=5), np.arange(11) < 8
    behind = np.pad(weights, (3, 0), constant_values=np.nan)
    for name, function in (("duplicate", heads.duplicate_token_head), ("induction", heads.induction_head)):
        expected = loop_score(weights, loop_pattern(name, TOKENS), exclude_bos, exclude_current, measured_by)
        assert float(function(np.asarray(weights), tokens, **options)) == pytest.approx(expected, abs=1e-5)
        assert float(function(padded_weights, padded_tokens, valid, **options)) == pytest.approx(expected, abs=1e-5)
        left = np.pad(tokens, (3, 0), constant_values=5), np.arange(11) >= 3
        assert float(function(behind, *left, **options)) == pytest.approx(expected, abs=1e-5)
    expected = loop_score(weights, loop_pattern("previous", TOKENS), exclude_bos, exclude_current, measured_by)
    for arguments in ((np.asarray(weights),), (padded_weights, valid), (behind, np.arange(11) >= 3)):
        assert float(heads.previous_token_head(*arguments, **options)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_patterns_and_scores_against_transformer_lens():
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("transformer_lens.head_detector", exc_type=ImportError)
    compared = 0
    for seed in range(10):
        tokens = np.random.default_rng(seed).integers(0, 4, size=9)
        weights = random_causal(9, seed)
        patterns = {
            "previous_token_head": heads.previous_token_pattern(9),
            "duplicate_token_head": heads.duplicate_token_pattern(jnp.asarray(tokens)),
            "induction_head": heads.induction_pattern(jnp.asarray(tokens)),
        }
        for name, pattern in patterns.items():
            expected = getattr(theirs, f"get_{name}_detection_pattern")(torch.tensor(tokens)[None])
            np.testing.assert_array_equal(pattern, expected.numpy())
            for bos, current, measured_by in itertools.product((False, True), (False, True), ("mul", "abs")):
                options = {"exclude_bos": bos, "exclude_current_token": current, "error_measure": measured_by}
                score = theirs.compute_head_attention_similarity_score(
                    torch.tensor(weights), detection_pattern=expected, **options
                )  # of "abs", rounded to three digits
                ours = float(heads.pattern_score(jnp.asarray(weights), pattern, **options))
                assert ours == pytest.approx(score, abs=6e-4 if measured_by == "abs" else 1e-5)
                compared += 1
    assert compared == 240


def test_perfect_heads():
    previous = np.eye(5)[np.array([0, 0, 1, 2, 3])]
    assert float(heads.previous_token_head(previous)) == pytest.approx(4 / 5)
    assert float(heads.previous_token_head(previous, exclude_bos=True)) == 1.0
    # Only the first row differs from the pattern, by 1: 1 − 1/5.
    assert float(heads.previous_token_head(previous, error_measure="abs")) == pytest.approx(4 / 5)
    # The second half of a repeated sequence attends to what came after; the first half, having nothing, to itself.
    induction = np.eye(6)[np.array([0, 1, 2, 1, 2, 3])]
    tokens = np.array([4, 5, 6, 4, 5, 6])
    assert float(heads.induction_head(induction, tokens)) == pytest.approx(3 / 6)
    assert float(heads.induction_head(induction, tokens, exclude_current_token=True)) == 1.0


def test_no_weight_is_no_score():
    assert float(heads.previous_token_head(np.ones((1, 1)), exclude_bos=True)) == 0.0
    for name in ("mul", "abs"):
        assert float(heads.previous_token_head(np.zeros((0, 0)), error_measure=name)) == 0.0
        assert float(heads.previous_token_head(np.ones((2, 2)), np.zeros(2, bool), error_measure=name)) == 0.0


def test_scores_of_a_batch_of_heads():
    weights = np.stack([random_causal(6, seed) for seed in range(6)]).reshape(2, 3, 6, 6)
    tokens = np.array([[1, 2, 3, 1, 2, 3], [1, 1, 1, 1, 1, 1]])
    scores = jax.jit(jax.vmap(jax.vmap(heads.induction_head, in_axes=(0, None))))(weights, tokens)
    assert scores[1, 2] == pytest.approx(float(heads.induction_head(weights[1, 2], tokens[1])), abs=1e-6)


# Importance


def test_importance_by_hand():
    # L(x) = (2 ξ_a x₀ − ξ_b x₁)²; at ones, dL/dξ = 2 (2 x₀ − x₁) (2 x₀, −x₁). x = (1, 0): (8, 0); x = (0, 3): (0, 18).
    def loss(gates, x):
        return (2 * gates["a"][0] * x[0] - gates["b"][0] * x[1]) ** 2

    examples = np.array([[1.0, 0.0], [0.0, 3.0]])
    ones = {"a": np.ones(1), "b": np.ones(1)}
    assert heads.head_importance(loss, ones, examples) == {"a": np.array([4.0]), "b": np.array([9.0])}
    with_padding = np.concatenate([examples, np.full((1, 2), np.nan)])
    valid = np.array([True, True, False])
    assert heads.head_importance(loss, ones, with_padding, valid) == {"a": np.array([4.0]), "b": np.array([9.0])}
    pruned = heads.head_importance(loss, {"a": np.zeros(1), "b": np.ones(1)}, examples)
    assert pruned == {"a": np.zeros(1), "b": np.array([9.0])}


def test_signs_do_not_cancel():
    result = heads.head_importance(lambda gates, x: gates["a"][0] * x, {"a": np.ones(1)}, np.array([1.0, -1.0]))
    assert result["a"].tolist() == [1.0]


def test_layers_are_normalized():
    rows = {"a": [3.0, 4.0], "b": [0.0, 0.0], "c": [0.0, 1e-3]}
    result = heads.normalized_by_layer({name: np.array(row) for name, row in rows.items()})
    np.testing.assert_allclose([*result.values()], [[0.6, 0.8], [0.0, 0.0], [0.0, 1.0]], rtol=1e-6)


def test_the_mean_output_of_heads():
    outputs = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])  # tokens, heads, features
    assert heads.mean_output(outputs).tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert (
        heads.mean_output(np.stack([outputs[0], outputs[1] * np.nan]), np.array([True, False])).tolist()
        == outputs[0].tolist()
    )


VALUES = {"a": np.array([1.0, 4.0]), "b": np.array([2.0, 8.0, 0.0])}
"""Two layers, of two and of three heads."""
ONES = {name: np.ones(len(values)) for name, values in VALUES.items()}


def total(gates: dict[str, np.ndarray]) -> float:
    return float(sum((gates[name] * values).sum() for name, values in VALUES.items()))


def test_ablation_by_hand():
    one, rest = library.ablate_one(total, ONES), library.ablate_all_but_one(total, ONES)
    assert {name: scores.tolist() for name, scores in one.items()} == {"a": [14.0, 11.0], "b": [13.0, 7.0, 15.0]}
    assert {name: scores.tolist() for name, scores in rest.items()} == {"a": [11.0, 14.0], "b": [7.0, 13.0, 5.0]}


def test_pruning_from_the_least_important():
    curve = library.pruning_curve(total, VALUES)
    assert curve.pruned == (("b", 3), ("a", 1), ("b", 1), ("a", 2), ("b", 2))  # heads count from 1
    assert curve.heads == (0, 1, 2, 3, 4, 5)
    assert curve.scores == (15.0, 15.0, 14.0, 12.0, 8.0, 0.0)
    curve = library.pruning_curve(total, VALUES, step=4)
    assert (curve.heads, curve.scores) == ((0, 4, 5), (15.0, 8.0, 0.0))
    assert library.pruning_curve(total, VALUES, most=2).scores == (15.0, 15.0, 14.0)
    assert library.pruning_curve(total, VALUES, most=0).scores == (15.0,)
    zeros = {name: np.zeros_like(values) for name, values in VALUES.items()}
    assert library.pruning_curve(total, zeros, most=2).pruned == (("a", 1), ("a", 2))  # ties: the first


def test_iterative_pruning_asks_again():
    asked = []

    def recompute(gates):
        asked.append({name: of_layer.tolist() for name, of_layer in gates.items()})
        return {name: -values for name, values in VALUES.items()}  # the reverse of the first ranking

    curve = library.pruning_curve(total, VALUES, recompute=recompute)
    assert curve.pruned == (("b", 3), ("b", 2), ("a", 2), ("b", 1), ("a", 1))
    assert asked[0] == {"a": [1.0, 1.0], "b": [1.0, 1.0, 0.0]}
    assert len(asked) == 4


def test_pruning_refuses_wrong_arguments():
    for wrong in ({"step": 0}, {"most": 6}, {"most": -1}):
        with pytest.raises(ValueError, match="pruning_curve: step"):
            library.pruning_curve(total, VALUES, **wrong)
    with pytest.raises(ValueError, match="not NaN"):
        library.pruning_curve(total, {**VALUES, "a": np.array([np.nan, 0.0])})
    for other in ({"a": np.ones(2)}, {**ONES, "b": np.ones(2)}):
        with pytest.raises(ValueError, match="for each head"):
            library.pruning_curve(total, VALUES, recompute=lambda gates, other=other: other)


# Alarms


def kinds(*arguments, **options) -> list[tuple[str, int, int, int]]:
    return [(a.kind, a.head, a.affected, a.examples) for a in library.attention_alarms(*arguments, **options)]


def healthy(batch: int, count: int, size: int) -> np.ndarray:
    logits = np.random.default_rng(0).normal(size=(batch, count, size, size)) * 2
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_healthy_maps_give_no_alarm():
    assert library.attention_alarms(healthy(3, 2, 5)) == []
    assert library.attention_alarms(np.zeros((0, 2, 3, 3), np.float32)) == []


def test_every_fault_is_found_in_its_head():
    weights = healthy(2, 5, 4)
    weights[0, 1] = weights[0, 1, 0]  # the same row for every query
    weights[:, 2] = 0.25
    weights[1, 3, 0, 0] = np.nan
    weights[1, 4, 2] = 0.0
    assert kinds(weights) == [
        ("constant", 2, 1, 2), ("uniform", 3, 2, 2), ("nonfinite", 4, 1, 2), ("fully_masked", 5, 1, 2),
    ]  # fmt: skip
    (alarm, *_) = library.attention_alarms(weights, layer="decoder 2")
    assert alarm.message == "decoder 2, head 2: every query has the same weights (1 of 2 examples)"


def test_thresholds():
    weights = np.full((1, 2, 3, 4), 0.25, np.float32)
    weights[0, 0, 0] += np.array([0.0024, -0.0024, 0, 0])  # 0.96% of a quarter
    weights[0, 1, 0] += np.array([0.0026, -0.0026, 0, 0])  # 1.04%, and a divergence of about 1e-5 from the mean
    assert kinds(weights) == [("uniform", 1, 1, 1)]
    nearly = np.tile(np.array([0.1, 0.2, 0.7], np.float32), (1, 2, 4, 1))
    nearly[0, 0, 0] += np.array([1e-4, -1e-4, 0], np.float32)  # about 1e-8 nats
    nearly[0, 1, 0] += np.array([1e-2, -1e-2, 0], np.float32)  # about 1e-4 nats
    assert kinds(nearly) == [("constant", 1, 1, 1)]
    assert float(heads.max_divergence_from_mean(np.asarray(nearly[0, 1]))) > 1e-5


def test_padding_raises_no_alarm_and_hides_none():
    weights = healthy(2, 2, 4)
    weights[:, 1, :, :3] = np.array([0.2, 0.3, 0.5])  # constant on the three real keys
    where = np.zeros((2, 1, 6, 6), bool)
    where[:, :, :3, :3] = True
    batch = np.full((2, 2, 6, 6), np.nan, np.float32)
    batch[:, :, :3, :3] = weights[:, :, :3, :3]
    assert kinds(batch, where) == [("constant", 2, 2, 2)]
    assert kinds(np.nan_to_num(batch), where) == [("constant", 2, 2, 2)]
    queries = np.zeros((2, 6), bool)
    queries[:, :4] = True  # the fourth query is a real token, but may attend to nothing
    assert ("fully_masked", 1, 2, 2) in kinds(batch, where, queries)


def test_what_has_no_choice_is_neither_constant_nor_uniform():
    assert kinds(np.ones((2, 1, 3, 1), np.float32)) == []  # one key
    one_query = np.array([[[[0.2, 0.8]]]], np.float32)
    assert kinds(one_query) == []
    causal = np.tril(np.ones((3, 3), bool))[None, None]
    first = np.zeros((1, 1, 3, 3), np.float32)
    first[..., 0] = 1.0  # a sink: every query attends to the first key alone
    assert kinds(first, causal) == [("constant", 1, 1, 1)]
    uniform = (np.tril(np.ones((3, 3))) / np.arange(1, 4)[:, None]).astype(np.float32)[None, None]
    assert kinds(uniform, causal) == [("uniform", 1, 1, 1)]


def test_a_mask_may_differ_between_heads_and_be_of_keys_only():
    weights = healthy(1, 2, 4)
    weights[0, :, :, :2] = 0.5  # uniform over the two keys of the first head
    where = np.ones((1, 2, 4, 4), bool)
    where[0, 0, :, 2:] = False
    weights[0, 1] = healthy(1, 1, 4)[0, 0]
    assert kinds(weights, where) == [("uniform", 1, 1, 1)]
    assert kinds(weights[:, :1], where[:, :1, :1]) == [("uniform", 1, 1, 1)]
    with pytest.raises((ValueError, TypeError), match="where"):
        library.attention_alarms(jnp.asarray(weights), where[0][:1])
