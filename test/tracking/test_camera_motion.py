"""Camera motion: known maps are found again, what moves by itself does not count, and nothing is made up."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmkd_ros.tracking import DeepSort, TrackerOptions
from mmkd_ros.tracking.camera_motion import CameraMotion
from mmkd_ros.tracking.kalman import KalmanFilter
from mmkd_ros.types import Detections, ImagePair

WIDTH, HEIGHT = 640, 512
NO_BOXES = np.zeros((0, 4), np.float32)


def texture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Grey blobs of about 16 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def similarity(turn: float, scale: float, x: float, y: float) -> NDArray[np.float64]:
    """Turn and scale about the centre of the picture, then a shift."""
    motion = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), np.degrees(turn), scale)
    motion[:, 2] += (x, y)
    return np.asarray(motion, np.float64)


def warped(image: NDArray[np.uint8], motion: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(cv2.warpAffine(image, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT), np.uint8)


def colour(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def error_px(got: NDArray[np.float64] | None, motion: NDArray[np.float64]) -> float:
    """Largest distance of where the two maps take the picture's inner points."""
    assert got is not None
    points = np.array([[x, y, 1] for x in (100, 320, 540) for y in (100, 256, 400)], float)
    return float(np.abs(points @ got.T - points @ motion.T).max())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(-0.05, 0.05), st.floats(0.95, 1.05), st.floats(-15, 15), st.floats(-15, 15))
def test_a_known_motion_is_found_again(seed: int, turn: float, scale: float, x: float, y: float) -> None:
    motion, image = similarity(turn, scale, x, y), texture(seed)
    camera = CameraMotion()
    assert camera.estimate(ImagePair(colour(image), None, 0.0), NO_BOXES) is None
    assert error_px(camera.estimate(ImagePair(colour(warped(image, motion)), None, 0.1), NO_BOXES), motion) < 1.0
    assert camera.used == {"rgb": 1} and camera.skipped == {"first": 1}


@pytest.mark.parametrize("masked", [True, False])
def test_what_moves_by_itself_does_not_win(masked: bool) -> None:
    """A third of the picture goes left while the camera's picture goes right."""
    background, truck = texture(1), texture(2)
    motion = similarity(0.0, 1.0, 6.0, 0.0)
    first, second = background.copy(), warped(background, motion)
    first[100:400, 200:520] = truck[100:400, 200:520]
    second[100:400, 188:508] = truck[100:400, 200:520]
    boxes = np.array([[200, 100, 520, 400]], np.float32) if masked else NO_BOXES
    camera = CameraMotion()
    camera.estimate(ImagePair(colour(first), None, 0.0), boxes)
    assert error_px(camera.estimate(ImagePair(colour(second), None, 0.1), boxes), motion) < 1.0


def test_a_masked_object_may_even_fill_most_of_the_picture() -> None:
    background, truck = texture(1), texture(2)
    motion = similarity(0.0, 1.0, 6.0, 0.0)
    first, second = background.copy(), warped(background, motion)
    first[60:450, 160:480] = truck[60:450, 160:480]
    second[60:450, 148:468] = truck[60:450, 160:480]
    camera = CameraMotion()
    camera.estimate(ImagePair(colour(first), None, 0.0), np.array([[160, 60, 480, 450]], np.float32))
    assert error_px(camera.estimate(ImagePair(colour(second), None, 0.1), NO_BOXES), motion) < 1.0


def test_thermal_is_asked_where_rgb_shows_nothing_and_speaks_in_pixels_of_rgb() -> None:
    motion, image = similarity(0.02, 1.01, 8.0, -4.0), texture(3)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def thermal(grey: NDArray[np.uint8]) -> NDArray[np.uint16]:
        return np.asarray(cv2.resize(grey, (320, 240), interpolation=cv2.INTER_AREA), np.uint16) * 4 + 8000

    camera = CameraMotion()
    camera.estimate(ImagePair(black, thermal(image), 0.0), NO_BOXES)
    got = camera.estimate(ImagePair(black, thermal(warped(image, motion)), 0.1), NO_BOXES)
    assert error_px(got, motion) < 2.0
    assert camera.used == {"thermal": 1}


def test_nothing_is_made_up() -> None:
    camera = CameraMotion()
    blank = ImagePair(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), None, 0.0)
    assert camera.estimate(blank, NO_BOXES) is None and camera.estimate(replace(blank, stamp=0.1), NO_BOXES) is None
    camera.estimate(ImagePair(colour(texture(1)), None, 0.2), NO_BOXES)
    # another picture altogether
    assert camera.estimate(ImagePair(colour(texture(2)), None, 0.3), NO_BOXES) is None
    # another size
    assert camera.estimate(ImagePair(colour(texture(2, 640, 320)), None, 0.4), NO_BOXES) is None
    assert sum(camera.skipped.values()) == 5 and not camera.used
    camera.reset()
    assert camera.estimate(ImagePair(colour(texture(2, 640, 320)), None, 0.5), NO_BOXES) is None


def test_a_late_frame_changes_nothing() -> None:
    motion, image = similarity(0.0, 1.0, 5.0, 0.0), texture(1)
    camera = CameraMotion()
    camera.estimate(ImagePair(colour(image), None, 1.0), NO_BOXES)
    assert camera.estimate(ImagePair(colour(texture(2)), None, 0.9), NO_BOXES) is None
    assert camera.skipped == {"first": 1, "late": 1}
    assert error_px(camera.estimate(ImagePair(colour(warped(image, motion)), None, 1.1), NO_BOXES), motion) < 1.0


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (64, 64)])
def test_small_pictures_and_boxes_without_sense_do_no_harm(size: tuple[int, int]) -> None:
    camera = CameraMotion()
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    boxes = np.array([[np.nan, 0, 1, 1], [-1e9, -1e9, 1e9, 1e9], [5, 5, 1, 1], [0, 0, np.inf, 2]], np.float32)
    for number in range(3):
        got = camera.estimate(ImagePair(image, None, float(number)), boxes)
        assert got is None or np.allclose(got, np.eye(2, 3), atol=0.2)


@pytest.mark.parametrize("state", ["aspect", "size"])
def test_tracks_move_with_the_picture(state: str) -> None:
    """Mean and covariance against the plain matrix form, per track; and a picture twice as large."""
    rng = np.random.default_rng(0)
    kalman = KalmanFilter(state=state)
    means, covariances = kalman.initiate(np.array([[50.0, 60.0, 0.5, 100.0], [10.0, 20.0, 0.4, 30.0]]))
    means, covariances = kalman.predict(means + rng.normal(size=means.shape), covariances, 0.1)
    turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    motion = np.column_stack((1.2 * turn, (7.0, -3.0)))
    third = 1.0 if state == "aspect" else 1.2
    block = np.zeros((4, 4))
    block[:2, :2], block[2, 2], block[3, 3] = 1.2 * turn, third, 1.2
    full = np.zeros((8, 8))
    full[:4, :4] = full[4:, 4:] = block
    got_means, got = kalman.compensate(means, covariances, motion)
    for i in range(2):
        expected = full @ means[i]
        expected[:2] += (7.0, -3.0)
        assert np.allclose(got_means[i], expected)
        assert np.allclose(got[i], full @ covariances[i] @ full.T)


def walking(camera_speed: float, compensated: bool, gap: range) -> tuple[set[int], NDArray[np.float32]]:
    """A person who stands still, seen by a camera that turns; ids put out and the last velocity."""
    tracker, names, ids = DeepSort(TrackerOptions(coast_s=0.0)), ("person",), set()
    velocity = np.zeros((0, 2), np.float32)
    for i in range(40):
        # turns to and fro: constant velocity is wrong every ten frames
        x = 300 + camera_speed * abs((i + 10) % 20 - 10)
        before = 300 + camera_speed * abs((i + 9) % 20 - 10)
        boxes = np.zeros((0, 4), np.float32) if i in gap else np.array([[x, 100, x + 40, 200]], np.float32)
        n = len(boxes)
        found = Detections(boxes, np.full(n, 0.9, np.float32), np.zeros(n, np.int64), names, i / 10)
        motion = np.array([[1.0, 0.0, x - before], [0.0, 1.0, 0.0]]) if compensated else None
        tracks = tracker.update(found, None, motion)
        ids |= set(tracks.ids.tolist())
        velocity = tracks.velocities
    return ids, velocity


def test_compensation_keeps_an_identity_that_the_camera_would_shake_off() -> None:
    gap = range(17, 24)  # unseen while the camera turns round
    assert len(walking(12.0, compensated=False, gap=gap)[0]) > 1
    ids, velocity = walking(12.0, compensated=True, gap=gap)
    assert ids == {1} and np.abs(velocity).max() < 1.0  # against the background


@pytest.mark.parametrize(
    "motion",
    [np.full((2, 3), np.nan), np.zeros((2, 3)), np.eye(3), np.eye(2, 3) * 50, np.array([[1, 0, 1e9], [0, 1, 0]])],
)
def test_a_motion_without_sense_is_counted_and_changes_nothing(motion: NDArray[np.float64]) -> None:
    results = []
    for camera_motion in (None, motion):
        tracker = DeepSort()
        for i in range(3):
            found = Detections(
                np.array([[10, 10, 50, 90]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("p",), i / 10
            )
            tracks = tracker.update(found, None, camera_motion)
        results.append(tracks.boxes)
    assert np.array_equal(*results) and tracker.dropped["camera_motion"] == 3
