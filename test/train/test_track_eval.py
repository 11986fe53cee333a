"""The `track-eval` command: known scores of hand-made tracks, the made sequences, and peers that are not installed."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmkd_train.__main__ import main
from mmkd_train.data.synthetic import SceneOptions, SyntheticScene
from mmkd_train.errors import UserError
from mmkd_train.track_eval import compare, score_table
from mmkd_train.tracking_eval import metrics, trackers
from mmkd_train.tracking_eval.degradation import LEVELS, degrade
from mmkd_train.tracking_eval.metrics import Frames, score, tracking_data
from mmkd_train.tracking_eval.scenes import Truth, scene_truth
from mmkd_train.tracking_eval.sequences import crowd, read_mot, strong
from mmkd_train.tracking_eval.trackers import CONTESTANTS, track

needs_trackeval = pytest.mark.skipif(
    importlib.util.find_spec("trackeval") is None, reason=f"needs trackeval: {metrics.INSTALL}"
)
PEERS = [each for each in CONTESTANTS if each.package]


def walk(frames: int, ids: list[int]) -> Frames:
    """Objects far from each other, walking right; the ids are theirs in every frame."""
    left = 1000.0 * np.arange(len(ids))
    return [
        (np.array(ids), np.column_stack((left + 2 * t, 0 * left, left + 2 * t + 40, 0 * left + 100)))
        for t in range(frames)
    ]


def made_truth(frames: int = 60, fps: float = 10.0) -> Truth:
    """Three objects that are always seen whole."""
    people = [
        np.array([[20 + 3 * t, 50, 60 + 3 * t, 150], [400 - 3 * t, 300, 460 - 3 * t, 420], [300, 100, 340, 180]], float)
        for t in range(frames)
    ]
    same = [np.array([7, 8, 9])] * frames
    return Truth("made", fps, (640, 512), same, people, [np.array([0, 1, 0])] * frames, [np.ones(3)] * frames)


def test_ids_are_counted_from_zero_and_every_pair_has_its_iou() -> None:
    tracks: Frames = [(np.array([30, 10]), np.array([[1000, 0, 1040, 50], [0, 0, 40, 100]], float)), *walk(2, [10])[1:]]
    data = tracking_data(walk(2, [5, 9]), tracks)
    assert [ids.tolist() for ids in data["gt_ids"]] == [[0, 1], [0, 1]]
    assert [ids.tolist() for ids in data["tracker_ids"]] == [[1, 0], [0]]
    assert (data["num_gt_ids"], data["num_tracker_ids"], data["num_gt_dets"], data["num_tracker_dets"]) == (2, 2, 4, 3)
    assert data["similarity_scores"][0] == pytest.approx(np.array([[0, 1], [0.5, 0]]))


def test_an_id_twice_in_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="tracker occurs twice"):
        tracking_data(walk(1, [1, 2]), walk(1, [3, 3]))


@needs_trackeval
def test_perfect_tracks_score_a_hundred() -> None:
    result = score([(walk(10, [1, 2]), walk(10, [8, 4])), (walk(5, [1]), walk(5, [1]))])
    assert [result.hota, result.deta, result.assa, result.mota, result.idf1] == pytest.approx([100] * 5)
    assert result.switches == 0


@needs_trackeval
def test_one_switch_half_way() -> None:
    """Ten true positives, each with an association of 5 / (10 + 5 - 5): AssA 1/2, HOTA its root; IDF1 10 / 20."""
    result = score([(walk(10, [1]), walk(5, [1]) + walk(10, [2])[5:])])
    assert result.switches == 1
    assert (result.deta, result.assa, result.hota) == pytest.approx((100, 50, 100 / np.sqrt(2)))
    assert (result.mota, result.idf1) == pytest.approx((90, 50))


@needs_trackeval
def test_misses_and_false_alarms() -> None:
    """Two of ten missed, two found where nothing is: DetA 8 / 12, MOTA 1 - 4 / 10, IDF1 16 / 20."""
    none: tuple[NDArray[np.int64], NDArray[np.float64]] = (np.zeros(0, np.int64), np.zeros((0, 4)))
    wrong = [(ids, boxes + 500) for ids, boxes in walk(2, [77])]
    result = score([(walk(10, [1]) + [none, none], [none, none, *walk(10, [1])[2:], *wrong])])
    assert (result.deta, result.mota, result.idf1) == pytest.approx((100 * 8 / 12, 60, 80))


def test_scores_without_trackeval_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trackeval.metrics", None)
    with pytest.raises(UserError, match="pip install --no-deps -r requirements/peers.txt"):
        score([(walk(1, [1]), walk(1, [1]))])


def test_equal_seeds_degrade_equally() -> None:
    truth = made_truth()
    first, again, other = (degrade(truth, LEVELS["hard"], seed) for seed in (3, 3, 4))
    for a, b in zip(first.detections, again.detections, strict=True):
        assert a.boxes.tolist() == b.boxes.tolist() and a.scores.tolist() == b.scores.tolist()
    assert first.vectors is not None and again.vectors is not None
    assert all((a == b).all() for a, b in zip(first.vectors, again.vectors, strict=True))
    assert any(a.boxes.tolist() != b.boxes.tolist() for a, b in zip(first.detections, other.detections, strict=True))


@pytest.mark.parametrize(("level", "fps"), [("medium", 5.0), ("hard", 5.0), ("hard", 20.0)])
def test_the_degradation_is_as_strong_as_it_says_at_any_rate(level: str, fps: float) -> None:
    wanted = replace(LEVELS[level], weak=0.0)
    truth = made_truth(round((200 if fps == 5 else 50) * fps), fps)
    truth = replace(truth, boxes=[made_truth(1).boxes[0]] * len(truth.boxes))  # standing still, inside the image
    without = degrade(truth, replace(wanted, false_alarms=0.0), 1)
    found = sum(len(here) for here in without.detections) / (3 * len(truth.ids))
    assert 1 - found == pytest.approx(wanted.miss, rel=0.25)
    with_alarms = degrade(truth, replace(wanted, miss=0.0), 1)
    extra = sum(len(here) for here in with_alarms.detections) / len(truth.ids) - 3
    assert extra == pytest.approx(wanted.false_alarms, rel=0.25)


def test_simulated_looks_are_closer_within_an_object_than_between_two() -> None:
    sequence = degrade(made_truth(), replace(LEVELS["easy"], miss=0.0, false_alarms=0.0, jitter=0.0), 0)
    assert sequence.vectors is not None
    by_place = [
        vectors[np.argsort(found.boxes[:, 1])]  # objects 7, 9, 8 from the top
        for vectors, found in zip(sequence.vectors, sequence.detections, strict=True)
    ]
    same = np.mean([1 - a @ b for a, b in zip(by_place[0], by_place[9], strict=True)])
    other = 1 - by_place[0][0] @ by_place[9][1]  # both of class 0
    assert same < 0.15 and other > 0.35


def test_strong_keeps_vectors_with_their_detections() -> None:
    sequence = degrade(made_truth(), LEVELS["hard"], 0)
    kept = strong(sequence, 0.5)
    assert sequence.vectors is not None and kept.vectors is not None
    for all_found, found, vectors in zip(sequence.detections, kept.detections, kept.vectors, strict=True):
        assert len(found) == (all_found.scores >= 0.5).sum() == len(vectors)
        assert (found.scores >= 0.5).all() and found.stamp == all_found.stamp


def test_unrendered_scenes_have_the_boxes_of_rendered_ones() -> None:
    options = SceneOptions(seed=4, width=160, height=128, people=4, cars=2, bicycles=0)
    truth, scene = scene_truth(options, 3), SyntheticScene(options)
    for index in range(3):
        frame = scene.frame(index)
        place = {int(i): k for k, i in enumerate(truth.ids[index])}
        assert len(frame.track_ids) and set(frame.track_ids.tolist()) <= set(place)
        rows = [place[int(i)] for i in frame.track_ids]
        assert np.abs(truth.boxes[index][rows] - frame.boxes).max() <= 2  # the shutter smears by pixels at most
        assert (truth.labels[index][rows] == frame.labels).all()


def test_a_mot_folder(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    (tmp_path / "det").mkdir()
    (tmp_path / "gt/gt.txt").write_text(
        "1,4,10,20,30,40,1,-1,-1,-1\n3,4,12,20,30,40,1,-1,-1,-1\n3,5,0,0,9,9,0,-1,-1,-1"
    )
    (tmp_path / "det/det.txt").write_text("1,-1,11,20,30,40,0.9,-1,-1,-1\n")
    sequence = read_mot(tmp_path, 25)
    assert [ids.tolist() for ids in sequence.ids] == [[4], [], [4]]
    assert sequence.boxes[2].tolist() == [[12, 20, 42, 60]]
    assert [len(found) for found in sequence.detections] == [1, 0, 0]
    assert sequence.detections[0].boxes.tolist() == [[11, 20, 41, 60]]
    assert [found.stamp for found in sequence.detections] == [0.04, 0.08, 0.12]


@pytest.mark.parametrize(
    "text", [None, "", "1,2,3\n", "1,4,10,20,0,40,1\n", "1e9,4,10,20,9,40,1\n", "1,nan,1,2,3,4,1\n", "a,b\n"]
)
def test_a_bad_truth_file_is_named(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "gt").mkdir()
    if text is not None:
        (tmp_path / "gt/gt.txt").write_text(text)
    with pytest.raises(UserError, match="gt.txt"):
        read_mot(tmp_path, 25)


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: each.name)
def test_every_tracker_follows_a_calm_crowd(contestant: trackers.Contestant) -> None:
    if not contestant.installed:
        pytest.skip(f"needs {contestant.package}: {metrics.INSTALL}")
    frames, seconds = track(contestant, crowd(5, 30))
    assert len(frames) == len(seconds) == 30 and min(seconds) >= 0
    assert all(len(ids) == len(boxes) == len(set(ids.tolist())) for ids, boxes in frames)
    assert len(frames[-1][0]) >= 4
    assert (
        len({int(i) for ids, _ in frames for i in ids}) <= 15
    )  # one without appearance does not find again whom it missed


def test_peers_that_are_not_installed_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("mmkd_train.track_eval.score", lambda pairs: metrics.TrackScore(1, 2, 3, 4, 5, 6))
    sequence = replace(crowd(2, 4), vectors=None)
    results = compare([sequence])
    assert {name for name, result in results.items() if result is None} == {
        each.name for each in PEERS if not each.appearance
    }
    lines = score_table(results).splitlines()
    assert sum("not installed: pip install --no-deps -r requirements/peers.txt" in line for line in lines) == 3


def test_the_robot_does_not_know_the_peers(repo_root: Path) -> None:
    names = ("trackeval", "deep_sort_realtime", "supervision", "import trackers", "from trackers")
    for path in (repo_root / "mmkd_ros").rglob("*.py"):
        assert not any(name in path.read_text(encoding="utf-8") for name in names), path


@needs_trackeval
def test_the_command_prints_a_table_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmkd_train.track_eval.SCENES", (SceneOptions(seed=4, width=160, height=128, people=3),))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "deep" / "figures.json"
    code = main(["track-eval", "--levels", "easy", "--seconds", "1", "--crowd", "3", "--json", str(out)])
    text = capsys.readouterr().out
    assert code == 0 and out.is_file()
    assert "TUD-Campus is left out" in text
    assert "synthetic scenes, easy, scores from 0.5: 1 sequence(s), 10 frames" in text
    assert "mmkd_ros, defaults" in text and "3 objects" in text
