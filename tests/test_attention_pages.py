"""The HTML page: what stands in it, that text stays text, and that it needs nothing but itself."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from attnlab.tasks.attention_map import AttentionMap, ImageAttentionMap, RowGroup
from attnlab.viz import page

EVIL = "<script>alert('x')</script> & \"quoted\" </title><img src=x onerror=alert(1)> {{ 7 * 7 }}"


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and text under the element it stands in."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self._inside = ""
        self._in_table_body = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "tbody":
            self._in_table_body = True
        elif self._in_table_body and tag == "tr":
            self.rows.append([])
        elif self._in_table_body and tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._inside = ""
        if tag == "table":
            self._in_table_body = False

    def handle_data(self, data):
        self.texts.append((self._inside, data))
        if self._in_table_body and self.rows:
            self.rows[-1][-1] += data.strip()

    def texts_in(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]


def make_map(columns: list[str], rows: list[str], weights=None, **changes) -> AttentionMap:
    if weights is None:
        weights = np.random.default_rng(0).dirichlet(np.full(len(columns), 0.3), size=len(rows)).astype(np.float32)
    return AttentionMap(rows, columns, weights, **({"prediction": " ".join(rows), "score": -0.5} | changes))


def test_page_holds_sentence_words_and_weights():
    weights = np.array([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    best = make_map(
        ["großes", "Haus", "⟨end⟩"], ["house", "⟨end⟩"], weights, prediction="house", score=-1.25, input="großes Haus"
    )
    html = page.render([best], title="Attention of r", details={"run": "runs/r"})
    parsed = Page(html)
    assert parsed.rows == [["house", ".25", ".75", "", "1.000"], ["⟨end⟩", "1", "", "", "1.000"]]
    assert "großes Haus" in parsed.texts_in("p")
    assert parsed.texts_in("h1") == ["Attention of r"]
    assert parsed.texts_in("dd") == ["runs/r"]
    assert "score -1.250" in parsed.texts_in("span")
    source, target = ["großes", "Haus", "⟨end⟩"], ["house", "⟨end⟩"]
    assert parsed.texts_in("bdi") == [*source, *target, *source, *target]  # as words, and as heads of the table


@pytest.mark.parametrize("place", ["input", "token", "prediction", "title", "details", "language"])
def test_text_stays_text(place):
    """No element and no attribute is born of the text, wherever it stands; and the text is all there."""

    def parse(text: str) -> Page:
        put = dict.fromkeys(("input", "token", "prediction", "title", "details", "language"), "x") | {place: text}
        best = make_map([put["token"], "b"], ["c", put["token"]], prediction=put["prediction"], input=put["input"])
        return Page(
            page.render(
                [best],
                title=put["title"],
                details={put["details"]: put["details"]},
                input_language=put["language"],
            )
        )

    harmless, evil = parse("x"), parse(EVIL)
    assert [tag for tag, _ in harmless.elements] == [tag for tag, _ in evil.elements]
    assert [sorted(attributes) for _, attributes in harmless.elements] == [
        sorted(attributes) for _, attributes in evil.elements
    ]
    values = [value for _, attributes in evil.elements for value in attributes.values()]
    assert EVIL in (values if place == "language" else [text for _, text in evil.texts])


@pytest.mark.parametrize(
    ("weights", "means"),
    [
        ([[0.25, 0.75, 0.0], [0.75, 0.25, 0.0]], ["1.0", "1.0", "0.0"]),
        ([[0.1, 0.2, 0.7]], ["0.143", "0.286", "1.0"]),
        ([[-0.5, 0.5, 1.0]], ["-0.5", "0.5", "1.0"]),
        ([[0.0, 0.0, 0.0]], ["0.0", "0.0", "0.0"]),
    ],
)
def test_words_are_colored_by_their_columns_before_anyone_points(weights, means):
    parsed = Page(page.render([make_map(["a", "b", "c"], ["x", "y"][: len(weights)], np.array(weights))]))
    buttons = [attributes for tag, attributes in parsed.elements if tag == "button"]
    assert [button.get("data-mean") for button in buttons[:3]] == means
    assert [button.get("style") for button in buttons[:3]] == [f"--w:{mean.removeprefix('-')}" for mean in means]
    assert all("data-mean" not in button for button in buttons[3:])


def test_unknown_words_are_named_and_marked_wherever_they_stand():
    story = ["Amira went to the garden.", "Gardens are gardenias."]
    view = make_map(
        story, ["hop 1"], np.array([[1.0, 0.0]]), column_format="sentences", unknown_words=("garden", "orchard"),
        input="Amira went to the garden. Where is the orchard?",
    )  # fmt: skip
    parsed = Page(page.render([view]))
    assert parsed.texts_in("mark") == ["garden", "orchard"]
    assert "not in the vocabulary, replaced by the unknown token: garden, orchard" in parsed.texts_in("p")
    buttons = [attributes for tag, attributes in parsed.elements if tag == "button"]
    assert [button.get("class") for button in buttons] == ["unknown", None, None]
    heads = [attributes for tag, attributes in parsed.elements if tag == "th"]
    assert [head.get("class") for head in heads] == ["unknown", None, "sum", None]


@pytest.mark.parametrize("given", [True, False])
def test_of_the_rows_only_words_that_were_given_are_marked(given):
    """A translation may name what its source names, and know it."""
    groups = (RowGroup(2, "of words", from_input=given),)
    view = make_map(["x", "c++"], ["x", "c++"], np.eye(2), row_groups=groups, unknown_words=("c++",), input="x c++")
    parsed = Page(page.render([view]))
    buttons = [attributes for tag, attributes in parsed.elements if tag == "button"]
    assert [button.get("class") for button in buttons] == [None, "unknown", None, "unknown" if given else None]
    assert parsed.texts_in("mark") == ["c++"]


def test_nothing_is_marked_where_all_is_known():
    parsed = Page(page.render([make_map(["a"], ["b"])]))
    assert not parsed.texts_in("mark")
    assert not any("unknown" in (attributes.get("class") or "") for _, attributes in parsed.elements)


@pytest.mark.parametrize("mark", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
def test_marks_that_turn_the_direction_are_shown_instead(mark):
    text = f"a{mark}txt.exe"
    html = page.render(
        [make_map([text], [text], prediction=text, reference=text, column_label=text, unknown_words=(text,))],
        title=text,
        details={text: text},
    )
    assert mark not in html
    assert "a�txt.exe" in html


def test_each_text_runs_in_its_own_direction():
    hebrew, joined = ["שלום", "עולם"], "می\u200cخواهم"
    html = page.render([make_map(hebrew, ["hello", joined], prediction="hello", reference="שלום", input="שלום עולם")])
    parsed = Page(html)
    directions = {attributes.get("class"): attributes.get("dir") for _, attributes in parsed.elements}
    assert (directions["input"], directions["predicted"]) == ("auto", "auto")
    assert (directions["words columns"], directions["words rows"]) == ("rtl", "ltr")
    assert joined in parsed.texts_in("bdi"), "a joiner inside a word stays"
    assert "שלום" in parsed.texts_in("bdi")


def test_page_needs_nothing_but_itself():
    html = page.render([make_map(["a"], ["b"])])
    assert "default-src 'none'" in html
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"(?m)^// .*$", "", html))
    loads = [(tag, a) for tag, a in Page(html).elements for name in ("src", "href") if name in a]
    assert loads == [("link", {"rel": "icon", "href": "data:,"})]


def test_every_word_can_be_reached_by_keyboard():
    parsed = Page(page.render([make_map(["a", "b"], ["c", "d", "e"])]))
    buttons = [attributes for tag, attributes in parsed.elements if tag == "button"]
    assert len(buttons) == 5
    assert all(b["type"] == "button" and b["aria-pressed"] == "false" for b in buttons)
    assert any(a.get("aria-live") == "polite" for _, a in parsed.elements)


def test_light_and_dark():
    html = page.render([make_map(["a"], ["b"])])
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "prefers-color-scheme: dark" in html


def test_small_weights_are_scaled_and_said_to_be():
    small, large = np.array([[0.05, 0.1]]), np.array([[0.05, 0.9]])
    html = page.render([make_map(["a", "b"], ["fine"], small, column_label="text", row_label="class")])
    assert 'data-top="0.1"' in html
    assert "columns are text, rows are class" in html
    assert "strongest color is 0.1" in html
    html = page.render([make_map(["a", "b"], ["fine"], large)])
    assert 'data-top="1"' in html
    assert "strongest" not in html


def test_negative_weights_are_written_and_said_to_be_red():
    html = page.render([make_map(["a", "b"], ["x"], np.array([[-0.25, 1.25]]))])
    assert Page(html).rows == [["x", "-.25", "1.25", "1.000"]]
    assert "negative weights are red" in html
    assert "negative weights" not in page.render([make_map(["a"], ["b"])])


def test_row_groups_have_their_own_title_and_scale_and_no_sum_where_columns_add_up():
    weights = np.array([[0.3, 0.2], [0.7, 0.8], [0.1, 0.3]])
    groups = RowGroup(2, "of words", "question"), RowGroup(1, "of all")
    view = make_map(["a", "b"], ["c", "d", "e"], weights, prediction="a", row_groups=groups, reference="b")
    html = page.render([view])
    assert Page(html).rows == [
        ["of words: every column sums to 1"], ["c", ".3", ".2", ""], ["d", ".7", ".8", ""],
        ["of all; the strongest color is 0.3"], ["e", ".1", ".3", "0.400"],
    ]  # fmt: skip
    assert re.findall('data-top="(.*?)"', html) == ["1", "0.3"]
    assert "reference: <bdi>b</bdi>" in html


def test_the_best_of_several_predictions_is_open():
    predictions = [make_map(["a"], [t], prediction=t, score=s) for t, s in (("one", -1.0), ("two", -2.0))]
    parsed = Page(page.render(predictions))
    sections = [attributes for tag, attributes in parsed.elements if tag == "details"]
    assert ["open" in section for section in sections] == [True, False]
    assert [text for text in parsed.texts_in("span") if "score" in text] == [
        "1 of 2 · score -1.000",
        "2 of 2 · score -2.000",
    ]
    assert parsed.rows == [["one", "1", "1.000"], ["two", "1", "1.000"]]


def test_a_page_stays_under_a_megabyte_and_lists_omissions():
    words = [f"Wort{i}" for i in range(101)]
    uniform = make_map(words, words, np.full((101, 101), 1 / 101))
    html = page.render([uniform] * 64)
    shown = html.count("<details")
    assert 1 <= shown < 64
    assert f"{64 - shown} more predictions are omitted" in html
    assert len(html.encode()) < 1_000_000
    assert len(page.render([make_map(words[:40], words[:40])]).encode()) < 100_000


def test_what_html_cannot_hold_becomes_visible():
    token = "a\x00b\ud800"
    html = page.render([make_map([token], ["", "c"], prediction=token, input=token)], title=token)
    assert html.encode("utf-8")
    assert "a�b�" in html
    assert "\x00" not in html
    assert Page(html).rows[0][0] == "∅"


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)).filter(lambda row: row.sum() > 1e-6))
def test_a_written_row_adds_up_to_exactly_one(row):
    weights = row / row.sum()
    units = page.thousandths(weights)
    assert sum(units) == 1000
    assert all(abs(unit - 1000 * weight) < 1 + 1e-9 for unit, weight in zip(units, weights, strict=True))


def test_written_cells_read_back_as_thousandths():
    for units in range(1001):
        assert round(float(page._cell(units) or 0) * 1000) == units


def test_a_page_needs_an_attention_map():
    with pytest.raises(ValueError, match="no attention map"):
        page.render([])


def test_evidence_is_marked_and_named():
    html = page.render([make_map(["a", "good", "film"], ["positive"], column_format="text", evidence=(1,))])
    buttons = [attributes for tag, attributes in Page(html).elements if tag == "button"]
    assert [button.get("class") for button in buttons] == [None, "evidence", None, None]
    assert "marked as evidence" in html
    assert "Attention is not an explanation" in html


def make_image_map(row_labels: list[str], weights: np.ndarray, **changes) -> ImageAttentionMap:
    image = np.random.default_rng(0).integers(0, 256, (8, 16, 3)).astype(np.uint8)
    return ImageAttentionMap(image, row_labels, weights, **({"prediction": "two dogs", "score": -0.5} | changes))


def test_an_image_page_holds_the_image_and_every_weight():
    weights = np.arange(8.0).reshape(2, 2, 2) / 10 - 0.1
    view = make_image_map(["dogs", EVIL], weights, question="how many?", reference="three", unknown_words=(EVIL,))
    html = page.render([view], title="run")
    parsed = Page(html)
    cells = [attributes for tag, attributes in parsed.elements if tag == "i"]
    assert [float(cell["title"]) for cell in cells] == pytest.approx(weights.ravel().tolist())
    assert [cell.get("class") for cell in cells] == ["negative", *[None] * 7]
    assert [cell["style"] for cell in cells][-1] == "--w:1"
    assert {a["style"] for _, a in parsed.elements if a.get("class") == "grid"} == {"--columns:2"}
    assert parsed.texts_in("bdi") == ["three", "dogs", EVIL]
    assert "how many?" in parsed.texts_in("p")
    (encoded,) = re.findall(r"url\(data:image/png;base64,([^)]*)\)", html)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert np.array_equal(image, view.image)
    assert "aspect-ratio: 16 / 8" in html


def test_an_image_page_needs_nothing_but_itself():
    html = page.render([make_image_map(["dogs"], np.full((1, 7, 7), 1 / 49))] * 2)
    assert "default-src 'none'" in html
    loads = [(tag, a) for tag, a in Page(html).elements for name in ("src", "href") if name in a]
    assert loads == [("link", {"rel": "icon", "href": "data:,"})]
    assert not [tag for tag, _ in Page(html).elements if tag == "script"]
    assert html.count("base64") == 1, "every copy shows the same image"
