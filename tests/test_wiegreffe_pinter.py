"""Analyses that train models anew: an MLP with frozen weights, model-consistent adversaries, variance over seeds."""

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interruption import StopAfter, arrays, untimed
from weights import drawn

from attnlab import cli, lab
from attnlab.analysis.faithfulness.attention_divergence import attention_divergence, by_max_weight
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.models import classifier
from attnlab.config.yaml_text import parse
from attnlab.lab.divergence_groups import RunDistances, grouped
from attnlab.models.classifier import MlpClassifier
from attnlab.results.divergence import Divergence, DivergenceReport, RunDivergence
from attnlab.results.groups import RunGroup
from attnlab.results.record import RunRecord
from attnlab.results.run_files import read_environment
from attnlab.tasks.classification.adversary import fill_with_base
from attnlab.tasks.classification.attention_maps import ClassifiedText
from attnlab.tasks.classification.base_model import _misfit
from attnlab.training.signals import Interrupted

BASE = Path(__file__).parents[1] / "experiments/classification/synthetic_sentiment_additive.yaml"


def guided(run: Path) -> str:
    return f"model={{kind: mlp_classifier, embedding: 8, hidden: 8, pooling: {{kind: frozen, run: {run}}}}}"


def adversary(base: Path, strength: float = 1.0) -> str:
    return f"task.objective={{kind: model_consistent, base: {base}, strength: {strength}}}"


def train(out: Path, *overrides: str, seed: int = 1) -> Path:
    return lab.train(load(BASE, overrides, seed=seed, tiny=True), out, None, overrides=overrides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a few steps: the base model, another seed, adversaries, and an MLP with the weights of the base."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "base-s1")
    train(folder / "base-s2", seed=2)
    quick = ("training.steps=20", "training.optimizer.learning_rate=0.05", "training.average_last=1")
    for strength in (0, 50):
        train(folder / f"adversary-{strength}", adversary(folder / "base-s1", strength), *quick)
    train(folder / "mlp", guided(folder / "base-s1"))
    return folder


def texts(run: Path) -> list[str]:
    task = lab.load(run).task
    return [example.text for example in task.load(task.config, None).test["test"]][:20]


def test_an_mlp_pools_with_the_weights_of_its_base(folder: Path):
    base, mlp = lab.load(folder / "base-s1"), lab.load(folder / "mlp")
    some = texts(folder / "mlp")
    expected = base.task.classify(base.params, some)
    for found, of_base in zip(mlp.task.classify(mlp.params, some), expected, strict=True):
        np.testing.assert_allclose(found.weights, of_base.weights, atol=1e-6)
    assert mlp.explain(some[0], method="integrated_gradients")["text"].attributions.any()


def test_a_run_needs_its_base_no_more_once_it_is_trained(folder: Path, tmp_path: Path):
    for name in ("mlp", "adversary-50"):
        shutil.copytree(folder / name, tmp_path / name)
    some = texts(folder / "mlp")
    expected = [list(lab.predict(folder / name, some)) for name in ("mlp", "adversary-50")]
    (folder / "base-s1").rename(folder / "away")
    try:
        assert [list(lab.predict(tmp_path / name, some)) for name in ("mlp", "adversary-50")] == expected
        with pytest.raises(UserError, match=r"model\.pooling\.run: .*base-s1: no such run directory"):
            lab.train(load(tmp_path / "mlp/config.yaml"), tmp_path / "mlp", None)
    finally:
        (folder / "away").rename(folder / "base-s1")
    copy = tmp_path / "mlp/base/params.msgpack"
    copy.write_bytes(copy.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match=r"the base/params\.msgpack was changed after training"):
        lab.load(tmp_path / "mlp")


@pytest.mark.slow
def test_a_run_whose_base_was_trained_anew_is_not_resumed(folder: Path, tmp_path: Path):
    """The base model is an input of the run, like the data: its fingerprint is compared, also between seeds."""
    shutil.copytree(folder / "base-s2", tmp_path / "base")
    run = train(tmp_path / "run", adversary(tmp_path / "base"))
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(folder / "base-s1", tmp_path / "base")
    with pytest.raises(UserError, match="fingerprint of the base"):
        train(run, adversary(tmp_path / "base"))
    first = RunRecord(run, parse((run / "config.yaml").read_text(), "").data, read_environment(run), [], {})
    environment = {"fingerprint": {**first.environment["fingerprint"], "base": "another"}}
    other = replace(first, directory=tmp_path / "other", config={**first.config, "seed": 2}, environment=environment)
    with pytest.raises(UserError, match="fingerprint of the base"):
        RunGroup.of([first, other])


def test_a_base_that_does_not_fit_is_refused_in_one_line(folder: Path, tmp_path: Path):
    base = folder / "base-s1"
    for overrides, message in (
        ([adversary(folder / "nowhere")], r"task\.objective\.base: .*nowhere: no such run directory"),
        ([adversary(base), "task.truncation=tail"], r"task\.truncation head, and this experiment tail"),
        ([adversary(base), "model.pooling.hops=2"], r"its pooling has 1 hops, and model\.pooling 2"),
        ([adversary(base), "training.label_smoothing=0.1"], r"training\.label_smoothing"),
        ([guided(folder / "mlp")], r"name .*base-s1, whose weights it has"),
    ):
        with pytest.raises(UserError, match=message) as error:
            train(tmp_path / "run", *overrides)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


def test_a_base_whose_training_is_not_complete_is_refused(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "base-s1", tmp_path / "base")
    shutil.rmtree(tmp_path / "base/checkpoints/8")
    with pytest.raises(UserError, match=r"is at step 4 of 8; attnlab train .*config\.yaml resumes it"):
        train(tmp_path / "run", adversary(tmp_path / "base"))


def test_a_base_that_stopped_early_is_complete_and_one_interrupted_with_patience_is_not(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "base-s1", tmp_path / "base")
    config, log = tmp_path / "base/config.yaml", tmp_path / "base/metrics.jsonl"
    text = config.read_text().replace("steps: 8\n", "steps: 12\n")
    config.write_text(re.sub("patience: .*", "patience: 1", text))
    settings = load(config).training
    assert (settings.steps, settings.patience) == (12, 1)
    for scores, complete in (((50.0, 60.0), False), ((60.0, 50.0), True)):
        lines = zip((4, 8), scores, strict=True)
        log.write_text("".join(json.dumps({"step": step, "dev_accuracy": score}) + "\n" for step, score in lines))
        if complete:
            train(tmp_path / "run", guided(tmp_path / "base"), "training.steps=1")
        else:
            with pytest.raises(UserError, match="its training is at step 8 of 12"):
                train(tmp_path / "run", guided(tmp_path / "base"), "training.steps=1")


def test_the_copy_of_a_base_is_its_config_as_it_was_read(folder: Path, tmp_path: Path):
    """A config of an older version lacks keys: written anew, its fingerprint would change with every new key."""
    shutil.copytree(folder / "base-s1", tmp_path / "base")
    config = tmp_path / "base/config.yaml"
    older = config.read_text().replace("  calibration_bins: 15\n", "")
    assert older != config.read_text()
    config.write_text(older)
    run = train(tmp_path / "run", guided(tmp_path / "base"), "training.steps=1")
    assert (run / "base/config.yaml").read_text() == older
    assert lab.load(run).predict(["good"])
    train(run, guided(tmp_path / "base"), "training.steps=1")
    assert (run / "base/config.yaml").read_text() == older


def test_the_mean_of_a_transformer_is_no_guide_but_that_of_another_model_is(folder: Path):
    config, base = (load(folder / name / "config.yaml") for name in ("mlp", "base-s1"))
    mean = base.replace(model=base.model.replace(pooling=classifier.Mean()))
    assert _misfit(config, mean) is None
    transformer = mean.replace(model=classifier.TransformerClassifier(pooling=classifier.Mean()))
    assert "its pooling mean computes no attention weights" in str(_misfit(config, transformer))


def test_weights_of_another_number_of_rows_are_refused():
    text = ClassifiedText(np.ones(2) / 2, np.ones((4, 3)) / 3, ["row"] * 4)
    with pytest.raises(ValueError, match="weights have 4 rows, the adversary 1 hops"):
        fill_with_base(None, [(np.ones(3, int), 0)], [text], hops=1)  # pyright: ignore[reportArgumentType]


def test_smoothed_labels_are_refused_before_anything_is_read():
    with pytest.raises(UserError, match=r"training\.label_smoothing 0\.1 must be 0 with task\.objective\.kind"):
        load(BASE, [adversary(Path("nowhere")), "training.label_smoothing=0.1"], tiny=True)


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict:
    assert cli.main(["divergence", str(folder / "base-s1"), str(folder)]) == 0
    return json.loads((folder / "base-s1/divergence/test.json").read_text())


def test_divergence_separates_seeds_adversaries_and_other_models(folder: Path, printed: dict):
    groups = {group["label"]: group for group in printed["groups"]}
    assert list(groups) == ["other seeds", "λ = 0", "λ = 50", "synthetic_sentiment_additive-tiny"]
    assert [group["kind"] for group in groups.values()] == ["seed", "adversary", "adversary", "other"]
    bins = [group["bins"] for group in groups.values()]
    groups = {label: group["divergence"] for label, group in groups.items()}
    assert groups["λ = 50"]["weight_jsd"] > 10 * groups["λ = 0"]["weight_jsd"], "a large λ moves the weights"
    assert groups["λ = 50"]["weight_jsd"] > 10 * groups["other seeds"]["weight_jsd"], "beyond the variance of training"
    assert groups["synthetic_sentiment_additive-tiny"]["weight_jsd"] < 1e-6, "the MLP has the base's weights"
    low, high = groups["λ = 50"]["weight_jsd_ci95"]
    assert low < groups["λ = 50"]["weight_jsd"] < high
    assert all(sum(part["texts"] for part in parts) == printed["texts"] for parts in bins)
    (curve,) = printed["curves"]
    assert curve["label"] == "synthetic_sentiment_additive-tiny"
    assert curve["strengths"] == [0.0, 50.0]
    assert curve["area"] >= 0.0
    picture = folder / "base-s1/divergence/test.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def distances(jsd: float, *overrides: str, seed: int = 1) -> RunDistances:
    values = np.array([jsd, jsd])
    record = RunDivergence("run", seed, Divergence(50.0, 50.0, jsd, None, jsd, None))
    return RunDistances(record, load(BASE, overrides, seed=seed, tiny=True), values, values / 2, values)


def test_adversaries_of_each_config_have_a_curve_of_their_own():
    """They are told apart by what differs besides the seed, λ and the path of the base model."""
    base, wide = Path("base-s1"), "model.encoder.hidden=4"
    runs = [
        distances(0.5, adversary(base, 2.0)),
        distances(0.3, adversary(base, 1.0)),
        distances(0.1, adversary(Path("elsewhere/base-s1"), 1.0), seed=2),
        distances(0.4, adversary(base, 1.0), wide),
    ]
    groups, curves = grouped(load(BASE, tiny=True), runs)
    assert [len(group.runs) for group in groups] == [2, 1, 1]
    assert [group.strength for group in groups] == [1.0, 2.0, 1.0]
    assert [curve.strengths for curve in curves] == [[1.0, 2.0], [1.0]]
    assert curves[0].weight_jsd == pytest.approx([0.2, 0.5])
    assert curves[0].area == pytest.approx((0.2 * 0.1 + 0.3 * 0.35) / 2)
    first, other = (curve.label for curve in curves)
    assert first != other
    assert other.endswith("(model.encoder.hidden 4)")
    assert [group.label for group in groups] == [f"{first}, λ = 1", f"{first}, λ = 2", f"{other}, λ = 1"]


def test_labels_contain_no_folder_of_this_machine():
    """A table of groups is committed; runs with equal names in other folders are still told apart."""
    runs = [distances(0.1, guided(Path(f"/home/me/{guide}"))) for guide in ("one/a-s1", "two/a-s1", "one/b-s1")]
    groups, _ = grouped(load(BASE, tiny=True), runs)
    name = runs[0].config.name
    assert [group.label.removeprefix(name) for group in groups] == [
        f' (model.pooling.run "{guide}-s1"){number}' for guide, number in (("a", " [1]"), ("a", " [2]"), ("b", ""))
    ]


@pytest.mark.slow
def test_an_adversary_broken_off_and_resumed_ends_with_the_same_bits(folder: Path, tmp_path: Path, monkeypatch):
    overrides = (adversary(folder / "base-s1"), "training.steps=6")
    whole, broken = train(tmp_path / "whole", *overrides), tmp_path / "broken"
    with monkeypatch.context() as patched:
        patched.setattr(lab.training, "graceful_shutdown", lambda: StopAfter(3))
        with pytest.raises(Interrupted):
            train(broken, *overrides)
    assert arrays(broken)
    assert arrays(broken) != arrays(whole)
    train(broken, *overrides)
    assert arrays(broken) == arrays(whole)
    assert untimed(broken) == untimed(whole)


@pytest.mark.slow
def test_divergence_refuses_runs_that_cannot_be_compared(folder: Path, tmp_path: Path, capsys):
    base = folder / "base-s1"
    hops, data = train(tmp_path / "hops", "model.pooling.hops=2"), train(tmp_path / "data", "task.data.test=59")
    for first, run, message in (
        (base, hops, "its attention weights are 2 x 1 for a text of one token"),
        (folder / "base-s2", folder / "adversary-0", "is an adversary of another model"),
        (base, data, "have other texts in test"),
        (base, base, "there is no other run"),
    ):
        assert cli.main(["divergence", str(first), str(run)]) == 2
        assert re.search(message, capsys.readouterr().err)


FROZEN = MlpClassifier(classifier.MlpClassifier(embedding=3, hidden=4, pooling=classifier.Frozen(run="a run")), 6, 2)


def logits_of(params, tokens, weights):
    lengths = jnp.full(len(tokens), tokens.shape[1])
    return FROZEN.apply({"params": params}, tokens, lengths, weights, train=False).logits


def test_the_logits_of_frozen_weights_by_hand():
    tokens, lengths = jnp.array([[1, 2, 5], [4, 3, 0]]), jnp.array([3, 2])
    weights = jnp.array([[0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    params = drawn(functools.partial(FROZEN.init, train=False), tokens, lengths, weights)["params"]
    arrays = {name: {key: np.asarray(array) for key, array in layer.items()} for name, layer in params.items()}
    states = np.tanh(
        arrays["embedding"]["embedding"][np.asarray(tokens)] @ arrays["hidden"]["kernel"] + arrays["hidden"]["bias"]
    )
    expected = np.einsum("bn,bnh->bh", weights, states) @ arrays["classes"]["kernel"] + arrays["classes"]["bias"]
    output = FROZEN.apply({"params": params}, tokens, lengths, weights, train=False)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-6)
    padded = FROZEN.apply({"params": params}, tokens.at[1, 2].set(5), lengths, weights.at[1, 2].set(7.0), train=False)
    np.testing.assert_array_equal(padded.logits, output.logits, "tokens and weights of padding do not count")
    one = jnp.array([[0.0, 1.0, 0.0]])
    others = logits_of(params, tokens[:1].at[0, 0].set(4), one)
    np.testing.assert_array_equal(others, logits_of(params, tokens[:1], one), "tokens do not see each other")
    with pytest.raises(ValueError, match="frozen"):
        FROZEN.apply({"params": params}, tokens, lengths, train=False)


def test_good_weights_teach_what_uniform_weights_do_not():
    """Tokens 1 and 2 are classes 0 and 1; one of 8 tokens decides. Weights that point at it separate the classes."""
    draws = np.random.default_rng(0)
    tokens, place = jnp.asarray(draws.integers(1, 3, (64, 8))), draws.integers(0, 8, 64)
    labels, guide = tokens[np.arange(64), place] - 1, jnp.asarray(np.eye(8, dtype=np.float32)[place])
    uniform = jnp.full_like(guide, 1 / 8)
    params = drawn(functools.partial(FROZEN.init, train=False), tokens, jnp.full(64, 8), guide)["params"]
    optimizer = optax.adam(0.03)

    def train(weights):
        def loss(params):
            logits = logits_of(params, tokens, weights)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def step(state, _):
            value, gradient = jax.value_and_grad(loss)(state[0])
            updates, moments = optimizer.update(gradient, state[1])
            return (optax.apply_updates(state[0], updates), moments), value

        return jax.lax.scan(step, (params, optimizer.init(params)), length=150)[1][-1]

    guided, unguided = jax.jit(jax.vmap(train))(jnp.stack([guide, uniform])).tolist()
    assert guided < 0.05 < 0.4 < unguided


def test_divergences_of_two_hops_are_averaged():
    half, one, other = jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    result = attention_divergence(half, jnp.stack([one, half]), one, jnp.stack([other, half]))
    np.testing.assert_allclose(result, [np.log(2) / 2, 0.5, 0.75], rtol=1e-6)


def test_bins_of_the_largest_weight_contain_their_lower_edge_and_the_last_one_both():
    bins = by_max_weight(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.5, 1.0, 0.24]))
    assert [part.texts for part in bins] == [1, 1, 1, 1]
    assert bins[3].quantiles == [pytest.approx(0.3)] * 5
    assert isinstance(DivergenceReport("a", "test", 1, 0.0, 0.0, (), ()).to_json(), str)
