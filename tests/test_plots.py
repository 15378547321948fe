"""Pictures: what is written in them, that it can be read, and that it is what the weights say."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from attnlab import plots
from attnlab.tasks.views import Attended

matplotlib.use("agg")


def attended(source: list[str], target: list[str], weights: np.ndarray | None = None) -> Attended:
    if weights is None:
        weights = np.random.default_rng(0).dirichlet(np.full(len(source), 0.2), size=len(target))
    return Attended(source, target, weights, " ".join(target), -0.5)


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Every figure that is saved."""
    saved = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (saved.append(figure), save(figure, path)))
    return saved


def boxes(figure: Figure, texts) -> list:
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in texts]


@pytest.mark.parametrize(("sources", "targets"), [(1, 1), (3, 12), (12, 3), (40, 43), (100, 90)])
def test_words_are_legible_at_any_length(tmp_path, figures, sources, targets):
    source = [f"Wörterbuch{i}" for i in range(sources)]
    target = [f"dictionary{i}" for i in range(targets)]
    plots.alignment(attended(source, target), tmp_path / "a.png")
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
    plots.alignment(attended([f"w{i}" for i in range(130)], list("abcdef"), weights), tmp_path / "a.png")
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
    plots.alignment(attended(["ein", "Haus"], ["a", "house", "x"], weights), tmp_path / "a.png")
    axes, bar = figures[0].axes
    assert np.array_equal(axes.images[0].get_array(), weights)
    assert axes.images[0].get_clim() == (0.0, 1.0)
    assert [text.get_text() for text in axes.texts] == ["1.00", "1.00", "0.50", "sum"]
    assert bar.get_ylabel() == "attention weight"


@pytest.mark.parametrize(("largest", "bar"), [(0.2, ["0", "0.1", "0.2"]), (0.004, ["0", "0.002", "0.004"])])
def test_a_bar_of_small_weights_tells_its_end(tmp_path, figures, largest, bar):
    plots.alignment(attended(["a", "b"], ["x"], np.array([[largest / 2, largest]])), tmp_path / "a.png")
    assert figures[0].axes[0].images[0].get_clim() == (0.0, largest)
    assert [label.get_text() for label in figures[0].axes[1].get_yticklabels()] == bar


def test_a_dark_cell_is_where_the_weight_is(tmp_path):
    path = tmp_path / "a.png"
    plots.alignment(attended(["a", "b"], ["c", "d"], np.array([[0.0, 1.0], [1.0, 0.0]])), path)
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
        ("\ud800", "�"),
        ("x" * 1000, "x" * 23 + "…"),
        ("", ""),
    ],
)
def test_any_token_is_drawn_as_text(tmp_path, figures, token, shown):
    plots.alignment(attended([token, "b"], ["c", token]), tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert axes.get_xticklabels()[0].get_text() == shown
    assert axes.get_yticklabels()[1].get_text() == shown
    assert not axes.get_xticklabels()[0].get_parse_math()


def test_same_weights_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        plots.alignment(attended(["a", "b"], ["c"]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.alignment(attended(["a"], [], np.zeros((0, 1))), tmp_path / "a.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.training_curve([{"step": 1, "other": 2.0}], tmp_path / "b.png")


def test_training_curve_shows_every_point_and_the_best(tmp_path, figures):
    rows = [{"step": s, "loss": 5.0 - s / 100} for s in (50, 100, 150)]
    rows += [{"step": 100, "dev_bleu": 31.25}, {"step": 150, "dev_bleu": 30.0}]
    plots.training_curve(rows, tmp_path / "curve.png")
    above, below = figures[0].axes
    assert above.lines[0].get_xydata().tolist() == [[50, 4.5], [100, 4.0], [150, 3.5]]
    assert below.lines[0].get_xydata().tolist() == [[100, 31.25], [150, 30.0]]
    assert below.get_title(loc="right") == "best 31.2 at step 100"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
