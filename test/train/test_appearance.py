"""Training and measuring the appearance embedding, on crops made up here."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mmkd_ros.inference.weights_file import read_weights
from mmkd_ros.tracking import TrackerOptions
from mmkd_ros.tracking.appearance_network import AppearanceNet
from mmkd_ros.tracking.crops import AppearanceConfig
from mmkd_ros.types import ImagePair
from mmkd_train.__main__ import main
from mmkd_train.appearance import TrainingOptions, contrastive_loss, train_embedding
from mmkd_train.appearance_data import Clip, Crops, batches, read_clip, read_crops, render_crops, split_crops, views
from mmkd_train.appearance_metrics import measure_clips, measure_tracker, network_embed, pixel_embed, separation
from mmkd_train.errors import UserError

CONFIG = AppearanceConfig(height=32, width=16, stem=8, blocks=(16,), stripes=2, dimension=16)


def picture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A coarse coloured pattern with a heat pattern: (height, width, 4)."""
    coarse = rng.integers(0, 255, (4, 2, 4)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def made_up(n: int, per_frame: int = 4, gap: int = 40, seed: int = 0) -> Crops:
    rng = np.random.default_rng(seed)
    images = np.stack([picture(rng, 40, 20) for _ in range(n)])
    classes = np.asarray([("car", "person")[i % 2] for i in range(n)])
    return Crops(images, classes, np.arange(n) // per_frame * gap, np.arange(n))


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def crops_archive(path: Path, frames: int, per_frame: int = 2) -> Path:
    rng = np.random.default_rng(0)
    members = {}
    for frame in range(frames):
        for k in range(per_frame):
            image = picture(rng, 30, 15)
            stem = f"person/day/{frame * 10:05d}_{k}"
            members[f"{stem}_rgb.jpg"] = png(np.ascontiguousarray(image[..., 2::-1]))
            members[f"{stem}_thermal.jpg"] = png(np.ascontiguousarray(image[..., 3]))
    return archive(path, members)


def test_crops_are_read_in_pairs_from_the_archive(tmp_path: Path) -> None:
    red = np.zeros((30, 15, 3), np.uint8)
    red[..., 2] = 255
    grey = np.full((30, 15), 77, np.uint8)
    members = {
        "person/day/00012_3_thermal.jpg": png(grey),
        "person/day/00012_3_rgb.jpg": png(red),
        "car/night/00040_0_rgb.jpg": png(red),  # without partner
        "car/night/00041_0_rgb.jpg": png(red),
        "car/night/00041_0_thermal.jpg": png(grey),
        "readme.txt": b"hello",
    }
    crops = read_crops(archive(tmp_path / "crops.tar", members), (20, 40))
    assert crops.images.shape == (2, 40, 20, 4)
    assert crops.images[0, 20, 10].tolist() == [255, 0, 0, 77]
    assert crops.classes.tolist() == ["person", "car"] and crops.frames.tolist() == [12, 41]
    assert len(read_crops(tmp_path / "crops.tar", (20, 40), limit=1)) == 1


def test_unfit_archives_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.tar"):
        read_crops(tmp_path / "gone.tar", (20, 40))
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(UserError, match=r"text\.tar"):
        read_crops(tmp_path / "text.tar", (20, 40))
    broken = archive(tmp_path / "broken.tar", {"person/day/00012_3_rgb.jpg": b"no picture"})
    with pytest.raises(UserError, match="00012_3_rgb"):
        read_crops(broken, (20, 40))
    with pytest.raises(UserError, match="no pair"):
        read_crops(archive(tmp_path / "empty.tar", {}), (20, 40))


def test_held_out_crops_are_of_other_stretches() -> None:
    crops = made_up(4000, per_frame=1, gap=1)
    training, held_out = split_crops(crops)
    assert len(held_out) > 500 and not set(training.frames) & set(held_out.frames)
    nearest = np.abs(training.frames[:, None] - held_out.frames[None, :]).min()
    assert nearest > 5


def test_a_batch_is_of_one_class_and_keeps_frames_together() -> None:
    crops = made_up(400, per_frame=8)
    seen: list[int] = []
    for rows in batches(crops, 20, np.random.default_rng(0)):
        assert len(set(crops.classes[rows])) == 1
        assert len(set(crops.frames[rows])) <= 6
        seen += rows.tolist()
    assert len(set(seen)) == len(seen) == 400


def test_partners_are_other_crops_of_the_same_object() -> None:
    crops = made_up(60)
    crops = Crops(crops.images, crops.classes, crops.frames, np.asarray([0] * 10 + [1] * 2 + list(range(2, 50))))
    partner = crops.partners(np.random.default_rng(0))
    assert (crops.identities[partner] == crops.identities).all()
    assert (partner[:12] != np.arange(12)).all() and (partner[12:] == np.arange(12, 60)).all()
    joined = crops.joined(made_up(10, seed=1))
    assert len(joined) == 70 and len(joined.subset(joined.classes == "car")) == 35


def test_views_show_their_modality_alone_and_repeat_with_the_seed() -> None:
    images = torch.from_numpy(made_up(6).images)
    for mode, blank in (("both", []), ("rgb", [3]), ("thermal", [0, 1, 2])):
        view = views(images, CONFIG, mode, torch.Generator().manual_seed(3))
        assert view.shape == (6, 4, 32, 16) and torch.isfinite(view).all()
        assert [c for c in range(4) if not view[:, c].any()] == blank
        assert torch.equal(view, views(images, CONFIG, mode, torch.Generator().manual_seed(3)))


def test_views_of_a_levelled_crop_have_no_brightness_of_their_own() -> None:
    images = torch.from_numpy(made_up(6).images)
    level = {}
    for on in (True, False):
        view = views(images, replace(CONFIG, level_thermal=on), "both", torch.Generator().manual_seed(3))
        level[on] = view[:, 3].mean((1, 2)).abs().max()
    assert level[True] < 1e-5 < 0.05 < level[False]


def test_the_loss_has_the_published_value_and_passes_over_what_may_be_the_same() -> None:
    """B orthogonal objects in two equal views: -log(e^(1/t) / (e^(1/t) + 2B - 2))."""
    z = torch.eye(3, 8)
    far, ids = torch.tensor([0, 100, 200]), torch.arange(3)
    expected = -np.log(np.exp(2) / (np.exp(2) + 4))
    assert contrastive_loss(z, z, far, ids, 0.5).item() == pytest.approx(expected)
    # of one frame: surely different
    assert contrastive_loss(z, z, torch.zeros(3, dtype=torch.int64), ids, 0.5).item() == pytest.approx(expected)
    # the first two near in time: each loses two of its four negatives
    near = torch.tensor([0, 5, 200])
    fewer = -np.log(np.exp(2) / (np.exp(2) + 2))
    assert contrastive_loss(z, z, near, ids, 0.5).item() == pytest.approx((2 * fewer + expected) / 3)
    # or of one identity
    same = torch.tensor([7, 7, 1])
    assert contrastive_loss(z, z, far, same, 0.5).item() == pytest.approx((2 * fewer + expected) / 3)


def test_training_learns_and_repeats_with_the_seed() -> None:
    crops = made_up(128)
    rows: list[dict[str, float]] = []
    options = TrainingOptions(epochs=9, batch=32, learning_rate=1e-2)
    first = train_embedding(crops, CONFIG, options, rows.append)
    assert [row["epoch"] for row in rows] == list(range(1, 10))
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]
    again = train_embedding(crops, CONFIG, options, lambda row: None)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_separation_of_known_cosines() -> None:
    match = np.eye(2, dtype=bool)
    perfect = separation([(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), match)])
    assert (perfect.auc, perfect.rank1) == (1.0, 1.0)
    blind = separation([(np.zeros((2, 2), np.float32), match)])
    assert blind.auc == 0.5
    half = separation([(np.array([[0.9, 0.95], [0.2, 0.8]], np.float32), match)])
    assert (half.auc, half.rank1) == (0.5, 0.5)
    hidden = separation([(np.array([[0.9, np.nan], [0.2, 0.8]], np.float32), match)])
    assert (hidden.auc, hidden.rank1) == (1.0, 1.0)
    with pytest.raises(ValueError, match="two"):
        separation([(np.ones((1, 1), np.float32), np.ones((1, 1), dtype=bool))])


def moving_clip(frames: int = 30) -> Clip:
    """Three objects of one class that walk across each other."""
    rng = np.random.default_rng(0)
    looks = [picture(rng, 60, 30) for _ in range(3)]
    clip = Clip([], [], [], [], 30.0)
    for i in range(frames):
        canvas = np.full((100, 300, 4), 128, np.uint8)
        boxes = []
        for k, look in enumerate(looks):
            x = 20 + 100 * k + int((3, 0, -3)[k] * i)
            canvas[20:80, x : x + 30] = look
            boxes.append([x, 20, x + 30, 80])
        clip.pairs.append(ImagePair(np.ascontiguousarray(canvas[..., :3]), canvas[..., 3].copy(), i / 30))
        clip.ids.append(np.arange(3))
        clip.boxes.append(np.asarray(boxes, np.float32))
        clip.labels.append(np.zeros(3, np.int64))
    return clip


def test_clips_are_measured_by_identity() -> None:
    clip = moving_clip()
    assert measure_clips(pixel_embed, [clip], CONFIG, "both").rank1 > 0.85
    network = AppearanceNet(CONFIG).eval()
    vectors = network_embed(network)(torch.randn(5, 4, 32, 16))
    assert vectors.shape == (5, 16) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_tracking_of_perfect_boxes_scores_nearly_one() -> None:
    clip = moving_clip()
    clip.ids[:] = [np.arange(2)] * 30
    clip.boxes[:] = [boxes[[0, 1]] for boxes in clip.boxes]
    clip.labels[:] = [np.array([0, 1])] * 30
    score = measure_tracker([clip], None, CONFIG, "both", TrackerOptions(n_init=3), miss=0.0, jitter=0.01)
    # the first two frames have no confirmed track yet: 28 of 30 boxes
    assert score.idf1 == pytest.approx(2 * 56 / (60 + 56)) and score.switches == 0
    assert (score.ids, score.objects) == (2, 2)


def test_a_clip_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gt\.txt"):
        read_clip(tmp_path)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "gt.txt").write_text("1,7,10,20,30,40,1,1,1.0\n")
    (tmp_path / "rgb").mkdir()
    cv2.imwrite(str(tmp_path / "rgb" / "a.jpg"), np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(UserError, match="thermal"):
        read_clip(tmp_path)
    (tmp_path / "thermal").mkdir()
    cv2.imwrite(str(tmp_path / "thermal" / "a.jpg"), np.zeros((50, 60), np.uint8))
    clip = read_clip(tmp_path)
    assert (
        clip.ids[0].tolist() == [7] and clip.boxes[0].tolist() == [[10, 20, 40, 60]] and clip.labels[0].tolist() == [1]
    )


def test_synthetic_scenes_give_identities_seen_more_than_once() -> None:
    crops = render_crops(1, (20, 40))
    assert crops.images.shape[1:] == (40, 20, 4) and set(crops.classes) <= {"person", "car", "bicycle"}
    assert len(set(crops.identities)) < len(crops) and len(set(crops.frames)) == 1


def test_the_command_trains_writes_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crops = crops_archive(tmp_path / "crops.tar", frames=60)
    weights, figures = tmp_path / "out" / "appearance.safetensors", tmp_path / "figures.json"
    common = ["appearance", "--crops", str(crops), "--batch", "16", "--json", str(figures)]
    code = main([*common, "--epochs", "1", "--output", str(weights), "--log", str(tmp_path / "log.csv")])
    assert code == 0 and "wrote" in capsys.readouterr().out
    trained = json.loads(figures.read_text())
    assert set(trained["separation"]) == {"held-out crops"}
    metadata = read_weights(weights).metadata
    assert metadata["metrics"] == trained["separation"] and metadata["config"]["level_thermal"]
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,learning_rate,seconds\n1,")
    assert main([*common, "--weights", str(weights)]) == 0
    assert json.loads(figures.read_text()) == trained
    assert main([*common, "--weights", str(tmp_path / "none.safetensors")]) == 2
    assert main([*common, "--epochs", "0"]) == 2
    assert main([*common, "--limit", "4"]) == 2
