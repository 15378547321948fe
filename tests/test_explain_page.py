"""The page of an explained prediction, and what notebooks show: complete, escaped, small, self-contained."""

import base64
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from weights import parameters

from attnlab.analysis.explain import Explainer, Explanation, Explanations, PartAttributions, explain_together
from attnlab.analysis.explain.choice import DEFAULT_METHODS, SLOW
from attnlab.analysis.explain.descriptions import METHOD_NOTES
from attnlab.analysis.explain.layer_maps import LayerMaps
from attnlab.analysis.explain.methods import EXPLAINERS
from attnlab.analysis.heads.alarms import attention_alarms
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.lab.explaining import ExplanationPage
from attnlab.tasks.registry import task_class
from attnlab.viz.explanation_page import LARGEST_PAGE, render
from attnlab.viz.packed_maps import packed

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
EVIL = "<script>alert('x')</script>"
METHODS = ("raw_attention", "integrated_gradients", "leave_one_out", "random_attribution")


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text inside each kind of element."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img", "td", "th", "tr"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def named(self, tag: str, **wanted: str) -> list[dict]:
        return [at for name, at in self.elements if name == tag and all(at.get(k) == v for k, v in wanted.items())]

    def text(self) -> str:
        return "".join(text for inside, text in self.texts if inside not in ("script", "style"))


def part(words: list[str], seed: int, name: str = "text", unit: str = "word") -> PartAttributions:
    numbers = np.random.default_rng(seed).normal(size=len(words)).astype(np.float32)
    return PartAttributions(name, unit, tuple(words), numbers, np.zeros(len(words), bool))  # type: ignore[arg-type]


def maps_of(words: list[str], heads: int, layers: int = 1) -> tuple[LayerMaps, ...]:
    shape = (heads, len(words))
    draw = lambda seed: np.random.default_rng(seed).dirichlet(np.full(len(words), 0.2), size=shape)  # noqa: E731
    names = tuple(words)
    return tuple(LayerMaps(f"encoder self-attention, layer {n}", "encoder", n, draw(n), names, names)
                 for n in range(1, layers + 1))  # fmt: skip


def explained(words: list[str], *, methods=METHODS, attention=(), alarms=(), parts=None) -> Explanations:
    by_method = {
        method: Explanation(
            method, {}, "log-probability of the class 'positive'", -0.25, "positive", (),
            (part(words, seed),) if parts is None else parts, 0.125 if method == "integrated_gradients" else None,
        )
        for seed, method in enumerate(methods)
    }  # fmt: skip
    return Explanations(by_method, {"text": " ".join(words)}, attention, alarms)


def data_of(html: str) -> dict:
    (text,) = (text for inside, text in Page(html).texts if inside == "script" and text.startswith("{"))
    return json.loads(text)


WORDS = ["a", "good", "film", EVIL]


@cache
def small_page() -> str:
    return render(
        explained(WORDS, attention=maps_of(WORDS, 2, 2)), title="sst2", command="attnlab explain RUN 'a good'"
    )


def test_every_method_and_every_word_is_there():
    page = Page(small_page())
    headings = [text for inside, text in page.texts if inside == "h3"]
    assert headings == list(METHODS)
    spans = [text for inside, text in page.texts if inside == "span" and text in WORDS]
    assert spans == WORDS * len(METHODS)
    titles = [float(at["title"]) for at in page.named("span") if "title" in at]
    numbers = np.concatenate([one.parts[0].attributions for one in explained(WORDS)])
    np.testing.assert_allclose(titles, numbers, rtol=0.01)
    for text in ("positive", "log-probability of the class", "−0.25", "attnlab explain RUN 'a good'",
                 "completeness gap 0.125", "Attention is not an explanation"):  # fmt: skip
        assert text in page.text()


def test_red_words_speak_against_the_target_and_strength_is_relative_to_the_largest():
    spans = [at for at in Page(small_page()).named("span") if "title" in at][: len(WORDS)]
    numbers = part(WORDS, 0).attributions
    assert ["against" in (at.get("class") or "") for at in spans] == list(numbers < 0)
    strengths = [float((at.get("style") or "--w:0").removeprefix("--w:")) for at in spans]
    np.testing.assert_allclose(strengths, np.abs(numbers) / np.abs(numbers).max(), atol=0.01)


def test_special_tokens_do_not_make_words_pale():
    numbers = np.array([8.0, 1.0, 0.5], np.float32)
    both = PartAttributions("text", "token", ("[CLS]", "good", "film"), numbers, np.array([True, False, False]))
    html = render(explained([], methods=("raw_attention",), parts=(both,)), title="t")
    assert 'class="special" style="--w:1" title="8"' in html
    assert 'style="--w:1" title="1">good' in html
    assert "special tokens exceed it" in html


def test_text_stays_text():
    html = small_page()
    assert EVIL not in html
    assert "&lt;script&gt;alert" in html
    labels = data_of(html)["labels"][0]["texts"]
    assert labels == WORDS
    hidden = render(explained(["a\u202eb", "c"]), title=EVIL, command=EVIL, details={"run": EVIL})
    assert "\u202e" not in hidden
    assert EVIL not in hidden


def test_the_page_needs_nothing_else():
    html = small_page()
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"\b(src|href)\s*=\s*[\"'](?!data:)", html)
    policy = next(at for at in Page(html).named("meta") if "content" in at and "default-src" in at["content"])
    assert "default-src 'none'" in policy["content"]


def test_text_from_right_to_left():
    words = ["סרט", "טוב", "!"]
    html = render(explained(words, attention=maps_of(words, 1)), title="t")
    assert len(Page(html).named("div", dir="rtl", **{"class": "attnlab-tokens"})) == len(METHODS)
    assert data_of(html)["labels"][0]["direction"] == "rtl"


@pytest.mark.parametrize(("heads", "layers", "whole"), [(2, 1, True), (8, 6, False)])
def test_five_hundred_words_stay_below_two_megabytes(heads, layers, whole):
    words = [f"word{number}" for number in range(500)]
    html = render(explained(words, methods=tuple(EXPLAINERS), attention=maps_of(words, heads, layers)), title="t")
    assert len(html.encode()) <= LARGEST_PAGE
    assert html.count(">word499</span>") == len(EXPLAINERS)
    data = data_of(html)
    assert sum(len(layer["heads"]) for layer in data["layers"]) == heads * layers
    assert (data["kept"] == 0) == whole
    assert (f"only the {data['kept']} largest weights are stored" in html) == (not whole)


@pytest.mark.slow
def test_what_does_not_fit_is_left_out_and_said():
    words = [f"word{number}" for number in range(400)]
    html = render(explained(words, attention=maps_of(words, 25, 1) * 10), title="t")
    assert len(html.encode()) <= LARGEST_PAGE
    data = data_of(html)
    assert data["left_out"] == 250 - sum(len(layer["heads"]) for layer in data["layers"])
    assert data["left_out"] > 0
    assert f"{data['left_out']} maps are left out" in html
    long = ["x" * 3000 for _ in range(300)]
    html = render(explained(long, methods=METHODS), title="t")
    assert "Left out to keep this page below 2 MB: leave_one_out, random_attribution" in html
    with pytest.raises(UserError):
        render(explained(["x" * 3_000_000]), title="t")


def unpacked(head: dict, rows: int, columns: int) -> np.ndarray:
    """Read the weights as the page's script does."""
    units = np.frombuffer(base64.b64decode(head["weights"]), np.uint8).astype(float).reshape(rows, -1)
    values = head["top"] * ((units - 128) / 127 if head["signed"] else units / 255)
    if "places" not in head:
        return values
    places = np.frombuffer(base64.b64decode(head["places"]), "<u2").reshape(rows, -1)
    weights = np.zeros((rows, columns))
    np.put_along_axis(weights, places.astype(int), values, axis=1)
    return weights


def test_packed_weights_are_those_of_the_map_to_a_byte():
    (layer,) = maps_of([f"w{n}" for n in range(30)], 1)
    head = packed([layer], 10_000)["layers"][0]["heads"][0]
    np.testing.assert_allclose(unpacked(head, 30, 30), layer.weights[0], atol=0.501 * head["top"] / 255)
    few = packed([layer], 700)
    found = unpacked(few["layers"][0]["heads"][0], 30, 30)
    assert 4 <= few["kept"] < 10
    for row, weights in zip(found, layer.weights[0], strict=True):
        largest = np.sort(np.argsort(-weights)[: few["kept"]])
        np.testing.assert_allclose(row[largest], weights[largest], atol=0.51 * head["top"] / 255)
        assert np.count_nonzero(row) <= few["kept"]


def test_packed_signed_and_nonfinite_weights():
    weights = np.array([[[0.5, -0.25], [np.nan, 1.0]]])
    layer = LayerMaps("pooling attention", "pooling", 1, weights, ("a", "b"), ("c", "d"))
    head = packed([layer], 100)["layers"][0]["heads"][0]
    assert head["signed"]
    assert head["bad"]
    np.testing.assert_allclose(unpacked(head, 2, 2), [[0.5, -0.25], [0, 1]], atol=0.005)


def test_alarms_are_named_and_their_absence_too():
    found = tuple(attention_alarms(np.full((1, 2, 3, 3), 1 / 3), layer="encoder self-attention, layer 1"))
    html = render(explained(WORDS, attention=maps_of(WORDS, 1), alarms=found), title="t")
    assert "encoder self-attention, layer 1, head 2: every weight is within 1% of uniform attention" in html
    assert "No map is constant" in small_page()
    assert "This model has no attention" in render(explained(WORDS), title="t")


def test_agreement_is_kendalls_tau_without_special_tokens():
    labels, special = ("[CLS]", "a", "b", "c"), np.array([True, False, False, False])
    numbers = ([9, 1, 2, 3], [-9, 3, 2, 1], [0, 1, 1, 1])
    by_method = {
        method: Explanation(method, {}, "t", 0.0, "p", (), (PartAttributions("text", "token", labels, row, special),))
        for method, row in zip(METHODS, np.array(numbers, np.float32), strict=False)
    }
    agreement = Explanations(by_method, {}).agreement
    assert agreement.parts == 3
    assert agreement.tau[0, 1] == -1
    assert np.isnan(agreement.tau[0, 2])
    assert "over 3 parts" in Explanations(by_method, {})._repr_html_()


def test_an_image_lies_under_its_cells():
    cells = tuple((row, column) for row in range(2) for column in range(3))
    grid = PartAttributions("image", "cell", cells, np.arange(-1.0, 5.0), np.zeros(6, bool))
    maps = (LayerMaps("cross-attention", "cross", 1, np.full((1, 2, 6), 1 / 6), ("a", "shape"), cells),)
    several = explained([], parts=(grid, part(["what", "color"], 1, "question")), attention=maps)
    html = render(several, title="t", image=np.zeros((600, 900, 3), np.uint8))
    page = Page(html)
    assert len(page.named("i")) == 6 * len(METHODS)
    assert "url(data:image/png;base64," in html
    assert data_of(html)["labels"][1] == {"columns": 3, "texts": [f"row {r + 1}, column {c + 1}" for r, c in cells]}
    assert "question" in page.text()


def test_notebooks_show_the_same_text_safely():
    several = explained(WORDS, attention=maps_of(WORDS, 1))
    for html in (several._repr_html_(), several["leave_one_out"]._repr_html_()):
        assert EVIL not in html
        assert ">good</span>" in html
        assert "leave_one_out" in html
    assert "completeness gap" in several["integrated_gradients"]._repr_html_()
    frame = ExplanationPage(several, small_page())._repr_html_()
    (attributes,) = Page(frame).named("iframe")
    assert attributes["srcdoc"] == small_page()
    assert attributes["sandbox"] == "allow-scripts"


def test_every_method_is_described_and_the_default_ones_are_quick():
    assert METHOD_NOTES.keys() == EXPLAINERS.keys()
    assert not set(DEFAULT_METHODS) & set(SLOW)
    assert set(DEFAULT_METHODS) | set(SLOW) <= EXPLAINERS.keys()


MODELS = {
    "classification/synthetic_sentiment_uniform.yaml": ["a good film"],
    "classification/synthetic_sentiment_additive.yaml": ["a good film"],
    "translation/dates_transformer.yaml": ["der dritte Mai"],
    "story_qa/story_qa_1_memory.yaml": ["Amira went to the attic. Boris ran to the garden. Where is Amira?"],
    "extractive_qa/passages_bidaf.yaml": ["Amira went to the attic.", "Where is Amira?"],
}


@cache
def of_fresh_model(path: str) -> Explanations:
    config = load(EXPERIMENTS / path, (), tiny=True)
    task = task_class(config).prepare(config, task_class(config).load(config, None))
    params = parameters(task)
    return explain_together(Explainer(task), params, task.parse_example(MODELS[path]), ["random_attribution"])


@pytest.mark.parametrize("path", MODELS)
def test_maps_have_a_label_for_each_query_and_key(path):
    several = of_fresh_model(path)
    for layer in several.attention:
        heads, queries, keys = layer.weights.shape
        assert heads >= 1
        assert (len(layer.queries), len(layer.keys)) == (queries, keys)
        np.testing.assert_allclose(layer.weights.sum(axis=2), 1, atol=1e-5)


def test_labels_of_a_decoder():
    maps = {layer.title: layer for layer in of_fresh_model("translation/dates_transformer.yaml").attention}
    output = of_fresh_model("translation/dates_transformer.yaml").first.output
    source = ("der", "dritte", "Mai", "⟨end⟩")
    assert maps["cross-attention, layer 1"].queries == output
    assert maps["cross-attention, layer 1"].keys == source
    assert maps["encoder self-attention, layer 1"].queries == source
    assert maps["decoder self-attention, layer 1"].keys == ("⟨start⟩", *output[:-1])


def test_labels_of_two_texts():
    maps = {layer.option: layer for layer in of_fresh_model("extractive_qa/passages_bidaf.yaml").attention}
    passage, question = ("Amira", "went", "to", "the", "attic", "."), ("Where", "is", "Amira", "?")
    assert (maps["context_to_query"].queries, maps["context_to_query"].keys) == (passage, question)
    assert (maps["query_to_context"].queries, maps["query_to_context"].keys) == (("question as a whole",), passage)


def test_a_model_that_averages_raises_an_alarm():
    messages = [alarm.message for alarm in of_fresh_model("classification/synthetic_sentiment_uniform.yaml").alarms]
    assert messages == ["pooling attention, head 1: every weight is within 1% of uniform attention (1 of 1 examples)"]
