"""Attribution held to captum (on the same two-layer model) and attention flow to networkx."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis.attribution import (
    aggregate_features,
    attention_flow,
    input_x_gradient,
    integrated_gradients,
    occlusion,
    saliency,
    smooth_grad,
)

pytestmark = [pytest.mark.reference, pytest.mark.usefixtures("x64")]
TOKENS, WIDTH, CLASSES = 6, 5, 3
rng = np.random.default_rng(0)
WEIGHTS = [{name: rng.normal(size=(WIDTH, WIDTH)) / 2 for name in "qkvof"} for _ in range(2)]
READOUT = rng.normal(size=(WIDTH, CLASSES))
INPUT, BASELINE = rng.normal(size=(TOKENS, WIDTH)), rng.normal(size=(TOKENS, WIDTH)) / 2
TARGET = 1


def score(x):
    """The log-probability of a class: two layers of self-attention and feed-forward network, mean pooling."""
    for layer in WEIGHTS:
        weights = jax.nn.softmax((x @ layer["q"]) @ (x @ layer["k"]).T / WIDTH**0.5, axis=-1)
        x = x + weights @ (x @ layer["v"]) @ layer["o"]
        x = x + jnp.tanh(x @ layer["f"])
    return jax.nn.log_softmax(x.mean(axis=0) @ READOUT)[TARGET]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def captum():
    return pytest.importorskip("captum.attr")


@pytest.fixture(scope="module")
def forward(torch):
    """The same model in PyTorch, of a batch: log-probabilities of all classes."""
    layers = [{name: torch.tensor(matrix) for name, matrix in layer.items()} for layer in WEIGHTS]
    readout = torch.tensor(READOUT)

    def model(x):
        for layer in layers:
            weights = torch.softmax((x @ layer["q"]) @ (x @ layer["k"]).transpose(1, 2) / WIDTH**0.5, dim=-1)
            x = x + weights @ (x @ layer["v"]) @ layer["o"]
            x = x + torch.tanh(x @ layer["f"])
        return torch.log_softmax(x.mean(dim=1) @ readout, dim=-1)

    return model


@pytest.fixture
def inputs(torch):
    return torch.tensor(INPUT)[None].requires_grad_()


def close(ours, theirs, rtol=1e-9):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=rtol, atol=rtol / 10)


ROUNDED = 1e-6
"""captum keeps step sizes, standard deviations and the results of ablations in float32."""


def test_the_two_models_are_one(forward, inputs):
    close(score(jnp.asarray(INPUT)), forward(inputs)[0, TARGET])


def test_saliency(captum, forward, inputs):
    theirs = captum.Saliency(forward).attribute(inputs, target=TARGET)[0]
    close(saliency(score, jnp.asarray(INPUT)).attributions, theirs.norm(dim=1))


def test_input_x_gradient(captum, forward, inputs):
    close(
        input_x_gradient(score, jnp.asarray(INPUT)).attributions,
        captum.InputXGradient(forward).attribute(inputs, target=TARGET)[0],
    )


@pytest.mark.parametrize("method", ["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"])
@pytest.mark.parametrize(("n_steps", "internal_batch_size"), [(7, None), (50, None), (50, 16)])
def test_integrated_gradients(captum, forward, inputs, torch, method, n_steps, internal_batch_size):
    theirs, delta = captum.IntegratedGradients(forward).attribute(
        inputs, baselines=torch.tensor(BASELINE)[None], target=TARGET, n_steps=n_steps, method=method,
        internal_batch_size=internal_batch_size, return_convergence_delta=True,
    )  # fmt: skip
    ours = integrated_gradients(
        score, jnp.asarray(INPUT), baseline=jnp.asarray(BASELINE), n_steps=n_steps, method=method,
        internal_batch_size=internal_batch_size,
    )  # fmt: skip
    close(ours.attributions, theirs[0], ROUNDED)
    close(ours.completeness_gap, delta.abs()[0], ROUNDED)


def test_the_default_of_integrated_gradients_is_captums(captum, forward, inputs):
    theirs = captum.IntegratedGradients(forward).attribute(inputs, target=TARGET)  # zeros
    close(integrated_gradients(score, jnp.asarray(INPUT), baseline=jnp.zeros(WIDTH)).attributions, theirs[0], ROUNDED)


def test_smooth_grad(captum, forward, inputs, torch, monkeypatch):
    samples, key = 8, jax.random.key(3)
    noise = np.stack([
        jax.random.normal(jax.random.fold_in(key, index), INPUT.shape, "float64") for index in range(samples)
    ])  # fmt: skip
    monkeypatch.setattr(torch, "normal", lambda mean, std: mean + std * torch.tensor(noise))  # captum draws ours
    deviation = 0.15 * (INPUT.max() - INPUT.min())
    theirs = captum.NoiseTunnel(captum.Saliency(forward)).attribute(
        inputs, nt_type="smoothgrad", nt_samples=samples, stdevs=float(deviation), target=TARGET, abs=False
    )
    ours = smooth_grad(score, jnp.asarray(INPUT), rng=key, noise_level=0.15, n_samples=samples).attributions
    close(ours, theirs[0], ROUNDED)


def test_occlusion(captum, forward, inputs, torch):
    ours = occlusion(score, jnp.asarray(INPUT), replacement=jnp.asarray(BASELINE)).attributions
    baseline = torch.tensor(BASELINE)[None]
    windows = captum.Occlusion(forward).attribute(
        inputs, sliding_window_shapes=(1, WIDTH), baselines=baseline, target=TARGET
    )
    close(ours, windows[0, :, 0], ROUNDED)
    token = torch.arange(TOKENS)[None, :, None].expand(1, TOKENS, WIDTH)
    ablated = captum.FeatureAblation(forward).attribute(inputs, baselines=baseline, feature_mask=token, target=TARGET)
    close(ours, ablated[0, :, 0], ROUNDED)


def test_aggregation_to_tokens(captum, forward, inputs):
    theirs = captum.InputXGradient(forward).attribute(inputs, target=TARGET)[0]
    ours = input_x_gradient(score, jnp.asarray(INPUT)).attributions
    close(aggregate_features(ours, "sum"), theirs.sum(dim=1))
    close(aggregate_features(ours, "vnorm"), theirs.norm(dim=1))


@pytest.mark.parametrize(
    ("layers", "n", "sharpness"), [(1, 6, 2), (2, 8, 2), (3, 8, 1), (4, 7, 6), (6, 10, 3), (6, 10, 12)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_flow(layers, n, sharpness, causal):
    networkx = pytest.importorskip("networkx")
    logits = sharpness * np.random.default_rng(n + layers).normal(size=(layers, 2, n, n))
    logits = np.where(np.tril(np.ones((n, n), bool)) | (not causal), logits, -np.inf)
    weights = np.array(jax.nn.softmax(jnp.asarray(logits), axis=-1))
    capacities = 0.5 * weights.mean(axis=1) + 0.5 * np.eye(n)
    graph = networkx.DiGraph()
    graph.add_nodes_from(itertools.product(range(layers + 1), range(n)))
    for layer, u, v in itertools.product(range(layers), range(n), range(n)):
        if capacities[layer, u, v] > 0:
            graph.add_edge((layer + 1, u), (layer, v), capacity=capacities[layer, u, v])
    expected = [[networkx.maximum_flow_value(graph, (layers, i), (0, j)) for j in range(n)] for i in range(n)]
    np.testing.assert_allclose(attention_flow(weights), expected, rtol=1e-9, atol=1e-9)
