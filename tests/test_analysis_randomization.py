"""Randomization of parameters, sensitivity and infidelity, by hand and against captum."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from attnlab.analysis.faithfulness.randomization import mprt, permute_parameters, replace_parameters
from attnlab.analysis.faithfulness.sensitivity import (
    avg_sensitivity,
    infidelity,
    max_sensitivity,
    sensitivities,
    token_infidelity,
)
from attnlab.analysis.record import Attribution

avg_sensitivity, max_sensitivity, sensitivities = map(compiled, (avg_sensitivity, max_sensitivity, sensitivities))
infidelity, token_infidelity = compiled(infidelity), compiled(token_infidelity)


def close(actual, expected, **tolerance):
    np.testing.assert_allclose(actual, expected, **({"rtol": 1e-5, "atol": 1e-6} | tolerance))


class TestReplace:
    PARAMS = {"params": {"layers": [{"w": 1, "b": 2}, {"w": 3, "b": 4}], "layers_out": {"w": 5}}}
    OTHERS = jax.tree.map(lambda leaf: 10 * leaf, PARAMS)

    def test_a_prefix_stands_for_all_below(self):
        replaced = replace_parameters(self.PARAMS, self.OTHERS, [("params", "layers", "1")])
        assert replaced == {"params": {"layers": [{"w": 1, "b": 2}, {"w": 30, "b": 40}], "layers_out": {"w": 5}}}
        replaced = replace_parameters(self.PARAMS, self.OTHERS, [("params", "layers")])
        assert replaced["params"]["layers_out"] == {"w": 5}
        assert replace_parameters(self.PARAMS, self.OTHERS, [()]) == self.OTHERS
        assert replace_parameters(self.PARAMS, self.OTHERS, []) == self.PARAMS

    def test_an_unknown_path_is_named_with_those_there_are(self):
        with pytest.raises(ValueError, match=r"below params/layer; there are params/layers, params/layers_out"):
            replace_parameters(self.PARAMS, self.OTHERS, [("params", "layer")])

    def test_another_structure_is_refused(self):
        with pytest.raises(ValueError, match="the same structure"):
            replace_parameters(self.PARAMS, {"params": {}}, [("params",)])

    def test_permuted_parameters(self):
        params = {"w": jnp.arange(12.0).reshape(3, 4), "b": jnp.zeros(4), "n": jnp.arange(3)}
        shuffled = permute_parameters(jax.random.key(0), params)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shuffled) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), params
        )
        assert sorted(shuffled["w"].ravel().tolist()) == list(range(12))
        assert shuffled["w"].tolist() != params["w"].tolist()
        assert permute_parameters(jax.random.key(0), {}) == {}


class TestMPRT:
    X = jnp.array([[1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 3.0, 2.0]])
    PARAMS = {"top": jnp.ones(()), "bottom": jnp.ones(())}
    RANDOM = {"top": -jnp.ones(()), "bottom": -jnp.ones(())}
    GROUPS = {"top": [("top",)], "bottom": [("bottom",)]}

    def attribute(self, params):
        """Gradient × input of top · bottom · x: its ranks turn round with the sign of each parameter."""
        return params["top"] * params["bottom"] * self.X

    def test_cascading_keeps_what_is_randomized(self):
        results = mprt(self.attribute, self.PARAMS, self.RANDOM, self.GROUPS)
        assert list(results) == ["top", "bottom"]
        close(results["top"], [-1.0, -1.0])
        close(results["bottom"], [1.0, 1.0])  # −1 · −1

    def test_independent_randomizes_one_layer_alone(self):
        results = mprt(self.attribute, self.PARAMS, self.RANDOM, self.GROUPS, order="independent")
        close(results["top"], [-1.0, -1.0])
        close(results["bottom"], [-1.0, -1.0])

    def test_a_method_that_ignores_the_model_stays_the_same(self):
        results = mprt(lambda params: self.X, self.PARAMS, self.RANDOM, self.GROUPS)
        close(list(results.values()), np.ones((2, 2)))

    def test_padding(self):
        def attribute(params):
            return jnp.where(jnp.arange(4) < 3, params["top"] * self.X, 100.0)

        where = jnp.broadcast_to(jnp.arange(4) < 3, (2, 4))
        close(mprt(attribute, self.PARAMS, self.RANDOM, {"top": [("top",)]}, where)["top"], [-1.0, -1.0])

    def test_a_network_forgets_what_is_randomized(self):
        sizes = (6, 16, 16, 1)
        layers = [f"layer_{n}" for n in range(3)]

        def initialize(seed):
            rng = np.random.default_rng(seed)
            return {
                name: jnp.asarray(rng.normal(size=(a, b)) / math.sqrt(a), jnp.float32)
                for name, a, b in zip(layers, sizes[:-1], sizes[1:], strict=True)
            }

        inputs = jnp.asarray(np.random.default_rng(99).normal(size=(20, 40, 6)), jnp.float32)

        def score(params, tokens):
            for name in layers[:-1]:
                tokens = jnp.tanh(tokens @ params[name])
            return jnp.sum(tokens @ params[layers[-1]])

        @jax.jit
        def attribute(params):
            gradient = jax.vmap(jax.grad(score, argnums=1), in_axes=(None, 0))(params, inputs)
            return jnp.sum(gradient * inputs, axis=-1)

        groups = {name: [(name,)] for name in reversed(layers)}
        params = initialize(0)
        others = [mprt(attribute, params, initialize(n), groups) for n in range(1, 17)]
        assert list(others[0]) == layers[::-1]
        # With the sign of the last layer the sign of all attributions is drawn at random.
        assert all(abs(np.mean([result[name] for result in others])) < 0.4 for name in layers)
        nearly = jax.tree.map(lambda leaf: 1.01 * leaf, params)
        assert all(float(values.min()) > 0.9 for values in mprt(attribute, params, nearly, groups).values())

    def test_an_unknown_order_is_refused(self):
        with pytest.raises(ValueError, match='"cascading" or "independent", not \'top_down\''):
            mprt.__wrapped__(self.attribute, self.PARAMS, self.RANDOM, self.GROUPS, order="top_down")

    @pytest.mark.reference
    def test_similarity_is_that_of_quantus(self):
        functions = pytest.importorskip("quantus.functions.similarity_func")
        first, second = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
        expected = [functions.correlation_spearman(a, b) for a, b in zip(first, second, strict=True)]
        results = mprt(
            lambda params: jnp.asarray(params["a"]), {"a": first}, {"a": second}, {"a": [("a",)]}
        )  # the attributions are the parameters
        print(f"quantus: {np.asarray(expected).round(4).tolist()}, here: {np.asarray(results['a']).round(4).tolist()}")
        close(results["a"], expected)


@pytest.mark.usefixtures("strict")
class TestSensitivity:
    EMBEDDED = np.ones((2, 3), np.float32)

    def test_of_a_linear_model_is_that_of_the_input(self):
        # Φ(x) = 2x: ‖2u‖ / ‖2x‖, with |u| ≤ 0.5 in each of 6 features: at most 0.5.
        values = sensitivities(
            jax.random.key(0), lambda x: 2.0 * x, self.EMBEDDED, perturb_radius=0.5, n_perturb_samples=200
        )
        assert values.shape == (200,)
        assert 0.35 < float(values.max()) <= 0.5
        # E‖u‖² / ‖x‖² = 0.5² / 3.
        np.testing.assert_allclose(np.mean(values**2), 0.25 / 3, rtol=0.1)
        rng = jax.random.key(0)
        close(
            max_sensitivity(rng, lambda x: 2.0 * x, self.EMBEDDED, perturb_radius=0.5, n_perturb_samples=200),
            values.max(),
        )
        close(
            avg_sensitivity(rng, lambda x: 2.0 * x, self.EMBEDDED, perturb_radius=0.5, n_perturb_samples=200),
            values.mean(),
        )

    def test_padding_is_not_changed(self):
        valid, rng = np.array([False, True]), jax.random.key(0)
        first = lambda x: x * jnp.array([[0.0], [1.0]]) * 0.0 + x[:1]  # noqa: E731
        second = lambda x: x * 0.0 + x[1:]  # noqa: E731
        assert float(max_sensitivity(rng, first, self.EMBEDDED, valid)) == 0.0
        assert float(max_sensitivity(rng, second, self.EMBEDDED, valid)) > 0.0

    @pytest.mark.parametrize("filling", [100.0, jnp.nan])
    def test_attributions_of_padding_do_not_enter_the_norms(self, filling):
        # What `attribute` returns at padding changes with the text, and is large.
        valid, rng = np.array([True, True, False]), jax.random.key(0)
        embedded = np.concatenate([self.EMBEDDED, np.zeros((1, 3), np.float32)])
        shorter = lambda x: jnp.sum(x**2, axis=1)  # noqa: E731
        longer = lambda x: jnp.where(valid, shorter(x), filling * jnp.sum(x))  # noqa: E731
        values = sensitivities(rng, longer, embedded, valid)
        changes = jax.random.uniform(rng, (10, 3, 3), jnp.float32, -0.02, 0.02)[:, :2]
        original = np.sum(self.EMBEDDED**2, axis=1)
        change = np.sum((self.EMBEDDED + np.asarray(changes)) ** 2, axis=2) - original
        close(values, np.linalg.norm(change, axis=1) / np.linalg.norm(original), rtol=1e-4)

    def test_a_record_and_nan(self):
        record = lambda x: Attribution("saliency", jnp.sum(x, axis=1))  # noqa: E731
        rng = jax.random.key(0)
        close(sensitivities(rng, record, self.EMBEDDED), sensitivities(rng, lambda x: x.sum(axis=1), self.EMBEDDED))
        assert math.isnan(max_sensitivity(rng, lambda x: x * jnp.array([[1.0], [jnp.nan]]), self.EMBEDDED))
        with pytest.raises(ValueError, match=r"attributions of 2 tokens, not \[1, 3\]"):
            sensitivities.__wrapped__.__wrapped__(rng, lambda x: x[:1], jnp.ones((2, 3)))

    def test_zero_attributions_and_zero_samples(self):
        assert math.isnan(max_sensitivity(jax.random.key(0), lambda x: 0.0 * x, self.EMBEDDED))
        with pytest.raises(ValueError, match="n_perturb_samples must be at least 1"):
            avg_sensitivity(jax.random.key(0), lambda x: x, self.EMBEDDED, n_perturb_samples=0)


@pytest.mark.usefixtures("strict")
class TestInfidelity:
    def test_by_hand(self):
        # f(x) = x², at x = 2 with Φ = 4 (the gradient): for I = 1, 4 − (4 − 1) = 1; for I = 2, 8 − (4 − 0) = 4.
        value = infidelity(lambda x: jnp.sum(x**2), np.array([[2.0]]), np.array([[4.0]]), np.array([[[1.0]], [[2.0]]]))
        close(value, (1.0 + 16.0) / 2)

    def test_normalized_by_hand(self):
        # Expected 4 and 8, changes 3 and 4: the best factor is (12 + 32) / (16 + 64) = 0.55; rests 0.8 and −0.4.
        value = infidelity(
            lambda x: jnp.sum(x**2),
            np.array([[2.0]]),
            np.array([[4.0]]),
            np.array([[[1.0]], [[2.0]]]),
            normalize=True,
        )
        close(value, (0.64 + 0.16) / 2)

    def test_tokens_by_hand(self):
        worth = np.array([0.5, 0.25, 0.25], np.float32)

        def additive(removed):
            return jnp.sum(jnp.where(removed, 0.0, worth[None]), axis=1)

        removed = np.array([[True, False, False], [False, True, True]])
        close(token_infidelity(additive, worth, removed), 0.0)
        close(token_infidelity(additive, 3.0 * worth, removed), (1.0 + 1.0) / 2)
        close(token_infidelity(additive, 3.0 * worth, removed, normalize=True), 0.0)
        close(token_infidelity(additive, np.zeros(3), removed, normalize=True), 0.25)

    def test_nan_gives_nan(self):
        removed = np.array([[True, False], [False, True]])
        predict = lambda removed: jnp.sum(jnp.where(removed, 0.0, 1.0), axis=1)  # noqa: E731
        for normalize in (False, True):
            assert math.isnan(token_infidelity(predict, np.array([1.0, np.nan]), removed, normalize=normalize))
            gradient, changes = np.array([[1.0, np.nan]]), np.array([[[0.0, 0.0]]])
            assert math.isnan(infidelity(jnp.sum, np.ones((1, 2)), gradient, changes, normalize=normalize))
        assert float(token_infidelity(predict, np.array([1.0, np.nan]), removed[:1])) == 0.0  # token 1 stays

    def test_wrong_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"predict must return an array of shape \(3,\)"):
            token_infidelity(lambda removed: jnp.ones((3, 1)), jnp.ones(2), jnp.eye(2, dtype=bool))
        with pytest.raises(ValueError, match=r"removed must have the shape of \[sets, tokens\], \[2, 3\], not \[2"):
            token_infidelity.__wrapped__.__wrapped__(lambda removed: jnp.ones(3), jnp.ones(3), jnp.eye(2, dtype=bool))
        with pytest.raises(ValueError, match="aggregate_features"):
            token_infidelity.__wrapped__.__wrapped__(
                lambda removed: jnp.ones(3), jnp.ones((2, 4)), jnp.eye(2, dtype=bool)
            )

    @pytest.mark.reference
    @pytest.mark.parametrize("normalize", [False, True])
    def test_is_that_of_captum(self, normalize):
        torch = pytest.importorskip("torch")
        metrics = pytest.importorskip("captum.metrics")
        draws = np.random.default_rng(3)
        embedded, weights = draws.normal(size=(4, 3)).astype(np.float32), draws.normal(size=(4, 3)).astype(np.float32)
        perturbations = draws.normal(size=(50, 4, 3)).astype(np.float32)
        attributions = weights * np.cos(embedded * weights)

        def perturb(inputs):
            change = torch.tensor(perturbations)
            return change, inputs - change

        expected = metrics.infidelity(
            lambda x: torch.sin(x * torch.tensor(weights)).sum(dim=(1, 2)),
            perturb,
            torch.tensor(embedded)[None],
            torch.tensor(attributions)[None],
            n_perturb_samples=50,
            normalize=normalize,
        )
        actual = infidelity(
            lambda x: jnp.sum(jnp.sin(x * weights)),
            jnp.asarray(embedded),
            jnp.asarray(attributions),
            jnp.asarray(perturbations),
            normalize=normalize,
        )
        print(f"captum: {float(expected[0]):.6f}, here: {float(actual):.6f}")
        close(actual, float(expected[0]), rtol=1e-4)

    @pytest.mark.reference
    def test_sensitivity_is_that_of_captum(self):
        torch = pytest.importorskip("torch")
        metrics = pytest.importorskip("captum.metrics")
        embedded = np.random.default_rng(4).normal(size=(4, 3)).astype(np.float32)
        rng = jax.random.key(0)
        changes = np.asarray(jax.random.uniform(rng, (20, 4, 3), jnp.float32, -0.1, 0.1))
        expected = metrics.sensitivity_max(
            lambda inputs: (torch.sin(inputs[0]) * inputs[0],),
            torch.tensor(embedded)[None],
            perturb_func=lambda inputs: (torch.tensor(embedded)[None] + torch.tensor(changes),),
            n_perturb_samples=20,
        )
        actual = max_sensitivity(
            rng, lambda x: jnp.sin(x) * x, jnp.asarray(embedded), perturb_radius=0.1, n_perturb_samples=20
        )
        print(f"captum: {float(expected[0]):.6f}, here: {float(actual):.6f}")
        close(actual, float(expected[0]), rtol=1e-4)
