"""The HTML page: what stands in it, that text stays text, and that it needs nothing but itself."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attnlab.tasks.attention_map import Attended, Part
from attnlab.viz import page as render

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


def attended(source: list[str], target: list[str], weights=None, **changes) -> Attended:
    if weights is None:
        weights = np.random.default_rng(0).dirichlet(np.full(len(source), 0.3), size=len(target)).astype(np.float32)
    named = {"translation": " ".join(target), "score": -0.5} | changes
    return Attended(source, target, weights, **named)


def test_page_holds_sentence_words_and_weights():
    weights = np.array([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    hypothesis = attended(["großes", "Haus", "⟨end⟩"], ["house", "⟨end⟩"], weights, translation="house", score=-1.25)
    html = render.page("großes Haus", [hypothesis], title="Attention of r", details={"run": "runs/r"})
    page = Page(html)
    assert page.rows == [["house", ".25", ".75", "", "1.000"], ["⟨end⟩", "1", "", "", "1.000"]]
    assert "großes Haus" in page.texts_in("p")
    assert page.texts_in("h1") == ["Attention of r"]
    assert page.texts_in("dd") == ["runs/r"]
    assert "score -1.250" in page.texts_in("span")
    source, target = ["großes", "Haus", "⟨end⟩"], ["house", "⟨end⟩"]
    assert page.texts_in("bdi") == [*source, *target, *source, *target]  # as words, and as heads of the table


@pytest.mark.parametrize("place", ["source", "token", "translation", "title", "details", "language"])
def test_text_stays_text(place):
    """No element and no attribute is born of the text, wherever it stands; and the text is all there."""

    def parsed(text: str) -> Page:
        put = dict.fromkeys(("source", "token", "translation", "title", "details", "language"), "x") | {place: text}
        hypothesis = attended([put["token"], "b"], ["c", put["token"]], translation=put["translation"])
        return Page(
            render.page(
                put["source"],
                [hypothesis],
                title=put["title"],
                details={put["details"]: put["details"]},
                source_language=put["language"],
            )
        )

    harmless, evil = parsed("x"), parsed(EVIL)
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
    page = Page(render.page("a b c", [attended(["a", "b", "c"], ["x", "y"][: len(weights)], np.array(weights))]))
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]
    assert [button.get("data-mean") for button in buttons[:3]] == means
    assert [button.get("style") for button in buttons[:3]] == [f"--w:{mean.removeprefix('-')}" for mean in means]
    assert all("data-mean" not in button for button in buttons[3:])


def test_unknown_words_are_named_and_marked_wherever_they_stand():
    story = ["Amira went to the garden.", "Gardens are gardenias."]
    view = attended(story, ["hop 1"], np.array([[1.0, 0.0]]), sentences=True, unknown=("garden", "orchard"))
    page = Page(render.page("Amira went to the garden. Where is the orchard?", [view]))
    assert page.texts_in("mark") == ["garden", "orchard"]
    assert "not in the vocabulary, read as unknown: garden, orchard" in page.texts_in("p")
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]
    assert [button.get("class") for button in buttons] == ["unknown", None, None]
    heads = [attributes for tag, attributes in page.elements if tag == "th"]
    assert [head.get("class") for head in heads] == ["unknown", None, "sum", None]


@pytest.mark.parametrize("given", [True, False])
def test_of_the_rows_only_words_that_were_given_are_marked(given):
    """A translation may name what its source names, and know it."""
    parts = (Part(2, "of words", given=given),)
    view = attended(["x", "c++"], ["x", "c++"], np.eye(2), parts=parts, unknown=("c++",))
    page = Page(render.page("x c++", [view]))
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]
    assert [button.get("class") for button in buttons] == [None, "unknown", None, "unknown" if given else None]
    assert page.texts_in("mark") == ["c++"]


def test_nothing_is_marked_where_all_is_known():
    page = Page(render.page("a", [attended(["a"], ["b"])]))
    assert not page.texts_in("mark")
    assert not any("unknown" in (attributes.get("class") or "") for _, attributes in page.elements)


@pytest.mark.parametrize("mark", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
def test_marks_that_turn_the_direction_are_shown_instead(mark):
    text = f"a{mark}txt.exe"
    html = render.page(
        text,
        [attended([text], [text], translation=text, gold=text, across=text, unknown=(text,))],
        title=text,
        details={text: text},
    )
    assert mark not in html
    assert "a�txt.exe" in html


def test_each_text_runs_in_its_own_direction():
    hebrew, joined = ["שלום", "עולם"], "می\u200cخواهم"
    html = render.page("שלום עולם", [attended(hebrew, ["hello", joined], translation="hello", gold="שלום")])
    page = Page(html)
    directions = {attributes.get("class"): attributes.get("dir") for _, attributes in page.elements}
    assert (directions["sentence"], directions["translation"]) == ("auto", "auto")
    assert (directions["words source"], directions["words target"]) == ("rtl", "ltr")
    assert joined in page.texts_in("bdi"), "a joiner inside a word stays"
    assert "שלום" in page.texts_in("bdi")


def test_page_needs_nothing_but_itself():
    html = render.page("a", [attended(["a"], ["b"])])
    assert "default-src 'none'" in html
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"(?m)^// .*$", "", html))
    loads = [(tag, a) for tag, a in Page(html).elements for name in ("src", "href") if name in a]
    assert loads == [("link", {"rel": "icon", "href": "data:,"})]


def test_every_word_can_be_reached_by_keyboard():
    page = Page(render.page("a b", [attended(["a", "b"], ["c", "d", "e"])]))
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]
    assert len(buttons) == 5
    assert all(b["type"] == "button" and b["aria-pressed"] == "false" for b in buttons)
    assert any(a.get("aria-live") == "polite" for _, a in page.elements)


def test_light_and_dark():
    html = render.page("a", [attended(["a"], ["b"])])
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "prefers-color-scheme: dark" in html


def test_small_weights_are_scaled_and_said_to_be():
    small, large = np.array([[0.05, 0.1]]), np.array([[0.05, 0.9]])
    named = Attended(["a", "b"], ["fine"], small, "fine", -0.5, across="text", down="class")
    html = render.page("a b", [named])
    assert 'data-top="0.1"' in html
    assert "text across, class down" in html
    assert "strongest color is 0.1" in html
    html = render.page("a b", [attended(["a", "b"], ["fine"], large)])
    assert 'data-top="1"' in html
    assert "strongest" not in html


def test_negative_weights_are_written_and_said_to_be_red():
    html = render.page("a b", [attended(["a", "b"], ["x"], np.array([[-0.25, 1.25]]))])
    assert Page(html).rows == [["x", "-.25", "1.25", "1.000"]]
    assert "what is below 0 is red" in html
    assert "below 0" not in render.page("a", [attended(["a"], ["b"])])


def test_parts_have_their_own_title_and_scale_and_no_sum_where_columns_add_up():
    weights = np.array([[0.3, 0.2], [0.7, 0.8], [0.1, 0.3]])
    parts = Part(2, "of words", "question"), Part(1, "of all")
    view = Attended(["a", "b"], ["c", "d", "e"], weights, "a", -0.5, parts=parts, gold="b")
    html = render.page("a b", [view])
    assert Page(html).rows == [
        ["of words: every column adds up to 1"], ["c", ".3", ".2", ""], ["d", ".7", ".8", ""],
        ["of all; the strongest color is 0.3"], ["e", ".1", ".3", "0.400"],
    ]  # fmt: skip
    assert re.findall('data-top="(.*?)"', html) == ["1", "0.3"]
    assert "gold: <bdi>b</bdi>" in html


def test_several_hypotheses_best_open():
    hypotheses = [attended(["a"], [t], translation=t, score=s) for t, s in (("one", -1.0), ("two", -2.0))]
    page = Page(render.page("a", hypotheses))
    sections = [attributes for tag, attributes in page.elements if tag == "details"]
    assert ["open" in section for section in sections] == [True, False]
    assert [text for text in page.texts_in("span") if "score" in text] == [
        "1 of 2 · score -1.000",
        "2 of 2 · score -2.000",
    ]
    assert page.rows == [["one", "1", "1.000"], ["two", "1", "1.000"]]


def test_a_page_stays_under_a_megabyte_and_says_what_it_leaves_out():
    words = [f"Wort{i}" for i in range(101)]
    uniform = attended(words, words, np.full((101, 101), 1 / 101))
    html = render.page("x", [uniform] * 64)
    shown = html.count("<details")
    assert 1 <= shown < 64
    assert f"{64 - shown} more hypotheses are left out" in html
    assert len(html.encode()) < 1_000_000
    assert len(render.page(" ".join(words[:40]), [attended(words[:40], words[:40])]).encode()) < 100_000


def test_what_html_cannot_hold_becomes_visible():
    token = "a\x00b\ud800"
    html = render.page(token, [attended([token], ["", "c"], translation=token)], title=token)
    assert html.encode("utf-8")
    assert "a�b�" in html
    assert "\x00" not in html
    assert Page(html).rows[0][0] == "∅"


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)).filter(lambda row: row.sum() > 1e-6))
def test_a_written_row_adds_up_to_exactly_one(row):
    weights = row / row.sum()
    units = render.thousandths(weights)
    assert sum(units) == 1000
    assert all(abs(unit - 1000 * weight) < 1 + 1e-9 for unit, weight in zip(units, weights, strict=True))


def test_written_cells_read_back_as_thousandths():
    for units in range(1001):
        assert round(float(render._cell(units) or 0) * 1000) == units


def test_no_hypothesis_is_refused():
    with pytest.raises(ValueError, match="no hypothesis"):
        render.page("a", [])
