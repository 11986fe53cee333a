"""The soak: its figures by hand, and a short one of the real nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmkd_ros.bags import BagReader, deserialize, read_stamp
from mmkd_train.__main__ import main
from mmkd_train.make_bag import RGB_TOPIC, THERMAL_TOPIC
from mmkd_train.process_watch import Sample
from mmkd_train.soak_figures import (
    Limits,
    backward_steps,
    broken_limits,
    latency_figures,
    process_figures,
)
from mmkd_train.soak_recording import FAULTS, record

CALM = {
    "seconds": 60.0,
    "growth_mb": 1.0,
    "slope_percent_per_1e6_frames": 900.0,
    "more_descriptors": 0,
    "more_threads": 0,
}
GOOD = {
    "nodes": {"detection_node": CALM},
    "restarts": 0,
    "images": 1000,
    "missed": 3,
    "latency": {"drift_ms": 1.0},
    "backward_stamps": 0,
    "outputs": 400,
}


def test_the_slope_is_that_of_the_settled_part() -> None:
    # 50 MB in the first minute, then 1 MB a minute.
    samples = [Sample(float(t), 7, 0.0, 100 + 50 * min(t, 60) / 60 + max(0, t - 60) / 60, 20, 9) for t in range(181)]
    samples[-1] = Sample(180.0, 7, 0.0, 152.0, 23, 10)
    figures = process_figures(samples, fps=10.0)
    assert figures["slope_mb_per_hour"] == pytest.approx(60.0) and figures["growth_mb"] == pytest.approx(2.0)
    # 1e6 frames at 10 Hz are 100,000 s, and a sixtieth of a MB a second of 151 MB.
    assert figures["slope_percent_per_1e6_frames"] == pytest.approx(100 * 1e5 / 60 / 151, rel=1e-3)
    assert (figures["more_descriptors"], figures["more_threads"]) == (3, 1)


def test_latency_and_order() -> None:
    published = [(int((t + (0.05 if t < 20 else 0.08)) * 1e9), int(t * 1e9)) for t in range(1, 31)]
    figures = latency_figures(published)
    assert figures["p50_ms"] == pytest.approx(50.0) and figures["drift_ms"] == pytest.approx(30.0)
    assert backward_steps(published) == 0
    assert backward_steps([*published, published[3], published[3]]) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"restarts": 1}, "Restarts"),
        ({"missed": 100}, "missed images"),
        ({"latency": {"drift_ms": 80.0}}, "Latency drift"),
        ({"latency": {"drift_ms": float("nan")}}, "Latency drift"),
        ({"backward_stamps": 1}, "went back"),
        ({"outputs": 0}, "Nothing was detected"),
        ({"nodes": {"a": {**CALM, "growth_mb": 25.0}}}, "memory growth"),
        ({"nodes": {"a": {**CALM, "seconds": 900.0, "growth_mb": 3.0}}}, "memory slope"),
        ({"nodes": {"a": {**CALM, "more_descriptors": 5}}}, "descriptors"),
        ({"nodes": {"a": {**CALM, "more_threads": 3}}}, "threads"),
    ],
)
def test_each_limit_is_watched(change: dict[str, object], sentence: str) -> None:
    assert broken_limits(GOOD, Limits()) == []
    (broken,) = broken_limits({**GOOD, **change}, Limits())
    assert sentence in broken


def test_the_recording_holds_every_fault(tmp_path: Path) -> None:
    counts = record(tmp_path / "cameras.mcap", 10.0, 64, 64)
    assert set(counts) == {fault.kind for fault in FAULTS}
    with BagReader(tmp_path / "cameras.mcap") as bag:
        rgb, thermal = (list(bag.messages([topic])) for topic in (RGB_TOPIC, THERMAL_TOPIC))
    assert len(rgb) == 120 - 12 and len(thermal) == 120 - 6
    stamps = [read_stamp(message.data) for message in rgb]
    assert sum(b == a for a, b in zip(stamps, stamps[1:], strict=False)) == 1
    assert sum(b - a > 900 * 10**9 for a, b in zip(stamps, stamps[1:], strict=False)) == 1
    assert sum(deserialize(message).width == 20000 for message in rgb) == 1
    frozen = [bytes(deserialize(message).data) for message in thermal]
    assert sum(a == b for a, b in zip(frozen, frozen[1:], strict=False)) == 14


@pytest.mark.requires_ros
def test_a_short_soak(tmp_path: Path, ros_domain: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Not held to the limits that other work on the machine can break."""
    torch = pytest.importorskip("torch")
    from mmkd_ros.inference.weights import save_detector
    from mmkd_ros.network import Detector, DetectorConfig

    torch.manual_seed(0)
    network = DetectorConfig(
        backbone="mobilenetv3_small_050", input_size=(64, 96), bifpn_channels=16, bifpn_repeats=1, head_repeats=1
    )
    save_detector(tmp_path / "tiny.safetensors", Detector(network), {})
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**:\n  ros__parameters: {device: cpu, backend: torch, appearance: false}\n")
    arguments = ["soak", "--minutes", "1", "--size", "160", "128", "--output", str(tmp_path)]
    arguments += ["--weights", str(tmp_path / "tiny.safetensors"), "--params-file", str(parameters)]
    lenient = ["--max-missed", "1", "--max-drift-ms", "10000", "--max-growth-mb", "100"]
    code = main([*arguments, *lenient])
    report = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert code == 0 and report["broken"] == [], report["broken"]
    assert report["outputs"] > 10 and report["backward_stamps"] == 0 and report["restarts"] == 0
    assert report["source_deaths"] >= 1 and set(report["nodes"]) == {"detection_node", "tracker_node"}
    assert "per 1e6 frames" in capsys.readouterr().out
