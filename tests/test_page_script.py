"""The pages of `attnlab explain` and `attnlab faithfulness`: their structure, and in a browser by mouse and keys."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import EXECUTABLE, Chromium, chromium
from test_explain_page import WORDS, Page, explained, maps_of, part

from attnlab.analysis.battery import BatterySettings, FaithfulnessReport, summarize
from attnlab.analysis.battery.settings import SHARES
from attnlab.analysis.explain import PartAttributions
from attnlab.analysis.explain.layer_maps import LayerMaps
from attnlab.viz import explanation_page, faithfulness_page

METHODS = ("leave_one_out", "random_attribution", "raw_attention")
CELLS = tuple((row, column) for row in range(2) for column in range(3))


def explanation() -> str:
    return explanation_page.render(explained(WORDS, attention=maps_of(WORDS, 2, 2)), title="sst2", command="attnlab")


def explanation_of_an_image() -> str:
    grid = PartAttributions("image", "cell", CELLS, np.arange(-1.0, 5.0), np.zeros(6, bool))
    maps = (LayerMaps("cross-attention", "cross", 1, np.full((1, 2, 6), 1 / 6), ("a", "shape"), CELLS),)
    several = explained([], parts=(grid, part(["what", "color"], 1, "question")), attention=maps)
    return explanation_page.render(several, title="scenes", image=np.zeros((60, 90, 3), np.uint8))


def faithfulness() -> str:
    rng = np.random.default_rng(0)
    records = []
    for number in range(25):
        methods = {}
        for method in METHODS:
            curve = np.sort(rng.uniform(size=len(SHARES)))[::-1]
            methods[method] = {
                "aopc_compr": float(rng.normal()), "aopc_suff": float(rng.normal()), "taucorr_loo": 0.5,
                "auprc_plau": 0.3,
                "deletion_curve": curve.tolist(), "insertion_curve": curve[::-1].tolist(), "gold_ranks": [0],
            }  # fmt: skip
        records.append({
            "example": number, "correct": True, "positions": 10, "comparable": 10, "marked": 1, "methods": methods,
            "counts": [int(np.ceil(share * 10)) for share in SHARES],
            "tests": {"permutation_median_tvd": 0.1, "permutation_max_weight": 0.4, "uniform_tvd": 0.2},
        })  # fmt: skip
    summary = summarize(records, BatterySettings(METHODS))
    summary |= {"target": "", "left_out": {"methods": {"smooth_grad": "slow"}}, "settings": {"removal": "drop"}}
    summary |= {"task_metrics": {}, "notes": []}
    return faithfulness_page.render(FaithfulnessReport(summary, records), title="sst2: faithfulness", command="attnlab")


PAGES = {"explanation": explanation, "image": explanation_of_an_image, "faithfulness": faithfulness}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_small_complete_and_reachable_by_keyboard(name: str):
    html = PAGES[name]()
    page = Page(html)
    assert len(html.encode()) <= 2_000_000
    assert not re.search(r"\b(?:src|href)\s*=\s*[\"'](?!data:)|@import|url\((?!data:)|fetch\(|XMLHttp|https?://", html)
    (policy,) = [at["content"] for at in page.named("meta") if "default-src" in at.get("content", "")]
    assert policy.startswith("default-src 'none'")
    # What reacts to a mouse is a control that Tab reaches, in the markup or made by the script with `roving`.
    assert not [at for _, at in page.elements if any(event.startswith("on") for event in at)]
    assert not [at for _, at in page.elements if int(at.get("tabindex") or 0) > 0]
    scrolls = [at for _, at in page.elements if {"scroll", "agreement"} & set((at.get("class") or "").split())]
    assert scrolls
    assert all(at.get("tabindex") == "0" and at.get("role") == "region" and at.get("aria-label") for at in scrolls)
    assert all(at.get("aria-label") or at.get("aria-hidden") for at in page.named("svg"))
    assert len(page.named("details")) == len(page.named("summary"))
    script = "".join(text for inside, text in page.texts if inside == "script" and not text.startswith("{"))
    for event in re.findall(r"addEventListener\(\"(mouse\w+)\"", script):
        assert event in ("mouseenter", "mouseleave"), "the same is shown for a focused item"
    if script:
        assert script.count('addEventListener("focus"') >= 2


def test_no_two_curves_look_alike():
    methods = [f"method_{number}" for number in range(14)] + ["random_attribution", "leave_one_out", "raw_attention"]
    styles = faithfulness_page._styles(methods)
    drawn = [(styles[method], faithfulness_page.ROLES.get(method)) for method in methods]
    assert len(set(drawn)) == len(methods)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if EXECUTABLE is None:
        pytest.skip("no Chromium is installed")
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def opened(browser: Chromium, tmp_path: Path):
    def open_page(name: str, **options) -> Chromium:
        file = tmp_path / f"{name}.html"
        file.write_text(PAGES[name](), encoding="utf-8")
        browser.open(file, **options)
        return browser

    return open_page


ACTIVE = "document.activeElement"
VALUES = "[...document.querySelectorAll('.method .value')].map(e => e.textContent)"
STATUS = "document.querySelector('#map .status').textContent"
HEADS = "[...document.querySelectorAll('#heads button')]"


def sound(browser: Chromium) -> None:
    """Assert that nothing failed and nothing was loaded."""
    assert browser.value("window.failures") == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests)
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1


@pytest.mark.slow
def test_attributions_by_keyboard(opened):
    page = opened("explanation")
    page.press("Tab")
    assert page.value(f"{ACTIVE}.textContent") == "a"
    assert page.value(f"{ACTIVE}.getAttribute('role')") == "img"
    page.press("ArrowRight")
    assert page.value(f"{ACTIVE}.textContent") == "good"
    values = page.value(VALUES)
    assert len(values) == 4
    assert all(re.fullmatch(r"\u2068good\u2069: [−\d.e]+ \(\d of 4 from the top\)", value) for value in values)
    assert page.value("document.querySelectorAll('.here').length") == 4
    page.press("Escape")
    assert page.value(VALUES) == [""] * 4
    page.press("Tab")
    assert page.value(f"{ACTIVE}.closest('.method') === document.querySelectorAll('.method')[1]")
    page.point("document.querySelectorAll('.parts [title]')[2]")
    assert page.value(VALUES)[0].startswith("\u2068film\u2069")
    sound(page)


@pytest.mark.slow
def test_heads_by_keyboard_and_by_mouse(opened):
    page = opened("explanation")
    assert page.value(f"{HEADS}.map(e => e.getAttribute('aria-pressed'))") == ["true", "false", "false", "false"]
    page.value(f"{HEADS}[0].focus()")
    page.press("ArrowRight", "Enter")
    assert page.value("document.querySelector('#map h3').textContent").endswith("layer 1, head 2 of 2")
    page.press("ArrowDown", "Enter")
    assert page.value("document.querySelector('#map h3').textContent").endswith("layer 2, head 2 of 2")
    page.click(f"{HEADS}[2]")
    assert page.value("document.querySelector('#map h3').textContent").endswith("layer 2, head 1 of 2")
    assert page.value(STATUS).startswith("mean of all 4 rows")
    page.click("document.querySelectorAll('#map .rows button')[1]")
    assert page.value(STATUS).startswith("“\u2068good\u2069” attends to “\u2068")
    assert page.value("document.querySelectorAll('#map .rows button')[1].getAttribute('aria-pressed')") == "true"
    page.press("Escape")
    assert page.value(STATUS).startswith("mean of all 4 rows")
    page.value("document.querySelector('#map .columns button').focus()")
    page.press("ArrowRight")
    assert page.value(STATUS).startswith("“\u2068good\u2069” is attended to by")
    sound(page)


@pytest.mark.slow
def test_every_control_is_reached_by_tab(opened):
    for name in PAGES:
        page = opened(name)
        stops = page.value(
            "[...document.querySelectorAll('button, summary, a, [tabindex]')].filter(e => e.tabIndex === 0"
            " && e.checkVisibility()).length"
        )
        page.value("window.seen = new Set(); document.addEventListener('focusin', e => window.seen.add(e.target))")
        page.press(*["Tab"] * stops)
        assert page.value("window.seen.size") == stops, name
        sound(page)


@pytest.mark.slow
def test_cells_of_an_image(opened):
    page = opened("image")
    page.press("Tab", "ArrowDown", "ArrowRight")
    assert all("row 2, column 2" in value for value in page.value(VALUES))
    assert page.value("document.querySelector('#map h3').textContent") == "cross-attention"
    page.click("document.querySelectorAll('#map .rows button')[1]")
    assert "shape" in page.value(STATUS)
    assert "row 1, column 1" in page.value(STATUS)
    sound(page)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(opened, name: str, dark: bool):
    page = opened(name, width=390, height=844, dark=dark)
    assert page.value("document.documentElement.scrollWidth") <= 390
    colors = page.value("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    bright = [sum(map(float, re.findall(r"[\d.]+", color)[:3])) for color in colors]
    assert (bright[0] > bright[1]) == dark
    sound(page)


@pytest.mark.slow
def test_details_of_the_faithfulness_page_open_by_keyboard(opened):
    page = opened("faithfulness")
    page.value("document.querySelector('summary').focus()")
    assert not page.value("document.querySelector('details').open")
    page.press("Enter")
    assert page.value("document.querySelector('details').open")
    assert page.value("document.querySelectorAll('script').length") == 0
    sound(page)
