"""Selection of the attention of one layer and head, for every task."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from weights import parameters

from attnlab import lab
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.attention_map import AttentionMap, ImageAttentionMap
from attnlab.tasks.layer_attention import Selection, select, title
from attnlab.tasks.registry import task_class

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
STORY = "Amira went to the attic. Boris ran to the garden. Where is Amira?"
READER = (
    "model={kind: transformer_reader, encoder: {layers: 2, width: 8, heads: 2, feed_forward: 8, "
    "positions: {kind: sinusoidal}}}"
)


def prepared(path: str, *changes: str):
    config = load(EXPERIMENTS / path, changes, tiny=True)
    task = task_class(config).prepare(config, task_class(config).load(config, None))
    return task, parameters(task)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    return str(path)


def selected(task, params, inputs: list[str], selection: Selection):
    return task.selected_attention_map(params, task.parse_example(inputs), selection)


def rows_add_up(view) -> None:
    weights = view.weights.reshape(len(view.weights), -1)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)


def test_translation_shows_each_of_its_three_attentions():
    task, params = prepared("translation/dates_transformer.yaml")
    inputs = ["der dritte Mai"]
    (cross, *_), example = task.attention_maps(params, task.parse_example(inputs)), task.parse_example(inputs)
    assert cross.row_groups[0].title == title("cross", 1, 2, 4)
    same = task.selected_attention_map(params, example, Selection("cross"))
    assert (same.column_labels, same.row_labels) == (cross.column_labels, cross.row_labels)
    np.testing.assert_allclose(same.weights, cross.weights, atol=1e-5)
    encoder = task.selected_attention_map(params, example, Selection("encoder", 1, 2))
    assert encoder.column_labels == encoder.row_labels == cross.column_labels
    assert encoder.row_groups[0].title.startswith("encoder self-attention, layer 1 of 2, head 2 of 4")
    rows_add_up(encoder)
    decoder = task.selected_attention_map(params, example, Selection("decoder"))
    assert decoder.column_labels == ["⟨start⟩", *cross.row_labels[:-1]]
    assert not np.triu(decoder.weights, 1).any(), "what is not written yet is not attended to"
    rows_add_up(decoder)


@pytest.mark.parametrize(
    ("path", "changes", "inputs", "tokens"),
    [
        ("classification/synthetic_sentiment_transformer.yaml", (), ["a good film"], "[CLS] a good film"),
        (
            "story_qa/story_qa_1_transformer.yaml",
            (),
            [STORY],
            "<s> Where is Amira <sep> Amira went to the attic Boris ran to the garden",
        ),
        (
            "story_qa/story_qa_2_sentences.yaml",
            (),
            [STORY],
            "Where is Amira? Boris ran to the garden. Amira went to the attic.",
        ),
        (
            "extractive_qa/passages_bidaf.yaml",
            (READER,),
            ["Amira went to the attic.", "Where is Amira?"],
            "[CLS] Where is Amira ? [SEP] Amira went to the attic .",
        ),
    ],
)
def test_an_encoder_map_has_a_row_for_every_token(path, changes, inputs, tokens):
    task, params = prepared(path, *changes)
    view = selected(task, params, inputs, Selection(layer=1, head=1))
    assert isinstance(view, AttentionMap)
    assert view.column_labels == view.row_labels
    assert " ".join(view.column_labels).startswith(tokens)
    assert view.row_groups[0].title.startswith("encoder self-attention, layer 1 of 2, head 1 of ")
    rows_add_up(view)
    plain = task.attention_maps(params, task.parse_example(inputs))[0]
    assert (view.prediction, view.unknown_words) == (plain.prediction, plain.unknown_words)
    with pytest.raises(UserError, match=r"--attention cross: this model has encoder \(encoder self-attention\)"):
        selected(task, params, inputs, Selection("cross"))


def test_a_caption_shows_cross_attention_and_decoder_self_attention(picture: str):
    task, params = prepared("captioning/scenes_transformer.yaml")
    plain = task.attention_maps(params, task.parse_example([picture]))[0]
    cross = selected(task, params, [picture], Selection("cross"))
    assert isinstance(cross, ImageAttentionMap)
    assert cross.title == plain.title
    assert plain.title.startswith("cross-attention, layer 2 of 2, mean of its ")
    np.testing.assert_allclose(cross.weights, plain.weights, atol=1e-5)
    decoder = selected(task, params, [picture], Selection("decoder", 2, 1))
    assert isinstance(decoder, AttentionMap)
    assert decoder.column_labels == ["⟨start⟩", *plain.row_labels]
    assert not np.triu(decoder.weights, 1).any()
    rows_add_up(decoder)


def test_a_question_about_an_image_shows_one_head(picture: str):
    task, params = prepared("visual_qa/scenes_cross_attention.yaml")
    inputs = [picture, "what color is the zebra"]
    (plain,) = task.attention_maps(params, task.parse_example(inputs))
    assert "zebra" in plain.row_labels
    assert plain.unknown_words == ("zebra",)
    mean = selected(task, params, inputs, Selection("cross"))
    assert mean.title == plain.title
    np.testing.assert_allclose(mean.weights, plain.weights, atol=1e-5)
    head_map = selected(task, params, inputs, Selection(head=1))
    assert "head 1 of " in head_map.title
    rows_add_up(head_map)


@pytest.mark.parametrize(
    ("path", "changes", "inputs", "kind", "shape"),
    [
        ("translation/dates_additive.yaml", (), ["der dritte Mai"], "cross", None),
        ("classification/synthetic_sentiment_additive.yaml", (), ["a good film"], "pooling", (1, 3)),
        ("story_qa/story_qa_1_memory.yaml", (), [STORY], "hop", (1, 2)),
        (
            "extractive_qa/passages_bidaf.yaml",
            (),
            ["Amira went to the attic.", "Where is Amira?"],
            "context_to_query",
            (6, 4),
        ),
    ],
)
def test_a_model_without_transformer_layers_shows_the_attention_that_it_has(path, changes, inputs, kind, shape):
    task, params = prepared(path, *changes)
    view = selected(task, params, inputs, Selection(kind, layer=1, head=1))
    assert isinstance(view, AttentionMap)
    assert shape is None or view.weights.shape == shape
    assert view.row_groups[0].title.endswith("its only head") or "head 1 of 1" in view.row_groups[0].title
    rows_add_up(view)
    if kind == "cross":
        best = task.attention_maps(params, task.parse_example(inputs))[0]
        np.testing.assert_allclose(view.weights, best.weights, atol=1e-5)
    with pytest.raises(UserError, match=rf"--attention self: .*{kind}"):
        selected(task, params, inputs, Selection("self"))


def test_a_model_without_attention_is_refused():
    task, params = prepared("translation/dates_none.yaml")
    with pytest.raises(UserError, match="no attention"):
        selected(task, params, ["der dritte Mai"], Selection(layer=1))


def layers() -> list[LayerAttention]:
    draw = np.random.default_rng(0)
    return [
        LayerAttention(f"decoder/layer_{n}/{kind}_attention", kind, "decoder", n, draw.random((4, 2, 3)))
        for kind in ("cross", "self")
        for n in (1, 2, 3)
    ]


def test_options_that_are_not_set_have_the_defaults_of_the_task():
    records = layers()
    np.testing.assert_allclose(select(records, Selection(head=2), "cross", 2).weights, records[1].weights[1])
    np.testing.assert_allclose(
        select(records, Selection("decoder"), "cross", 2).weights, records[5].weights.mean(axis=0)
    )
    np.testing.assert_allclose(select(records, Selection(layer=1), "cross").weights, records[0].weights.mean(axis=0))
    assert not Selection()
    assert Selection(head=1)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection("self"), "--attention self: this model has cross (cross-attention), decoder (decoder self-att"),
        (Selection("encoder"), "--attention encoder: "),
        (Selection(layer=0), "--layer 0: the cross-attention of this model has layers 1 to 3"),
        (Selection("decoder", 4), "--layer 4: the decoder self-attention of this model has layers 1 to 3"),
        (Selection(head=5), "--head 5: layer 3 of the cross-attention has heads 1 to 4"),
        (Selection(head=-1), "--head -1: "),
    ],
)
def test_missing_attention_is_refused_with_the_available_kinds(selection, message):
    with pytest.raises(UserError) as refused:
        select(layers(), selection, "cross")
    assert message in str(refused.value)


def test_from_python_too():
    calls = []
    task = SimpleNamespace(
        parse_example=lambda inputs: inputs,
        selected_attention_map=lambda params, example, selection: calls.append((example, selection)),
    )
    trained = lab.TrainedModel(SimpleNamespace(), task)  # pyright: ignore[reportArgumentType]
    trained.__dict__["_restored"] = ([], {})
    trained.attention("a text", attention="encoder", layer=2, head=1)
    assert calls == [(("a text",), Selection("encoder", 2, 1))]
