"""The `calibrate` command: known warps come back from drawn scenes, boards and recorded pairs; nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mmkd_ros.registration import Registration, RegistrationOptions
from mmkd_train.__main__ import main
from mmkd_train.calibrate import PicturePair, calibrate, grid_distance, read_pairs
from mmkd_train.checkerboard import in_order_of
from mmkd_train.edge_alignment import EdgeEvidence
from mmkd_train.errors import UserError

RGB_SIZE, THERMAL_SIZE = (320, 240), (160, 128)
# Thermal pixel -> RGB pixel; stretching alone would be diag(2, 1.875, 1).
TRUTH = np.array([[2.05, 0.06, -9.0], [-0.05, 1.95, 4.0], [8e-5, -5e-5, 1.0]])


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.perspectiveTransform(points[None].astype(np.float64), matrix)[0]


def draw(image: np.ndarray, points: np.ndarray, grey: int) -> None:
    cv2.fillPoly(image, [np.round(points * 16).astype(np.int32)], int(grey), cv2.LINE_AA, shift=4)


def scene(seed: int, truth: np.ndarray = TRUTH, thermal_seed: int | None = None) -> PicturePair:
    """Polygons at random places, in greys that have nothing to do with each other in the two bands.

    Args:
        thermal_seed: draws other polygons into the thermal picture.
    """
    images = []
    for size, inverse, shapes in (
        (RGB_SIZE, np.eye(3), seed),
        (THERMAL_SIZE, np.linalg.inv(truth), seed if thermal_seed is None else thermal_seed),
    ):
        rng, greys = np.random.default_rng(shapes), np.random.default_rng((seed, size[0]))
        image = np.full(size[::-1], 90, np.uint8)
        for _ in range(14):
            middle, angles = rng.uniform(-20, (340, 260)), np.sort(rng.uniform(0, 2 * np.pi, 4))
            outline = middle + rng.uniform(15, 60) * np.stack((np.cos(angles), np.sin(angles)), -1)
            draw(image, transformed(outline, inverse), greys.integers(30, 220))
        images.append(np.clip(image + greys.normal(0, 4, image.shape), 0, 255).astype(np.uint8))
    return PicturePair(f"scene{seed}", *images)


def board(number: int, truth: np.ndarray = TRUTH) -> PicturePair:
    """A 6x5 board (5x4 inner corners) somewhere in view; black and white are swapped in thermal."""
    rng = np.random.default_rng(number)
    turn, side = rng.uniform(-0.2, 0.2), rng.uniform(17, 22)
    c, s = side * np.cos(turn), side * np.sin(turn)
    place = np.array([[c, -s, rng.uniform(35, 170)], [s, c, rng.uniform(30, 105)], [0, 0, 1]])
    images = []
    for size, matrix, light, dark in (
        (RGB_SIZE, place, 220, 40),
        (THERMAL_SIZE, np.linalg.inv(truth) @ place, 70, 170),
    ):
        image = np.full(size[::-1], light, np.uint8)
        for row in range(5):
            for column in range(row % 2, 6, 2):
                corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + (column, row)
                draw(image, transformed(corners, matrix), dark)
        images.append(cv2.GaussianBlur(image, (0, 0), 0.7))
    return PicturePair(f"board{number}", *images)


@pytest.fixture(scope="module")
def scenes() -> list[PicturePair]:
    return [scene(seed) for seed in range(6)]


def test_a_known_warp_of_drawn_scenes_comes_back(scenes: list[PicturePair]) -> None:
    result = calibrate(scenes)
    assert grid_distance(result.homography, TRUTH, THERMAL_SIZE) < 1.0
    assert result.spread_px is not None and result.spread_px < 1.0
    assert not result.left_out and not result.warnings and max(result.residuals.values()) < 0.5


@pytest.mark.parametrize("shift", [(12.0, -7.0), (-40.0, 30.0)])
def test_a_shift_is_found_by_the_model_that_knows_only_shifts(shift: tuple[float, float]) -> None:
    truth = np.array([[2, 0, 0.5 + shift[0]], [0, 1.875, 0.4375 + shift[1]], [0, 0, 1]])
    result = calibrate([scene(seed, truth) for seed in range(4)], "translation")
    assert grid_distance(result.homography, truth, THERMAL_SIZE) < 1.0


def test_pairs_that_disagree_are_named_and_left_out(scenes: list[PicturePair]) -> None:
    """One pair was taken while the rig was bent."""
    bent = np.array([[1, 0, 9.0], [0, 1, 6], [0, 0, 1]]) @ TRUTH
    result = calibrate([*scenes, scene(7, bent)])
    assert list(result.left_out) == ["scene7"] and "off by" in result.left_out["scene7"]
    assert grid_distance(result.homography, TRUTH, THERMAL_SIZE) < 1.0


def test_pictures_of_different_scenes_are_refused() -> None:
    with pytest.raises(UserError, match="no alignment can be found"):
        calibrate([scene(seed, thermal_seed=seed + 100) for seed in range(4)])


def test_pictures_without_an_edge_are_refused() -> None:
    with pytest.raises(UserError, match="no alignment can be found"):
        calibrate(
            [PicturePair(str(k), np.full((240, 320), 90, np.uint8), np.zeros((128, 160), np.uint8)) for k in range(4)]
        )


def test_few_pairs_are_warned_of(scenes: list[PicturePair]) -> None:
    result = calibrate(scenes[:2])
    assert result.spread_px is None and "at least 4" in result.warnings[0]


@pytest.mark.parametrize("model", ["affine", "homography"])
def test_a_checkerboard_gives_the_warp_and_bad_boards_are_left_out(model: str) -> None:
    truth = TRUTH if model == "homography" else np.vstack((TRUTH[:2], (0, 0, 1)))
    pairs = [board(number, truth) for number in range(8)]
    bent = board(20, np.array([[1, 0, 15.0], [0, 1, 0], [0, 0, 1]]) @ truth)
    result = calibrate([*pairs, bent, scene(3)], model, board=(5, 4))
    assert grid_distance(result.homography, truth, THERMAL_SIZE) < 1.5
    assert set(result.residuals) == {pair.name for pair in pairs} and max(result.residuals.values()) < 1.0
    assert result.left_out["scene3"] == "no board found" and "off by" in result.left_out["board20"]


def test_without_a_board_the_way_out_is_named() -> None:
    with pytest.raises(UserError, match="5x4 inner corners .* leave out --checkerboard"):
        calibrate([scene(0)], board=(5, 4))


@pytest.mark.parametrize("size", [(4, 5), (4, 4)])
def test_corners_are_put_in_one_order(size: tuple[int, int]) -> None:
    corners = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1) * 10.0
    turns = (0, 1, 2, 3) if size[0] == size[1] else (0, 2)
    for turn in turns:
        assert np.array_equal(in_order_of(corners * 2 + 30, np.rot90(corners, turn)), corners)


def write(folder: Path, pairs: list[PicturePair], deep: bool = False) -> list[str]:
    """Write the pairs as files; returns the command's first options."""
    for name in ("rgb", "thermal"):
        (folder / name).mkdir()
    for pair in pairs:
        thermal = pair.thermal.astype(np.uint16) * 20 + 29000 if deep else pair.thermal
        cv2.imwrite(str(folder / "rgb" / f"{pair.name}.jpg"), pair.rgb)
        cv2.imwrite(str(folder / "thermal" / f"{pair.name}.png"), thermal)
    options = [f"--{name}={folder / name}" for name in ("rgb", "thermal")]
    return ["calibrate", *options, f"--output={folder / 'out'}"]


def test_the_command_writes_parameters_that_register(
    tmp_path: Path, scenes: list[PicturePair], capsys: pytest.CaptureFixture[str]
) -> None:
    command = write(tmp_path, scenes, deep=True)
    (tmp_path / "rgb" / "alone.png").write_bytes(b"")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "1 pictures without a partner" in said and "6 pairs, median residual" in said and "scene3: 0." in said
    text = (tmp_path / "out" / "registration.yaml").read_text()
    assert text in said
    values = yaml.safe_load(text)["/**"]["ros__parameters"]["registration"]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    options = RegistrationOptions(**values)
    assert (options.rgb_size, options.thermal_size) == (RGB_SIZE, THERMAL_SIZE)
    assert grid_distance(np.reshape(options.homography, (3, 3)), TRUTH, THERMAL_SIZE) < 1.0
    assert Registration(options, THERMAL_SIZE, RGB_SIZE).coverage > 0.85
    picture = cv2.imread(str(tmp_path / "out" / "before_after.png"))
    assert picture.shape == (480, 640, 3)


def test_what_the_user_can_put_right_is_said(
    tmp_path: Path, scenes: list[PicturePair], capsys: pytest.CaptureFixture[str]
) -> None:
    command = write(tmp_path, scenes[:3])
    rgb, thermal = tmp_path / "rgb", tmp_path / "thermal"
    assert len(read_pairs(rgb, thermal, most=2)) == 2
    assert main([*command, "--max-pairs=0"]) == 2
    (thermal / "scene1.png").write_bytes(b"no picture")
    assert main(command) == 2
    cv2.imwrite(str(thermal / "scene1.png"), np.zeros((99, 99), np.uint8))
    assert main(command) == 2
    assert main(["calibrate", f"--rgb={rgb}", f"--thermal={tmp_path}", f"--output={tmp_path}"]) == 2
    assert main(["calibrate", f"--rgb={rgb / 'nowhere'}", f"--thermal={thermal}", f"--output={tmp_path}"]) == 2
    said = capsys.readouterr().err.splitlines()
    for line, part in zip(
        said,
        ("--max-pairs", "scene1.png is no 8- or 16-bit", "different sizes", "name the two pictures", "is no folder"),
        strict=True,
    ):
        assert part in line


@pytest.mark.parametrize(("source", "night"), [("msrs", False), ("flir_aligned", False), ("llvip", False)])
def test_a_known_warp_of_recorded_pairs_comes_back(shared_data: Path, source: str, night: bool) -> None:
    """The sets are off by some pixels themselves, so the answer for the moved pictures is held to the answer for the
    unmoved ones, followed by the known warp."""
    entries = json.loads((shared_data / "annotations" / "train.json").read_text())["images"]
    names = [Path(e["file_name"]).name for e in entries if e["source"] == source and e["night"] == night][::2][:6]
    border, shift = 48, np.array([[1.02, 0.01, -16.0], [-0.01, 0.99, 13.0], [1e-5, 0, 1]])
    answers = []
    for known in (np.eye(3), shift):
        pairs = []
        for name in names:
            rgb, thermal = (cv2.imread(str(shared_data / "pairs" / k / name), 0) for k in ("rgb", "thermal"))
            moved = cv2.warpPerspective(thermal, known, thermal.shape[::-1])
            pairs.append(tuple(image[border:-border, border:-border] for image in (rgb, moved)))
        answers.append(EdgeEvidence(pairs, "homography").solve(range(len(pairs))))
    size = pairs[0][0].shape[::-1]
    cut = np.array([[1, 0, -border], [0, 1, -border], [0, 0, 1]])
    in_cut = cut @ shift @ np.linalg.inv(cut)
    error = grid_distance(answers[1] @ in_cut, answers[0], size)
    print(
        f"{source}: largest error {error:.2f} px of a shift of {grid_distance(in_cut, np.eye(3), size):.0f} px; "
        f"the set itself is off by up to {grid_distance(answers[0], np.eye(3), size):.1f} px"
    )
    assert error < 3.0
