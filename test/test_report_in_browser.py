"""The report page in a real browser: Chromium, driven by playwright, with the page of a small recording."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_runs import box, steps, write_run

from mmkd_ros.drawing import class_colour
from mmkd_train.__main__ import main
from mmkd_train.report_pictures import SIDE

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install -r requirements/browser.txt"
)

PROGRAMS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
SECTIONS = [
    "In figures",
    "Tracks over time",
    "Latency",
    "Cameras in use",
    "Classes",
    "Tracks at their best moment",
]
VIEWS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]

# What lies beyond the right or the left rim of the page, but for what scrolls within its own frame.
BEYOND = """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.wide table')).filter(e => {
    const r = e.getBoundingClientRect();
    return r.width > 0 && (r.left < 0 || r.right > document.documentElement.clientWidth);
}).map(e => e.outerHTML.slice(0, 80))"""
COLOURS = """(selector) => {
    const e = document.querySelector(selector);
    return [getComputedStyle(e).color, getComputedStyle(e.closest('section')).backgroundColor];
}"""
# Left and right rim of the numbers of the first time axis.
LABELS = """() => [...document.querySelector('.axis .lane').children].filter(e => e.offsetParent).map(e => {
    const r = e.getBoundingClientRect();
    return [r.left, r.right];
})"""
REFUSED = """() => new Promise(done => {
    document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
    fetch('http://127.0.0.1:9/').catch(() => undefined);
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window: the one on the PATH, else the one that playwright installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    with playwright.sync_playwright() as started:
        try:
            chromium = started.chromium.launch(executable_path=program)
        except playwright.Error:
            if program is not None:
                raise
            pytest.skip(
                f"needs Chromium: python -m playwright install --only-shell chromium, or {PROGRAMS} on the PATH"
            )
        yield chromium
        chromium.close()


def make_page(bag: Path) -> str:
    output = bag.with_suffix(".html")
    assert main(["report", str(bag), "--output", str(output)]) == 0
    return output.as_uri()


@contextmanager
def visit(browser: Any, address: str, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page in a window of ``width`` x 900 pixels; fails if it asked for anything or complained."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        tab.goto(address)
        yield tab
        assert [url for url in asked if not url.startswith("data:")] == [address]
        assert complaints == []
    finally:
        context.close()


def rectangles(tab: Any, selector: str) -> list[dict[str, float]]:
    boxes = [element.bounding_box() for element in tab.query_selector_all(selector)]
    assert boxes and None not in boxes, f"{selector} is not shown"
    return boxes


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2) of a CSS colour ``rgb(r, g, b)``, 0 to 1."""
    parts = [float(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_part_is_shown(tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    address = make_page(write_run(tmp_path / "run.mcap", steps()))
    with visit(browser, address, width, scheme) as tab:
        assert tab.locator("h2").all_inner_texts() == SECTIONS
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(BEYOND) == []

        (plot,) = rectangles(tab, "svg")
        assert plot["width"] > width / 2 and plot["height"] == 220
        lengths = tab.eval_on_selector_all("path.curve", "curves => curves.map(c => c.getBBox().width)")
        assert len(lengths) == 3 and min(lengths) > 500

        car, person = rectangles(tab, ".row[title] .lane .bar")
        lane = rectangles(tab, ".row[title] .lane")[0]
        assert person["width"] == pytest.approx(lane["width"], rel=0.03)  # seen all the time
        assert car["x"] - lane["x"] == pytest.approx(lane["width"] * 0.61 / 0.91, rel=0.03)
        persons, cars = rectangles(tab, ".share .bar")  # 10 and 4 detections
        assert cars["width"] == pytest.approx(0.4 * persons["width"], rel=0.02) and persons["x"] == cars["x"]

        pictures = tab.eval_on_selector_all("img", "all => all.map(i => [i.complete, i.naturalWidth])")
        assert pictures == [[True, SIDE]] * 4
        assert min(shown["width"] for shown in rectangles(tab, "img")) > 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(tmp_path: Path, browser: Any, scheme: str) -> None:
    address = make_page(write_run(tmp_path / "run.mcap", steps()))
    with visit(browser, address, scheme=scheme) as tab:
        for selector in ("h2", "dt", "dd", ".row .name", ".axis .lane span", "td", ".dim"):
            text, ground = map(luminance, tab.evaluate(COLOURS, selector))
            assert (text < ground) == (scheme == "light"), selector
            assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) > 4.5, selector  # WCAG's for small text


def test_a_row_answers_the_pointer_and_names_its_track(tmp_path: Path, browser: Any) -> None:
    address = make_page(write_run(tmp_path / "run.mcap", steps()))
    with visit(browser, address) as tab:
        before = tab.evaluate(COLOURS, ".row[title] .name")
        row = tab.locator(".row[title]").first
        row.hover()
        assert tab.evaluate(COLOURS, ".row[title] .name") != before
        assert row.get_attribute("title") == "car 7: 0.6 to 0.9 s, 4 sights"
        red, green, blue = reversed(class_colour("car"))
        shown = row.locator(".bar").evaluate("bar => getComputedStyle(bar).backgroundColor")
        assert shown == f"rgb({red}, {green}, {blue})"


def test_the_policy_of_the_page_refuses_requests(tmp_path: Path, browser: Any) -> None:
    address = make_page(write_run(tmp_path / "run.mcap", steps()))
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address)
    assert tab.evaluate(REFUSED) == "connect-src"
    context.close()


@pytest.mark.parametrize("width", [1280, 400, 320])
def test_long_names_and_crowds_stay_on_the_page(tmp_path: Path, browser: Any, width: int) -> None:
    names = ["construction vehicle, long", "W" * 80, "<b>x</b>", *(f"class {n}" for n in range(20))]
    tracks = {n: [box(2.0 * i, name, str(10**9 + i)) for i, name in enumerate(names)] for n in range(30)}
    address = make_page(write_run(tmp_path / f"{'a_long_name' * 9}.mcap", tracks))
    with visit(browser, address, width) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(BEYOND) == []
        assert tab.locator("main b").first.inner_text().startswith("10000000")
        labels = tab.evaluate(LABELS)
        assert len(labels) > 2 and all(a[1] < b[0] for a, b in zip(labels, labels[1:], strict=False))


def test_a_run_without_pictures_and_delays_says_so(tmp_path: Path, browser: Any) -> None:
    address = make_page(write_run(tmp_path / "run.mcap", {0: []}, images=False, modality=False))
    with visit(browser, address, 400) as tab:
        words = tab.inner_text("main")
        assert "No tracks were recorded." in words and "Nothing was found." in words and "--images" in words
        assert tab.evaluate("document.documentElement.scrollWidth") == 400
