"""Explanations of every task and kind of model: labels, padding, completeness, occlusion, contrasts, refusals."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from weights import parameters

from attnlab.analysis.explain import Explainer
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.data.text.buckets import Shape
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.registry import task_class

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
STORY = "Amira went to the attic. Boris ran to the garden. Where is Amira?"
PASSAGE = ["Amira went to the attic. Boris ran.", "Where is Amira?"]
READER = (
    "model={kind: transformer_reader, encoder: {layers: 2, width: 8, heads: 2, feed_forward: 8, "
    "positions: {kind: sinusoidal}}}"
)
IMAGE, QUESTION = "IMAGE", "what color is the shape"

CASES = {
    "recurrent classifier": ("classification/synthetic_sentiment_additive.yaml", (), ["a good film"]),
    "Transformer classifier": ("classification/synthetic_sentiment_transformer.yaml", (), ["a good film"]),
    "recurrent translation": ("translation/dates_additive.yaml", (), ["der dritte Mai"]),
    "Transformer translation": ("translation/dates_transformer.yaml", (), ["der dritte Mai"]),
    "memory network": ("story_qa/story_qa_1_memory.yaml", (), [STORY]),
    "story Transformer": ("story_qa/story_qa_1_transformer.yaml", (), [STORY]),
    "sentence Transformer": ("story_qa/story_qa_2_sentences.yaml", (), [STORY]),
    "BiDAF": ("extractive_qa/passages_bidaf.yaml", (), PASSAGE),
    "Transformer reader": ("extractive_qa/passages_bidaf.yaml", (READER,), PASSAGE),
    "recurrent captioner": ("captioning/scenes_soft.yaml", (), [IMAGE]),
    "Transformer captioner": ("captioning/scenes_transformer.yaml", (), [IMAGE]),
    "visual questions": ("visual_qa/scenes_cross_attention.yaml", (), [IMAGE, QUESTION]),
}
NO_ATTENTION = {"translation without attention": ("translation/dates_none.yaml", (), ["der dritte Mai"])}
LABELS = {
    "recurrent classifier": {"text": "a good film"},
    "Transformer classifier": {"text": "[CLS] a good film"},
    "recurrent translation": {"source": "der dritte Mai ⟨end⟩"},
    "Transformer translation": {"source": "der dritte Mai ⟨end⟩"},
    "memory network": {"story": "Amira went to the attic.|Boris ran to the garden.", "question": "Where is Amira?"},
    "story Transformer": {
        "question": "<s> Where is Amira <sep>",
        "story": "Amira went to the attic Boris ran to the garden",
    },
    "sentence Transformer": {
        "question": "Where is Amira?",
        "story": "Boris ran to the garden.|Amira went to the attic.",
    },
    "BiDAF": {"passage": "Amira went to the attic . Boris ran .", "question": "Where is Amira ?"},
    "Transformer reader": {
        "question": "[CLS] Where is Amira ? [SEP]",
        "passage": "Amira went to the attic . Boris ran .",
    },
}
TARGETS = {
    "recurrent classifier": ("positive", "negative"),
    "recurrent translation": ("May", "June"),
    "Transformer translation": ("May", "June"),
    "memory network": ("attic", "garage"),
    "BiDAF": ("the attic", "ran"),
    "Transformer reader": ("attic", "Boris"),
}
STEPS = 300


@dataclass(frozen=True, eq=False)
class Case:
    """An explained prediction of a model with fresh parameters, and its target as a function of embedded inputs."""

    name: str
    explainer: Explainer
    params: Any
    example: Any
    explained: ExplainedPrediction
    embedded: Any
    blank: Any
    score: Callable[..., Any]


@cache
def prepared(name: str):
    path, changes, _ = (CASES | NO_ATTENTION)[name]
    config = load(EXPERIMENTS / path, changes, tiny=True)
    task = task_class(config).prepare(config, task_class(config).load(config, None))
    return Explainer(task), parameters(task)


@cache
def made(name: str, image: str) -> Case:
    explainer, params = prepared(name)
    task, adapter = explainer.task, explainer.task.adapter
    example = task.parse_example([image if text is IMAGE else text for text in CASES[name][2]])
    explained = task.explained_prediction(params, example, TargetSelection())
    batch = adapter.fill(explained.examples, Shape(len(explained.examples), *adapter.lengths(explained.examples[0])))

    @jax.jit
    def score(embedded):
        return explained.target(adapter.forward(params, batch, embedded=embedded, attention=False).logits, batch)

    embed = jax.jit(adapter.embed)
    embedded, blank = embed(params, batch), embed(params, adapter.blank(batch))
    return Case(name, explainer, params, example, explained, embedded, blank, score)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("images") / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture
def case(request: pytest.FixtureRequest, image: str) -> Case:
    return made(request.param, image)


every_model = pytest.mark.parametrize("case", CASES, indirect=True)


def replaced(chosen: np.ndarray, array: Any, other: Any) -> np.ndarray:
    array = np.array(array)
    array[:, chosen] = np.asarray(other)[:, chosen]
    return array


def blanked(case: Case, groups: int | None = None, places: slice = slice(None)):
    """Replace positions of the first groups of embedded arrays, special tokens aside, by those of padding."""
    tree = jax.tree.structure(case.explained.inputs)
    triples = zip(
        jax.tree.leaves(case.explained.inputs),
        tree.flatten_up_to(case.embedded),
        tree.flatten_up_to(case.blank),
        strict=True,
    )
    changed = []
    for number, (sequence, arrays, blank) in enumerate(triples):
        chosen = np.flatnonzero([not flag for part in sequence.parts for flag in part.special])[places]
        if groups is not None and number >= groups:
            chosen = chosen[:0]
        changed.append(jax.tree.map(partial(replaced, chosen), arrays, blank))
    return tree.unflatten(changed)


@every_model
@pytest.mark.quick("recurrent classifier", "memory network")
def test_every_position_has_a_label_and_integrated_gradients_are_complete(case: Case):
    explained, explainer = case.explained, case.explainer
    positions = explainer.prepare(case.params, explained)
    sequences = jax.tree.leaves(explained.inputs)
    assert positions.valid.sum() == sum(sequence.length for sequence in sequences)
    for sequence, array in zip(
        sequences, jax.tree.structure(explained.inputs).flatten_up_to(case.embedded), strict=True
    ):
        assert {leaf.shape[1] for leaf in jax.tree.leaves(array)} == {sequence.length}
    explanation = explainer.explain(case.params, case.example, n_steps=STEPS)
    attributions, gap, score = explainer.attribute(case.params, explained, "integrated_gradients", n_steps=STEPS)
    assert not attributions[~positions.valid].any()
    assert attributions[positions.removable].any()
    size = np.abs(attributions).sum()
    assert gap is not None
    assert gap <= 5e-3 * size
    before = case.score(case.embedded)
    np.testing.assert_allclose(score, before, rtol=1e-4)
    np.testing.assert_allclose(attributions.sum(), before - case.score(blanked(case)), atol=1e-4 + 6e-3 * size)

    for part, text in LABELS.get(case.name, {}).items():
        assert ("|" if "|" in text else " ").join(explanation[part].labels) == text
    np.testing.assert_allclose(
        np.concatenate([part.attributions for part in explanation.parts]), attributions[positions.valid]
    )
    assert explanation.completeness_gap == gap
    if "image" in [part.name for part in explanation.parts]:
        side = explainer.task.image_inputs.side
        assert explanation["image"].labels[side] == (1, 0)
        assert explanation["image"].grid().shape == (side, side)


@every_model
@pytest.mark.quick("recurrent classifier", "memory network")
def test_occlusion_is_the_change_of_the_target_computed_without_padding(case: Case):
    explained, explainer = case.explained, case.explainer
    attributions, _, score = explainer.attribute(case.params, explained, "occlusion")
    positions = explainer.prepare(case.params, explained)
    first = np.flatnonzero(positions.removable)[0]
    atol = 2e-5 + 2e-6 * abs(score)
    change = case.score(case.embedded) - case.score(blanked(case, 1, slice(1)))
    np.testing.assert_allclose(attributions[first], change, atol=atol)
    assert not attributions[~positions.removable].any()


@pytest.mark.parametrize(
    "case", ["recurrent classifier", "Transformer translation", "sentence Transformer", "BiDAF"], indirect=True
)
@pytest.mark.quick("recurrent classifier")
def test_padding_changes_nothing(case: Case):
    explained, explainer, adapter = case.explained, case.explainer, case.explainer.task.adapter
    attributions, _, score = explainer.attribute(case.params, explained, "occlusion")
    small, longest = adapter.padded_shape(explained.examples), adapter.max_positions or 1000
    large = Shape(small.rows, min(small.source + 16, longest), min(small.target + 16, longest))
    padded, _, _ = explainer.attribute(case.params, explained, "occlusion", large)
    valid, wider = (explainer.prepare(case.params, explained, shape).valid for shape in (small, large))
    assert wider.size > valid.size
    np.testing.assert_allclose(padded[wider], attributions[valid], atol=2e-5 + 2e-6 * abs(score))
    assert not padded[~wider].any()


@pytest.mark.parametrize("case", TARGETS, indirect=True)
@pytest.mark.quick("recurrent classifier", "recurrent translation")
def test_a_contrast_is_antisymmetric_and_a_difference_of_targets(case: Case):
    explainer, params, example = case.explainer, case.params, case.example
    this, that = TARGETS[case.name]

    def attributions(target, contrast=None):
        explained = explainer.task.explained_prediction(params, example, TargetSelection(target, contrast))
        return explainer.attribute(params, explained, "input_x_gradient")

    there, back = attributions(this, that), attributions(that, this)
    np.testing.assert_allclose(there[0], -back[0], atol=1e-6)
    np.testing.assert_allclose(there[2], -back[2], rtol=1e-5)
    np.testing.assert_allclose(there[2], attributions(this)[2] - attributions(that)[2], rtol=1e-4)


def explained(name: str, *inputs: str, **selection):
    explainer, params = prepared(name)
    example = explainer.task.parse_example(inputs or CASES[name][2])
    return explainer.task.explained_prediction(params, example, TargetSelection(**selection))


def test_a_token_of_the_output_and_its_contrast():
    whole = explained("recurrent translation", target="May second")
    token = explained("recurrent translation", target="May second", position=2)
    contrast = explained("recurrent translation", target="May second", position=2, contrast="third")
    assert whole.output == token.output == ("May", "second", "⟨end⟩")
    assert (token.rows, whole.rows) == ((1,), (0, 1, 2))
    explainer, params = prepared("recurrent translation")
    scores = [explainer.attribute(params, e, "raw_attention")[2] for e in (whole, token, contrast)]
    end = explained("recurrent translation", target="May second", position=3)
    first = explained("recurrent translation", target="May second", position=1)
    others = [explainer.attribute(params, e, "raw_attention")[2] for e in (first, end)]
    np.testing.assert_allclose(scores[0], scores[1] + sum(others), rtol=1e-5)
    third = explained("recurrent translation", target="May third", position=2)
    other = explainer.attribute(params, third, "raw_attention")[2]
    np.testing.assert_allclose(scores[2], scores[1] - other, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "selection", "message"),
    [
        ("recurrent classifier", {"target": "positiv"}, "target 'positiv'.*'positive'"),
        ("recurrent classifier", {"target": "positive", "contrast": "Positive"}, "contrast 'Positive' is the target"),
        ("recurrent classifier", {"position": 1}, "position 1"),
        ("memory network", {"contrast": "Paris"}, "contrast 'Paris'"),
        ("BiDAF", {"target": "the cellar"}, "does not contain 'the cellar'"),
        ("BiDAF", {"target": "ran", "contrast": "ran"}, "contrast 'ran'"),
        ("recurrent translation", {"target": "Quark"}, "target 'Quark'.*lacks 'Quark'"),
        ("recurrent translation", {"target": "May", "contrast": "May"}, "contrast 'May'"),
        ("recurrent translation", {"target": "May", "position": 3}, "position 3.*1 to 2"),
        ("recurrent translation", {"target": "May", "position": 1, "contrast": "May"}, "contrast 'May'"),
        ("recurrent translation", {"target": "May", "position": 1, "contrast": "May second"}, "has 2 tokens"),
    ],
)
def test_a_target_that_does_not_exist_is_refused(name, selection, message):
    with pytest.raises(UserError, match=message):
        explained(name, **selection)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("recurrent classifier", {"method": "attention_rollout"}, "attention_rollout needs self-attention.*; use "),
        (
            "recurrent classifier",
            {"method": "alti_plus"},
            "alti_plus needs .* a decoder; use attention_norms",
        ),
        ("Transformer translation", {"method": "attention_rollout"}, "use attention_norms"),
        ("Transformer translation", {"method": "value_zeroing"}, "value_zeroing needs.*use attention_norms"),
        ("recurrent classifier", {"method": "integrated_gradient"}, "did you mean integrated_gradients"),
        ("recurrent classifier", {"method": "saliency", "n_steps": 9}, "n_steps: saliency"),
        ("recurrent classifier", {"n_steps": 0}, "n_steps 0"),
        (
            "translation without attention",
            {"method": "raw_attention"},
            "raw_attention needs attention weights; use ",
        ),
        (
            "translation without attention",
            {"method": "leave_one_out", "removal": "mask"},
            "removal 'mask'.*no attention",
        ),
        ("recurrent classifier", {"baseline": "noise"}, "baseline 'noise'.*pad, zeros, mean"),
        ("recurrent classifier", {"granularity": "letter"}, "granularity 'letter'"),
        ("Transformer classifier", {"method": "raw_attention", "layer": 9}, "layer 9.*1 to 2"),
        ("Transformer classifier", {"method": "raw_attention", "head": 0}, "head 0"),
    ],
)
def test_a_method_or_an_option_that_the_model_does_not_have_is_refused(name, options, message):
    explainer, params = prepared(name)
    inputs = CASES[name][2] if name in CASES else NO_ATTENTION[name][2]
    with pytest.raises(UserError, match=message):
        explainer.explain(params, explainer.task.parse_example(inputs), **options)


def test_methods_follow_from_what_a_model_records():
    methods = {name: set(prepared(name)[0].methods) for name in CASES}
    assert {"integrated_gradients", "raw_attention", "gradient_x_attention"} <= set.intersection(*methods.values())
    for name in ("Transformer classifier", "story Transformer", "sentence Transformer", "Transformer reader"):
        assert {"attention_rollout", "attention_flow", "attention_relevance", "alti", "globenc"} <= methods[name]
        assert "value_zeroing" in methods[name]
        assert not {"alti_plus", "encoder_decoder_relevance"} & methods[name]
    for name in ("Transformer translation", "Transformer captioner"):
        assert {"alti_plus", "encoder_decoder_relevance"} <= methods[name]
    for name in ("recurrent classifier", "memory network", "BiDAF", "visual questions", "recurrent captioner"):
        assert not {"attention_rollout", "alti", "alti_plus", "encoder_decoder_relevance"} & methods[name]


def test_a_function_is_compiled_once_for_each_shape():
    explainer, params = prepared("recurrent classifier")
    explainer = Explainer(explainer.task)
    for text, selection in [
        ("a good film", TargetSelection()),
        ("a bad and long film", TargetSelection("positive")),
        ("good", TargetSelection("negative")),
    ]:
        explainer.explain(params, explainer.task.parse_example([text]), method="input_x_gradient", selection=selection)
    (compiled,) = explainer._functions.values()
    assert compiled._cache_size() == 1  # pyright: ignore
