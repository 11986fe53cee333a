"""The `track` command: what it reads, what it writes, and what it says of a bad file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmkd_ros.tracking import DeepSort
from mmkd_train.__main__ import main
from mmkd_train.errors import UserError
from mmkd_train.track_file import benchmark_tracker, read_detections, track_detections

LINE = "{frame},-1,{x},50,40,100,{conf},-1,-1,-1"
# Every detection may start a track, the third confirms, and none is put out unseen.
STRICT = "--n-init 3 --max-age-s 1 --coast-s 0 --strong-score 0 --birth-score 0".split()


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(tmp_path: Path, lines: list[str], *options: str) -> tuple[int, list[list[float]]]:
    output = tmp_path / "out.txt"
    path = write(tmp_path / "det.txt", lines)
    code = main(["track", "--detections", str(path), "--fps", "30", "--output", str(output), *STRICT, *options])
    return code, [[float(v) for v in line.split(",")] for line in output.read_text().splitlines()]


def test_lines_come_back_as_tracks_in_the_files_coordinates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = run(tmp_path, [LINE.format(frame=f, x=100 + 2 * f, conf=0.8) for f in range(1, 11)])
    assert code == 0
    assert [row[:2] for row in rows] == [[f, 1] for f in range(3, 11)]
    assert rows[-1][2:6] == pytest.approx([120, 50, 40, 100], abs=1.5)
    assert rows[-1][6:] == [0.8, -1, -1, -1]
    assert "10 frames, 10 detections, 1 tracks, 8 boxes" in capsys.readouterr().out


def test_frames_without_lines_are_empty_frames(tmp_path: Path) -> None:
    """The gap ages the track: with 10 frames it goes on, with 40 it is another."""
    early = [LINE.format(frame=f, x=100, conf=0.8) for f in range(1, 6)]
    for gap, ids in ((10, {1.0}), (40, {1.0, 2.0})):
        late = [LINE.format(frame=5 + gap + f, x=100, conf=0.8) for f in range(5)]
        assert {row[1] for row in run(tmp_path, early + late)[1]} == ids


def test_order_of_lines_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    lines = [LINE.format(frame=f, x=100 + 200 * k, conf=0.8) for f in range(1, 6) for k in range(2)]
    straight = run(tmp_path, lines)[1]
    assert len(straight) == 6
    mixed = run(tmp_path, ["", *lines[4:], " ", *lines[:4]])[1]
    assert mixed == straight


def test_confidences_outside_0_to_1_are_clipped_after_the_threshold(tmp_path: Path) -> None:
    lines = [LINE.format(frame=f, x=100 + 200 * k, conf=conf) for f in range(1, 4) for k, conf in enumerate((37.5, -2))]
    assert [row[6] for row in run(tmp_path, lines)[1]] == [1.0, 0.0]
    assert [row[6] for row in run(tmp_path, lines, "--min-confidence", "5")[1]] == [1.0]
    assert run(tmp_path, lines, "--min-confidence", "38")[1] == []


def test_tracker_options_are_command_line_options(tmp_path: Path) -> None:
    lines = [LINE.format(frame=f, x=100, conf=0.8) for f in range(1, 4)]
    assert len(run(tmp_path, lines, "--n-init", "2")[1]) == 2
    assert main(["track", "--detections", "d", "--output", "o", "--fps", "30", "--n-init", "0"]) == 2
    assert main(["track", "--detections", "d", "--output", "o", "--fps", "0.5"]) == 2


def track(tmp_path: Path, lines: list[str], *options: str) -> list[list[float]]:
    output = tmp_path / "out.txt"
    detections = str(write(tmp_path / "det.txt", lines))
    assert main(["track", "--detections", detections, "--fps", "30", "--output", str(output), *options]) == 0
    return [[float(v) for v in line.split(",")] for line in output.read_text().splitlines()]


def test_the_mode_sets_what_no_option_sets(tmp_path: Path) -> None:
    """Weak detections start nothing in robot mode; in parity mode the third confirms, and one frame is coasted."""
    lines = [LINE.format(frame=f, x=100, conf=0.3) for f in (1, 2, 3, 4, 7)]
    assert track(tmp_path, lines) == []
    assert [row[0] for row in track(tmp_path, lines, "--mode", "parity")] == [3, 4, 5, 7]
    assert [row[0] for row in track(tmp_path, lines, "--mode", "parity", "--n-init", "4")] == [4, 5, 7]
    anything = ("--birth-score", "0", "--strong-score", "0")
    assert [row[0] for row in track(tmp_path, lines, *anything)] == [2, 3, 4, 7]
    assert [row[0] for row in track(tmp_path, lines, *anything, "--coast-share", "1")] == [2, 3, 4, 5, 6, 7]


def test_embeddings_belong_to_the_lines_of_the_file(tmp_path: Path) -> None:
    """Two people turn back behind one another: by boxes they swap, by looks they do not. The lines are not in order."""
    lines, looks = [], []
    for frame in range(1, 41):
        if 18 < frame < 24:
            continue
        for person in range(2):
            way = (frame if frame < 21 else 42 - frame) * 4.0
            lines.append(LINE.format(frame=frame, x=100 + (way if person == 0 else 160 - way), conf=0.9))
            looks.append(np.eye(8)[person])
    order = np.random.default_rng(0).permutation(len(lines))
    np.save(tmp_path / "looks.npy", np.array(looks)[order])
    shuffled = [lines[i] for i in order]

    def last_ids(*options: str) -> dict[float, float]:
        rows = track(tmp_path, shuffled, "--mode", "parity", *options)
        return {row[2]: row[1] for row in rows if row[0] in (3, 40)}

    with_looks = last_ids("--embeddings", str(tmp_path / "looks.npy"))
    assert len(set(with_looks.values())) == 2
    left = [identity for x, identity in with_looks.items() if x < 180]
    assert len(set(left)) == 1, "who began on the left is on the left again"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4)), "2 rows, but"),
        (np.zeros(3), "one array of numbers"),
        (np.zeros((3, 0)), "one array of numbers"),
        (np.array([[None]] * 3), "Cannot read"),
    ],
)
def test_embeddings_that_do_not_fit_are_named(
    tmp_path: Path, array: np.ndarray, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "det.txt", [LINE.format(frame=f, x=1, conf=1) for f in range(3)])
    np.save(tmp_path / "looks.npy", array, allow_pickle=True)
    arguments = ["--embeddings", str(tmp_path / "looks.npy"), "--output", str(tmp_path / "out.txt"), "--fps", "30"]
    assert main(["track", "--detections", str(path), *arguments]) == 2
    message = capsys.readouterr().err
    assert words in message and "looks.npy" in message


def test_boxes_without_size_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [LINE.format(frame=f, x=100, conf=0.8) for f in range(1, 4)]
    run(tmp_path, [*lines, "2,-1,0,0,0,10,0.5,-1,-1,-1", "2,-1,0,0,10,-3,0.5,-1,-1,-1"])
    assert "left out: 2 by box" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,-1,10,20,30,40", "6 values"),
        ("1 -1 10 20 30 40 0.5", "1 values"),
        ("1,-1,ten,20,30,40,0.5", "ten"),
        ("1,-1,nan,20,30,40,0.5", "finite"),
        ("1,-1,10,20,30,inf,0.5", "finite"),
        ("1.5,-1,10,20,30,40,0.5", "whole number"),
        ("-3,-1,10,20,30,40,0.5", "whole number"),
        ("99999999999,-1,10,20,30,40,0.5", "frames after the first"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "det.txt", [LINE.format(frame=1, x=1, conf=1), line])
    with pytest.raises(UserError, match=words) as caught:
        read_detections(path)
    assert "det.txt" in str(caught.value)
    assert ("line 2" in str(caught.value)) or ("frame 99999999999" in str(caught.value))
    assert main(["track", "--detections", str(path), "--fps", "30", "--output", str(tmp_path / "out.txt")]) == 2
    assert "det.txt" in capsys.readouterr().err and not (tmp_path / "out.txt").exists()


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt"):
        read_detections(tmp_path / "gone.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary\.txt"):
        read_detections(tmp_path / "binary.txt")
    path = write(tmp_path / "det.txt", [LINE.format(frame=1, x=1, conf=1)])
    output = str(tmp_path / "no" / "out.txt")
    assert main(["track", "--detections", str(path), "--fps", "30", "--output", output]) == 2


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    assert run(tmp_path, [""]) == (0, [])
    frames, values = read_detections(tmp_path / "det.txt")
    assert frames.shape == (0,) and values.shape == (0, 5)
    assert track_detections(DeepSort(), frames, values, 30.0) == []


def test_recorded_people_keep_few_ids(shared_data: Path, tmp_path: Path) -> None:
    """TUD-Campus has 8 people; the tracker must not shatter them."""
    folder = shared_data / "mot" / "TUD-Campus"
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}")
    frames, values = read_detections(folder / "det" / "det.txt")
    result = track_detections(DeepSort(), frames, values, 25.0)
    assert [frame for frame, _ in result] == list(range(1, 72))
    ids = {int(i) for _, tracks in result for i in tracks.ids}
    assert 6 <= len(ids) <= 16
    assert sum(len(tracks) for _, tracks in result) > 200


def test_the_benchmark_gives_a_time() -> None:
    assert np.isfinite(benchmark_tracker(3, 2, dimension=8)) and benchmark_tracker(3, 2, dimension=8) > 0


def test_tracking_a_file_needs_no_torch() -> None:
    """torch takes seconds to import."""
    code = "import sys, mmkd_train.track_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
