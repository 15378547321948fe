"""A score of a person's own: equal to the library's where it is the same, and told in a line where it is wrong."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import lab
from attnlab.config.attention import Attention, Own
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.functional import scores
from attnlab.functional.attention import attention
from attnlab.layers.attend import Attend
from attnlab.layers.own import own_score
from attnlab.layers.scores import HeadScore

FILE = """
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


def bilinear(query: Float[Array, "q d"], key: Float[Array, "k e"], *, w: Float[Array, "d e"]) -> Float[Array, "q k"]:
    return query @ w @ key.T


def low_rank(
    query: Float[Array, "q d"],
    key: Float[Array, "k d"],
    *,
    w: Float[Array, "d r"] = nn.initializers.orthogonal(),
    bias: Float[Array, ""],
    temperature: float = 1.0,
):
    return ((query @ w) @ (key @ w).T + bias) / temperature


def plain(query, key):
    return query @ key.T


def loose(query, key, *, w):
    return query @ w @ key.T


def third(query, key, w):
    return query @ w @ key.T


def power(query, key, *, w: Float[Array, "d e"], center: bool = False, times: int = 1):
    if center:
        key = key - jnp.mean(key, axis=1, keepdims=True)
    for _ in range(times):
        query = query @ w
    return query @ key.T
"""
EXPERIMENT = """\
task: {kind: classification, data: {kind: rules}, tokenizer: {kind: words}}
model:
  kind: recurrent_classifier
  pooling:
    kind: attention
    attention:
      score: {kind: own, function: mine.py:low_rank, sizes: {r: 4}}
training: {steps: 2}
"""


def own(name: str, **options) -> Own:
    return Own(function=f"mine.py:{name}", source=FILE, **options)


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_many_heads_have_an_array_each():
    module = HeadScore(own("bilinear"), 3, 4)
    variables = module.init(jax.random.key(0))
    w = variables["params"]["w"]
    assert w.shape == (3, 4, 4)
    assert not np.allclose(w[0], w[1])
    query, key, value = normal(1, 2, 5, 3, 4), normal(2, 2, 6, 3, 4), normal(3, 2, 6, 3, 4)

    @jax.jit
    def loss(variables):
        return jnp.sum(attention(query, key, value, score=module.apply(variables)) ** 2)

    general = jnp.stack(
        [attention(query[:, :, h : h + 1], key[:, :, h : h + 1], value[:, :, h : h + 1],
                   score=jax.tree_util.Partial(scores.general, w=w[h]))[:, :, 0] for h in range(3)], axis=2
    )  # fmt: skip
    np.testing.assert_allclose(loss(variables), jnp.sum(general**2), rtol=1e-5)
    assert np.abs(jax.grad(loss)(variables)["params"]["w"]).min() > 0


def test_one_head_reads_its_widths_from_what_it_is_given():
    source, state = normal(1, 2, 5, 6), normal(2, 2, 4)
    config = Attention(score=own("bilinear"))

    def ask(module: Attend, source, state):
        return module.function()(module.remember(source, jnp.array([5, 3]), source[:, 0]), state)

    module = Attend(config, 4)
    (context, weights), variables = module.init_with_output(jax.random.key(0), source, state, method=ask)
    assert variables["params"]["score"]["w"].shape == (4, 6)
    logits = np.einsum("bd,de,bse->bs", state, variables["params"]["score"]["w"], source)
    expected = np.exp(logits) * np.array([[1] * 5, [1, 1, 1, 0, 0]])
    np.testing.assert_allclose(weights, expected / expected.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(context, np.einsum("bs,bsc->bc", weights, source), rtol=1e-4, atol=1e-5)


def test_arrays_start_as_their_defaults_say_and_settings_replace_others():
    found = own_score(own("low_rank", sizes={"r": 3}, settings={"temperature": 4.0}))
    w, bias = found.learned(5, 5)
    assert (w.name, w.shape, bias.name, bias.shape) == ("w", (5, 3), "bias", ())
    drawn = w.start(jax.random.key(0), w.shape)
    np.testing.assert_allclose(drawn.T @ drawn, np.eye(3), atol=1e-5)
    assert bias.start(jax.random.key(0), ()) == 1.0
    assert found.part.keywords == {"temperature": 4.0}
    assert own_score(own("plain")).learned(4, 4) == []


@pytest.mark.parametrize("settings", [{"center": True, "times": 2}, {"center": False, "times": 3}], ids=str)
def test_settings_stay_what_they_are_when_compiled(settings: dict):
    module = HeadScore(own("power", settings=settings), 2, 4)
    variables = module.init(jax.random.key(0))
    query, key, value = normal(1, 5, 2, 4), normal(2, 6, 2, 4), normal(3, 6, 2, 4)

    @jax.jit
    def output(variables):
        return attention(query, key, value, score=module.apply(variables), implementation="streaming")

    w = variables["params"]["w"]
    centered = key - jnp.mean(key, axis=-1, keepdims=True) if settings["center"] else key
    asked = jnp.stack([query[:, h] @ jnp.linalg.matrix_power(w[h], settings["times"]) for h in range(2)], axis=1)
    np.testing.assert_allclose(output(variables), attention(asked, centered, value, score=scores.dot), rtol=1e-4)
    before = output._cache_size()
    output(variables)
    assert output._cache_size() == before
    assert jnp.abs(jax.grad(lambda v: output(v).sum())(variables)["params"]["w"]).min() > 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (own("low_rank"), r"the axis r of w has no size; give score.sizes: \{r: 64\}"),
        (own("low_rank", sizes={"r": 2, "z": 3}), "sizes.z: no axis of a learned array that is free"),
        (own("low_rank", sizes={"r": 2, "q": 3}), "sizes.q: no axis of a learned array that is free"),
        (own("low_rank", sizes={"r": 2}, settings={"temp": 1}), "settings.temp: no such argument; there are temperat"),
        (own("loose"), "w is neither an array by its annotation, to be learned, nor has it a default"),
        (own("third"), r"all arguments are by keyword: write \* before them"),
        (Own(function="a/mine.py:f", source="import nothing_of_the_kind\ndef f(query, key): pass"),
         "^a/mine.py: cannot be executed: ModuleNotFoundError: No module named 'nothing_of_the_kind'$"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_function_is_one_line(config: Own, said: str):
    def use():
        found = own_score(config)
        return found.learned(4, 4), found.part

    with pytest.raises(UserError, match=said):
        use()


def test_an_axis_that_both_share_is_of_one_width():
    with pytest.raises(UserError, match="d is the width of query and key, which are 4 and 5 wide"):
        own_score(own("low_rank", sizes={"r": 2})).learned(4, 5)


def test_the_file_is_read_once_and_kept_in_the_config(tmp_path: Path):
    (tmp_path / "mine.py").write_text(FILE + "# \x85 is no line's end\n")
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    config = load(tmp_path / "x.yaml")
    assert config.model.pooling.attention.score.source == (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").unlink()
    (tmp_path / "again.yaml").write_text(resolved(config))
    assert load(tmp_path / "again.yaml") == config
    with pytest.raises(UserError, match=r"^mine.py: no such file, of function: mine.py:low_rank; looked in "):
        load(tmp_path / "x.yaml")
    (tmp_path / "mine.py").write_text("def low(query, key): ...")
    with pytest.raises(UserError, match=r"x.yaml:7: model.pooling.attention.score: mine.py: no function low_rank"):
        load(tmp_path / "x.yaml")
    score = "model.pooling.attention.score"
    for name in ("mine", "mine:low"):
        with pytest.raises(UserError, match=rf"'{name}' is not FILE.py:NAME, such as scores.py:bilinear"):
            load(tmp_path / "x.yaml", [f"{score}.function={name}"])
    with pytest.raises(UserError, match=rf'{score}.settings: t: expected a number, true or false, given "a"$'):
        load(tmp_path / "again.yaml", [f"{score}.settings={{t: a}}"])
    with pytest.raises(UserError, match=rf"{score}.sizes.r: must be above 0, given 0$"):
        load(tmp_path / "again.yaml", [f"{score}.sizes={{r: 0}}"])
    (tmp_path / "other.py").write_text("def low(query, key): return query @ key.T")
    change = ["model.pooling.attention.score.function=other.py:low", "model.pooling.attention.score.sizes={}"]
    assert load(tmp_path / "again.yaml", change).model.pooling.attention.score.name == "low"


PLACES = {
    "translation/dates_additive": "model.attention.score",
    "translation/dates_transformer": "model.decoder.cross_attention.score",
    "sentiment/rules_additive": "model.pooling.attention.score",
    "sentiment/rules_transformer": "model.encoder.attention.score",
    "questions/stories_1_memory": "model.attention.score",
    "questions/passages_bidaf": "model.attention.score",
    "captioning/scenes_soft": "model.attention.score",
    "captioning/scenes_transformer": "model.decoder.cross_attention.score",
    "visual_qa/scenes_cross_attention": "model.fusion.attention.score",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_every_model_trains_and_opens_with_it(name: str, tmp_path: Path):
    (tmp_path / "mine.py").write_text(FILE)
    config = Path(__file__).parents[1] / f"experiments/{name}.yaml"
    score = f"{{kind: own, function: {tmp_path}/mine.py:power, settings: {{center: true, times: 2}}}}"
    lab.train(load(config, [f"{PLACES[name]}={score}"], tiny=True), tmp_path / "run", None)
    learned = jax.tree_util.tree_leaves_with_path(lab.load(tmp_path / "run").params)
    assert any("'w'" in jax.tree_util.keystr(path) for path, _ in learned)
