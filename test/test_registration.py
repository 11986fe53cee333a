"""Registration: points land where the formulas say, what cannot be right is refused, sizes scale, the fill is grey."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_ros.imaging import thermal_to_uint8
from mmkd_ros.registration import (
    FILL,
    MIN_COVERAGE,
    PairAligner,
    Registration,
    RegistrationError,
    RegistrationOptions,
    options_from_camera_infos,
)
from mmkd_ros.types import ImagePair

RGB_SIZE, THERMAL_SIZE = (160, 120), (80, 64)
TURN = cv2.Rodrigues(np.array([0.02, -0.03, 0.05]))[0]
SHIFT = (0.10, -0.02, 0.01)
RGB_K = (150.0, 0.0, 80.0, 0.0, 152.0, 58.0, 0.0, 0.0, 1.0)
THERMAL_K = (70.0, 0.0, 39.0, 0.0, 71.0, 33.0, 0.0, 0.0, 1.0)
CAMERAS = RegistrationOptions(
    "cameras",
    RGB_SIZE,
    THERMAL_SIZE,
    rgb_k=RGB_K,
    rgb_d=(-0.20, 0.05, 0.001, -0.002, 0.0),
    thermal_k=THERMAL_K,
    thermal_d=(-0.30, 0.10, 0.0, 0.001),
    rotation=tuple(TURN.ravel()),
    translation=SHIFT,
    plane_depth_m=5.0,
)


@dataclass
class Info:
    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]


def homography(matrix: np.ndarray, rgb: tuple[int, int] = RGB_SIZE) -> RegistrationOptions:
    return RegistrationOptions("homography", rgb, THERMAL_SIZE, tuple(np.asarray(matrix, float).ravel()))


def spot(size: tuple[int, int], x: float, y: float, sigma: float = 2.0) -> np.ndarray:
    """A black image with a round spot whose centre is at (x, y)."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return (250 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))).astype(np.uint8)


def centre(image: np.ndarray) -> tuple[float, float]:
    """Centroid of what is brighter than the fill."""
    weight = np.maximum(image.astype(float) - (FILL + 10), 0)
    v, u = np.indices(image.shape)
    return float((u * weight).sum() / weight.sum()), float((v * weight).sum() / weight.sum())


def moved(matrix: np.ndarray, x: float, y: float) -> tuple[float, float]:
    a, b, c = matrix @ (x, y, 1.0)
    return a / c, b / c


@st.composite
def gentle(draw: st.DrawFn) -> np.ndarray:
    """A homography as a rig has it: about twofold enlargement, a turn, a shift, a little perspective."""
    number = lambda low, high: draw(st.floats(low, high))  # noqa: E731
    scale, turn = number(1.7, 2.1), number(-0.1, 0.1)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    return np.array(
        [[c, -s, number(-10, 10)], [s, c, number(-10, 10)], [number(-3e-4, 3e-4), number(-3e-4, 3e-4), 1.0]]
    )


@settings(max_examples=30, deadline=None)
@given(gentle(), st.floats(30, 50), st.floats(24, 40))
def test_a_spot_lands_where_the_homography_says(matrix: np.ndarray, x: float, y: float) -> None:
    warped = Registration(homography(matrix), THERMAL_SIZE, RGB_SIZE)(spot(THERMAL_SIZE, x, y))
    assert warped.shape == RGB_SIZE[::-1] and warped.dtype == np.uint8
    assert centre(warped) == pytest.approx(moved(matrix, x, y), abs=0.5)


@settings(max_examples=15, deadline=None)
@given(gentle())
def test_there_and_back_is_the_same_picture(matrix: np.ndarray) -> None:
    there = homography(matrix)
    back = RegistrationOptions("homography", THERMAL_SIZE, RGB_SIZE, tuple(np.linalg.inv(matrix).ravel()))
    original = spot(THERMAL_SIZE, 40, 32, sigma=5)
    again = Registration(back, RGB_SIZE, THERMAL_SIZE)(Registration(there, THERMAL_SIZE, RGB_SIZE)(original))
    inner = np.s_[20:44, 25:55]
    assert np.abs(again[inner].astype(int) - original[inner]).max() <= 12


def test_identity_is_exact_and_free() -> None:
    image = np.random.default_rng(0).integers(0, 2**16, (64, 80), np.uint16)
    assert Registration(RegistrationOptions(), THERMAL_SIZE, THERMAL_SIZE)(image) is image
    stretched = Registration(RegistrationOptions(), THERMAL_SIZE, RGB_SIZE)(image)
    assert np.array_equal(stretched, cv2.resize(image, RGB_SIZE, interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_homography_that_moves_nothing_changes_nothing(dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (64, 80), dtype)
    registration = Registration(homography(np.eye(3), THERMAL_SIZE), THERMAL_SIZE, THERMAL_SIZE)
    assert np.array_equal(registration(image), image) and registration.coverage == 1.0


@pytest.mark.parametrize(("rgb_factor", "thermal_factor"), [(2.0, 1.0), (0.5, 2.0), (1.0, 3.0)])
def test_binned_images_use_scaled_numbers(rgb_factor: float, thermal_factor: float) -> None:
    """Half a pixel is where scaling goes wrong: the centre of pixel x is at (x + 0.5) f - 0.5."""
    matrix = np.array([[1.9, 0.1, 4.0], [-0.1, 2.0, 3.0], [1e-4, 0, 1]])
    sizes = [
        tuple(int(side * f) for side in size) for size, f in ((THERMAL_SIZE, thermal_factor), (RGB_SIZE, rgb_factor))
    ]
    x, y = ((value + 0.5) * thermal_factor - 0.5 for value in (42.0, 30.0))
    warped = Registration(homography(matrix), *sizes)(spot(sizes[0], x, y, 2 * thermal_factor))
    expected = [(value + 0.5) * rgb_factor - 0.5 for value in moved(matrix, 42.0, 30.0)]
    assert centre(warped) == pytest.approx(expected, abs=0.25)


def project_point(point: np.ndarray, k: tuple[float, ...], d: tuple[float, ...]) -> np.ndarray:
    return cv2.projectPoints(point[None], np.zeros(3), np.zeros(3), np.reshape(k, (3, 3)), np.array(d))[0].ravel()


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("x", [-1.0, 0.3, 1.2])
def test_two_cameras_see_a_point_of_the_plane_in_one_place(x: float, far: bool) -> None:
    """OpenCV projects a point of the world into both cameras; thermal's spot must land on RGB's pixel."""
    point = np.array([x, 0.4, 5.0]) * (1000 if far else 1)
    options = replace(CAMERAS, plane_depth_m=0.0) if far else CAMERAS
    in_thermal = project_point(point, options.thermal_k, options.thermal_d)
    in_rgb = project_point(TURN @ point + SHIFT, options.rgb_k, options.rgb_d)
    warped = Registration(options, THERMAL_SIZE, RGB_SIZE)(spot(THERMAL_SIZE, *in_thermal, 1.5))
    assert centre(warped) == pytest.approx(in_rgb, abs=0.3)


def test_camera_infos_give_the_same_numbers_raw_and_rectified() -> None:
    eye = tuple(np.eye(3).ravel())
    turned = cv2.Rodrigues(np.array([0.0, 0.03, 0.01]))[0]
    p_rgb = (140.0, 0, 79, 0, 0, 140, 60, 0, 0, 0, 1, 0)
    p_thermal = (66.0, 0, 40, 0, 0, 66, 32, 0, 0, 0, 1, 0)
    rgb = Info(*RGB_SIZE, "plumb_bob", CAMERAS.rgb_d, RGB_K, tuple(turned.ravel()), p_rgb)
    thermal = Info(*THERMAL_SIZE, "plumb_bob", CAMERAS.thermal_d, THERMAL_K, eye, p_thermal)
    assert options_from_camera_infos(rgb, thermal, CAMERAS.rotation, SHIFT, 5.0) == CAMERAS
    point = np.array([0.3, 0.4, 5.0])
    options = options_from_camera_infos(rgb, thermal, CAMERAS.rotation, SHIFT, 5.0, rectified=True)
    a, b, c = np.reshape(p_thermal, (3, 4))[:, :3] @ point
    expected = np.reshape(p_rgb, (3, 4))[:, :3] @ turned @ (TURN @ point + SHIFT)
    warped = Registration(options, THERMAL_SIZE, RGB_SIZE)(spot(THERMAL_SIZE, a / c, b / c, 1.5))
    assert centre(warped) == pytest.approx(expected[:2] / expected[2], abs=0.3)
    with pytest.raises(ValueError, match="thermal camera's distortion model 'equidistant'"):
        options_from_camera_infos(rgb, replace(thermal, distortion_model="equidistant"))
    with pytest.raises(ValueError, match="rgb_k is .* no camera matrix"):
        options_from_camera_infos(replace(rgb, k=(0.0,) * 9), thermal)


def test_a_lens_polynomial_that_turns_back_shows_no_second_picture() -> None:
    """k1 = -0.5 turns back at r = 0.82; RGB looks far beyond it, where thermal has nothing to show."""
    wide = replace(
        CAMERAS, rgb_k=(40.0, 0, 80, 0, 40, 60, 0, 0, 1), rgb_d=(), thermal_d=(-0.5, 0, 0, 0), plane_depth_m=0.0
    )
    warped = Registration(wide, THERMAL_SIZE, RGB_SIZE)(np.full((64, 80), 255, np.uint8))
    assert (warped[:, :30] == FILL).all() and (warped[:, -30:] == FILL).all() and warped[60, 80] == 255


def test_a_distortion_that_folds_the_image_over_is_refused() -> None:
    with pytest.raises(ValueError, match="folds the thermal image over at RGB pixel"):
        Registration(replace(CAMERAS, thermal_d=(0.0, 0.0, 0.6, 0.0), plane_depth_m=0.0), THERMAL_SIZE, RGB_SIZE)


def test_cameras_back_to_back_see_nothing_in_common() -> None:
    """Without regard to the side, the rays behind the camera would show a picture turned about."""
    with pytest.raises(ValueError, match="covers 0.0%"):
        behind = (-1.0, 0, 0, 0, 1, 0, 0, 0, -1)
        Registration(replace(CAMERAS, rotation=behind, plane_depth_m=0.0), THERMAL_SIZE, RGB_SIZE)


def test_what_thermal_does_not_see_is_the_networks_grey_in_8_and_16_bit() -> None:
    matrix = np.array([[1.0, 0, 40], [0, 1.0, 30], [0, 0, 1]])
    registration = Registration(homography(matrix), THERMAL_SIZE, RGB_SIZE)
    assert registration.coverage == pytest.approx(80 * 64 / (160 * 120), abs=1e-6)
    counts = np.random.default_rng(1).normal(30000, 900, (64, 80)).astype(np.uint16)
    assert registration(thermal_to_uint8(counts))[0, 0] == FILL
    warped = registration(counts)
    assert warped.dtype == np.uint16 and np.array_equal(warped[30:94, 40:120], counts)
    assert thermal_to_uint8(warped)[0, 0] == pytest.approx(FILL, abs=12)


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (np.diag([1, 0, 1]), r"\[1, 0, 0, 0, 0, 0, 0, 0, 1\] is singular"),
        (np.diag([-1.0, 1, 1]) + [[0, 0, 79], [0] * 3, [0] * 3], "mirrors the image"),
        (np.array([[2, 0, 0], [0, 2, 0], [-0.02, 0, 1.0]]), "to infinity"),
        (np.array([[2, 0, 500], [0, 2, 0], [0, 0, 1.0]]), "covers 0.0% .* are they the inverse"),
        (np.diag([0.4, 0.4, 1]), f"must cover {MIN_COVERAGE:.0%}"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_numbers(matrix: np.ndarray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Registration(homography(matrix), THERMAL_SIZE, RGB_SIZE)


def test_a_camera_mounted_upside_down_is_no_mirror() -> None:
    matrix = np.array([[-2.0, 0, 159], [0, -2.0, 127], [0, 0, 1.0]])
    assert Registration(homography(matrix), THERMAL_SIZE, RGB_SIZE).coverage > 0.9
    assert Registration(homography(-matrix), THERMAL_SIZE, RGB_SIZE).coverage > 0.9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": "auto"}, "mode 'auto'"),
        ({"rgb_size": ()}, "rgb_size"),
        ({"homography": (1.0,) * 8}, "homography is .* 9 finite numbers"),
        ({"translation": (0.0, float("nan"), 0.0)}, "translation"),
        ({"rotation": (2.0, 0, 0, 0, 1, 0, 0, 0, 1)}, "no rotation matrix"),
        ({"thermal_d": (0.1,)}, "thermal_d"),
        ({"plane_depth_m": -1.0}, "plane_depth_m"),
        ({"plane_normal": (0.0, 0.0, 2.0)}, "plane_normal"),
    ],
)
def test_options_that_cannot_be_right_are_refused_by_name(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(CAMERAS, **changes)


def test_images_of_another_aspect_or_size_are_refused() -> None:
    with pytest.raises(ValueError, match="RGB images are 160x90, but the registration was made for 160x120"):
        Registration(CAMERAS, THERMAL_SIZE, (160, 90))
    registration = Registration(CAMERAS, THERMAL_SIZE, RGB_SIZE)
    with pytest.raises(ValueError, match="got \\(60, 80\\)"):
        registration(np.zeros((60, 80), np.uint8))


wild = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-3, 3), st.floats(-300, 300))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bad_numbers_are_refused_or_give_a_whole_picture(data: st.DataObject) -> None:
    """Whatever the numbers, the answer is a ValueError or an image in which every pixel is thermal's grey or the
    fill."""

    def numbers(count: int) -> tuple[float, ...]:
        return tuple(data.draw(st.lists(wild, min_size=count, max_size=count)))

    try:
        if data.draw(st.booleans()):
            options = homography(np.array(numbers(9)))
        else:
            options = replace(
                CAMERAS,
                rgb_d=numbers(data.draw(st.sampled_from((0, 4, 5, 8)))),
                thermal_d=numbers(data.draw(st.sampled_from((4, 8)))),
                translation=numbers(3),
                plane_depth_m=data.draw(st.floats(-1, 100)),
            )
        registration = Registration(options, THERMAL_SIZE, RGB_SIZE)
    except ValueError as error:
        assert len(str(error)) > 30
        return
    warped = registration(np.full((64, 80), 200, np.uint8))
    assert warped.shape == (120, 160) and MIN_COVERAGE <= registration.coverage <= 1
    assert ((warped >= FILL) & (warped <= 200)).all()


def test_one_warp_is_cheap() -> None:
    """Measured by the registration itself; a camera period is 33 ms."""
    registration = Registration(
        RegistrationOptions("homography", (640, 512), (640, 512), (1.0, 0, 5, 0, 1, 3, 0, 0, 1)), (640, 512), (640, 512)
    )
    assert 0 < registration.cost_ms < 200


SHIFTED = RegistrationOptions("homography", RGB_SIZE, THERMAL_SIZE, (2.0, 0.0, 10.0, 0.0, 2.0, 5.0, 0.0, 0.0, 1.0))


def pair(rgb_size: tuple[int, int] | None, thermal_size: tuple[int, int] | None, dtype: type = np.uint8) -> ImagePair:
    rng = np.random.default_rng(0)
    rgb = None if rgb_size is None else rng.integers(0, 255, (rgb_size[1], rgb_size[0], 3), np.uint8)
    thermal = None if thermal_size is None else rng.integers(0, 255, thermal_size[::-1]).astype(dtype)
    return ImagePair(rgb, thermal, 3.0)


def test_pairs_are_aligned_and_a_lone_thermal_image_stays_on_the_last_rgb_grid() -> None:
    align = PairAligner(SHIFTED)
    both = pair(RGB_SIZE, THERMAL_SIZE)
    aligned = align(both)
    assert aligned.rgb is both.rgb and aligned.stamp == 3.0
    np.testing.assert_array_equal(aligned.thermal, Registration(SHIFTED, THERMAL_SIZE, RGB_SIZE)(both.thermal))
    made = align.registration
    assert align(both).thermal is not None and align.registration is made
    assert align(pair(None, THERMAL_SIZE)).size == (120, 160)
    align(pair((320, 240), None))
    assert align(pair(None, THERMAL_SIZE)).size == (240, 320)
    assert align(pair(RGB_SIZE, THERMAL_SIZE, np.uint16)).thermal.dtype == np.uint8  # type: ignore[union-attr]


def test_identity_hands_the_very_pair_on() -> None:
    both = pair(RGB_SIZE, (33, 77))
    assert PairAligner(RegistrationOptions())(both) is both


def test_numbers_and_sizes_that_do_not_fit_are_refused_at_once_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="singular"):
        PairAligner(replace(SHIFTED, homography=(1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0)))
    align = PairAligner(SHIFTED)
    odd = pair((160, 90), THERMAL_SIZE)
    for count in (1, 2):
        alone = align(odd)
        assert alone.rgb is odd.rgb and alone.thermal is None
        assert align.refused == count and "160x90" in align.reason
    with pytest.raises(RegistrationError, match="160x90"):
        align(pair(None, THERMAL_SIZE))
    for side in range(20, 60):
        assert align(pair((160, side), THERMAL_SIZE)).modality == "rgb"
    assert len(align._made) <= 8
    assert align(pair(RGB_SIZE, THERMAL_SIZE)).thermal is not None
