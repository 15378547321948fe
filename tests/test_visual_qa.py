"""Questions about images: laws of every fusion, the controls, a small twin that is learned, and the task end to end."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from weights import drawn

from attnlab import lab
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.models.image_encoder import SmallCnn
from attnlab.config.models.visual_qa import VisualAnswerer
from attnlab.models.visual_qa import VisualAnswerer as Model
from attnlab.tasks.visual_qa.task import _derange

DOT = {"score": {"kind": "scaled_dot"}}
FUSIONS = {
    "question_only": {},
    "image_only": {},
    "concat": {},
    "co_attention": {"attention": {"score": {"kind": "additive", "hidden": 6}}},
    "cross_attention": {"attention": DOT, "heads": 2, "layers": 2},
    "gated_cross_attention": {"attention": DOT, "heads": 2, "layers": 2},
}
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
CELLS, LENGTHS = jnp.array([16, 16]), jnp.array([4, 2])
QUESTION = jnp.array([[5, 6, 7, 2], [4, 2, 0, 0]])
EVERY = pytest.mark.parametrize("kind", FUSIONS)


@functools.cache
def built(kind: str):
    config = VisualAnswerer(
        image=SmallCnn(channels=(4, 8)), question={"embedding": 6, "hidden": 4}, hidden=8,
        fusion={"kind": kind, **FUSIONS[kind]},
    )  # fmt: skip
    model = Model(config, 9, 5)
    init, inputs = functools.partial(model.init, train=False), (IMAGE, CELLS, QUESTION, LENGTHS)
    if kind == "gated_cross_attention":  # its gates are shut at first
        return model, jax.jit(init)(jax.random.key(0), *inputs)
    return model, drawn(init, *inputs)


@functools.partial(jax.jit, static_argnames="model")
def apply(model, variables, *arguments):
    return model.apply(variables, *arguments, train=False)


def answers(kind, image=IMAGE, cells=CELLS, question=QUESTION, lengths=LENGTHS, variables=None):
    model, initial = built(kind)
    return apply(model, variables or initial, image, cells, question, lengths)


@EVERY
def test_shapes_and_weights(kind):
    out = answers(kind)
    chex.assert_shape([out.logits, out.weights, out.words], [(2, 5), (2, 4, 16), (2, 4)])
    if "attention" in kind:
        np.testing.assert_allclose(out.weights.sum(-1), 1.0, atol=1e-5)
    else:
        assert not out.weights.any()
    if kind == "co_attention":
        np.testing.assert_allclose(out.words.sum(-1), 1.0, atol=1e-5)
        assert not out.words[1, 2:].any()


@EVERY
@pytest.mark.quick("co_attention", "gated_cross_attention", "concat")
def test_padding_changes_nothing(kind):
    alone = answers(kind, IMAGE[1:], CELLS[1:], QUESTION[1:, :2], LENGTHS[1:])
    np.testing.assert_allclose(answers(kind).logits[1], alone.logits[0], atol=1e-5)


@EVERY
@pytest.mark.quick("gated_cross_attention", "co_attention", "question_only")
def test_gradients_are_finite_with_filler(kind):
    model, variables = built(kind)
    filler = jnp.array([16, 0]), QUESTION, jnp.array([4, 0])
    loss = lambda v: jnp.sum(apply(model, v, IMAGE, *filler).logits[0])  # noqa: E731
    chex.assert_tree_all_finite(jax.jit(jax.grad(loss))(variables))


@EVERY
def test_each_fusion_depends_on_its_declared_inputs(kind):
    plain = answers(kind).logits
    sees_image = not np.allclose(plain, answers(kind, image=255 - IMAGE).logits, atol=1e-6)
    sees_question = not np.allclose(plain, answers(kind, question=QUESTION.at[:, 0].set(8)).logits, atol=1e-6)
    assert sees_question == (kind != "image_only")
    assert sees_image == (kind not in ("question_only", "gated_cross_attention")), "a gate is shut at first"


def test_an_opened_gate_lets_the_image_in():
    _, variables = built("gated_cross_attention")
    opened = jax.tree.map_with_path(
        lambda path, leaf: leaf + 1.0 if "cross_gate" in jax.tree_util.keystr(path) else leaf, variables
    )
    seen = [answers("gated_cross_attention", image, variables=opened).logits for image in (IMAGE, 255 - IMAGE)]
    assert not np.allclose(*seen, atol=1e-4)


def test_shuffled_images_are_never_ones_own():
    for count in (2, 3, 50):
        order = np.random.default_rng(count).permutation(count)
        indices = _derange(order)
        assert sorted(indices) == list(range(count))
        assert (indices != np.arange(count)).all()


SCENES = """
task:
  kind: visual_qa
  data: {kind: scene_questions, train: 3000, dev: 200, test: 200, max_objects: 1}
model:
  kind: visual_answerer
  image: {kind: small_cnn, channels: [16, 32, 32], context: true}
  question: {embedding: 16, hidden: 24}
  fusion: {kind: cross_attention, attention: {score: {kind: scaled_dot}}, heads: 2, layers: 1}
  hidden: 48
training:
  steps: 600
  batch_tokens: 320
  buckets: 1
  optimizer: {kind: adamw, learning_rate: 0.004, warmup_steps: 20}
  evaluate_every: 300
"""


@pytest.mark.slow
@pytest.mark.optimized
def test_questions_are_learned_and_the_controls_are_not_and_the_run_can_be_used(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(SCENES)
    run = lab.train(load(path), tmp_path / "run", None)
    scores = lab.evaluate(run, None)["test"]
    low, high = scores["accuracy_ci95"]
    assert low <= scores["accuracy"] <= high
    for control in ("shuffled_images", "question_only", "image_only"):
        assert scores[f"accuracy_{control}"] < scores["accuracy"] - 20
    assert scores["most_frequent_answer"] < scores["most_frequent_answer_to_question"] < scores["accuracy"]
    trained = lab.load(run)
    example = trained.task.load(trained.run.config, None).test["test"][0]
    file = tmp_path / "scene.png"
    Image.fromarray(example.image).save(file)
    known = json.loads((run / "answers.json").read_text())
    predictions = trained.predict([f"{file}\t{example.question}", ""])
    assert predictions[0] in known
    assert predictions[1] == ""
    picture, page = lab.show(run, [str(file), example.question])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.suffix == ".html"
    with pytest.raises(UserError, match="line 1: expected the path of an image file, a tab"):
        trained.predict([str(file)])
    with pytest.raises(UserError, match="an image and a question"):
        trained.task.parse_example([str(file)])
    with pytest.raises(UserError, match="one prediction"):
        trained.predict([f"{file}\twhat?"], n_best=2)
    if scores["accuracy"] < 90:
        pytest.xfail(f"accuracy {scores['accuracy']}: small_cnn learns colors, but no shapes")
