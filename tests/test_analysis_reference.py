"""Faithfulness and plausibility against the code published with ERASER, ferret and Quantus."""

import importlib
import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import plausibility
from attnlab.analysis.faithfulness.agreement import taucorr_loo
from attnlab.analysis.faithfulness.erasure import aopc_compr, aopc_suff, comprehensiveness, sufficiency
from attnlab.analysis.faithfulness.randomization import mprt
from attnlab.analysis.faithfulness.removal import RATIOS
from attnlab.analysis.rationale_spans import iou_f1, spans

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
LENGTH = 20


def show(name, expected, actual):
    """Print both for the record of `pytest -m reference`, and compare them."""
    expected, actual = np.asarray(expected, float), np.asarray(actual, float)
    print(f"{name}: reference {expected.round(6).ravel()[:6]}, here {actual.round(6).ravel()[:6]}")
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


class BagOfWords:
    """A classifier of texts of the words w0 … w19 into two classes, the same for ferret and for us."""

    def __init__(self, seed):
        self.worth = np.random.default_rng(seed).normal(size=LENGTH).astype(np.float32)

    def predict(self, removed):
        """Return the probability of class 1 for masks of removed words."""
        return jax.nn.sigmoid(jnp.tanh(jnp.sum(jnp.where(removed, 0.0, self.worth), axis=1)) * 2.0)


@pytest.fixture
def ferret(monkeypatch):
    """Return ferret's evaluators. Its package imports explainers, data sets and plots, which are not needed."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("sklearn")
    found = importlib.util.find_spec("ferret")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("ferret-xai is not installed")
    package = types.ModuleType("ferret")
    package.__path__ = list(found.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "ferret", package)
    names = ("faithfulness_measures", "plausibility_measures")
    explanations = importlib.import_module("ferret.explainers.explanation")
    modules = [importlib.import_module(f"ferret.evaluators.{name}") for name in names]
    yield types.SimpleNamespace(**{k: v for module in (explanations, *modules) for k, v in vars(module).items()})
    for name in [name for name in sys.modules if name.startswith("ferret.")]:
        del sys.modules[name]


class Helper:
    """What ferret's evaluators ask of a model and its tokenizer: words are w0 … w19, without special tokens."""

    def __init__(self, model):
        import torch

        self.torch, self.model, self.tokenizer = torch, model, self
        self.cls_token = "[CLS]"

    def _tokenize(self, text):
        ids = self.torch.tensor([[int(word[1:]) for word in text.split()]])
        return {"input_ids": ids, "attention_mask": self.torch.ones_like(ids)}

    def decode(self, ids):
        return " ".join(f"w{int(number)}" for number in ids)

    def _forward(self, texts, output_hidden_states=False):
        texts = [texts] if isinstance(texts, str) else texts
        removed = np.ones((len(texts), LENGTH), bool)
        for row, text in enumerate(texts):
            removed[row, [int(word[1:]) for word in text.split()]] = False
        positive = np.asarray(self.model.predict(jnp.asarray(removed)))
        return None, self.torch.tensor(np.log(np.stack([1.0 - positive, positive], axis=1)))


def evaluate(kind, model, explanation, **arguments):
    """Run one of ferret's evaluators. Attributions are positive here, because `only_pos=False` fails with NumPy 2."""
    evaluator = kind.__new__(kind)
    evaluator.helper = Helper(model)
    return evaluator.compute_evaluation(explanation, target=1, remove_first_last=False, **arguments).score


class TestFerret:
    TEXT = " ".join(f"w{number}" for number in range(LENGTH))

    @pytest.mark.parametrize("seed", range(3))
    def test_faithfulness(self, ferret, seed):
        model, scores = BagOfWords(seed), np.random.default_rng(seed + 10).random(LENGTH).astype(np.float32)
        explanation = ferret.Explanation(self.TEXT, self.TEXT.split(), scores, "random", 1)
        where = jnp.ones(LENGTH, bool)
        every = {"based_on": "k", "thresholds": range(1, LENGTH + 1)}
        tenths = tuple(n / 10 for n in range(1, 11))
        for name, kind, ours in (
            ("aopc_compr", ferret.AOPC_Comprehensiveness_Evaluation, aopc_compr),
            ("aopc_suff", ferret.AOPC_Sufficiency_Evaluation, aopc_suff),
        ):
            expected = evaluate(kind, model, explanation, removal_args=every)
            show(f"ferret {name}, every k", expected, ours(model.predict, jnp.asarray(scores), where, ratios=None))
            expected = evaluate(kind, model, explanation)  # 10, 20, … 100% of the tokens
            show(f"ferret {name}, tenths", expected, ours(model.predict, jnp.asarray(scores), where, ratios=tenths))
        expected = evaluate(ferret.TauLOO_Evaluation, model, explanation)
        show("ferret taucorr_loo", expected, taucorr_loo(model.predict, jnp.asarray(scores), where).statistic)

    @pytest.mark.parametrize("seed", range(3))
    def test_plausibility(self, ferret, seed):
        draws = np.random.default_rng(seed)
        scores, gold = draws.random(LENGTH).astype(np.float32), draws.random(LENGTH) < 0.3
        explanation = ferret.ExplanationWithRationale(
            self.TEXT, self.TEXT.split(), scores, "random", 1, gold.astype(int).tolist()
        )
        arrays = jnp.asarray(scores), jnp.asarray(gold)
        for kind, actual in (
            (ferret.AUPRC_PlausibilityEvaluation, plausibility.auprc_plau(*arrays)),
            (ferret.Tokenf1_PlausibilityEvaluation, plausibility.token_f1_plau(*arrays, 5)),
            (ferret.TokenIOU_PlausibilityEvaluation, plausibility.token_iou_plau(*arrays, 5)),
        ):
            show(f"ferret {kind.SHORT_NAME}", evaluate(kind, None, explanation, top_k_rationale=5), actual)


class TestEraser:
    @pytest.fixture
    def metrics(self):
        return pytest.importorskip("rationale_benchmark.metrics", reason="ERASER's code is not on the path")

    @pytest.mark.parametrize("seed", range(3))
    def test_aopc(self, metrics, seed):
        instances, ours = [], {"compr": [], "suff": []}
        for text in range(4):
            model, scores = BagOfWords(4 * seed + text), np.random.default_rng(text).normal(size=LENGTH)
            attributions = jnp.asarray(scores, jnp.float32)
            full = float(model.predict(jnp.zeros((1, LENGTH), bool))[0])
            without = full - np.asarray(comprehensiveness(model.predict, attributions))
            kept = full - np.asarray(sufficiency(model.predict, attributions))
            instances.append(
                {
                    "classification": "1",
                    "classification_scores": {"1": full},
                    "thresholded_scores": [
                        {
                            "threshold": ratio,
                            "comprehensiveness_classification_scores": {"1": w},
                            "sufficiency_classification_scores": {"1": k},
                        }
                        for ratio, w, k in zip(RATIOS, without, kept, strict=True)
                    ],
                }
            )
            ours["compr"].append(float(aopc_compr(model.predict, attributions)))
            ours["suff"].append(float(aopc_suff(model.predict, attributions)))
        _, compr, _, suff, _ = metrics.compute_aopc_scores(instances, list(RATIOS))
        show("ERASER AOPC comprehensiveness", compr, np.mean(ours["compr"]))
        show("ERASER AOPC sufficiency", suff, np.mean(ours["suff"]))

    @staticmethod
    def marked(seed):
        draws = np.random.default_rng(seed)
        return [(draws.random(30) < 0.3, draws.random(30) < 0.3) for _ in range(8)]

    def rationales(self, metrics, masks):
        return [
            metrics.Rationale(str(text), "document", start, end)
            for text, mask in enumerate(masks)
            for start, end in spans(mask)
        ]

    @pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
    def test_spans(self, metrics, threshold):
        predicted, gold = zip(*self.marked(1), strict=True)
        expected = metrics.partial_match_score(
            self.rationales(metrics, gold), self.rationales(metrics, predicted), [threshold]
        )[0]
        actual = iou_f1([spans(mask) for mask in predicted], [spans(mask) for mask in gold], threshold)
        show(f"ERASER IoU-F1 at {threshold}", [expected["micro"]["f1"], expected["macro"]["f1"]], actual)

    def test_token_f1(self, metrics):
        predicted, gold = zip(*self.marked(2), strict=True)
        tokens = [
            [token for span in self.rationales(metrics, masks) for token in span.to_token_level()]
            for masks in (gold, predicted)
        ]
        expected = metrics.score_hard_rationale_predictions(*tokens)["instance_macro"]["f1"]
        show(
            "ERASER token F1",
            expected,
            jax.vmap(plausibility.token_f1)(jnp.asarray(predicted), jnp.asarray(gold)).mean(),
        )

    def test_soft_scores(self, metrics):
        draws = np.random.default_rng(3)
        scores, gold = draws.normal(size=(6, 25)).astype(np.float32), draws.random((6, 25)) < 0.3
        documents = [
            metrics.PositionScoredDocument(str(n), "document", tuple(row), tuple(marks))
            for n, (row, marks) in enumerate(zip(scores, gold, strict=True))
        ]
        expected = metrics.score_soft_tokens(documents)
        arrays = jnp.asarray(scores), jnp.asarray(gold)
        show("ERASER AUPRC", expected["auprc"], jax.vmap(plausibility.auprc_plau)(*arrays).mean())
        show("ERASER AP", expected["average_precision"], jax.vmap(plausibility.average_precision)(*arrays).mean())


class TestQuantus:
    def test_localization(self):
        quantus = pytest.importorskip("quantus")
        draws = np.random.default_rng(0)
        attributions, gold = draws.random((10, 20)).astype(np.float32), draws.random((10, 20)) < 0.3
        for kind, ours in (
            (quantus.PointingGame, plausibility.pointing_game),
            (quantus.RelevanceMassAccuracy, plausibility.relevance_mass_accuracy),
            (quantus.RelevanceRankAccuracy, plausibility.relevance_rank_accuracy),
        ):
            expected = kind(disable_warnings=True).evaluate_batch(a_batch=attributions, s_batch=gold)
            show(f"quantus {kind.__name__}", expected, jax.vmap(ours)(jnp.asarray(attributions), jnp.asarray(gold)))

    @pytest.mark.parametrize(("theirs", "ours"), [("top_down", "cascading"), ("independent", "independent")])
    def test_mprt(self, theirs, ours):
        torch, quantus = pytest.importorskip("torch"), pytest.importorskip("quantus")
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).eval()
        inputs = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
        targets = np.array([0, 1, 2, 0, 1])

        def input_x_gradient(model, inputs, targets, **_):
            inputs = torch.tensor(np.asarray(inputs, np.float32), requires_grad=True)
            scores = model(inputs)[torch.arange(len(inputs)), torch.as_tensor(targets)]
            return (torch.autograd.grad(scores.sum(), inputs)[0] * inputs).detach().numpy()

        def arrays():
            return {
                name: {"kernel": jnp.asarray(model[int(name)].weight.T.detach().numpy().copy())}
                | {"bias": jnp.asarray(model[int(name)].bias.detach().numpy().copy())}
                for name in ("0", "2")
            }

        expected = quantus.MPRT(layer_order=theirs, abs=False, normalise=False, seed=42, disable_warnings=True)(
            model=model, x_batch=inputs, y_batch=targets, explain_func=input_x_gradient, channel_first=True
        )
        params = arrays()
        for layer in (model[0], model[2]):
            torch.manual_seed(43)  # as Quantus does before it initializes a layer anew
            layer.reset_parameters()
        random_params = arrays()

        def attribute(params):
            def score(embedded, target):
                states = jnp.tanh(embedded @ params["0"]["kernel"] + params["0"]["bias"])
                return (states @ params["2"]["kernel"] + params["2"]["bias"])[target]

            return jax.vmap(jax.grad(score))(jnp.asarray(inputs), jnp.asarray(targets)) * inputs

        groups = {"2": [("2",)], "0": [("0",)]}
        for name, values in mprt(attribute, params, random_params, groups, order=ours).items():
            show(f"quantus MPRT {theirs}, layer {name}", expected[name], values)
