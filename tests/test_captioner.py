"""Captioning models: properties of both, a small solvable dataset that is learned, and the task end to end."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from weights import drawn

from attnlab import lab
from attnlab.config.attention import Additive, Attention, Dot
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.models.captioner import ShowAttendTell, TransformerCaptioner
from attnlab.config.models.image_encoder import EfficientNetLite0, SmallCnn
from attnlab.config.normalizers import Sparsemax
from attnlab.models import captioner
from attnlab.models.image_encoder import ImageEncoder
from attnlab.tasks.captioning.losses import attention_supervision, doubly_stochastic
from attnlab.tasks.captioning.pointing import token_regions
from attnlab.tasks.image_inputs import ImageInputs

CNN = SmallCnn(channels=(4, 8))
SOFT = ShowAttendTell(image=CNN, embedding=6, hidden=8, attention=Attention(score=Additive(hidden=6)))
MODELS = {
    "soft": SOFT,
    "dot": SOFT.replace(attention=Attention(score=Dot())),
    "sparsemax": SOFT.replace(attention=Attention(score=Additive(hidden=6), normalizer=Sparsemax())),
    "hard": SOFT.replace(attention_type="hard"),
    "mean": SOFT.replace(attention=None),
    "no_gate": SOFT.replace(gate=False),
    "transformer": TransformerCaptioner(
        image=CNN, decoder={"width": 8, "heads": 2, "feed_forward": 8, "layers": 2, "max_length": 8, "dropout": 0.0}
    ),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
CELLS = jnp.array([16, 16])
TARGET = jnp.array([[1, 4, 5, 6], [1, 7, 8, 9]])
EVERY = pytest.mark.parametrize("name", MODELS)


@functools.cache
def built(name: str):
    config = MODELS[name]
    model = (captioner.ShowAttendTell if name != "transformer" else captioner.TransformerCaptioner)(config, 11)
    return model, drawn(functools.partial(model.init, train=False), IMAGE, CELLS, TARGET)


@functools.partial(jax.jit, static_argnames=("model", "train", "method"))
def apply(model, variables, *arguments, train=False, method="__call__", rngs=None):
    return model.apply(variables, *arguments, train=train, method=method, rngs=rngs)


@EVERY
def test_weights_add_up_to_one_over_the_cells(name):
    model, variables = built(name)
    out = apply(model, variables, IMAGE, CELLS, TARGET)
    chex.assert_shape([out.logits, out.weights], [(2, 4, 11), (2, 4, 16)])
    if name == "mean":
        assert not out.weights.any()
    else:
        np.testing.assert_allclose(out.weights.sum(-1), 1.0, atol=1e-5)


@EVERY
@pytest.mark.quick("soft", "hard", "transformer")
def test_one_word_at_a_time_equals_all_at_once(name):
    model, variables = built(name)
    whole = apply(model, variables, IMAGE, CELLS, TARGET)
    memory, state = apply(model, variables, IMAGE, CELLS, method="encode")
    for position in range(4):
        state, out = apply(model, variables, memory, state, TARGET[:, position : position + 1], method="decode")
        np.testing.assert_allclose(out.logits[:, 0], whole.logits[:, position], atol=1e-5)
        np.testing.assert_allclose(out.weights[:, 0], whole.weights[:, position], atol=1e-5)


@EVERY
@pytest.mark.quick("soft", "hard", "transformer")
def test_filler_changes_nothing_and_its_gradients_are_finite(name):
    model, variables = built(name)
    alone = apply(model, variables, IMAGE[:1], CELLS[:1], TARGET[:1])
    cells = jnp.array([16, 0])

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def slope(variables):
        logits = apply(model, variables, IMAGE, cells, TARGET).logits[0]
        return jnp.sum(logits**2), logits

    slopes, logits = slope(variables)
    np.testing.assert_allclose(logits, alone.logits[0], atol=1e-5)
    chex.assert_tree_all_finite(slopes)


def test_hard_attention_uses_a_single_cell_and_still_trains():
    model, variables = built("hard")
    rngs = {"dropout": jax.random.key(1)}
    first = apply(model, variables, IMAGE, CELLS, TARGET, train=True, rngs=rngs)
    other = apply(model, variables, IMAGE, CELLS, TARGET, train=True, rngs={"dropout": jax.random.key(2)})
    assert not np.allclose(first.logits, other.logits), "training draws"
    used = [apply(model, variables, IMAGE, CELLS, TARGET).logits for _ in range(2)]
    np.testing.assert_array_equal(*used)
    loss = lambda v: jnp.sum(apply(model, v, IMAGE, CELLS, TARGET, train=True, rngs=rngs).logits ** 2)  # noqa: E731
    slope = jax.jit(jax.grad(loss))(variables)["params"]["attention"]["attend"]["score"]
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) > 1e-6


def test_a_draw_has_the_frequencies_and_the_gradient_of_its_weights():
    weights = jnp.array([0.5, 0.3, 0.2, 0.0])
    noise = jax.random.gumbel(jax.random.key(0), (4000, 4))
    drawn = np.asarray(jax.jit(jax.vmap(lambda n: captioner._sample(weights[None], n[None])[0]))(noise))
    np.testing.assert_allclose(drawn.mean(axis=0), weights, atol=0.03)
    assert set(np.unique(drawn.round(6))) == {0.0, 1.0}
    slope = jax.grad(lambda w: captioner._sample(w[None], noise[:1])[0] @ jnp.arange(4.0))(weights)
    np.testing.assert_allclose(slope, jnp.arange(4.0))


def test_doubly_stochastic_is_xus_penalty_of_real_words_and_rows():
    weights = jnp.array([[[0.5, 0.5], [1.0, 0.0], [9.0, 9.0]], [[1.0, 1.0]] * 3])
    penalty = doubly_stochastic(weights, jnp.array([2, 0]))
    np.testing.assert_allclose(penalty, (1 - 1.5) ** 2 + (1 - 0.5) ** 2)


def test_only_words_with_a_region_are_supervised():
    weights = jnp.array([[[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]])
    gold = jnp.array([[[True, False], [False, False], [True, False]]])
    np.testing.assert_allclose(attention_supervision(weights, gold), -np.log(0.25) - np.log(1e-4), rtol=1e-5)
    slope = jax.grad(lambda w: attention_supervision(w, gold))(weights)
    assert slope[0, 0, 0] < 0
    assert not slope[0, 1].any()


def test_image_encoders_return_the_grid_of_the_config():
    for config, size in ((SmallCnn(channels=(4, 4, 4)), 64), (CNN, 16), (SmallCnn(channels=(4, 4)), 30)):
        pictures = ImageInputs(config, size)
        grid, _ = jax.eval_shape(ImageEncoder(config).init_with_output, jax.random.key(0), pictures.blank(1))
        assert grid.shape == (1, pictures.cells, config.width)
    frozen = ImageInputs(EfficientNetLite0(width=8), 224)
    grid, _ = jax.eval_shape(ImageEncoder(frozen.config).init_with_output, jax.random.key(0), frozen.blank(1))
    assert grid.shape == (1, 49, 8)


def test_a_cell_sees_its_surroundings_only():
    config = SmallCnn(channels=(4, 8, 8))
    encode = ImageEncoder(config)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    variables, apply = jax.jit(encode.init)(jax.random.key(0), image), jax.jit(encode.apply)
    changed = image.copy()
    changed[:, :16, :16] = 0
    same = np.isclose(apply(variables, image), apply(variables, changed)).all(-1).reshape(8, 8)
    assert not same[:2, :2].any()
    assert same[2:, :].all()
    assert same[:, 2:].all()


SCENES = """
task:
  kind: captioning
  data: {kind: scenes, train: 600, dev: 30, test: 40, max_objects: 1}
  decoding: {beam: 2, max_length: 6}
model:
  kind: show_attend_tell
  image: {kind: small_cnn, channels: [16, 32, 64]}
  embedding: 24
  hidden: 48
  attention: {score: {kind: additive, hidden: 32}}
  attention_supervision: 0.5
training:
  steps: 600
  batch_tokens: 160
  buckets: 1
  optimizer: {kind: adamw, learning_rate: 0.005, warmup_steps: 20}
  evaluate_every: 300
"""


@pytest.mark.slow
@pytest.mark.optimized
def test_single_objects_are_learned_and_pointed_at_and_the_run_can_be_used(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(SCENES)
    run = lab.train(load(path), tmp_path / "run", None)
    scores = lab.evaluate(run, None)["test"]
    assert scores["pointing"] >= 90
    assert 0 < scores["region_mass"] <= 100
    trained = lab.load(run)
    splits = trained.task.load(trained.run.config, None)
    # Every caption is in one split only, so captions of the test set would be a question of composition.
    assert trained.task.test_metrics(trained.params, splits.train[:200])["exact_match"] >= 90
    examples = splits.test["test"]
    files = []
    for number, example in enumerate(examples[:3]):
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(example.image).save(files[-1])
    captions = trained.predict([files[0], "", files[1]])
    assert captions[1] == ""
    assert captions[0].startswith("a ")
    assert len(trained.predict(files[:1], n_best=2)) == 2
    assert [line[0] for line in trained.predict([files[0], "", files[1]], n_best=2)] == [*"001122"]
    assert trained.unknown_words(*files) == []
    drawn, page = lab.show(run, [files[2]])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert page.suffix == ".html"
    with pytest.raises(UserError, match="cannot be read"):
        trained.predict(["absent.png"])
    with pytest.raises(UserError, match="one image"):
        trained.task.parse_example(["a", "b"])


def test_regions_of_tokens_are_those_of_their_words():
    from attnlab.config.text import Words
    from attnlab.data.text.tokenizer import train

    tokenizer = train(Words(), ["a small, red box"], "target")
    encoding = tokenizer.encode("a small, red box")
    box = (0, 0, 1, 1)
    assert encoding.tokens == ["a", "small", ",", "red", "box"]
    assert token_regions([None, box, None, box], encoding) == [None, box, box, None, box]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.attention=null", "model.attention_type=hard"], "need attention, which is null"),
        (["task.data={kind: flickr8k}"], "attention_supervision needs gold regions"),
        (["model.attention.score={kind: dot}"], "hidden equal to the width of the image's cells"),
        (["model.attention.mods=[{kind: alibi}]"], "compares positions"),
        (["model.image={kind: efficientnet_lite0}", "task.image_size=100"], "multiple of 32"),
        (["model={kind: visual_answerer, fusion: {kind: concat}}"], "cannot caption images"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path, changes, message):
    path = tmp_path / "one.yaml"
    path.write_text(SCENES)
    with pytest.raises(UserError, match=message):
        load(path, changes)
