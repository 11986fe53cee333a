"""The benchmark runs on any weights file and prints every figure that it promises; no time is asserted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_ros.inference.weights import save_detector
from mmkd_ros.network import Detector, DetectorConfig
from mmkd_train import benchmark_peers
from mmkd_train.__main__ import main
from mmkd_train.benchmark_parts import OTHER, benchmark_parts
from mmkd_train.benchmark_rigs import format_rigs
from mmkd_train.benchmark_rigs import summarise as summarise_rigs
from mmkd_train.benchmark_ros import summarise
from mmkd_train.engines import graph_engines
from mmkd_train.errors import UserError
from mmkd_train.make_bag import make_bag_from_frames
from mmkd_train.report_data import DETECTIONS_SERIES, NETWORK_SERIES, TRACKS_SERIES, RunRecord

CONFIG = DetectorConfig(
    backbone="mobilenetv3_small_100", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_detector(path, Detector(CONFIG), {})
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(tmp_path: Path, weights: Path, *options: str) -> dict[str, Any]:
    command = ["benchmark", "--weights", str(weights), "--device", "cpu", "--repeats", "1"]
    assert main([*command, "--json", str(tmp_path / "figures.json"), *options]) == 0
    report: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
    return report


def test_every_figure_is_there(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_peers, "PEERS", {"a peer, one image": ("no_such_package", lambda *_: None)})
    monkeypatch.setattr(benchmark_peers, "time_crowd", lambda objects: {"ours": 1.0, "theirs": None})
    report = run(tmp_path, weights, "--peers", "--input-size", "64", "64")
    assert set(report["network_ms"]) == {"64x96", "512x640"} and set(report["tracker_ms"]) == {"10", "50", "100"}
    figures = [
        *report["network_ms"].values(),
        *report["tracker_ms"].values(),
        report["preprocess_ms"],
        report["postprocess_ms"],
    ]
    assert all(value > 0 for value in figures) and report["gmac"]["512x640"] > report["gmac"]["64x96"]
    peers = report["peers"]
    assert peers["size"] == "64x64" and peers["missing"] == ["no_such_package"]
    assert peers["network_ms"]["torch"].keys() == {benchmark_peers.OURS} and peers["ratio"]["torch"] == {}
    printed = capsys.readouterr().out
    for word in (
        "torch",
        "preprocess",
        "postprocess",
        "session",
        "tracker",
        "cores",
        "64x64",
        "not installed: no_such",
    ):
        assert word in printed
    assert "requirements/peers.txt" in printed


def test_a_peer_is_timed_beside_ours(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    class Nested(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Answers as detectors do: tensors within lists and dicts."""

        def forward(self, image: Any) -> Any:
            return [image.mean(1), (image[:, :1] * 2.0,)], {"boxes": image.amax(1)}

    monkeypatch.setattr(benchmark_peers, "PEERS", {"a peer, one image": ("torch", lambda *_: Nested())})
    monkeypatch.setattr(benchmark_peers, "time_crowd", lambda objects: {})
    report = benchmark_peers.benchmark_peers(weights, (64, 64), 1, torch.get_num_threads())
    for engine, row in report["network_ms"].items():
        assert report["ratio"][engine]["a peer, one image"] == row[benchmark_peers.OURS] / row["a peer, one image"]
    assert report["missing"] == [] and "ratio" in "\n".join(benchmark_peers.format_peers(report))


def test_figures_of_a_replay() -> None:
    latency, network = [50.0, 40.0, 60.0, 40.0], [45.0, 38.0, 50.0, 36.0]
    times = [1_000_000_000 + n * 100_000_000 for n in range(4)]
    run_record = RunRecord(
        delays={
            DETECTIONS_SERIES: list(zip(times, latency, strict=True)),
            NETWORK_SERIES: list(zip(times, network, strict=True)),
            TRACKS_SERIES: list(zip(times, [55.0] * 4, strict=True)),
        }
    )
    found = summarise(run_record, sent=6, hz=10.0)
    assert (found["sent"], found["answered"], found["missed"], found["fps"]) == (6, 4, 2, 10.0)
    assert found["latency_ms"] == {
        "first": 50.0,
        "last": 40.0,
        "p50": 45.0,
        "p95": 58.5,
        "p99": 59.7,
        "jitter": round(float(np.std(latency)), 2),
    }
    assert found["overhead_ms"] == {"p50": 4.5, "p95": 9.25}  # of 5, 2, 10 and 4
    assert found["tracks_ms"]["p99"] == 55.0
    run_record.delays[NETWORK_SERIES].pop()
    assert summarise(run_record, 6, 10.0)["overhead_ms"] == {"p50": None, "p95": None}
    with pytest.raises(UserError, match="0 detection messages were recorded"):
        summarise(RunRecord(), 6, 10.0)


@pytest.mark.requires_ros
def test_the_nodes_are_measured_in_both_layouts(tmp_path: Path, weights: Path) -> None:
    rng = np.random.default_rng(0)
    frames = (
        (rng.integers(0, 255, (64, 96, 3), np.uint8), rng.integers(0, 255, (64, 96), np.uint8)) for _ in range(12)
    )
    make_bag_from_frames(frames, tmp_path / "small.mcap", 10.0)
    options = [
        "--ros",
        "--composed",
        "--hz",
        "5",
        "--bag",
        str(tmp_path / "small.mcap"),
        "--output",
        str(tmp_path / "out"),
    ]
    nodes = run(tmp_path, weights, *options)["nodes"]
    assert nodes["apart"].keys() == nodes["composed"].keys() == {"5"}
    for layout, process in (("apart", "detection_node"), ("composed", "composed_node")):
        row = nodes[layout]["5"]
        assert row["sent"] == 12 and 1 < row["answered"] <= 12 and row["answered"] + row["missed"] == 12
        assert row["latency_ms"]["p99"] >= row["latency_ms"]["p50"] > 0 and row["processes"][process]["memory_mb"] > 10
    assert (
        "tracker_node" in nodes["apart"]["5"]["processes"] and "tracker_node" not in nodes["composed"]["5"]["processes"]
    )


@pytest.mark.requires_ros
def test_rigs_are_measured_with_one_node_and_with_one_each(tmp_path: Path, weights: Path) -> None:
    options = ["--rigs", "2", "--hz", "5", "--seconds", "2", "--output", str(tmp_path / "out")]
    rows = run(tmp_path, weights, *options)["rigs"]
    assert [(row["layout"], row["rigs"], row["hz"]) for row in rows] == [("shared", 2, 5.0), ("apart", 2, 5.0)]
    for row in rows:
        assert 0 < row["least_pairs_per_s"] <= row["pairs_per_s"] and row["latency_ms"]["p50"] > 0
        assert row["memory_mb"] > 10
    logs = {path.name for path in (tmp_path / "out" / "logs").glob("*.log")}
    assert {"detection_node.log", "rig1_detection_node.log", "rig2_detection_node.log"} <= logs


def test_batches_are_timed_on_every_engine(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = run(tmp_path, weights, "--batches", "1", "2", "--input-size", "64", "64")["batch_ms"]
    assert times.keys() == {"torch", *graph_engines(1)}
    assert all(row.keys() == {"1", "2"} and min(row.values()) > 0 for row in times.values())
    assert "batches, torch" in capsys.readouterr().out


def test_the_parts_of_the_network_add_up(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="the profile is OpenVINO's: pip install -r requirements/backends.txt")
    report = run(tmp_path, weights, "--parts", "--input-size", "64", "96")
    parts = report["parts"]
    assert sum(parts["gmac"].values()) == pytest.approx(report["gmac"]["64x96"])
    for column in parts.keys() - {"gmac"}:
        assert parts[column].keys() == {*parts["gmac"], OTHER}
        assert all(value > 0 for value in parts[column].values())  # each operation's name leads to its part
    printed = capsys.readouterr().out
    assert "rgb_backbone" in printed and "all " in printed and "(100%)" in printed


def test_without_openvino_there_is_no_profile(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="openvino"):
        benchmark_parts(weights, 1, 1, (64, 96))


def test_figures_of_rigs() -> None:
    rigs = {"a": {"sent": 20, "delays_ms": [10.0] * 20}, "b": {"sent": 20, "delays_ms": [30.0] * 10}}
    processes = {"x": {"cpu_percent": 40.0, "memory_mb": 300.0}, "y": {"cpu_percent": 2.5, "memory_mb": 100.0}}
    found = summarise_rigs({"seconds": 2.0, "rigs": rigs}, processes)
    assert found == {
        "pairs_per_s": 15.0,
        "least_pairs_per_s": 5.0,
        "answered": 0.75,
        "latency_ms": {"p50": 10.0, "p95": 30.0},
        "cpu_percent": 42.5,
        "memory_mb": 400.0,
    }
    (line,) = format_rigs([{"layout": "shared", "rigs": 2, "hz": 10.0, "threads": 1, **found}])
    assert "2 rigs at 10 Hz, shared" in line and "75 % answered" in line and "400 MB" in line


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--weights", "none.safetensors"], "none.safetensors does not exist"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--rigs", "0"], "--rigs must lie in 1 to 16"),
        (["--batches", "0"], "--batches must lie in 1 to 64"),
        (["--hz", "0"], "--hz must lie in 0.1 to 1000"),
        (["--peers", "--input-size", "100", "96"], "multiples of 32"),
    ],
)
def test_what_cannot_be_measured_is_said(
    weights: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["benchmark", "--weights", str(weights), "--device", "cpu", "--repeats", "1", *options]) == 2
    assert sentence in capsys.readouterr().err
