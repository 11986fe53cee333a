"""The demo: its figures and pictures without ROS, and the whole of it over real DDS."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from made_bags import SECOND, detection_array, diagnostics
from rosbags.highlevel import AnyReader

from mmkd_ros import bags
from mmkd_ros.bags import BagReader, BagWriter
from mmkd_ros.drawing import DrawnObject
from mmkd_ros.share import share_path
from mmkd_ros.status_file import StatusFile, read_status
from mmkd_train.__main__ import main
from mmkd_train.demo_report import film_frames, render, summarise, table
from mmkd_train.make_bag import image_message, make_bag_from_frames
from mmkd_train.node_run import run_environment
from mmkd_train.report_data import RunRecord, read_run

SUMMARY_KEYS = [
    "frames_rgb",
    "frames_thermal",
    "pairs",
    "single_modality",
    "dropped",
    "detections_messages",
    "tracks_messages",
    "detections_total",
    "track_ids",
    "fps",
    "latency_ms",
    "device",
    "weights",
    "seconds",
]
FIGURES = {
    "frames_rgb": "4",
    "frames_thermal": "3",
    "pairs": "2",
    "single_rgb": "1",
    "single_thermal": "0",
    "dropped.late": "0",
    "dropped.superseded": "2",
    "device": "cpu",
    "weights": "/models/small.safetensors",
}


def recording(path: Path, count: int = 8) -> Path:
    """A bright square that moves to the right, in both cameras."""
    frames = []
    for number in range(count):
        rgb = np.full((128, 160, 3), 60, np.uint8)
        thermal = np.full((64, 80), 30_000, np.uint16)
        rgb[50:100, 20 + 5 * number : 50 + 5 * number] = 220
        thermal[25:50, 10 + 5 * number // 2 : 25 + 5 * number // 2] = 31_000
        frames.append((rgb, thermal))
    make_bag_from_frames(frames, path, fps=5.0)
    return path


def test_results_are_read_from_the_recording(tmp_path: Path) -> None:
    car = DrawnObject((10.0, 20.0, 50.0, 40.0), "car", 0.75, "12")
    with BagWriter(tmp_path / "result.mcap") as bag:
        bag.add_topic("/detections", bags.DETECTION_ARRAY)
        bag.add_topic("/tracks", bags.DETECTION_ARRAY)
        bag.add_topic("/diagnostics", bags.DIAGNOSTIC_ARRAY)
        bag.write("/detections", SECOND + 30_000_000, detection_array(SECOND, [car, car]))
        bag.write("/tracks", SECOND + 40_000_000, detection_array(SECOND, [car]))
        bag.write("/detections", 2 * SECOND + 30_000_000, detection_array(2 * SECOND, []))
        bag.write("/diagnostics", 3 * SECOND, diagnostics(FIGURES))
    run = read_run(tmp_path / "result.mcap", with_boxes=True)
    assert run.tracked == {SECOND: [car]} and read_run(tmp_path / "result.mcap").tracked == {}
    summary = summarise(run, {"rgb": 5, "thermal": 3, "start_ns": SECOND})
    assert list(summary) == SUMMARY_KEYS
    assert summary == {
        "frames_rgb": 5,
        "frames_thermal": 3,
        "pairs": 2,
        "single_modality": 1,
        "dropped": {"superseded": 2, "not_received": 1},
        "detections_messages": 2,
        "tracks_messages": 1,
        "detections_total": 2,
        "track_ids": 1,
        "fps": round(2 / 1.03, 2),
        "latency_ms": {"p50": 40.0, "p95": 40.0, "p99": 40.0},
        "device": "cpu",
        "weights": "/models/small.safetensors",
        "seconds": 1.03,
    }
    assert "2, single-modality 1, dropped superseded 2, not_received 1" in table(summary, tmp_path, 9.0)


def test_a_summary_without_any_message_has_no_latency() -> None:
    summary = summarise(RunRecord(figures=FIGURES), {"rgb": 4, "thermal": 3, "start_ns": SECOND})
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert (summary["fps"], summary["seconds"], summary["detections_messages"]) == (0.0, 0.0, 0)
    assert "p50 -" in table(summary, Path("out"), 1.0)
    with pytest.raises(ValueError, match="no diagnostics of detection_node"):
        summarise(RunRecord(), {"rgb": 0, "thermal": 0, "start_ns": 0})


def test_the_film_pairs_images_and_keeps_those_that_were_used_alone() -> None:
    tracked: dict[int, list[DrawnObject]] = {100: [], 290: [], 500: []}
    frames = film_frames([100, 200, 300], [90, 210, 290, 500, 600], tracked, slop_ns=20)
    assert [(f.rgb, f.thermal, f.stamp) for f in frames] == [
        (0, 0, 100),
        (1, 1, 200),
        (None, 2, 290),
        (2, 2, 300),
        (None, 3, 500),
    ]
    assert [(f.rgb, f.thermal) for f in film_frames([100], [], tracked, 20)] == [(0, None)]


def test_the_film_and_the_contact_sheet_show_the_tracks(tmp_path: Path) -> None:
    with BagReader(recording(tmp_path / "bag.mcap")) as bag:
        topics = bag.image_topics()
        stamps = [message.time_ns for message in bag.messages([topics[0].name])]
        tracked = {
            stamp: [DrawnObject((20.0 + 5 * n, 50.0, 50.0 + 5 * n, 100.0), "car", 0.9, "1")]
            for n, stamp in enumerate(stamps)
            if n != 5
        }
        frames = film_frames(stamps, stamps, tracked, 0)
        render(bag, topics, frames, tracked, tmp_path)
    film = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert (film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)) == (8, 5.0)
    pictures = [film.read()[1] for _ in frames]
    film.release()
    sheet = cv2.imread(str(tmp_path / "overlay.png"))
    assert sheet is not None and min(pictures[0].shape[:2]) > 400
    blue, skipped = (((p[..., 0] > 200) & (p[..., 2] < 120)).sum() for p in (pictures[0], pictures[5]))
    assert blue > 5 * skipped  # a car's colour; a frame without a result shows the last boxes faintly


def test_images_that_nobody_can_read_leave_an_empty_pane(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag.mcap") as writer:
        for topic in ("/rgb", "/thermal"):
            writer.add_topic(topic, bags.IMAGE)
        for number in range(1, 3):
            stamp = number * SECOND
            writer.write("/rgb", stamp, image_message(np.zeros((8, 8, 3), np.uint8), stamp, "rgb", "unknown9"))
            writer.write("/thermal", stamp, image_message(np.zeros((8, 8), np.uint8), stamp, "thermal", "mono8"))
    with BagReader(tmp_path / "bag.mcap") as bag:
        frames = film_frames([SECOND, 2 * SECOND], [SECOND, 2 * SECOND], {}, 0)
        render(bag, bag.image_topics(), frames, {}, tmp_path)
        assert (tmp_path / "overlay.png").is_file()
        with pytest.raises(ValueError, match="nothing to draw"):
            render(bag, (bag.topics["/rgb"], bag.topics["/rgb"]), frames[:1], {}, tmp_path)


def test_a_status_file_is_whole_and_absent_means_empty(tmp_path: Path) -> None:
    path = tmp_path / "new" / "status.json"
    assert read_status(path) == {}
    status = StatusFile(str(path), period_s=1000.0)
    for number in range(3):
        status.write({"number": number})
    assert read_status(path) == {"number": 0}
    status.write({"number": 9}, force=True)
    assert read_status(path) == {"number": 9}
    assert [p.name for p in path.parent.iterdir()] == ["status.json"]
    StatusFile("").write({"number": 1})


def test_the_demo_keeps_to_this_machine_and_out_of_the_robots_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_STATIC_PEERS", "10.0.0.1")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    with run_environment(None, Path("logs")) as former:
        robots = former["ROS_DOMAIN_ID"]
    monkeypatch.setenv("ROS_DOMAIN_ID", robots)
    with run_environment(None, Path("logs")) as environment, run_environment(None, Path("logs")) as beside:
        assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        assert "ROS_STATIC_PEERS" not in environment
        domains = {environment["ROS_DOMAIN_ID"], beside["ROS_DOMAIN_ID"], robots}
        assert len(domains) == 3, "two runs at a time, and neither where the robot is"
        assert all(1 <= int(domain) <= 101 for domain in domains)
    with run_environment(7, Path("logs")) as environment:
        assert environment["ROS_DOMAIN_ID"] == "7"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bag", "absent.mcap"], "There is no bag at"),
        (["--bag", "noise.mcap"], "cannot be read"),
        (["--bag", "bag.mcap", "--rgb-topic", "/front"], r"no topic /front.*choose one of /rgb/image_raw"),
        (["--bag", "bag.mcap", "--rate", "0"], "--rate is 0.0"),
        (["--bag", "bag.mcap", "--params-file", "absent.yaml"], "There is no parameter file"),
    ],
)
def test_what_cannot_be_played_is_said_before_any_node_starts(
    tmp_path: Path,
    options: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    recording(tmp_path / "bag.mcap", 2)
    (tmp_path / "noise.mcap").write_bytes(b"noise")
    old = tmp_path / "out" / "summary.json"
    old.parent.mkdir()
    old.write_text("{}")
    assert main(["demo", "--output", "out", *options]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not old.exists() or "--rate" in options
    assert not list((tmp_path / "out").glob("logs/*.log"))


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network that is quick."""
    torch = pytest.importorskip("torch", reason="needs torch: `make env` installs it")
    from mmkd_ros.inference.weights import save_detector
    from mmkd_ros.network import Detector, DetectorConfig

    torch.manual_seed(0)
    config = DetectorConfig(
        backbone="mobilenetv3_small_050", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
    )
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_detector(path, Detector(config), {"data": "none, the network is untrained"})
    return path


@pytest.fixture
def parameters(tmp_path: Path) -> Path:
    """The package's parameters, but every box of an untrained network counts, and no appearance is asked for."""
    content = yaml.safe_load(share_path("config/perception.yaml").read_text(encoding="utf-8"))
    content["/**/detection_node"]["ros__parameters"]["score_threshold"] = 0.0
    content["/**/detection_node"]["ros__parameters"]["max_detections"] = 3
    content["/**/tracker_node"]["ros__parameters"]["appearance"] = False
    path = tmp_path / "perception.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.requires_ros
def test_the_demo_from_a_recording_to_its_pictures(
    tmp_path: Path, small_weights: Path, parameters: Path, ros_domain: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, output = recording(tmp_path / "bag.mcap"), tmp_path / "out"
    options = ["--output", str(output), "--bag", str(bag), "--weights", str(small_weights), "--device", "cpu"]
    code = main(["demo", *options, "--params-file", str(parameters), "--domain-id", str(ros_domain)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert list(summary) == SUMMARY_KEYS
    assert (summary["frames_rgb"], summary["frames_thermal"]) == (8, 8)
    assert summary["device"] == "cpu"
    assert summary["weights"] == str(small_weights)
    assert 0 < summary["detections_messages"] <= summary["pairs"] + summary["single_modality"] <= 16
    assert 0 < summary["tracks_messages"] <= summary["detections_messages"]
    assert summary["detections_total"] == 3 * summary["detections_messages"]
    # Every image has one fate: in a pair, alone, or dropped (a superseded pair was counted as a pair).
    dropped = sum(number for reason, number in summary["dropped"].items() if reason != "superseded")
    assert 2 * summary["pairs"] + summary["single_modality"] + dropped == 16
    latency = summary["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    with AnyReader([output / "result.mcap"]) as reader:
        counts = {name: topic.msgcount for name, topic in reader.topics.items()}
        stamps = [
            (time, message.header.stamp.sec * SECOND + message.header.stamp.nanosec)
            for time, message in (
                (time, reader.deserialize(data, connection.msgtype))
                for connection, time, data in reader.messages()
                if connection.topic == "/tracks"
            )
        ]
    assert counts["/detections"] == summary["detections_messages"]
    assert counts["/tracks"] == summary["tracks_messages"] == len(stamps)
    assert all(published > stamp for published, stamp in stamps)
    film = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    film.release()
    assert cv2.imread(str(output / "overlay.png")) is not None
    assert "8 RGB, 8 thermal" in printed.out
    page = (output / "report.html").read_text(encoding="utf-8")
    assert f"Open {output / 'report.html'} in a browser." in printed.out
    assert ("data:image/jpeg;base64," in page) == (summary["track_ids"] > 0)
    assert "network alone" in page, "the recorder keeps the network's own time"


@pytest.mark.requires_ros
def test_a_node_that_dies_ends_the_demo_with_its_last_words(
    tmp_path: Path, parameters: Path, ros_domain: int, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    options = ["--output", str(tmp_path / "out"), "--bag", str(recording(tmp_path / "bag.mcap", 2))]
    options += ["--weights", str(broken), "--params-file", str(parameters), "--domain-id", str(ros_domain)]
    assert main(["demo", *options]) == 2
    said = capsys.readouterr().err
    assert "detection_node ended unexpectedly with code 1" in said
    assert "broken.safetensors is not a readable safetensors file" in said
    assert not (tmp_path / "out" / "summary.json").exists()
