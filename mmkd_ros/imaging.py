"""Image messages -> arrays, and the thermal scaling. No ROS here: every function reads plain fields.

A message is anything with ``height, width, encoding, step, is_bigendian, data`` (or ``format, data`` for a compressed
one), so rclpy's messages and those a bag reader deserialises both fit. Arrays are views of the message's own buffer
wherever the encoding allows: treat them as read-only.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_ros.camera_encodings import CAMERA_ENCODINGS, decode_camera
from mmkd_ros.distribution import apt_package

MAX_SIDE = 16384
MAX_PIXELS = 2**26
MAX_COMPRESSED_BYTES = 2**27
# Deflate packs at most 1032 bytes into one, JPEG fewer: a small file that claims more pixels is a lie or a bomb.
MAX_PIXELS_PER_BYTE = 1032

_MAX_PNG_CHUNKS = 2**16
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8"
# Encodings that are read without help -> (channels, bytes a channel).
PLAIN_ENCODINGS = {
    "rgb8": (3, 1),
    "bgr8": (3, 1),
    "8UC3": (3, 1),
    "rgba8": (4, 1),
    "bgra8": (4, 1),
    "mono8": (1, 1),
    "8UC1": (1, 1),
    "mono16": (1, 2),
    "16UC1": (1, 2),
}

Thermal = NDArray[np.uint8] | NDArray[np.uint16]
Converter = Callable[[Any, str], NDArray[Any]]
"""(message, desired encoding) -> array, as ``cv_bridge.CvBridge().imgmsg_to_cv2``."""


class ImagingError(ValueError):
    """An image message that cannot be used: a sentence with cause and cure, and a short ``reason`` to count it by.

    Reasons: ``empty`` (no pixels), ``oversize``, ``step``, ``data`` (its length contradicts the header), ``encoding``,
    ``decode``.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class RawImage(Protocol):
    """The fields of sensor_msgs/Image that are read."""

    height: int
    width: int
    encoding: str
    step: int
    is_bigendian: Any
    data: Any


class CompressedImage(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read."""

    format: str
    data: Any


def thermal_to_uint8(
    thermal: Thermal, *, low_percentile: float = 1.0, high_percentile: float = 99.0, min_span: float = 255.0
) -> NDArray[np.uint8]:
    """Bring a thermal image to the 8-bit range that the network reads.

    8 bit is returned as it is. 16 bit is scaled per frame: the given percentiles, over a regular subsample of about
    16,000 pixels, become 0 and 255 and what lies outside saturates, so that dead pixels and one hot exhaust do not set
    the scale. The span is at least ``min_span`` counts around the same centre: with the default, one count never
    becomes more than one grey level, so that a flat scene is not stretched into its noise.

    Args:
        thermal: (H, W) uint8 or uint16 counts.
        low_percentile: 0..100.
        high_percentile: above ``low_percentile``, up to 100.
        min_span: counts, positive.

    Returns:
        (H, W) uint8; for 8-bit input the same array, not a copy.

    Raises:
        ValueError: another shape or dtype.
    """
    if thermal.ndim != 2 or thermal.dtype not in (np.uint8, np.uint16) or thermal.size == 0:
        raise ValueError(f"A thermal image is (H, W) uint8 or uint16, got {thermal.shape} {thermal.dtype}; convert it.")
    if thermal.dtype == np.uint8:
        return thermal.view(np.uint8)
    stride = max(1, math.isqrt(thermal.size // 16384))
    low, high = np.percentile(thermal[::stride, ::stride], (low_percentile, high_percentile))
    span = max(float(high - low), min_span)
    floor = max(0, round(float(low + high - span) / 2))
    # One look-up a pixel: no float copy of the image, and every count has one grey level whatever its neighbours.
    counts = np.arange(2**16, dtype=np.float32)
    table = np.clip((counts - floor) * (255.0 / span) + 0.5, 0.0, 255.0).astype(np.uint8)
    scaled: NDArray[np.uint8] = table[thermal]
    return scaled


def fingerprint(image: NDArray[Any]) -> int:
    """A number that stays the same while the pixels do, to tell a camera that hangs from one that looks at a still
    scene, whose noise changes some pixel in every image.

    Args:
        image: (H, W) or (H, W, C) of any dtype, a view too; at most 64x64 pixels of it, on a regular grid, are read.

    Returns:
        32 bits (CRC-32).
    """
    rows, columns = (max(1, math.ceil(side / 64)) for side in image.shape[:2])
    return zlib.crc32(image[::rows, ::columns].tobytes())


def rgb_from_image(message: RawImage, converter: Converter | None = None) -> NDArray[np.uint8]:
    """Read a colour image.

    Args:
        message: bgr8, rgb8, bgra8, rgba8, 8UC3 (taken as bgr8, OpenCV's order), mono8 and 8UC1 (grey, repeated three
            times) are views of its data; YUV 4:2:2 and Bayer mosaics (``CAMERA_ENCODINGS``) are decoded; every other
            encoding goes through ``converter``.
        converter: called as ``converter(message, "rgb8")``; None refuses the other encodings.

    Returns:
        (H, W, 3) uint8, red first; usually a strided view of the message's data.

    Raises:
        ImagingError: a header that contradicts the data, an encoding that nothing here can read, or 16-bit grey.
    """
    if message.encoding in ("mono16", "16UC1"):
        raise ImagingError(
            "encoding",
            f"The RGB topic carries {message.encoding} images, which is what a thermal camera sends: check that "
            "rgb_topic and thermal_topic are not swapped.",
        )
    if message.encoding not in PLAIN_ENCODINGS:
        image = _converted(message, converter, "rgb8")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise _unfit_conversion(message, image)
        return image
    image = _view(message)
    if message.encoding in ("mono8", "8UC1"):
        return np.broadcast_to(image, (*image.shape[:2], 3))
    if message.encoding in ("rgb8", "rgba8"):
        return image[..., :3]
    return image[..., 2::-1]


def thermal_from_image(message: RawImage, converter: Converter | None = None) -> Thermal:
    """Read a thermal image.

    Args:
        message: mono8, 8UC1, mono16 and 16UC1 are views of its data (a big-endian 16-bit image is copied into native
            order); the 8-bit colour encodings and ``CAMERA_ENCODINGS`` are turned to grey of 8 bits; every other one
            goes through ``converter``.
        converter: called as ``converter(message, "mono8")``, or ``"mono16"`` for an encoding of 16 bits; None refuses
            those encodings.

    Returns:
        (H, W) uint8 or uint16, native byte order.

    Raises:
        ImagingError: a header that contradicts the data, or an encoding that nothing here can read. Floating-point and
            signed images are always refused, since turning them into counts needs a scale that no message carries.
    """
    if message.encoding not in PLAIN_ENCODINGS:
        if message.encoding.startswith(("32", "64")) or "S" in message.encoding:
            raise ImagingError(
                "encoding",
                f"A thermal image in {_short(message.encoding)} has no known scale: let the driver publish 16UC1 "
                "counts (centikelvin, for example) or mono8.",
            )
        image = _converted(message, converter, "mono16" if "16" in message.encoding else "mono8")
        if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
            raise _unfit_conversion(message, image)
        return image
    image = _view(message)
    if image.shape[2] == 1:
        return image[..., 0]
    code = {
        "rgb8": cv2.COLOR_RGB2GRAY,
        "rgba8": cv2.COLOR_RGBA2GRAY,
        "bgra8": cv2.COLOR_BGRA2GRAY,
    }.get(message.encoding, cv2.COLOR_BGR2GRAY)
    grey: NDArray[np.uint8] = np.asarray(cv2.cvtColor(image, code), np.uint8)
    return grey


def rgb_from_compressed(message: CompressedImage) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG message into (H, W, 3) uint8, red first (a view of the decoded blue-first array).

    Raises:
        ImagingError: no JPEG or PNG, a size over the limits or out of proportion to the data (both read from the file's
            header, before decoding), or damaged data.
    """
    return _decoded(message, cv2.IMREAD_COLOR)[..., ::-1]


def thermal_from_compressed(message: CompressedImage) -> Thermal:
    """Decode a JPEG or PNG message into (H, W) uint8, or uint16 for a 16-bit PNG; colour becomes grey.

    Raises:
        ImagingError: as ``rgb_from_compressed``.
    """
    return _decoded(message, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)


def _view(message: RawImage) -> NDArray[Any]:
    """(H, W, C) view of a plain encoding; nothing is allocated before header and data agree."""
    channels, width_bytes = PLAIN_ENCODINGS[message.encoding]
    _check_header(message, channels * width_bytes)
    dtype = np.dtype(np.uint8) if width_bytes == 1 else np.dtype(">u2" if message.is_bigendian else "<u2")
    image: NDArray[Any] = np.ndarray(
        (message.height, message.width, channels),
        dtype,
        buffer=message.data,
        strides=(message.step, channels * width_bytes, width_bytes),
    )
    if not dtype.isnative or not image.flags.aligned:
        return image.astype(dtype.newbyteorder("="))
    return image


def _check_header(message: RawImage, pixel_bytes: int) -> None:
    """Refuse a header that lies about its data. ``pixel_bytes`` is the least a pixel takes."""
    height, width, step = message.height, message.width, message.step
    _check_size(height, width)
    if step < width * pixel_bytes:
        raise ImagingError(
            "step",
            f"The image header says step {step}, but a row of {width} pixels in {_short(message.encoding)} takes at "
            f"least {width * pixel_bytes} bytes; correct the camera driver's step or encoding.",
        )
    size = _buffer(message.data).nbytes
    if size != step * height:
        raise ImagingError(
            "data",
            f"The image holds {size} bytes of data, but its header (height {height}, step {step}) needs "
            f"{step * height}; the message was cut short or the driver's header is wrong.",
        )


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ImagingError("empty", f"The image has no pixels ({width}x{height}); check that the camera streams.")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ImagingError(
            "oversize",
            f"The image claims {width}x{height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are read. "
            "Scale it down before publishing.",
        )


def _buffer(data: Any) -> memoryview:
    try:
        return memoryview(data)
    except TypeError as error:
        raise ImagingError("data", f"The image data is a {type(data).__name__}, not a buffer of bytes.") from error


def _short(encoding: str) -> str:
    """The encoding as it may appear in a log line: the field is free text from another process."""
    return repr(encoding[:32])


def needs_converter(encoding: str) -> bool:
    """Whether an encoding is neither plain nor one that OpenCV alone decodes."""
    return encoding not in PLAIN_ENCODINGS and encoding not in CAMERA_ENCODINGS


def _camera_image(message: RawImage, grey: bool) -> NDArray[Any]:
    """An image in YUV 4:2:2 or in a Bayer mosaic: (H, W) or (H, W, 3) uint8."""
    _check_header(message, CAMERA_ENCODINGS[message.encoding][0])
    size = message.height, message.width
    try:
        return np.asarray(
            decode_camera(message.data, message.encoding, size, message.step, bool(message.is_bigendian), grey)
        )
    except ValueError as error:
        raise ImagingError("encoding", f"The image cannot be decoded: {error}; correct the driver's size.") from error


def _converted(message: RawImage, converter: Converter | None, desired: str) -> NDArray[Any]:
    if message.encoding in CAMERA_ENCODINGS:
        return _camera_image(message, desired != "rgb8")
    _check_header(message, 1)
    if converter is None:
        raise ImagingError(
            "encoding",
            f"Images in {_short(message.encoding)} need cv_bridge, which is absent or broken here: install "
            f"{apt_package('cv_bridge')} (with a numpy below 2), or publish one of {', '.join(PLAIN_ENCODINGS)}.",
        )
    try:
        return np.asarray(converter(message, desired))
    except Exception as error:  # a foreign converter may raise anything
        raise ImagingError(
            "encoding",
            f"Converting {_short(message.encoding)} to {desired} failed ({str(error)[:200]}); "
            f"publish one of {', '.join(PLAIN_ENCODINGS)}.",
        ) from error


def _unfit_conversion(message: RawImage, image: NDArray[Any]) -> ImagingError:
    return ImagingError(
        "encoding",
        f"Converting {_short(message.encoding)} gave an array {image.shape} {image.dtype}, which is no such image; "
        f"publish one of {', '.join(PLAIN_ENCODINGS)}.",
    )


def _decoded(message: CompressedImage, flags: int) -> NDArray[Any]:
    buffer = _buffer(message.data)
    if buffer.nbytes > MAX_COMPRESSED_BYTES:
        raise ImagingError(
            "oversize", f"The compressed image holds {buffer.nbytes} bytes; at most {MAX_COMPRESSED_BYTES} are decoded."
        )
    height, width = _encoded_size(buffer.cast("B"), message.format)
    _check_size(height, width)
    if height * width > MAX_PIXELS_PER_BYTE * buffer.nbytes:
        raise ImagingError(
            "data",
            f"The compressed image claims {width}x{height} pixels in {buffer.nbytes} bytes, which no encoder achieves; "
            "it was cut short or made to fill the memory.",
        )
    _check_png_chunks(buffer.cast("B"))
    try:
        # The sensor's own pixel grid: an EXIF rotation would move every box.
        image = cv2.imdecode(np.frombuffer(buffer, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImagingError("decode", f"The compressed image is damaged ({str(error)[:200].strip()}).") from error
    if image is None:
        raise ImagingError("decode", "The compressed image is damaged and cannot be decoded; check the encoder.")
    return image


def _check_png_chunks(data: memoryview) -> None:
    """Refuse a PNG file with a chunk that claims more bytes than there are: OpenCV takes them all before it reads."""
    if data[:8] != _PNG_MAGIC:
        return
    position = 8
    for _ in range(_MAX_PNG_CHUNKS):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        position += 12 + length
        if position > len(data):
            break
        if kind == b"IEND":
            return
    raise ImagingError("decode", "The PNG image is damaged or was cut short; check the encoder.")


def _encoded_size(data: memoryview, declared: str) -> tuple[int, int]:
    """(height, width) from the header of a PNG or JPEG file, without decoding it."""
    if data[:8] == _PNG_MAGIC and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if data[:2] != _JPEG_MAGIC:
        raise ImagingError(
            "decode",
            f"The compressed image (format {_short(declared)}) is neither JPEG nor PNG; publish one of these two "
            "(image_transport's 'compressed', not 'compressedDepth' or 'theora').",
        )
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            size = data[position + 5 : position + 9]
            return int.from_bytes(size[:2], "big"), int.from_bytes(size[2:], "big")
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ImagingError("decode", "The JPEG image has no readable frame header; it is damaged or was cut short.")
