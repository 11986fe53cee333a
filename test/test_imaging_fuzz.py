"""10,000 messages of every kind of wrongness against the decoder: refused with a reason or read, never more memory.

``MMKD_FUZZ_MESSAGES`` sets the number; without it they are the same in every run.
"""

from __future__ import annotations

import math
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkd_ros.imaging import (
    PLAIN_ENCODINGS,
    ImagingError,
    rgb_from_compressed,
    rgb_from_image,
    thermal_from_compressed,
    thermal_from_image,
    thermal_to_uint8,
)
from mmkd_ros.registration import RegistrationOptions, options_from_camera_infos
from mmkd_ros.registration.warp import Registration

MESSAGES = os.environ.get("MMKD_FUZZ_MESSAGES")
TOTAL = int(MESSAGES or 10_000)
LIMIT_BYTES = 2_000_000  # a good image of the sizes below takes less than a tenth

ENCODINGS = [*PLAIN_ENCODINGS, "yuv422_yuy2", "bayer_rggb8", "bayer_gbrg16", "32FC1", "64FC4", "16SC1", "mono32", ""]
word = st.sampled_from((0, 1, 2, 3, 19999, 20000, 2**16, 2**31 - 1, 2**31, 2**32 - 1)) | st.integers(0, 12)
data = st.binary(max_size=96) | st.integers(0, 500).map(bytes)
PNG = cv2.imencode(".png", np.arange(105, dtype=np.uint8).reshape(5, 7, 3))[1].tobytes()
DEEP = cv2.imencode(".png", np.arange(35, dtype=np.uint16).reshape(5, 7) * 999)[1].tobytes()
JPEG = cv2.imencode(".jpg", np.arange(105, dtype=np.uint8).reshape(5, 7, 3))[1].tobytes()


def fuzz(share: float) -> Any:
    """Settings of one test, which gets this share of the messages."""
    return settings(
        max_examples=max(1, round(TOTAL * share)),
        deadline=None,
        database=None,
        derandomize=MESSAGES is None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def images(draw: st.DrawFn) -> SimpleNamespace:
    """A header of any numbers, or a true one of which up to two fields are wrong."""
    encoding = draw(st.sampled_from(ENCODINGS) | st.text(max_size=8))
    height, width = draw(word), draw(word)
    channels, depth = PLAIN_ENCODINGS.get(encoding, (1, 1))
    message = SimpleNamespace(height=height, width=width, encoding=encoding, step=draw(word), is_bigendian=0, data=b"")
    if draw(st.booleans()):
        message.height, message.width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
        message.step = message.width * channels * depth + draw(st.sampled_from((0, 0, 1, 5)))
        message.data = draw(st.binary(min_size=1, max_size=4)) * (message.step * message.height)
        message.data = message.data[: message.step * message.height]
    wrong = st.sampled_from(("height", "width", "step", "is_bigendian", "data"))
    for name in draw(st.lists(wrong, max_size=2)):
        setattr(message, name, draw(data if name == "data" else word))
    return message


@st.composite
def files(draw: st.DrawFn) -> SimpleNamespace:
    """A PNG or JPEG file with bytes changed, cut out or appended, or noise behind its first bytes."""
    file = bytearray(draw(st.sampled_from((PNG, DEEP, JPEG))))
    for position, value in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6)):
        file[position % len(file)] = value
    cut = draw(st.sampled_from((None, None, 0, 2, 8, 20, 30)) | st.integers(0, 400))
    file = file[:cut] + draw(st.binary(max_size=40))
    return SimpleNamespace(format=draw(st.sampled_from(("png", "jpeg", "", "compressedDepth"))), data=bytes(file))


def read(message: Any, readers: tuple[Any, ...]) -> None:
    """Every reader refuses with a reason, or gives an image of which every pixel can be read; no more memory."""
    for reader in readers:
        tracemalloc.start()
        try:
            image = reader(message)
        except ImagingError as error:
            assert error.reason in ("empty", "oversize", "step", "data", "encoding", "decode")
            assert len(str(error)) < 400 and str(error).rstrip()[-1] in ".)"
        else:
            assert image.ndim in (2, 3) and image.size > 0 and image.dtype in (np.uint8, np.uint16)
            image.max()
            if image.ndim == 2:
                thermal_to_uint8(image)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < LIMIT_BYTES


@pytest.fixture(autouse=True)
def flat_memory() -> Iterator[None]:
    """What C code takes, tracemalloc does not see: the peak of the process must not move much."""

    def megabytes(key: str) -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux, to read the peak memory")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted from here
    before = megabytes("VmRSS:")
    yield
    assert megabytes("VmHWM:") - before < 200


@fuzz(0.6)
@given(images())
def test_images(message: SimpleNamespace) -> None:
    read(message, (rgb_from_image, thermal_from_image))


@fuzz(0.3)
@given(files())
def test_compressed_images(message: SimpleNamespace) -> None:
    read(message, (rgb_from_compressed, thermal_from_compressed))


number = st.sampled_from((0.0, -0.0, 1.0, -1.0, 300.0, 1e-300, 1e300, math.nan, math.inf, -math.inf)) | st.floats()


@st.composite
def camera_infos(draw: st.DrawFn) -> SimpleNamespace:
    """A calibration that is right but for up to three numbers, the length of its distortion, or its model."""
    k = [300.0, 0.0, 16.0, 0.0, 300.0, 12.0, 0.0, 0.0, 1.0]
    for place, value in draw(st.lists(st.tuples(st.integers(0, 8), number), max_size=3)):
        k[place] = value
    return SimpleNamespace(
        width=draw(st.sampled_from((32, 32, 0, 1, 20000, 2**32 - 1))),
        height=draw(st.sampled_from((24, 24, 0, 1, 20000))),
        distortion_model=draw(st.sampled_from(("plumb_bob", "plumb_bob", "rational_polynomial", "equidistant", ""))),
        k=k,
        d=draw(st.lists(number, max_size=9) | st.just([0.0] * 5)),
    )


@fuzz(0.1)
@given(camera_infos(), camera_infos(), st.lists(number, min_size=9, max_size=9) | st.just(np.eye(3).ravel().tolist()))
def test_camera_infos(rgb: SimpleNamespace, thermal: SimpleNamespace, rotation: list[float]) -> None:
    """Refused with a sentence, or tables that are finite."""
    try:
        options: RegistrationOptions = options_from_camera_infos(rgb, thermal, rotation, (0.0, 0.0, 0.0))
        made = Registration(options, (32, 24), (32, 24))
    except ValueError as error:
        assert len(str(error)) > 20
    else:
        assert 0.0 <= made.coverage <= 1.0
