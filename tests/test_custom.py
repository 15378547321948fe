"""Custom parts equal the library's own where these exist, and errors in them are reported in one line."""

import functools
import re
import textwrap
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import lab
from attnlab.config.attention import Attention
from attnlab.config.custom import Custom, CustomMask, CustomMod, CustomNormalizer, CustomScore, custom_parts
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.config.models.transformer import Block
from attnlab.functional import masks, mods, normalizers, scores
from attnlab.functional.attention import attention
from attnlab.functional.parts import map_over
from attnlab.functional.types import Positions
from attnlab.layers.capture import apply_with_attention
from attnlab.layers.custom import custom_function, custom_mask
from attnlab.layers.decoder_attention import DecoderAttention
from attnlab.layers.mixer import Context
from attnlab.layers.mods import Mods
from attnlab.layers.multi_head import SelfAttention
from attnlab.layers.normalizers import Normalizer
from attnlab.layers.part_inputs import PartInputs
from attnlab.layers.scores import Score

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


def far(logits, positions, *, table: Float[Array, "r"] = 0.0):
    reach = table.shape[0] // 2
    return logits + table[jnp.clip(positions.columns - positions.rows, -reach, reach) + reach]


def near(positions, *, left: int, right: int = 0):
    distance = positions.columns - positions.rows
    return (distance >= -left) & (distance <= right)


def soft(logits, where, *, temperature: Float[Array, ""]):
    powers = jnp.where(where, jnp.exp(jnp.where(where, logits, 0.0) / temperature), 0.0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total == 0.0, 1.0, total)


def power(query, key, *, w: Float[Array, "d e"], center: bool = False, times: int = 1):
    if center:
        key = key - jnp.mean(key, axis=1, keepdims=True)
    for _ in range(times):
        query = query @ w
    return query @ key.T
"""
Part = TypeVar("Part", bound=Custom)
EXPERIMENT = """\
task: {kind: classification, data: {kind: synthetic_sentiment}, tokenizer: {kind: words}}
model:
  kind: recurrent_classifier
  pooling:
    kind: attention
    attention:
      score: {kind: custom, function: mine.py:low_rank, sizes: {r: 4}}
training: {steps: 2}
"""


def custom(name: str, kind: type[Part] = CustomScore, **options) -> Part:
    return kind(**{"function": f"mine.py:{name}", "source": FILE, **options})


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_many_heads_have_an_array_each():
    module = Score(custom("bilinear"), 3, 4, 4)
    variables = jax.jit(module.init)(jax.random.key(0))
    w = variables["params"]["w"]
    assert w.shape == (3, 4, 4)
    assert not np.allclose(w[0], w[1])
    query, key, value = normal(1, 2, 5, 3, 4), normal(2, 2, 6, 3, 4), normal(3, 2, 6, 3, 4)

    @jax.jit
    def loss(variables):
        return jnp.sum(attention(query, key, value, score=module.apply(variables)) ** 2)

    general = np.stack(
        [attention(query[:, :, h : h + 1], key[:, :, h : h + 1], value[:, :, h : h + 1],
                   score=jax.tree_util.Partial(scores.general, w=w[h]))[:, :, 0] for h in range(3)], axis=2
    )  # fmt: skip
    np.testing.assert_allclose(loss(variables), np.sum(general**2), rtol=1e-5)
    assert np.abs(jax.jit(jax.grad(loss))(variables)["params"]["w"]).min() > 0


def test_one_head_of_two_widths():
    source, state = normal(1, 2, 5, 6), normal(2, 2, 4)
    config = Attention(score=custom("bilinear"))

    def attend(module: DecoderAttention, source, state):
        return module.function()(module.project_memory(source, jnp.array([5, 3]), source[:, 0]), state)

    module = DecoderAttention(config, 4, 6)
    start = jax.jit(functools.partial(module.init_with_output, method=attend))
    (context, weights), variables = start(jax.random.key(0), source, state)
    w = variables["params"]["attend"]["score"]["w"]
    assert w.shape == (4, 6)
    logits = np.einsum("bd,de,bse->bs", state, w, source)
    expected = np.exp(logits) * np.array([[1] * 5, [1, 1, 1, 0, 0]])
    np.testing.assert_allclose(weights, expected / expected.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(context, np.einsum("bs,bsc->bc", weights, source), rtol=1e-4, atol=1e-5)


def test_arrays_are_initialized_by_their_defaults_and_settings_override_others():
    function = custom_function(custom("low_rank", sizes={"r": 3}, kwargs={"temperature": 4.0}))
    w, bias = function.learned(5, 5)
    assert (w.name, w.shape, bias.name, bias.shape) == ("w", (5, 3), "bias", ())
    drawn = w.start(jax.random.key(0), w.shape)
    np.testing.assert_allclose(drawn.T @ drawn, np.eye(3), atol=1e-5)
    assert bias.start(jax.random.key(0), ()) == 1.0
    logits = function.part(jnp.ones((2, 5)), jnp.ones((3, 5)), w=jnp.ones((5, 3)), bias=1.0)
    np.testing.assert_allclose(logits, np.full((2, 3), (75 + 1) / 4.0))
    assert custom_function(custom("plain")).learned(4, 4) == []


@pytest.mark.parametrize("settings", [{"center": True, "times": 2}, {"center": False, "times": 3}], ids=str)
@pytest.mark.quick("{'center': True, 'times': 2}")
def test_settings_are_python_values_under_jit(settings: dict):
    module = Score(custom("power", kwargs=settings), 2, 4, 4)
    variables = jax.jit(module.init)(jax.random.key(0))
    query, key, value = normal(1, 5, 2, 4), normal(2, 6, 2, 4), normal(3, 6, 2, 4)

    @jax.jit
    def output(variables):
        return attention(query, key, value, score=module.apply(variables), implementation="streaming")

    w = variables["params"]["w"]
    centered = key - jnp.mean(key, axis=-1, keepdims=True) if settings["center"] else key
    projected = jnp.stack([query[:, h] @ jnp.linalg.matrix_power(w[h], settings["times"]) for h in range(2)], axis=1)
    np.testing.assert_allclose(output(variables), attention(projected, centered, value, score=scores.dot), rtol=1e-4)
    before = output._cache_size()
    output(variables)
    assert output._cache_size() == before
    assert np.abs(jax.jit(jax.grad(lambda v: output(v).sum()))(variables)["params"]["w"]).min() > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (custom("low_rank"), r"axis r of w .* score.sizes: \{r: 64\}"),
        (custom("low_rank", sizes={"r": 2, "z": 3}), "sizes.z: .* axis of a learned array"),
        (custom("low_rank", sizes={"r": 2, "q": 3}), "sizes.q: .* axis of a learned array"),
        (custom("low_rank", sizes={"r": 2}, kwargs={"temp": 1}), "kwargs.temp: .* temperature"),
        (custom("loose"), "w is not annotated as an array, .* no default"),
        (custom("third"), r"query and key must be keyword-only: write \* before them"),
        (CustomScore(function="a/mine.py:f", source="import nothing_of_the_kind\ndef f(query, key): pass"),
         "^a/mine.py:1: cannot be executed: ModuleNotFoundError: No module named 'nothing_of_the_kind'$"),
    ],
)  # fmt: skip
def test_an_invalid_function_is_reported_in_one_line(config: CustomScore, message: str):
    def use():
        function = custom_function(config)
        return function.learned(4, 4), function.part

    with pytest.raises(UserError, match=message):
        use()


@pytest.mark.parametrize("implementation", ["dense", "streaming"])
@pytest.mark.quick("streaming")
def test_mods_masks_and_normalizers_are_those_of_the_library(implementation: str):
    query, key, value = normal(1, 2, 5, 3, 4), normal(2, 2, 6, 3, 4), normal(3, 2, 6, 3, 4)
    chosen = Mods((custom("far", CustomMod, sizes={"r": 5}),), 3, 4), Normalizer(custom("soft", CustomNormalizer), 3, 4)
    table = normal(4, 3, 5)
    variables = {"params": {"custom_0_table": table}}, {"params": {"temperature": jnp.array([0.5, 1.0, 2.0])}}
    inputs = PartInputs(query, jnp.array([6, 6]), "self_attention")
    mask = custom_mask(custom("near", CustomMask, kwargs={"left": 2, "right": 1}))
    run = functools.partial(attention, query, key, value, implementation=implementation, block_size=(2, 3))

    @jax.jit
    def ours(mod, normalizer):
        return run(mods=chosen[0].apply(mod)(inputs), normalizer=chosen[1].apply(normalizer)(inputs), mask=mask)

    expected = run(
        mods=(mods.relative_bias(map_over(table, "h")),),
        normalizer=normalizers.temperature(map_over(variables[1]["params"]["temperature"], "h")),
        mask=masks.sliding_window(2, 1, alignment="upper_left"),
    )
    np.testing.assert_allclose(ours(*variables), expected, rtol=1e-5, atol=1e-6)
    slopes = jax.jit(jax.grad(lambda variables: ours(*variables).sum()))(variables)
    assert all(np.all(np.isfinite(slope)) and np.any(slope) for slope in jax.tree.leaves(slopes))
    drawn = [jax.jit(module.init)(jax.random.key(0))["params"] for module in chosen]
    assert drawn[0]["custom_0_table"].shape == (3, 5)
    assert drawn[1]["temperature"].tolist() == [1.0] * 3


def test_a_normalizer_always_gets_the_mask_and_a_mask_may_broadcast():
    soft = custom_function(custom("soft", CustomNormalizer)).part
    logits = normal(0, 2, 3)
    np.testing.assert_allclose(soft(logits, None, temperature=1.0), jax.nn.softmax(logits), rtol=1e-6)
    text = "def first(positions, *, n: int): return positions.columns < n"
    mask = custom_mask(CustomMask(function="m.py:first", source=text, kwargs={"n": 2}))
    np.testing.assert_array_equal(mask.dense(2, 3), [[1, 1, 0]] * 2)
    assert "first" in repr(mask)
    assert mask.classify(np.arange(4).reshape(2, 2), np.arange(4).reshape(2, 2))[0].all()


CALLS = {
    "score": (CustomScore, (jnp.ones((2, 4)), jnp.ones((3, 4)))),
    "mods": (CustomMod, (jnp.ones((2, 3)), Positions(jnp.arange(2), jnp.arange(3), jnp.int32(0), jnp.int32(0)))),
    "mask": (CustomMask, (Positions(jnp.arange(2), jnp.arange(3), jnp.int32(0), jnp.int32(0)),)),
    "normalizer": (CustomNormalizer, (jnp.ones((2, 3)), None)),
}


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("score", "def f(query): ...", r"expected \(query, key, \*, …\)"),
        ("mods", "def f(logits): ...", r"expected \(logits, positions, \*, …\)"),
        ("mask", "def f(): ...", r"expected \(positions, \*, …\)"),
        ("mask", "def f(query, key, head): ...", r"arguments after positions must be keyword-only"),
        ("normalizer", "def f(*, where): ...", r"expected \(logits, where, \*, …\)"),
        ("normalizer", "def f(*both): ...", r"expected \(logits, where, \*, …\)"),
        ("score", "def f(query, key): return query @ query.T", r"float32\[2, 2\]; .* numbers \[q k\] .* here \[2, 3\]"),
        ("mods", "def f(logits, positions): return logits[0]", r"float32\[3\]; .* here \[2, 3\]"),
        ("mods", "def f(logits, positions): return logits > 0", r"bool\[2, 3\]; .* floating-point numbers"),
        ("mask", "def f(positions): return positions.rows", r"int32\[2, 1\]; .* truth values \[q k\]"),
        ("mask", "def f(positions): return positions.key > 0", r"bool\[3\]; .* here \[2, 3\]"),
        ("normalizer", "def f(logits, where): return logits.sum(-1)", r"float32\[2\]; .* here \[2, 3\]"),
        ("normalizer", "def f(logits, where): ...", "returned NoneType, not an array"),
        ("mods", "def f(logits, positions): return logits @ logits", "^m.py:1: TypeError: dot_general requires"),
    ],
)
def test_wrong_arguments_and_results_of_a_part_are_reported_with_their_shapes(part: str, text: str, message: str):
    kind, arguments = CALLS[part]

    def use():
        function = custom_function(kind(function="m.py:f", source=text))
        return function.learned(), function.part(*arguments)

    with pytest.raises(UserError, match=message) as error:
        use()
    assert str(error.value).startswith("m.py:")
    assert len(str(error.value).splitlines()) == 1


def test_a_mask_cannot_have_learned_arrays():
    text = "from jaxtyping import Array, Float\ndef f(positions, *, w: Float[Array, '3']): ..."
    with pytest.raises(UserError, match=r"m\.py:f: w is a learned array, .*mask"):
        custom_mask(CustomMask(function="m.py:f", source=text))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("None", "m.py:f: w has default None, not a number or a function"),
        ("True", "m.py:f: w has default True, not a number or a function"),
        ("lambda rng, shape: 1.0", r"m.py:f: w starts with shape \[\], .* \[3\]"),
        ("lambda shape: 1.0", "^m.py: w: TypeError: .* takes 1 positional argument but 2 were given"),
        ("lambda rng, shape: sys.exit(4)", "^m.py:2: w: SystemExit: 4$"),
    ],
)
def test_an_invalid_initial_value_is_reported(start: str, message: str):
    text = (
        "import sys; from jaxtyping import Array, Float\n"
        f"def f(logits, positions, *, w: Float[Array, '3'] = {start}): ..."
    )

    def use():
        learned = custom_function(CustomMod(function="m.py:f", source=text)).learned()
        return learned[0].start(jax.random.key(0), (3,))

    with pytest.raises(UserError, match=message):
        use()


def test_an_axis_of_query_and_key_must_have_one_width():
    with pytest.raises(UserError, match=r"d is the width of query and key, .* 4 and 5"):
        custom_function(custom("low_rank", sizes={"r": 2})).learned(4, 5)


def test_the_file_is_read_once_and_kept_in_the_config(tmp_path: Path):
    (tmp_path / "mine.py").write_text(FILE + "# \x85 is no line's end\n")
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    config = load(tmp_path / "x.yaml")
    assert config.model.pooling.attention.score.source == (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").unlink()
    (tmp_path / "again.yaml").write_text(resolved(config))
    assert load(tmp_path / "again.yaml") == config
    with pytest.raises(UserError, match=r"^mine.py: no such file \(function: mine.py:low_rank\); searched "):
        load(tmp_path / "x.yaml")
    (tmp_path / "mine.py").write_text("def low(query, key): ...")
    with pytest.raises(UserError, match=r"x.yaml:7: model.pooling.attention.score: mine.py: no function low_rank"):
        load(tmp_path / "x.yaml")
    score = "model.pooling.attention.score"
    for name in ("mine", "mine:low"):
        with pytest.raises(UserError, match=rf"'{name}' is not FILE.py:NAME, such as scores.py:bilinear"):
            load(tmp_path / "x.yaml", [f"{score}.function={name}"])
    with pytest.raises(UserError, match=rf'{score}.kwargs: t: expected a number, true or false, got "a"$'):
        load(tmp_path / "again.yaml", [f"{score}.kwargs={{t: a}}"])
    with pytest.raises(UserError, match=rf"{score}.sizes.r: must be above 0, got 0$"):
        load(tmp_path / "again.yaml", [f"{score}.sizes={{r: 0}}"])
    (tmp_path / "other.py").write_text("def low(query, key): return query @ key.T")
    change = ["model.pooling.attention.score.function=other.py:low", "model.pooling.attention.score.sizes={}"]
    assert load(tmp_path / "again.yaml", change).model.pooling.attention.score.name == "low"


def test_the_page_of_custom_parts_works_as_it_stands(tmp_path: Path):
    page = (Path(__file__).parents[1] / "docs/attention/custom.md").read_text()
    (tmp_path / "parts.py").write_text(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0])
    (tmp_path / "x.yaml").write_text(
        "task: {kind: classification, data: {kind: synthetic_sentiment}, tokenizer: {kind: words}}\n"
        "model:\n  kind: transformer_classifier\n  encoder:\n"
        + textwrap.indent(re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0], "    ")
        + "training: {steps: 2}\n"
    )
    chosen = load(tmp_path / "x.yaml").model.encoder.attention
    assert [part.name for part in custom_parts(chosen)] == ["low_rank", "recency", "nearby", "taylor_softmax"]
    module = SelfAttention(Block(width=8, heads=2), chosen)
    inputs = normal(0, 1, 12, 8), Context(jnp.array([12]), masks.lengths(jnp.array([12])))
    variables = jax.jit(functools.partial(module.init, train=False))(jax.random.key(0), *inputs)
    assert {name: array.shape for name, array in variables["params"]["attend"]["score"].items()} == {
        "w_query": (2, 4, 64), "w_key": (2, 4, 64)
    }  # fmt: skip
    apply = jax.jit(functools.partial(apply_with_attention, module, train=False))
    weights = apply(variables, *inputs)[1][0].weights
    near = abs(np.arange(12)[:, None] - np.arange(12)) <= 8
    np.testing.assert_array_equal(weights > 0, np.broadcast_to(near, (1, 2, 12, 12)))
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-6)


PLACES = {
    "translation/dates_additive": "model.attention",
    "translation/dates_transformer": "model.decoder.cross_attention",
    "classification/synthetic_sentiment_additive": "model.pooling.attention",
    "classification/synthetic_sentiment_transformer": "model.encoder.attention",
    "story_qa/story_qa_1_memory": "model.attention",
    "extractive_qa/passages_bidaf": "model.attention",
    "captioning/scenes_soft": "model.attention",
    "captioning/scenes_transformer": "model.decoder.cross_attention",
    "visual_qa/scenes_cross_attention": "model.fusion.attention",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_every_model_trains_and_opens_with_it(name: str, tmp_path: Path):
    (tmp_path / "mine.py").write_text(FILE)
    config, place = Path(__file__).parents[1] / f"experiments/{name}.yaml", PLACES[name]
    section = f"kind: custom, function: {tmp_path}/mine.py"
    changes = [
        f"{place}.score={{{section}:power, kwargs: {{center: true, times: 2}}}}",
        f"{place}.mods=[{{{section}:far, sizes: {{r: 5}}}}]",
        f"{place}.normalizer={{{section}:soft}}",
    ]
    if name == "classification/synthetic_sentiment_transformer":
        changes.append(f"{place}.mask={{{section}:near, kwargs: {{left: 2, right: 2}}}}")
    lab.train(load(config, changes, tiny=True), tmp_path / "run", None)
    learned = jax.tree_util.tree_leaves_with_path(lab.load(tmp_path / "run").params)
    paths = [jax.tree_util.keystr(path) for path, _ in learned]
    for array in ("'w'", "'custom_0_table'", "'temperature'"):
        assert any(array in path for path in paths), array
