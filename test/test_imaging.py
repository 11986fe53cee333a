"""Image messages to arrays: every plain encoding, padding and byte order; lies in the header; thermal scaling."""

from __future__ import annotations

import array
import tracemalloc
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_ros.imaging import (
    MAX_COMPRESSED_BYTES,
    ImagingError,
    rgb_from_compressed,
    rgb_from_image,
    thermal_from_compressed,
    thermal_from_image,
    thermal_to_uint8,
)

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 2**16, (5, 7), np.uint16)


@dataclass
class Message:
    height: int
    width: int
    encoding: str
    step: int
    is_bigendian: int
    data: Any


@dataclass
class Compressed:
    format: str
    data: Any


def message(image: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Message:
    """An image message as a driver would fill it, each row followed by ``padding`` bytes of noise."""
    if image.dtype == np.uint16:
        image = image.astype(">u2" if big else "<u2")
    height, width = image.shape[:2]
    rows = np.frombuffer(image.tobytes(), np.uint8).reshape(height, -1)
    rows = np.concatenate([rows, RNG.integers(0, 256, (height, padding), np.uint8)], axis=1)
    return Message(height, width, encoding, rows.shape[1], int(big), array.array("B", rows.tobytes()))


def with_alpha(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image, np.full((*image.shape[:2], 1), 9, np.uint8)], axis=2)


COLOURS = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "8UC3": RGB[..., ::-1],
    "rgba8": with_alpha(RGB),
    "bgra8": with_alpha(RGB[..., ::-1]),
}


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize("encoding", COLOURS)
def test_colour_encodings_are_views(encoding: str, padding: int) -> None:
    source = message(COLOURS[encoding], encoding, padding)
    image = rgb_from_image(source)
    np.testing.assert_array_equal(image, RGB)
    assert np.shares_memory(image, np.frombuffer(source.data, np.uint8))


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_a_grey_rgb_camera_is_repeated_without_a_copy(encoding: str) -> None:
    source = message(GREY, encoding, 3)
    image = rgb_from_image(source)
    np.testing.assert_array_equal(image, np.stack([GREY] * 3, axis=2))
    assert np.shares_memory(image, np.frombuffer(source.data, np.uint8))


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_thermal_of_8_bits_is_a_view(encoding: str, padding: int) -> None:
    source = message(GREY, encoding, padding)
    image = thermal_from_image(source)
    np.testing.assert_array_equal(image, GREY)
    assert np.shares_memory(image, np.frombuffer(source.data, np.uint8))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 2, 6])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_thermal_of_16_bits_has_native_byte_order(encoding: str, padding: int, big: bool) -> None:
    source = message(DEEP, encoding, padding, big)
    image = thermal_from_image(source)
    np.testing.assert_array_equal(image, DEEP)
    assert image.dtype == np.uint16 and image.dtype.isnative and image.flags.aligned
    if padding % 2 == 0 and not big:
        assert np.shares_memory(image, np.frombuffer(source.data, np.uint8))


def test_thermal_in_colour_becomes_grey() -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    for encoding, image in (("bgr8", grey), ("rgb8", grey), ("rgba8", with_alpha(grey)), ("bgra8", with_alpha(grey))):
        np.testing.assert_array_equal(thermal_from_image(message(image, encoding, 2)), GREY)
    np.testing.assert_array_equal(
        thermal_from_image(message(RGB, "rgb8")), thermal_from_image(message(RGB[..., ::-1], "bgr8"))
    )


@pytest.mark.parametrize("kind", ["bytes", "array", "numpy", "memoryview"])
def test_any_buffer_will_do(kind: str) -> None:
    source = message(RGB, "rgb8")
    raw = source.data.tobytes()
    source.data = {
        "bytes": raw,
        "array": array.array("B", raw),
        "numpy": np.frombuffer(raw, np.uint8),
        "memoryview": memoryview(raw),
    }[kind]
    np.testing.assert_array_equal(rgb_from_image(source), RGB)


def lie(**fields: Any) -> Message:
    source = message(RGB, "rgb8")
    for name, value in fields.items():
        setattr(source, name, value)
    return source


LIES = [
    (lie(height=0), "empty"),
    (lie(width=0), "empty"),
    (lie(height=0, width=0, step=0, data=b""), "empty"),
    (lie(height=20000, width=20000, step=60000), "oversize"),
    (lie(height=16000, width=16000, step=48000), "oversize"),
    (lie(height=1, width=2**31, step=2**31), "oversize"),
    (lie(step=0), "step"),
    (lie(step=20), "step"),
    (lie(step=22), "data"),
    (lie(step=2**32 - 1), "data"),
    (lie(data=b""), "data"),
    (lie(data=bytes(104)), "data"),
    (lie(data=bytes(106)), "data"),
    (lie(data=[1, 2, 3]), "data"),
    (lie(height=4000, width=4000, step=12000), "data"),
    (lie(encoding="bgra8"), "step"),
    (lie(encoding="yuv422_yuy2"), "encoding"),  # 7 pixels have no pairs
    (lie(encoding="uyvy", step=13, data=bytes(65)), "step"),
    (lie(encoding="bayer_rggb16", step=13, data=bytes(65)), "step"),
    (lie(encoding="bayer_rggb8", height=1, data=bytes(21)), "encoding"),
    (lie(encoding="bayer_rggb8", data=bytes(104)), "data"),
    (lie(encoding="nv21"), "encoding"),
    (lie(encoding=""), "encoding"),
    (lie(encoding="x" * 100_000), "encoding"),
    (lie(encoding="64FC1024"), "encoding"),
]


@pytest.mark.parametrize("read", [rgb_from_image, thermal_from_image])
@pytest.mark.parametrize(("source", "reason"), LIES)
def test_a_header_that_lies_is_refused_before_memory_is_taken(read: Any, source: Message, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImagingError) as refusal:
            read(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal.value.reason == reason
    assert len(str(refusal.value)) < 400 and str(refusal.value).rstrip().endswith(".")
    assert peak < 1_000_000


def test_a_16_bit_image_on_the_rgb_topic_hints_at_swapped_topics() -> None:
    with pytest.raises(ImagingError, match="swapped"):
        rgb_from_image(message(DEEP, "16UC1"))


@pytest.mark.parametrize("encoding", ["32FC1", "64FC1", "16SC1", "8SC1"])
def test_thermal_without_a_scale_is_refused_even_with_a_converter(encoding: str) -> None:
    def converter(source: Any, desired: str) -> np.ndarray:
        raise AssertionError("must not be asked")

    with pytest.raises(ImagingError, match="scale") as refusal:
        thermal_from_image(lie(encoding=encoding), converter)
    assert refusal.value.reason == "encoding"


def test_other_encodings_go_through_the_converter() -> None:
    asked: list[str] = []

    def converter(source: Any, desired: str) -> np.ndarray:
        asked.append(desired)
        return {"rgb8": RGB, "mono8": GREY, "mono16": DEEP}[desired]

    np.testing.assert_array_equal(rgb_from_image(lie(encoding="nv21"), converter), RGB)
    np.testing.assert_array_equal(thermal_from_image(lie(encoding="nv21"), converter), GREY)
    np.testing.assert_array_equal(thermal_from_image(lie(encoding="rgb16"), converter), DEEP)
    assert asked == ["rgb8", "mono8", "mono16"]


def mosaic(order: str, colour: tuple[int, int, int], dtype: type = np.uint8) -> np.ndarray:
    """6 rows and 8 columns of a Bayer sensor that looks at one colour."""
    cell = np.array(["rgb".index(c) for c in order]).reshape(2, 2)
    return np.array(colour, dtype)[np.tile(cell, (3, 4))]


def no_converter(source: Any, desired: str) -> np.ndarray:
    raise AssertionError("must not be asked")


@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("padding", [0, 3])
def test_bayer_mosaics_are_decoded_without_cv_bridge(order: str, padding: int) -> None:
    colour = (200, 100, 30)
    source = message(mosaic(order, colour), f"bayer_{order}8", padding)
    image = rgb_from_image(source, no_converter)
    assert (image.shape, image.dtype) == ((6, 8, 3), np.uint8)
    np.testing.assert_array_equal(image[2:4, 2:6].reshape(-1, 3), [colour] * 8)
    assert (thermal_from_image(source)[2:4, 2:6] == 122).all()  # 0.299 R + 0.587 G + 0.114 B
    for big in (False, True):
        deep = message(mosaic(order, tuple(c * 257 for c in colour), np.uint16), f"bayer_{order}16", 2 * padding, big)
        np.testing.assert_array_equal(rgb_from_image(deep)[2:4, 2:6].reshape(-1, 3), [colour] * 8)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"), ("yuyv", "YUYV")]
)
def test_yuv_422_is_decoded_without_cv_bridge(encoding: str, order: str, padding: int) -> None:
    # BT.601 in its limited range: Y 120, U 90, V 200 is R 236, G 77, B 44.
    luma = iter([120, 120])
    pair = [next(luma) if c == "Y" else {"U": 90, "V": 200}[c] for c in order]
    source = message(np.tile(np.array(pair, np.uint8), (4, 5)), encoding, padding)
    source.width = 10
    np.testing.assert_array_equal(rgb_from_image(source, no_converter).reshape(-1, 3), [(236, 77, 44)] * 40)
    assert (thermal_from_image(source, no_converter) == 120).all()


def test_a_converter_is_not_trusted() -> None:
    def broken(source: Any, desired: str) -> np.ndarray:
        raise SystemError("numpy 1 and numpy 2 are not the same")

    def odd(source: Any, desired: str) -> np.ndarray:
        return np.zeros((5, 7, 4), np.float64)

    for converter in (broken, odd):
        for read in (rgb_from_image, thermal_from_image):
            with pytest.raises(ImagingError) as refusal:
                read(lie(encoding="nv21"), converter)
            assert refusal.value.reason == "encoding"
    with pytest.raises(ImagingError) as refusal:
        rgb_from_image(lie(encoding="nv21", data=b"12"), odd)
    assert refusal.value.reason == "data", "a lying header must not reach the converter"


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(0, 2**32 - 1) | st.integers(0, 8),
    width=st.integers(0, 2**32 - 1) | st.integers(0, 8),
    step=st.integers(0, 2**32 - 1) | st.integers(0, 40),
    encoding=st.sampled_from([*COLOURS, "mono8", "mono16", "16UC1", "8UC1", "yuv422", "bayer_grbg16", "32FC1"])
    | st.text(max_size=20),
    big=st.booleans(),
    data=st.binary(max_size=300),
)
def test_no_message_breaks_more_than_itself(
    height: int, width: int, step: int, encoding: str, big: bool, data: bytes
) -> None:
    source = Message(height, width, encoding, step, int(big), data)
    for read in (rgb_from_image, thermal_from_image):
        try:
            image = read(source)
        except ImagingError as error:
            assert error.reason in ("empty", "oversize", "step", "data", "encoding")
        else:
            assert image.shape[:2] == (height, width)
            image.max()  # every pixel can be read


def encoded(image: np.ndarray, suffix: str) -> Compressed:
    done, data = cv2.imencode(suffix, image)
    assert done
    return Compressed(suffix[1:], array.array("B", data.tobytes()))


def test_png_messages_are_exact() -> None:
    np.testing.assert_array_equal(rgb_from_compressed(encoded(RGB[..., ::-1], ".png")), RGB)
    np.testing.assert_array_equal(thermal_from_compressed(encoded(GREY, ".png")), GREY)
    deep = thermal_from_compressed(encoded(DEEP, ".png"))
    assert deep.dtype == np.uint16
    np.testing.assert_array_equal(deep, DEEP)


def test_jpeg_messages_have_red_first() -> None:
    red = np.zeros((16, 24, 3), np.uint8)
    red[..., 2] = 250  # blue, green, red for the encoder
    image = rgb_from_compressed(encoded(red, ".jpg"))
    assert image.shape == (16, 24, 3) and image[..., 0].min() > 240 and image[..., 1:].max() < 10
    assert thermal_from_compressed(encoded(np.full((16, 24), 99, np.uint8), ".jpg")).shape == (16, 24)


def test_flat_images_are_not_taken_for_bombs() -> None:
    for suffix in (".png", ".jpg"):
        for shape in ((2048, 2048), (2048, 2048, 3)):
            flat = encoded(np.zeros(shape, np.uint8), suffix)
            assert rgb_from_compressed(flat).shape == (2048, 2048, 3)
            assert thermal_from_compressed(flat).shape == (2048, 2048)


def png_header(width: int, height: int) -> bytes:
    start = bytearray(encoded(RGB, ".png").data.tobytes())
    start[16:20], start[20:24] = width.to_bytes(4, "big"), height.to_bytes(4, "big")
    return bytes(start)


def jpeg_header(width: int, height: int) -> bytes:
    start = bytearray(encoded(RGB, ".jpg").data.tobytes())
    frame = start.index(b"\xff\xc0")
    start[frame + 5 : frame + 7], start[frame + 7 : frame + 9] = height.to_bytes(2, "big"), width.to_bytes(2, "big")
    return bytes(start)


@pytest.mark.parametrize("read", [rgb_from_compressed, thermal_from_compressed])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "decode"),
        (b"\xff\xd8", "decode"),
        (b"\xff\xd8\xff\xe0\x00", "decode"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 50, "decode"),
        (b"GIF89a" + bytes(100), "decode"),
        (bytes(12) + png_header(7, 5), "decode"),  # compressedDepth puts its own header before the PNG
        (png_header(7, 5)[:40], "decode"),
        (png_header(7, 5)[:-12] + b"\x40\x00\x00\x00IDAT", "decode"),  # OpenCV would take 1 GB for this chunk
        (png_header(60000, 60000), "oversize"),
        (png_header(8000, 8000), "data"),
        (jpeg_header(8000, 8000), "data"),
        (png_header(0, 5), "empty"),
        (jpeg_header(65000, 65000), "oversize"),
        ([1, 2], "data"),
    ],
)
def test_compressed_messages_that_are_none_are_refused(read: Any, data: Any, reason: str) -> None:
    with pytest.raises(ImagingError) as refusal:
        read(Compressed("jpeg", data))
    assert refusal.value.reason == reason


def test_a_compressed_message_of_absurd_length_is_not_decoded() -> None:
    one_byte_too_many = np.broadcast_to(np.uint8(0), (MAX_COMPRESSED_BYTES + 1,))  # takes the memory of one byte
    with pytest.raises(ImagingError) as refusal:
        rgb_from_compressed(Compressed("png", one_byte_too_many))
    assert refusal.value.reason == "oversize"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_damaged_files_never_raise_anything_else(noise: bytes, position: int, value: int) -> None:
    for file in (png_header(7, 5), jpeg_header(7, 5)):
        spoiled = bytearray(file)
        spoiled[position % len(file)] = value
        for data in (bytes(spoiled), file[: position % len(file)], file[:2] + noise, file[:8] + noise):
            for read in (rgb_from_compressed, thermal_from_compressed):
                try:
                    image = read(Compressed("", data))
                except ImagingError as error:
                    assert error.reason in ("decode", "empty", "oversize", "data")
                else:
                    assert image.size > 0


def test_8_bit_thermal_is_left_alone() -> None:
    assert thermal_to_uint8(GREY) is GREY or np.shares_memory(thermal_to_uint8(GREY), GREY)


def test_16_bit_thermal_fills_the_range_and_ignores_dead_pixels() -> None:
    scene = np.linspace(7000, 9000, 512 * 640).reshape(512, 640).astype(np.uint16)
    scene[::97, ::89] = 0
    scene[5, :40] = 65535
    scaled = thermal_to_uint8(scene)
    assert scaled.dtype == np.uint8 and scaled.shape == scene.shape
    assert abs(int(scaled[scene == 8000].mean()) - 127) <= 2
    assert (scaled[scene < 7015] <= 2).all() and (scaled[scene > 8985] >= 253).all()
    order = np.argsort(scene, axis=None)
    assert (np.diff(scaled.reshape(-1)[order].astype(int)) >= 0).all(), "warmer must never look colder"


def test_a_flat_scene_is_not_stretched_into_its_noise() -> None:
    scene = RNG.normal(7500, 5, (120, 160)).astype(np.uint16)
    scaled = thermal_to_uint8(scene)
    assert scaled.std() < 6
    assert abs(scaled.mean() - 127.5) < 3
    assert (thermal_to_uint8(np.full((1, 1), 65535, np.uint16)) < 255).all()


@settings(max_examples=100, deadline=None)
@given(low=st.integers(0, 65535), span=st.integers(0, 65535), seed=st.integers(0, 99), rows=st.integers(1, 300))
def test_thermal_scaling_is_total_and_monotonic(low: int, span: int, seed: int, rows: int) -> None:
    high = min(65535, low + span)
    scene = np.random.default_rng(seed).integers(low, high + 1, (rows, 33)).astype(np.uint16)
    scaled = thermal_to_uint8(scene)
    order = np.argsort(scene, axis=None)
    assert (np.diff(scaled.reshape(-1)[order].astype(int)) >= 0).all()
    if high - low < 255:
        assert int(scaled.max()) - int(scaled.min()) <= high - low + 1, "one count became more than one grey level"


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 3), np.float32), np.zeros((3, 3, 1), np.uint16), np.zeros((0, 3), np.uint16)]
)
def test_what_is_no_thermal_image_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="thermal"):
        thermal_to_uint8(bad)
