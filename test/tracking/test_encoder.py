"""Crops and the appearance encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmkd_ros.inference import InferenceSession
from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.exporting import export_weights
from mmkd_ros.inference.sealed import UNSEALED, seal
from mmkd_ros.inference.weights import load_weights, save_weights
from mmkd_ros.inference.weights_file import APPEARANCE
from mmkd_ros.tracking.appearance import AppearanceEncoder
from mmkd_ros.tracking.appearance_network import AppearanceNet, load_appearance
from mmkd_ros.tracking.crops import AppearanceConfig, cut_crops
from mmkd_ros.types import ImagePair
from mmkd_train.appearance_data import read_clip
from mmkd_train.appearance_metrics import measure_clips, network_embed, pixel_embed

BOXES = np.array([[10, 20, 60, 90], [100, 30, 130, 110], [5, 5, 9, 12]], np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps tests out of the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def pair() -> ImagePair:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 16, 4)).astype(np.uint8)
    fine = np.kron(coarse, np.ones((10, 10, 1), np.uint8))
    return ImagePair(np.ascontiguousarray(fine[..., :3]), np.ascontiguousarray(fine[..., 3]), 0.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, for everything that does not need to be good."""
    torch.manual_seed(0)
    network = AppearanceNet(AppearanceConfig(stem=8, blocks=(8, 8), dimension=16))
    path = tmp_path_factory.mktemp("weights") / "appearance.safetensors"
    save_weights(path, dict(network.state_dict()), {"kind": APPEARANCE, "config": network.config.to_dict()})
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> AppearanceEncoder:
    return AppearanceEncoder(weights)


def test_vectors_have_length_one_and_depend_on_their_box_alone(encoder: AppearanceEncoder, pair: ImagePair) -> None:
    vectors = encoder.encode(pair, BOXES)
    assert vectors.shape == (3, 16) and vectors.dtype == np.float32 and encoder.dimension == 16
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for i in range(3):
        assert np.allclose(encoder.encode(pair, BOXES[[i]]), vectors[[i]], atol=1e-5)
    assert encoder.encode(pair, np.zeros((0, 4), np.float32)).shape == (0, 16)
    assert encoder.encode(pair, np.repeat(BOXES, 100, axis=0)).shape == (300, 16)


def test_what_shows_nothing_is_a_row_of_zeros(encoder: AppearanceEncoder, pair: ImagePair) -> None:
    boxes = np.array(
        [
            BOXES[0],
            [-50, -50, -10, -10],
            [500, 20, 600, 90],
            [10, 20, 11, 90],
            [60, 20, 10, 90],
            [np.nan, 20, 60, 90],
            [10, 20, np.inf, 90],
            [-1e30, -1e30, 1e30, 1e30],
        ],
        np.float32,
    )
    for shown in (pair, ImagePair(pair.rgb, None, 0.0), ImagePair(None, pair.thermal, 0.0)):
        vectors = encoder.encode(shown, boxes)
        assert np.linalg.norm(vectors, axis=1).round(4).tolist() == [1, 0, 0, 0, 0, 0, 0, 1]


def test_a_box_that_sticks_out_is_cut_at_the_border(encoder: AppearanceEncoder, pair: ImagePair) -> None:
    out = np.array([[-30, 80, 60, 300]], np.float32)
    cut = np.array([[0, 80, 60, 120]], np.float32)
    assert np.array_equal(encoder.encode(pair, out), encoder.encode(pair, cut))


def test_a_missing_modality_is_zeros_to_the_network(pair: ImagePair) -> None:
    config = AppearanceConfig()
    both, _ = cut_crops(pair, BOXES, config)
    rgb, _ = cut_crops(ImagePair(pair.rgb, None, 0.0), BOXES, config)
    thermal, _ = cut_crops(ImagePair(None, pair.thermal, 0.0), BOXES, config)
    assert np.array_equal(rgb[:, :3], both[:, :3]) and not rgb[:, 3].any()
    assert np.array_equal(thermal[:, 3], both[:, 3]) and not thermal[:, :3].any()
    # channels come in the order R, G, B and are normalised by the configuration
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    crop, valid = cut_crops(ImagePair(red, None, 0.0), np.array([[0, 0, 20, 20]], np.float32), config)
    assert valid.all() and crop[0, :3, 5, 5] == pytest.approx([0.55 / 0.25, -0.45 / 0.25, -0.45 / 0.25])


def test_views_of_other_memory_layout_give_the_same(encoder: AppearanceEncoder, pair: ImagePair) -> None:
    assert pair.rgb is not None and pair.thermal is not None
    bgr = np.ascontiguousarray(pair.rgb[..., ::-1])
    padded = np.zeros((120, 200), np.uint8)
    padded[:, :160] = pair.thermal
    strided = ImagePair(bgr[..., ::-1], padded[:, :160], 0.0)
    assert np.array_equal(encoder.encode(strided, BOXES), encoder.encode(pair, BOXES))


def test_a_thermal_image_of_another_size_shows_the_same_place(pair: ImagePair) -> None:
    assert pair.thermal is not None
    doubled = np.kron(pair.thermal, np.ones((2, 2), np.uint8))
    config = AppearanceConfig()
    plain, _ = cut_crops(pair, BOXES[:2], config)
    large, _ = cut_crops(replace(pair, thermal=doubled), BOXES[:2], config)
    assert np.abs(large[:, 3] - plain[:, 3]).mean() < 0.1


def test_level_thermal_makes_a_crop_free_of_the_brightness_of_its_picture(pair: ImagePair) -> None:
    assert pair.thermal is not None and pair.rgb is not None
    thermal = pair.thermal // 2
    for level in (True, False):
        config = AppearanceConfig(level_thermal=level)
        dark, bright = (cut_crops(ImagePair(pair.rgb, thermal + add, 0.0), BOXES, config)[0] for add in (0, 100))
        assert np.array_equal(dark[:, :3], bright[:, :3])
        assert np.allclose(dark[:, 3], bright[:, 3], atol=1e-5) == level
        assert dark[:, 3].std() > 0.1
    # files written before there was this choice keep the brightness
    assert not AppearanceConfig.from_dict({}).level_thermal


def test_16_bit_thermal_is_scaled_by_its_frame(pair: ImagePair) -> None:
    assert pair.thermal is not None
    counts = 7000 + pair.thermal.astype(np.uint16) * 4
    config = AppearanceConfig()
    plain, _ = cut_crops(pair, BOXES[:2], config)
    deep, _ = cut_crops(replace(pair, thermal=counts), BOXES[:2], config)
    assert np.corrcoef(plain[:, 3].ravel(), deep[:, 3].ravel())[0, 1] > 0.99
    assert np.abs(deep).max() < 3


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_answers_as_torch_does(
    encoder: AppearanceEncoder, weights: Path, pair: ImagePair, tmp_path: Path, engine: str
) -> None:
    for package in ("onnx", engine):
        pytest.importorskip(package, reason="pip install --no-deps -r requirements/backends.txt")
    found = AppearanceEncoder(weights, backend=engine)
    assert (found.backend, found.device, found.config) == (engine, "cpu", encoder.config)
    assert found.weights_sha256 == encoder.weights_sha256
    for shown in (pair, ImagePair(pair.rgb, None, 0.0), ImagePair(None, pair.thermal, 0.0)):
        for boxes in (BOXES, BOXES[:1], np.repeat(BOXES, 100, axis=0)):
            assert np.abs(found.encode(shown, boxes) - encoder.encode(shown, boxes)).max() < 1e-4
    kind = {"onnxruntime": "onnx", "openvino": "xml"}[engine]
    export_weights(weights, tmp_path / f"appearance.{kind}")
    file = AppearanceEncoder(tmp_path / f"appearance.{kind}", "auto", backend="auto")
    assert np.abs(file.encode(pair, BOXES) - encoder.encode(pair, BOXES)).max() < 1e-4


def test_files_and_choices_that_do_not_fit(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="pip install --no-deps -r requirements/backends.txt")
    path = tmp_path / "appearance.onnx"
    export_weights(weights, path)
    with pytest.raises(WeightsError, match="holds 'appearance_encoder', not a detector"):
        InferenceSession(path, backend="onnxruntime")
    with pytest.raises(ValueError, match="runs on the CPU; use device 'cpu'"):
        AppearanceEncoder(path, "cuda", backend="auto")
    with pytest.raises(ValueError, match="backend 'torch' cannot run .*use 'auto' or 'onnxruntime' or 'openvino'"):
        AppearanceEncoder(path)
    proto = pytest.importorskip("onnx").load(path)
    for entry in proto.metadata_props:
        entry.value = {"trial": "[[0.5]]", "seal": UNSEALED}.get(entry.key, entry.value)
    path.write_bytes(seal(proto.SerializeToString()))
    with pytest.raises(ValueError, match="onnxruntime answers otherwise than torch did"):
        AppearanceEncoder(path, backend="onnxruntime")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs onnxruntime or openvino, not installed here"):
        AppearanceEncoder(path, backend="auto")
    assert AppearanceEncoder(weights, backend="auto").backend == "torch"


def test_boxes_of_another_shape_are_refused(encoder: AppearanceEncoder, pair: ImagePair) -> None:
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        encoder.encode(pair, np.zeros(4, np.float32))


def test_unfit_weights_are_refused_with_the_reason(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        AppearanceEncoder(tmp_path / "none.safetensors")
    tensors, metadata = load_weights(weights)
    path = tmp_path / "weights.safetensors"
    save_weights(path, tensors, {**metadata, "kind": "rgb_thermal_detector"})
    with pytest.raises(WeightsError, match="not an appearance network"):
        AppearanceEncoder(path)
    for config in (None, {"height": "tall"}, {"height": 63}, {"colour": 1}, {**metadata["config"], "dimension": 17}):
        save_weights(path, tensors, {**metadata, "config": config})
        with pytest.raises(WeightsError, match="does not fit"):
            AppearanceEncoder(path)
    data = bytearray(weights.read_bytes())
    data[-5] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="sha256"):
        AppearanceEncoder(path)


@pytest.mark.parametrize(
    "bad", [{"height": 60}, {"width": 0}, {"stripes": 3}, {"dimension": 0}, {"std": (1.0, 1.0, 1.0, 0.0)}, {"mean": ()}]
)
def test_configurations_without_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        AppearanceConfig(**bad)  # type: ignore[arg-type]


def test_the_shipped_weights_beat_plain_pixels_on_recorded_people(repo_root: Path, shared_data: Path) -> None:
    folder = shared_data / "sequences" / "m3svd_0111_1716"
    if not folder.is_dir():
        pytest.skip(f"no clip at {folder}")
    path = repo_root / "models" / "mmkd_appearance.safetensors"
    assert path.stat().st_size < 1_000_000
    encoder = AppearanceEncoder(path)
    assert encoder.dimension <= 128 and len(encoder.weights_sha256) == 64
    clip = read_clip(folder)
    for mode in ("both", "rgb", "thermal"):
        trained = measure_clips(network_embed(load_appearance(path)[0]), [clip], encoder.config, mode)
        pixels = measure_clips(pixel_embed, [clip], encoder.config, mode)
        assert trained.auc > max(0.98, pixels.auc)
        assert trained.rank1 > 0.95
