"""Messages that lie, over real DDS: counted, logged now and then, and forgotten."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cameras import Watch, resident_bytes
from diagnostic_msgs.msg import DiagnosticArray
from fault_report import FaultReport
from modality_detector import SCRIPT
from node_bench import Bench, Child, header, image
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage

Start = Callable[..., Child]
MESSAGES = 300
THERMAL = "/thermal/compressed"
WORDS = (0, 1, 2, 20000, 65536, 2**31, 2**32 - 1)
ENCODINGS = ("rgb8", "bgr8", "mono8", "16UC1", "32FC1", "yuv422_yuy2", "64FC1024", "", "x" * 5000)

REASONS = ("empty", "oversize", "step", "data", "encoding", "decode")


def heat(stamp: float) -> Any:
    pixels = np.full((24, 32), 3000, np.uint16)
    pixels.flat[0] = round(stamp * 100) % 65536  # no two pictures are alike
    return CompressedImage(
        header=header(stamp, "thermal"), format="png", data=cv2.imencode(".png", pixels)[1].tobytes()
    )


def spoiled_image(rng: random.Random, stamp: float) -> Any:
    message = image("rgb", stamp)
    for name in rng.sample(("height", "width", "step"), rng.randint(0, 3)):
        setattr(message, name, rng.choice(WORDS))
    message.is_bigendian = rng.randint(0, 255)
    message.encoding = rng.choice(ENCODINGS)
    message.data = rng.choice((message.data, rng.randbytes(rng.randint(0, 3000)), b""))
    message.header.frame_id = rng.choice(("camera", "", "\n\t", "é" * 2000))
    return message


def spoiled_file(rng: random.Random, stamp: float) -> Any:
    message = heat(stamp)
    file = bytearray(message.data)
    for _ in range(rng.randint(1, 6)):
        file[rng.randrange(len(file))] = rng.randrange(256)
    message.data = bytes(file[: rng.choice((0, 2, 8, 30, len(file)))])
    message.format = rng.choice(("png", "jpeg", "", "16UC1; compressedDepth"))
    return message


def test_messages_that_lie(bench: Bench, start: Start, some_file: Path, figures: FaultReport) -> None:
    began = time.monotonic()
    node = start(
        SCRIPT,
        weights=str(some_file),
        thermal_topic=THERMAL,
        image_reliability="reliable",
        **{"sync.reset_jump_s": 3600.0, "sync.future_jump_s": 3600.0},
    )
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    watch = Watch(bench)
    publishers = {"rgb": bench.publisher(type(image("rgb", 1.0)), "/rgb/image_raw")}
    publishers["thermal"] = bench.publisher(CompressedImage, THERMAL)
    stamp = 1000.0

    def good() -> int:
        nonlocal stamp
        stamp += 0.1
        publishers["rgb"].publish(image("rgb", stamp))
        publishers["thermal"].publish(heat(stamp))
        time.sleep(0.05)
        return round(stamp * 1e9)

    bench.wait(lambda: good() and len(watch.outputs) > 5, "for the first outputs")
    before = resident_bytes(node.process.pid, peak=True)
    rng = random.Random(5)  # noqa: S311 - a repeatable sequence, no secret

    def spoil() -> None:
        nonlocal stamp
        stamp += 0.01
        publishers["rgb"].publish(spoiled_image(rng, stamp))
        publishers["thermal"].publish(spoiled_file(rng, stamp))
        raw = bytearray(serialize_message(image("rgb", stamp)))[:200]  # a packet that is not even a message
        raw[rng.randrange(4, 200)] = rng.randrange(256)
        publishers["rgb"].publish(bytes(raw[: rng.choice((8, 30, 200))]))
        time.sleep(0.01)

    def refused() -> int:
        return sum(int(bench.figures(diagnostics).get(f"dropped.{reason}", 0)) for reason in REASONS)

    for _ in range(MESSAGES):
        spoil()
    bench.wait(lambda: refused() > 100 or spoil(), lambda: f"for 100 messages refused: {bench.figures(diagnostics)}")
    publishers["rgb"].publish(image("rgb", stamp + 0.01, height=20000, width=20000, step=60000))
    good()
    good()
    sent = good()
    bench.wait(lambda: any(output.stamp_ns >= sent for output in watch.outputs) or not good(), "for a good pair")
    figures.number("messages that lie: dead processes", int(node.process.poll() is not None), 0)
    grown = (resident_bytes(node.process.pid, peak=True) - before) / 1e6
    figures.number("messages that lie: growth of the peak memory", grown, 30, "MB")
    lines, allowed = node.log().count("images rejected so far"), 2 * (1 + (time.monotonic() - began) / 5)
    figures.number("messages that lie: log lines of one camera in 5 s", lines / allowed, 1)
    assert "Traceback" not in node.log()
    assert watch.backward_steps() == []
