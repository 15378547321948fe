"""ImageInputs: what is written in them, that it can be read, and that it is what the weights say."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attnlab.tasks.attention_map import AttentionMap, ImageAttentionMap, RowGroup
from attnlab.viz import fonts
from attnlab.viz.curves import training_curve
from attnlab.viz.picture import draw
from attnlab.viz.text import caveat

matplotlib.use("agg")


def make_map(columns: list[str], rows: list[str], weights: np.ndarray | None = None, **changes) -> AttentionMap:
    if weights is None:
        weights = np.random.default_rng(0).dirichlet(np.full(len(columns), 0.2), size=len(rows))
    return AttentionMap(rows, columns, weights, **({"prediction": " ".join(rows), "score": -0.5} | changes))


def make_image_map(row_labels: list[str], weights: np.ndarray, **changes) -> ImageAttentionMap:
    image = np.full((64, 64, 3), 90, np.uint8)
    return ImageAttentionMap(image, row_labels, weights, **({"prediction": "x", "score": 0.9} | changes))


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Every figure that is saved."""
    saved = []

    class Kept(FigureCanvasAgg):
        def print_png(self, *args, **kwargs):
            saved.append(self.figure)
            super().print_png(*args, **kwargs)

    monkeypatch.setattr(fonts, "FigureCanvasAgg", Kept)
    return saved


def boxes(figure: Figure, texts) -> list:
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in texts]


@pytest.mark.parametrize(("sources", "targets"), [(1, 1), (3, 12), (12, 3), (40, 43), (100, 90)])
@pytest.mark.quick("3-12", "40-43")
def test_words_are_legible_at_any_length(tmp_path, figures, sources, targets):
    source = [f"Wörterbuch{i}" for i in range(sources)]
    target = [f"dictionary{i}" for i in range(targets)]
    draw(make_map(source, target), tmp_path / "a.png")
    figure, axes = figures[0], figures[0].axes[0]
    across, down = axes.get_xticklabels(), axes.get_yticklabels()
    assert [label.get_text() for label in across] == source
    assert [label.get_text() for label in down] == target
    for labels in (boxes(figure, across), boxes(figure, down)):
        for one, following in itertools.pairwise(labels):
            assert not one.overlaps(following)
        for box in labels:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
    letters = across[0].get_fontsize() / 72 * figure.dpi
    assert letters >= 14, "letters of at least 14 pixels"


def test_a_long_passage_is_cut_into_bands(tmp_path, figures):
    weights = np.random.default_rng(0).random((6, 130)) / 65
    draw(make_map([f"w{i}" for i in range(130)], list("abcdef"), weights), tmp_path / "a.png")
    figure = figures[0]
    *bands, _ = figure.axes
    assert len(bands) > 1
    assert [label.get_text() for axes in bands for label in axes.get_xticklabels()] == [f"w{i}" for i in range(130)]
    np.testing.assert_array_equal(np.hstack([axes.images[0].get_array() for axes in bands]), weights)
    assert len({axes.images[0].get_clim() for axes in bands}) == 1
    cells = {round(axes.get_window_extent().width / axes.images[0].get_array().shape[1], 6) for axes in bands}
    assert len(cells) == 1
    for above, below in itertools.pairwise(bands):
        words = boxes(figure, below.get_xticklabels())
        assert max(box.y1 for box in words) < above.get_window_extent().y0
    sums = [text.get_text() for text in bands[-1].texts]
    assert sums[:6] == [f"{total:.2f}" for total in weights.sum(axis=1)]
    assert not any(axes.texts for axes in bands[:-1])
    assert figure.bbox.width < 3 * figure.bbox.height


def test_picture_shows_the_weights_and_the_sum_of_every_row(tmp_path, figures):
    weights = np.array([[0.25, 0.75], [1.0, 0.0], [0.0, 0.5]])
    draw(make_map(["ein", "Haus"], ["a", "house", "x"], weights), tmp_path / "a.png")
    axes, bar = figures[0].axes
    assert np.array_equal(axes.images[0].get_array(), weights)
    assert axes.images[0].get_clim() == (0.0, 1.0)
    assert [text.get_text() for text in axes.texts] == ["1.00", "1.00", "0.50", "sum"]
    assert bar.get_ylabel() == "attention weight"


@pytest.mark.parametrize(("largest", "bar"), [(0.2, ["0", "0.1", "0.2"]), (0.004, ["0", "0.002", "0.004"])])
def test_a_bar_of_small_weights_tells_its_end(tmp_path, figures, largest, bar):
    draw(make_map(["a", "b"], ["x"], np.array([[largest / 2, largest]])), tmp_path / "a.png")
    assert figures[0].axes[0].images[0].get_clim() == (0.0, largest)
    assert [label.get_text() for label in figures[0].axes[1].get_yticklabels()] == bar


def test_a_dark_cell_is_where_the_weight_is(tmp_path):
    path = tmp_path / "a.png"
    draw(make_map(["a", "b"], ["c", "d"], np.array([[0.0, 1.0], [1.0, 0.0]])), path)
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    dark = (pixels == [8, 48, 107]).all(axis=-1)  # the darkest blue
    dark[:, pixels.shape[1] * 2 // 3 :] = False  # leave out the color bar
    rows, columns = np.nonzero(dark)
    middle = (columns.min() + columns.max()) / 2
    top, bottom = columns[rows == rows.min()], columns[rows == rows.max()]
    assert top.min() > middle > bottom.max()


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("<script>", "<script>"),
        ("$x^2$", "$x^2$"),
        ("$", "$"),
        ("Übermäßig", "Übermäßig"),
        ("a b\n", "a b␣"),
        (" \t", "␣␣"),
        ("\x00", "�"),
        ("a\u202eb", "a�b"),
        ("\ud800", "�"),
        ("x" * 1000, "x" * 23 + "…"),
        ("", ""),
    ],
)
def test_any_token_is_drawn_as_text(tmp_path, figures, token, shown):
    draw(make_map([token, "b"], ["c", token]), tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert axes.get_xticklabels()[0].get_text() == shown
    assert axes.get_yticklabels()[1].get_text() == shown
    assert not axes.get_xticklabels()[0].get_parse_math()


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("ሀሁ", "no installed font has ሀ (Ethiopic); install Noto Sans Ethiopic"),
        ("日本", "no installed font has 日 (CJK); install Noto Sans CJK"),
        ("🎉", "no installed font has 🎉 (Party); install Noto Sans Symbols 2 or Noto Emoji"),
        ("ひらがな", "no installed font has ひ (Hiragana); install Noto Sans CJK"),
    ],
)
def test_letters_without_a_font_are_one_line(tmp_path, monkeypatch, token, says):
    monkeypatch.setattr(fonts, "OTHER_SCRIPTS", ())
    path = tmp_path / "a.png"
    assert draw(make_map([token, "b"], ["c", token]), path) == f"{path}: {says}"
    image = make_image_map([token], np.full((1, 4, 4), 1 / 16), prediction=token)
    assert draw(image, path) == f"{path}: {says}"
    assert draw(make_map(["a", "b"], ["c"]), path) == ""


def test_other_warnings_are_not_swallowed(tmp_path, monkeypatch):
    import warnings

    class Warns(FigureCanvasAgg):
        def print_png(self, *args, **kwargs):
            warnings.warn("something else", stacklevel=1)

    monkeypatch.setattr(fonts, "FigureCanvasAgg", Warns)
    with pytest.warns(UserWarning, match="something else"):
        draw(make_map(["a", "b"], ["c"]), tmp_path / "a.png")


def test_unknown_words_are_red_and_named(tmp_path, figures):
    groups = RowGroup(1, from_input=True), RowGroup(1)
    view = make_map(["a", "zebra"], ["x", "zebra"], np.eye(2), row_groups=groups, unknown_words=("zebra", "gnu"))
    draw(view, tmp_path / "a.png")
    first, _, second, _ = figures[0].axes
    red = [label.get_text() for label in first.get_xticklabels() if label.get_color() == fonts.UNKNOWN]
    assert red == ["zebra"]
    assert second.get_yticklabels()[0].get_color() != fonts.UNKNOWN, "the model wrote it"
    written = [text for text in figures[0].texts if text.get_color() == fonts.UNKNOWN]
    note = " ".join(text.get_text() for text in written)
    assert note == "not in the vocabulary, replaced by the unknown token: zebra, gnu"
    story = make_map(
        ["Amira saw a zebra.", "zebras"], ["hop 1"], np.ones((1, 2)) / 2, column_format="sentences",
        unknown_words=("zebra",),
    )  # fmt: skip
    draw(story, tmp_path / "a.png")
    down = figures[1].axes[0].get_yticklabels()
    assert [label.get_color() == fonts.UNKNOWN for label in down] == [True, False]
    image = make_image_map(["blue", "zebra"], np.zeros((2, 4, 4)), title="cross-attention", unknown_words=("zebra",))
    draw(image, tmp_path / "a.png")
    titles = [axes.title.get_color() == fonts.UNKNOWN for axes in figures[2].axes[:3]]
    assert titles == [False, False, True]
    assert "cross-attention" in [text.get_text() for text in figures[2].texts]


def test_words_in_long_bands_are_marked_in_their_band(tmp_path, figures):
    words = [f"w{i}" for i in range(130)]
    view = make_map(words, list("abcdef"), np.full((6, 130), 1 / 130), unknown_words=("w3", "w129"))
    draw(view, tmp_path / "a.png")
    red = [
        label.get_text()
        for axes in figures[0].axes
        for label in axes.get_xticklabels()
        if label.get_color() == fonts.UNKNOWN
    ]
    assert red == ["w3", "w129"]


def test_same_weights_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        draw(make_map(["a", "b"], ["c"]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(make_map(["a"], [], np.zeros((0, 1))), tmp_path / "a.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        training_curve([{"step": 1, "other": 2.0}], tmp_path / "b.png")


def test_training_curve_shows_every_point_and_the_best(tmp_path, figures):
    rows = [{"step": s, "loss": 5.0 - s / 100} for s in (50, 100, 150)]
    rows += [{"step": 100, "dev_bleu": 31.25}, {"step": 150, "dev_bleu": 30.0}]
    training_curve(rows, tmp_path / "curve.png")
    above, below = figures[0].axes
    assert above.lines[0].get_xydata().tolist() == [[50, 4.5], [100, 4.0], [150, 3.5]]
    assert below.lines[0].get_xydata().tolist() == [[100, 31.25], [150, 30.0]]
    assert below.get_title(loc="right") == "best 31.2 at step 100"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_lines_that_fall_on_one_another_are_drawn_once_and_scores_have_their_unit(tmp_path, figures):
    rows = [{"step": s, "loss": 5.0 - s, "nll": 5.0 - s} for s in (1, 2)] + [{"step": 2, "dev_exact": 3.0}]
    training_curve(rows, tmp_path / "curve.png")
    above, below = figures[0].axes
    assert [line.get_label() for line in above.lines] == ["loss"]
    assert above.get_legend() is None
    assert below.get_ylabel() == "dev exact (%)"
    training_curve([*rows, {"step": 3, "loss": 2.0, "nll": 1.5, "dev_bleu": 1.0}], tmp_path / "curve.png")
    above, bleu, _ = figures[1].axes
    assert [line.get_label() for line in above.lines] == ["loss", "nll"]
    assert bleu.get_ylabel() == "dev bleu"


def test_negative_weights_have_a_scale_around_nothing(tmp_path, figures):
    weights = np.array([[-0.5, 1.5], [0.2, 0.8]])
    draw(make_map(["a", "b"], ["x", "y"], weights), tmp_path / "a.png")
    image = figures[0].axes[0].images[0]
    assert np.array_equal(image.get_array(), weights)
    assert image.get_clim() == (-1.5, 1.5)
    red, _, blue, _ = image.cmap(image.norm(-0.5))
    assert red > blue
    assert image.cmap(image.norm(0.0))[:3] == pytest.approx((0.97,) * 3, abs=0.02), "nothing is white"


def test_row_groups_are_panels_with_title_and_scale(tmp_path, figures):
    weights = np.array([[0.3, 0.2], [0.7, 0.8], [0.1, 0.3], [0.2, 0.1]])
    groups = RowGroup(2, "of words", "question"), RowGroup(2, "of all", value_label="probability")
    view = make_map(
        ["a", "b"], list("cdef"), weights, prediction="b", reference="a", question="Which $letter$?", row_groups=groups
    )
    draw(view, tmp_path / "a.png")
    first, one, second, two = figures[0].axes
    assert np.array_equal(np.vstack([first.images[0].get_array(), second.images[0].get_array()]), weights)
    assert (first.images[0].get_clim(), second.images[0].get_clim()) == ((0.0, 1.0), (0.0, 0.3))
    assert (one.get_ylabel(), two.get_ylabel()) == ("attention weight", "probability")
    assert not first.texts, "sums of rows mean nothing where columns sum to 1"
    assert [text.get_text() for text in second.texts] == ["0.40", "0.30", "sum"]
    written = [text.get_text() for text in figures[0].texts]
    assert written[:2] == ["Q: Which $letter$?", "A: b    (reference: a)"]
    assert written[-2:] == ["of words: every column sums to 1", "of all"]
    assert " ".join(written[2:-2]) == caveat()
    frames = [axes.get_tightbbox() for axes in (first, second)]
    assert frames[0].y0 > frames[1].y1
    assert all(box.x1 <= figures[0].bbox.x1 for box in boxes(figures[0], figures[0].texts))


def test_small_weights_are_visible_beside_a_large_one(tmp_path, figures):
    weights = np.full((1, 60), 0.4 / 59)
    weights[0, 7] = 0.6
    draw(make_map([f"w{i}" for i in range(60)], ["x"], weights), tmp_path / "a.png")
    axes, bar = figures[0].axes
    assert axes.images[0].norm(0.25) == pytest.approx(0.5)
    assert bar.get_ylabel() == "attention weight\n(color: square root)"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0.00", "0.05", "0.20", "0.50", "1.00"]
    assert bar.get_yticks().tolist() == pytest.approx([0, 0.05, 0.2, 0.5, 1])


def test_sentences_are_lines_as_they_were_written(tmp_path, figures):
    story = ["Boris ran to the garage.", "Amira picked up the ladder and then walked to the cellar."]
    weights = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    view = make_map(story, ["hop 1", "hop 2", "hop 3"], weights, column_format="sentences", evidence=(1,))
    draw(view, tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == story
    assert np.array_equal(axes.images[0].get_array(), weights.T)
    assert [text.get_text() for text in axes.texts] == ["1.00", "1.00", "1.00", "sum"]
    assert min(box.x0 for box in boxes(figures[0], axes.get_yticklabels())) >= 0
    assert [label.get_color() == fonts.EVIDENCE for label in axes.get_yticklabels()] == [False, True]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_image_has_one_scale_for_all_words_and_cells_with_edges(tmp_path, figures, sign):
    weights = np.zeros((2, 4, 4))
    weights[0, 1, 2], weights[1] = 0.56 * sign, 0.05
    view = make_image_map(
        ["blue", "circle"], weights, prediction="triangle", reference="circle", question="what is the red shape?"
    )
    draw(view, tmp_path / "a.png")
    whole, blue, circle, bar = figures[0].axes
    assert [axes.get_title() for axes in (whole, blue, circle)] == ["image", f"blue  {0.56 * sign:.2f}", "circle  0.05"]
    strong, weak = blue.images[1], circle.images[1]
    assert strong.get_interpolation() == "nearest"
    assert np.argmax(strong.get_alpha()) == 6
    assert weak.get_alpha().max() / strong.get_alpha().max() == pytest.approx(0.05 / 0.56, rel=1e-5)
    assert len(blue.collections) == 2, "edges of cells"
    assert bar.get_ylabel() == "attention weight of a cell"
    assert bar.get_ylim() == (0.0 if sign > 0 else -0.56, 0.56)
    written = [text.get_text() for text in figures[0].texts]
    assert written[:2] == ["Q: what is the red shape?", "A: triangle    (reference: circle)"]
    assert written[2].startswith("beside each label: the largest weight of a cell")
    assert bar.get_tightbbox().x1 <= figures[0].bbox.x1


def test_an_image_without_a_word_is_shown_alone(tmp_path, figures):
    draw(make_image_map([], np.zeros((0, 4, 4)), prediction=""), tmp_path / "a.png")
    assert [axes.get_title() for axes in figures[0].axes] == ["image"]


def test_a_text_is_highlighted_token_by_token_with_its_evidence(tmp_path, figures):
    tokens = [
        *["a", "good", "film", ",", "not", "a", "bad", "one", ",", "and", "long", "enough", "to", "be", "broken"],
        *["word"] * 20,
    ]
    weights = np.full((1, len(tokens)), 0.5 / (len(tokens) - 1))
    weights[0, 1] = 0.5
    view = make_map(
        tokens, ["positive"], weights, column_format="text", reference="positive", evidence=(1,),
        unknown_words=("film",),
    )  # fmt: skip
    draw(view, tmp_path / "a.png")
    axes, bar = figures[0].axes
    assert [text.get_text() for text in axes.texts] == tokens
    assert bar.get_ylabel().startswith("attention weight")
    darkness = [1 - sum(patch.get_facecolor()[:3]) / 3 for patch in axes.patches]
    assert np.argmax(darkness) == 1
    others = np.delete(darkness, 1)
    assert others.max() == pytest.approx(others.min()), "equal weights have equal colors"
    (line,) = axes.lines
    assert line.get_color() == fonts.EVIDENCE
    assert line.get_xdata()[0] == axes.patches[1].get_x()
    assert [text.get_text() for text in axes.texts if text.get_color() == fonts.UNKNOWN] == ["film"]
    lines = {round(patch.get_y(), 3) for patch in axes.patches}
    assert len(lines) > 1
    for text, patch in zip(boxes(figures[0], axes.texts), axes.patches, strict=True):
        box = patch.get_window_extent()
        assert box.x0 <= text.x0
        assert text.x1 <= box.x1
    written = " ".join(text.get_text() for text in figures[0].texts)
    assert "Attention is not an explanation" in written
    assert "evidence" in written


@pytest.mark.parametrize(("rows", "copies"), [(1, 1), (3, 3), (24, 1)])
def test_a_text_has_a_copy_for_each_of_few_rows_and_the_mean_of_many(tmp_path, figures, rows, copies):
    weights = np.random.default_rng(0).dirichlet(np.ones(5), size=rows)
    draw(make_map(list("abcde"), [f"head {n}" for n in range(rows)], weights, column_format="text"), tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == list("abcde") * copies
    shown = weights if copies == rows else weights.mean(axis=0, keepdims=True)
    brightness = np.reshape([sum(patch.get_facecolor()[:3]) for patch in axes.patches], (copies, 5))
    assert brightness.argmin(axis=1).tolist() == shown.argmax(axis=1).tolist()
    assert any("mean of 24 rows" in text.get_text() for text in figures[0].texts) == (rows == 24)
