"""The report: what is read from a bag, and the page that is made of it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_bags import SECOND, detection_array, diagnostics
from made_runs import box, steps, write_run

from mmkd_ros import bags
from mmkd_ros.bags import BagWriter
from mmkd_ros.drawing import class_colour
from mmkd_train.__main__ import main
from mmkd_train.make_bag import make_bag_from_frames
from mmkd_train.report import write_page
from mmkd_train.report_charts import latency, modality_spans, timeline
from mmkd_train.report_data import DETECTIONS_SERIES, NETWORK_SERIES, TRACKS_SERIES, RunRecord, read_run
from mmkd_train.report_pictures import SIDE

VOID = {"meta", "img", "br", "wbr", "path"}
EVIL = '<script src="http://a.example/x.js">alert(1)</script>'


class Page(HTMLParser):
    """What is in a page; fails at a tag that is not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def of(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [a for name, a in self.tags if name == tag and (not kind or kind in (a.get("class") or "").split())]


def make(bag: Path, *options: str) -> Page:
    output = bag.parent / "page" / "report.html"
    assert main(["report", str(bag), "--output", str(output), *options]) == 0
    return Page(output)


def test_a_run_is_read(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run.mcap", steps()))
    person, car = run.tracks["1"], run.tracks["7"]
    assert (person.name, person.sights, person.best.stamp_ns) == ("person", 10, 100 * SECOND + 4 * SECOND // 10)
    assert person.spans == [(100_060_000_000, 100_960_000_000)]
    assert (car.sights, car.spans[0][0], round(car.seen_s, 3)) == (4, 100_660_000_000, 0.3)
    assert run.messages == {"/detections": 10, "/tracks": 10} and run.objects == {"person": 10, "car": 4}
    assert {name: {ms for _, ms in values} for name, values in run.delays.items()} == {
        TRACKS_SERIES: {60.0},
        DETECTIONS_SERIES: {50.0},
        NETWORK_SERIES: {30.0},
    }
    assert [state for state, _, _ in modality_spans(run)] == ["both", "thermal"]
    assert run.figures["dropped.late"] == "3"


def test_a_track_that_was_away_has_two_spans(tmp_path: Path) -> None:
    tracks = {n: [] if 5 <= n < 15 else [box(10.0)] for n in range(20)}
    tracks[8] = []
    run = read_run(write_run(tmp_path / "run.mcap", tracks, images=False))
    assert [round((end - begin) / SECOND, 3) for begin, end in run.tracks["1"].spans] == [0.4, 0.4]
    assert timeline(run).count('class="bar"') == 2
    short = {n: [] if 5 <= n < 9 else [box(10.0)] for n in range(20)}
    assert len(read_run(write_run(tmp_path / "short.mcap", short, images=False)).tracks["1"].spans) == 1


def test_modality_falls_back_to_the_diagnostics(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with BagWriter(path) as bag:
        bag.add_topic("/tracks", bags.DETECTION_ARRAY)
        bag.add_topic("/diagnostics", bags.DIAGNOSTIC_ARRAY)
        for number, (state, level) in enumerate([("both", 0), ("rgb", 1), ("rgb", 2)]):
            bag.write("/diagnostics", number * SECOND, diagnostics({"modality": state}, level, "robot/detection_node"))
        for number in range(1, 4):
            bag.write("/tracks", number * SECOND, detection_array(number * SECOND, [box(5.0)]))
    run = read_run(path)
    assert [state for _, state in run.modality] == ["both", "rgb", "none"]
    assert [state for state, _, _ in modality_spans(run)] == ["rgb", "none"]
    assert run.objects == {"person": 3}  # of the tracks, since no detections were recorded


def test_the_page_holds_every_part_and_asks_for_nothing(tmp_path: Path) -> None:
    page = make(write_run(tmp_path / "run.mcap", steps()))
    assert page.words.count("person") >= 3 and "Tracks over time" in page.words and "late 3" in page.words
    assert len(page.of("div", "row")) == 2 + 1 + 2 + 2  # two tracks and their axis, plot, cameras
    assert [a["title"] for a in page.of("div", "row") if a.get("title")] == [
        "car 7: 0.6 to 0.9 s, 4 sights",
        "person 1: 0.0 to 0.9 s, 10 sights",
    ]
    assert len(page.of("path", "curve")) == 3
    bars = page.of("i", "bar")
    assert sum("m-both" in (a["class"] or "") for a in bars) == 1
    assert sum("m-thermal" in (a["class"] or "") for a in bars) == 1
    blue, green, red = class_colour("car")
    assert any(f"background:rgb({red},{green},{blue})" in (a.get("style") or "") for a in bars)
    images = page.of("img")
    assert [a["alt"] for a in images] == ["RGB", "thermal"] * 2
    for _, attributes in page.tags:
        for name in ("src", "href", "action"):
            assert str(attributes.get(name, "data:image/jpeg;base64,")).startswith("data:image/jpeg;base64,")
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in page.tags}
    policy = next(a for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert any(a.get("name") == "viewport" for a in page.of("meta"))
    assert "prefers-color-scheme:dark" in (tmp_path / "page" / "report.html").read_text()


def picture(attributes: dict[str, str | None]) -> np.ndarray:
    data = base64.b64decode((attributes["src"] or "").partition(",")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_thumbnails_show_the_object_in_both_images(tmp_path: Path) -> None:
    images = [picture(a) for a in make(write_run(tmp_path / "run.mcap", steps())).of("img")]
    assert all(image.shape == (SIDE, SIDE, 3) for image in images)
    person_rgb, person_hot, car_rgb, car_hot = images
    for image in (person_rgb, car_rgb):
        assert np.abs(image[2, 2].astype(int) - (60, 60, 200)).max() < 12  # red stays red
    # The car spans 90..130 of 160 columns, the hot half of the thermal image begins at 80.
    assert car_hot[60, 60].astype(int).sum() > 250 > person_hot[60, 40].astype(int).sum()


def test_images_of_a_replay_are_found_by_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run.mcap", steps(), images=False)
    frames = [(np.full((120, 160, 3), 60, np.uint8), np.full((60, 80), 90, np.uint8)) for _ in range(10)]
    make_bag_from_frames(frames, tmp_path / "images.mcap", fps=10.0, start_stamp=5.0)
    options = ["--images", str(tmp_path / "images.mcap")]
    assert main(["report", str(run), *options]) == 2
    assert "stamp of a track" in capsys.readouterr().err
    (tmp_path / "replay.json").write_text('{"start_ns": 100000000000, "rate": 1.0}')
    assert len(make(run, *options, "--replay", str(tmp_path / "replay.json")).of("img")) == 4
    assert main(["report", str(run), *options, "--replay", str(run)]) == 2
    (tmp_path / "other.json").write_text("{}")
    assert main(["report", str(run), *options, "--replay", str(tmp_path / "other.json")]) == 2
    assert "is no report of a replay" in capsys.readouterr().err


def test_without_images_the_page_says_why(tmp_path: Path) -> None:
    page = make(write_run(tmp_path / "run.mcap", steps(), images=False))
    assert not page.of("img") and "run.mcap holds no images. Give the bag that does with --images." in page.words


def test_a_demo_in_which_nothing_was_published_has_a_page(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "run.mcap") as bag:
        bag.add_topic("/tracks", bags.DETECTION_ARRAY)
    run = read_run(tmp_path / "run.mcap", with_boxes=True)
    assert not run.messages and not run.published and not run.longest_way
    write_page(tmp_path / "run.html", run, "run.mcap", {})
    words = Page(tmp_path / "run.html").words
    assert "No tracks were recorded." in words and "No latency was recorded." in words


def test_text_of_the_bag_stays_text(tmp_path: Path) -> None:
    name = EVIL + "\x00\u202e" + "x" * 500
    tracks = {n: [box(10.0, name, EVIL + "'\"&")] for n in range(3)}
    page = make(write_run(tmp_path / "run.mcap", tracks))
    assert "script" not in {tag for tag, _ in page.tags}
    content = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in content and "\x00" not in content and "\u202e" not in content and "x" * 100 not in content


def test_a_crowd_and_a_long_run_stay_within_bounds(tmp_path: Path) -> None:
    tracks = {n: [box(float(n % 100), f"class {i % 40}", str(i)) for i in range(0, 200)] for n in range(3)}
    page = make(write_run(tmp_path / "run.mcap", tracks))
    assert len(page.of("img")) == 120 and "80 tracks with the fewest sights are left out" in page.words
    assert "28 others" in page.words
    run = RunRecord(begin_ns=0, end_ns=10**6 * SECOND)
    run.delays[TRACKS_SERIES] = [(n * SECOND, 40.0 + (900.0 if n == 77_777 else 0.0)) for n in range(100_000)]
    chart = latency(run)
    assert len(chart) < 100_000 and "1 values above" in chart


def test_numbers_at_the_right_rim_of_the_time_axis_end_there() -> None:
    run = RunRecord(end_ns=16 * SECOND)
    run.delays[TRACKS_SERIES] = [(n * SECOND, 40.0) for n in range(17)]
    labels = re.findall(r'<span( class="end")? style="left:([0-9.]+)%">(\d+)</span>', latency(run))
    assert [(end != "", float(left), number) for end, left, number in labels][-2:] == [
        (False, 87.5, "14"),
        (True, 100.0, "16"),
    ]


@pytest.mark.parametrize("step", [0.1, 2.0])
def test_a_curve_is_broken_where_nothing_came(step: float) -> None:
    times = [n * step for n in range(10)] + [40 * step + n * step for n in range(10)] + [90 * step]
    run = RunRecord(end_ns=round(100 * step * SECOND))
    run.delays[TRACKS_SERIES] = [(round(t * SECOND), 40.0) for t in times]
    curve = re.search(r'class="curve c0" d="([^"]*)"', latency(run))
    assert curve and [part.count("L") for part in curve[1].split("M")[1:]] == [9, 9, 0]
    assert curve[1].endswith("h0"), "a lone value is a dot"


def test_a_distance_of_clocks_is_not_called_latency(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with BagWriter(path) as bag:
        bag.add_topic("/tracks", bags.DETECTION_ARRAY)
        for number in range(3):
            bag.write("/tracks", (10**6 + number) * SECOND, detection_array(number * SECOND, []))
    page = make(path)
    assert "1000000 s apart" in page.words and not page.of("path") and "latency p50" not in page.words
    assert "No tracks were recorded" in page.words and "Nothing was found" in page.words


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("images", [], r"holds no detections or tracks .*Record them with"),
        ("empty", [], "nothing was published while it was recorded"),
        ("absent", [], "There is no bag at"),
        ("two", [], r"holds /a/tracks, /b/tracks; choose one with --tracks-topic"),
        ("named", [], r"not clear; name one of /a/found"),
        ("two", ["--tracks-topic", "/c"], "has no topic /c"),
        ("two", ["--tracks-topic", "/a/tracks", "--replay", "x.json"], "name that bag too"),
        ("two", ["--tracks-topic", "/a/tracks", "--images", "x.mcap"], "There is no bag at"),
    ],
)
def test_what_cannot_be_reported_is_said(
    tmp_path: Path, content: str, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{content}.mcap"
    topics = {"empty": ["/tracks"], "two": ["/a/tracks", "/b/tracks"], "named": ["/a/found"]}.get(content, [])
    if content == "images":
        make_bag_from_frames([(np.zeros((4, 4, 3), np.uint8), None)], path, fps=1.0)
    elif topics:
        with BagWriter(path) as bag:
            for topic in topics:
                bag.add_topic(topic, bags.DETECTION_ARRAY)
                if content != "empty":
                    bag.write(topic, SECOND, detection_array(SECOND, [box(1.0)]))
    assert main(["report", str(path), *options]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not path.with_suffix(".html").exists()


def test_a_namespace_is_no_hindrance(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "run.mcap", steps(), prefix="/robot")).messages["/robot/tracks"] == 10
