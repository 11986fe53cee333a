"""Bags: reading, writing, stamps inside CDR, the replay's time line, and make-bag."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from mmkd_ros import bags
from mmkd_ros.bags import BagError, BagReader, BagWriter, read_stamp, with_stamp
from mmkd_ros.imaging import rgb_from_image, thermal_from_image
from mmkd_ros.replay import ReplayPlan, plan_replay
from mmkd_train.__main__ import main
from mmkd_train.make_bag import dataset_frames, image_message, make_bag_from_frames, match_frames

RGB, THERMAL = "/rgb/image_raw", "/thermal/image_raw"
START_NS = 1_700_000_000_000_000_000


def frames(count: int = 4, height: int = 6, width: int = 8) -> list[tuple[Any, Any]]:
    random = np.random.default_rng(0)
    return [
        (
            random.integers(0, 256, (height, width, 3), np.uint8),
            random.integers(0, 65536, (height // 2, width // 2), np.uint16),
        )
        for _ in range(count)
    ]


def test_vision_msgs_have_the_types_that_the_distribution_ships() -> None:
    hashes = {
        "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
        "Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
        "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
        "VisionInfo": "RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
    }
    assert {name: bags.typestore().hash_rihs01(f"vision_msgs/msg/{name}") for name in hashes} == hashes


@pytest.mark.parametrize("name", ["recording.mcap", "recording"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    written = frames()
    assert make_bag_from_frames(written, tmp_path / name, fps=10.0) == (4, 4)
    assert (tmp_path / name).is_file() == name.endswith(".mcap")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with BagReader(tmp_path / name) as bag:
        assert {t.name: (t.type, t.count) for t in bag.topics.values()} == {
            RGB: (bags.IMAGE, 4),
            THERMAL: (bags.IMAGE, 4),
        }
        assert bag.require(RGB).count == 4
        messages = list(bag.messages())
        assert [m.time_ns for m in messages] == sorted(m.time_ns for m in messages)
        for number, message in enumerate(bag.messages([RGB])):
            image = bags.deserialize(message)
            assert (image.encoding, image.header.frame_id) == ("rgb8", "rgb_camera")
            assert read_stamp(message.data) == message.time_ns == START_NS + number * 100_000_000
            np.testing.assert_array_equal(rgb_from_image(image), written[number][0])
        for number, message in enumerate(bag.messages([THERMAL])):
            image = bags.deserialize(message)
            assert image.encoding == "mono16"
            np.testing.assert_array_equal(thermal_from_image(image), written[number][1])


@pytest.mark.parametrize("name", ["recording.mcap", "recording"])
def test_other_readers_need_no_message_package(tmp_path: Path, name: str) -> None:
    types: Any = bags.typestore().types
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=7, nanosec=8), frame_id="rgb_camera"
    )
    with BagWriter(tmp_path / name) as bag:
        bag.add_topic("/tracks", bags.DETECTION_ARRAY)
        bag.add_topic("/diagnostics", bags.DIAGNOSTIC_ARRAY)
        bag.write("/tracks", 5, bags.serialize(types[bags.DETECTION_ARRAY](header=header, detections=[])))
    with AnyReader([tmp_path / name]) as reader:
        assert set(reader.topics) == {"/tracks", "/diagnostics"}
        ((connection, time_ns, data),) = list(reader.messages())
        message: Any = reader.deserialize(data, connection.msgtype)
    assert (connection.topic, time_ns, message.header.stamp.sec, len(message.detections)) == ("/tracks", 5, 7, 0)


def sqlite_bag(folder: Path) -> Path:
    store = bags.typestore()
    with Writer(folder, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection(RGB, bags.IMAGE, typestore=store)
        for number, (rgb, _) in enumerate(frames()):
            stamp = START_NS + number
            writer.write(connection, stamp, image_message(rgb, stamp, "rgb_camera", "rgb8"))
    return next(folder.glob("*.db3"))


def test_sqlite3_is_read_as_a_folder_and_as_a_lone_file(tmp_path: Path) -> None:
    lone = sqlite_bag(tmp_path / "bag")
    for path in (tmp_path / "bag", lone):
        with BagReader(path) as bag:
            assert [read_stamp(m.data) for m in bag.messages([RGB])] == [START_NS + n for n in range(4)]


def test_a_folder_without_metadata_is_read_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    for number, start in enumerate((20.0, 10.0)):
        make_bag_from_frames(frames(2), folder / f"part_{number}.mcap", fps=1.0, start_stamp=start)
    with BagReader(folder) as bag:
        assert bag.topics[THERMAL].count == 4
        assert [m.time_ns // 10**9 for m in bag.messages([THERMAL])] == [10, 11, 20, 21]


def test_unreadable_bags_say_what_to_do(tmp_path: Path) -> None:
    good = tmp_path / "good.mcap"
    make_bag_from_frames(frames(), good, fps=10.0)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(good.read_bytes()[:-500])
    empty = tmp_path / "empty.mcap"
    empty.touch()
    noise = tmp_path / "noise.db3"
    noise.write_bytes(b"no database" * 100)
    other = tmp_path / "video.mp4"
    other.touch()
    ros1 = tmp_path / "old.bag"
    ros1.touch()
    (tmp_path / "folder").mkdir()
    broken_metadata = tmp_path / "broken"
    broken_metadata.mkdir()
    (broken_metadata / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    for path, words in (
        (tmp_path / "absent.mcap", "check the path"),
        (cut, "cannot be read"),
        (empty, "cannot be read"),
        (noise, "cannot be read"),
        (other, "no rosbag2"),
        (ros1, "rosbags-convert"),
        (tmp_path / "folder", "neither metadata.yaml nor"),
        (broken_metadata, "cannot be read"),
    ):
        with pytest.raises(BagError, match=words) as caught:
            BagReader(path)
        assert str(path) in str(caught.value)


def test_damage_inside_a_bag_is_an_error_not_a_crash(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    database = sqlite_bag(folder)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE messages SET data = x'0001' WHERE id = 2")
    with BagReader(folder) as bag:
        messages = list(bag.messages([RGB]))
    with pytest.raises(BagError, match="no readable sensor_msgs/msg/Image"):
        bags.deserialize(messages[1])
    for function in (read_stamp, lambda data: with_stamp(data, 1)):
        with pytest.raises(BagError, match="too short"):
            function(messages[1].data)


def test_a_missing_topic_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "bag.mcap"
    with BagWriter(path) as writer:
        writer.add_topic("/front/image", bags.IMAGE)
        writer.add_topic("/empty/image", bags.IMAGE)
        writer.add_topic("/tracks", bags.DETECTION_ARRAY)
        writer.write("/front/image", 1, image_message(np.zeros((2, 2), np.uint8), 1, "camera", "mono8"))
    with BagReader(path) as bag:
        with pytest.raises(BagError, match=r"no topic /rgb.*/tracks \(vision_msgs.*choose one of /front/image\."):
            bag.require("/rgb")
        with pytest.raises(BagError, match=r"/tracks of .* is a vision_msgs/msg/Detection2DArray, not a sensor_msgs"):
            bag.require("/tracks")
        with pytest.raises(BagError, match="/empty/image of .* holds no message"):
            bag.require("/empty/image")
        with pytest.raises(BagError, match="none is of type tf2_msgs/msg/TFMessage"):
            bag.require("/tf", ("tf2_msgs/msg/TFMessage",))


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        (["/rgb/image_raw", "/thermal/image_raw"], ("", ""), ("/rgb/image_raw", "/thermal/image_raw")),
        (["/cam/color", "/lwir/image"], ("", ""), ("/cam/color", "/lwir/image")),
        (["/left", "/right", "/ir"], ("/right", ""), ("/right", "/ir")),
        (["/a", "/b"], ("/b", ""), ("/b", "/a")),
        (["/a", "/b"], ("", "/b"), ("/a", "/b")),
        (["/left", "/right", "/ir"], ("", ""), "RGB"),
        (["/first", "/second"], ("", ""), "RGB"),
        (["/a", "/ir/1", "/ir/2"], ("", ""), "thermal"),
        (["/a", "/ir/1"], ("/c", ""), "no topic /c"),
    ],
)
def test_the_two_cameras_are_found_or_asked_for(
    tmp_path: Path, there: list[str], asked: tuple[str, str], found: tuple[str, str] | str
) -> None:
    stamps = {topic: [(1, 1)] for topic in there}
    with BagReader(bag_with_stamps(tmp_path / "bag.mcap", stamps)) as bag:
        if isinstance(found, str):
            with pytest.raises(BagError, match=found):
                bag.image_topics(*asked)
        else:
            assert tuple(topic.name for topic in bag.image_topics(*asked)) == found


def test_of_an_image_and_its_compressed_twin_the_plain_one_is_taken(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag.mcap") as writer:
        for name in ("/rgb", "/ir"):
            writer.add_topic(name, bags.IMAGE)
            writer.add_topic(f"{name}/compressed", bags.COMPRESSED_IMAGE)
            for topic in (name, f"{name}/compressed"):
                writer.write(topic, 1, b"any bytes")
    with BagReader(tmp_path / "bag.mcap") as bag:
        assert [topic.name for topic in bag.image_topics()] == ["/rgb", "/ir"]
        assert bag.image_topics("/rgb/compressed")[0].type == bags.COMPRESSED_IMAGE


def test_a_bag_is_not_overwritten_unasked_and_not_left_half_written(tmp_path: Path) -> None:
    path = tmp_path / "bag.mcap"
    make_bag_from_frames(frames(1), path, fps=10.0)
    with pytest.raises(BagError, match="exists already"):
        make_bag_from_frames(frames(2), path, fps=10.0)
    make_bag_from_frames(frames(3), path, fps=10.0, overwrite=True)
    with pytest.raises(ValueError, match="colour image of frame 0"):
        make_bag_from_frames([(np.zeros((2, 2), np.uint8), None)], path, fps=10.0, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["bag.mcap"]
    with BagReader(path) as bag:
        assert bag.topics[RGB].count == 3
    with BagWriter(tmp_path / "types.mcap") as writer, pytest.raises(BagError, match="my_msgs/msg/Thing is unknown"):
        writer.add_topic("/thing", "my_msgs/msg/Thing")


@pytest.mark.parametrize("little_endian", [True, False])
def test_the_stamp_is_patched_inside_the_bytes(little_endian: bool) -> None:
    store, types = bags.typestore(), bags.typestore().types
    build: Any = types
    message = build[bags.COMPRESSED_IMAGE](
        header=build["std_msgs/msg/Header"](
            stamp=build["builtin_interfaces/msg/Time"](sec=3, nanosec=999_999_999), frame_id="camera"
        ),
        format="jpeg",
        data=np.arange(9, dtype=np.uint8),
    )
    data = bytes(store.serialize_cdr(message, bags.COMPRESSED_IMAGE, little_endian=little_endian))
    assert read_stamp(data) == 3_999_999_999
    patched = with_stamp(data, 1_234_567_890_123_456_789)
    assert read_stamp(patched) == 1_234_567_890_123_456_789
    read: Any = store.deserialize_cdr(patched, bags.COMPRESSED_IMAGE)
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (1_234_567_890, 123_456_789)
    assert (read.header.frame_id, read.format, read.data.tolist()) == ("camera", "jpeg", list(range(9)))
    with pytest.raises(ValueError, match="does not fit a ROS time stamp"):
        with_stamp(data, -1)


def bag_with_stamps(path: Path, stamps: dict[str, list[tuple[int, int]]]) -> Path:
    """A bag of tiny images: per topic, pairs of recording time and header stamp in milliseconds."""
    pixel = np.zeros((1, 1), np.uint8)
    with BagWriter(path) as writer:
        for topic, times in stamps.items():
            writer.add_topic(topic, bags.IMAGE)
            for recorded, header in times:
                writer.write(topic, recorded * 10**6, image_message(pixel, header * 10**6, "camera", "mono8"))
    return path


def test_replayed_stamps_keep_their_distances_and_never_lie_in_the_future(tmp_path: Path) -> None:
    recorded = {
        RGB: [(1020 + 100 * n, 1000 + 100 * n) for n in range(5)],
        THERMAL: [(1050 + 100 * n, 1000 + 100 * n) for n in range(5)],
    }
    with BagReader(bag_with_stamps(tmp_path / "bag.mcap", recorded)) as bag:
        plan = plan_replay(bag, [RGB, THERMAL])
        messages = list(bag.messages())
    start = 5 * 10**9
    first = messages[0]
    assert plan.due(first.time_ns) == 0
    assert plan.stamp(first.time_ns, read_stamp(first.data), start) == start
    for message in messages:
        header = read_stamp(message.data)
        stamp = plan.stamp(message.time_ns, header, start)
        assert stamp - start == header - 1000 * 10**6  # both cameras moved alike
        assert stamp <= start + plan.due(message.time_ns)
    with BagReader(tmp_path / "bag.mcap") as bag:
        fast = plan_replay(bag, [RGB, THERMAL], rate=2.0)
        kept = plan_replay(bag, [RGB, THERMAL], restamp=False)
    assert fast.due(1220 * 10**6) == 100 * 10**6
    assert fast.stamp(1220 * 10**6, 1200 * 10**6, start) == start + 100 * 10**6
    assert kept.stamp(1220 * 10**6, 1200 * 10**6, start) == 1200 * 10**6


@pytest.mark.parametrize(
    ("thermal", "words"),
    [
        ([(1000, 0), (1100, 0)], "zero or never change"),
        ([(1000, 500), (1100, 500)], "zero or never change"),
        ([(1000, 90_000), (1100, 90_100)], "apart"),
    ],
)
def test_useless_header_stamps_give_way_to_recording_times(
    tmp_path: Path, thermal: list[tuple[int, int]], words: str
) -> None:
    recorded = {RGB: [(1000, 990), (1100, 1090)], THERMAL: thermal}
    with BagReader(bag_with_stamps(tmp_path / "bag.mcap", recorded)) as bag:
        plan = plan_replay(bag, [RGB, THERMAL])
        assert words in plan.warning
        assert {plan.stamp(m.time_ns, read_stamp(m.data), 10**9) for m in bag.messages()} == {10**9, 11 * 10**8}


def test_a_replay_needs_a_rate_and_a_message(tmp_path: Path) -> None:
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="rate above 0"):
            ReplayPlan(0, 0, rate)
    with (
        BagReader(bag_with_stamps(tmp_path / "bag.mcap", {RGB: []})) as bag,
        pytest.raises(BagError, match="no message on /rgb/image_raw"),
    ):
        plan_replay(bag, [RGB])


def write_tree(root: Path, rgb: list[str], thermal: list[str]) -> Path:
    for folder, names, image in (
        ("rgb", rgb, np.full((6, 8, 3), (10, 20, 30), np.uint8)),
        ("thermal", thermal, np.full((3, 4), 40_000, np.uint16)),
    ):
        (root / folder).mkdir(parents=True)
        for name in names:
            assert cv2.imwrite(str(root / folder / name), image)
    return root


def test_make_bag_turns_a_folder_of_frames_into_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = write_tree(tmp_path / "tree", ["f9.png", "f10.png", "f11.png"], ["f9.png", "f10.png"])
    output = tmp_path / "out" / "X.mcap"
    arguments = ["make-bag", "--sequence", str(tree), "--fps", "4", "--output", str(output), "--start-stamp", "100"]
    assert main([*arguments, "--rgb-topic", "/front", "--thermal-topic", "/ir"]) == 0
    assert "3 RGB and 2 thermal frames: paired 2 by name" in capsys.readouterr().out
    with AnyReader([output]) as reader:
        images: list[Any] = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages()]
    seen = [(m.encoding, m.header.frame_id, m.header.stamp.sec + m.header.stamp.nanosec / 1e9) for m in images]
    assert sorted(seen) == [
        ("bgr8", "rgb_camera", 100.0),
        ("bgr8", "rgb_camera", 100.25),
        ("bgr8", "rgb_camera", 100.5),
        ("mono16", "thermal_camera", 100.0),
        ("mono16", "thermal_camera", 100.25),
    ]
    colour = next(m for m in images if m.encoding == "bgr8")
    assert rgb_from_image(colour)[0, 0].tolist() == [30, 20, 10]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_frames_are_matched_by_name_or_in_order(tmp_path: Path) -> None:
    pairs, remark = match_frames(write_tree(tmp_path / "a", ["v2.png", "v10.png"], ["i10.png", "i2.png"]))
    assert [(a.name, b.name) for a, b in pairs if a and b] == [("v2.png", "i2.png"), ("v10.png", "i10.png")]
    assert "paired in order" in remark


def test_make_bag_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strangers = write_tree(tmp_path / "strangers", ["a.png"], ["b.png", "c.png"])
    damaged = write_tree(tmp_path / "damaged", ["a.png"], ["a.png"])
    (damaged / "rgb" / "a.png").write_bytes(b"no image")
    good = write_tree(tmp_path / "good", ["a.png"], ["a.png"])
    empty = tmp_path / "empty"
    (empty / "rgb").mkdir(parents=True)
    for tree, fps, words in (
        (tmp_path / "absent", "10", "There is no folder"),
        (empty, "10", "holds no image"),
        (strangers, "10", "share no file name"),
        (damaged, "10", "cannot be read as an image"),
        (good, "0", "makes no time line"),
    ):
        assert main(["make-bag", "--sequence", str(tree), "--fps", fps, "--output", str(tmp_path / "X.mcap")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "X.mcap").exists()


def write_images(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((6, 8, 3), 10 * number, np.uint8))


def kaist(root: Path) -> Path:
    """Two drives without labels; one has a frame whose thermal image is missing, and a gap in its numbers."""
    for drive, numbers in (("set00/V000", (0, 1, 2, 9)), ("set06/V003", (0,))):
        for kind in ("visible", "lwir"):
            write_images(*(root / "images" / drive / kind / f"I{number:05d}.jpg" for number in numbers))
    (root / "images/set00/V000/lwir/I00001.jpg").unlink()
    return root


def test_a_recording_of_a_public_set_becomes_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["make-bag", "--dataset", "kaist", "--sequence", str(kaist(tmp_path / "kaist")), "--fps", "20"]
    output = tmp_path / "drive.mcap"
    assert main([*arguments, "--recording", "set00/V000", "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert (
        "Missing images: 1. Gaps in the numbers: 1; the frames follow each other" in said
        and f"{output}: 4 images on {RGB}, 3 on" in said
    )
    with BagReader(output) as bag:
        stamps = {name: [read_stamp(m.data) - START_NS for m in bag.messages([name])] for name in (RGB, THERMAL)}
    assert stamps == {RGB: [0, 50_000_000, 100_000_000, 150_000_000], THERMAL: [0, 100_000_000, 150_000_000]}


def test_other_layouts_give_their_frames_in_order(tmp_path: Path) -> None:
    llvip = tmp_path / "llvip"
    for kind in ("visible", "infrared"):
        write_images(*(llvip / kind / "train" / f"01000{number}.jpg" for number in (2, 1)))
        write_images(llvip / kind / "test" / "190001.jpg")
    pairs, remark = dataset_frames("llvip", llvip, "01")
    assert [(a.name, b.parent.parent.name) for a, b in pairs if a and b] == [
        ("010001.jpg", "infrared"),
        ("010002.jpg", "infrared"),
    ]
    assert remark == ""
    flir = tmp_path / "flir"
    names = [f"FLIR_0000{number}" for number in (8, 9)]
    write_images(*(flir / "JPEGImages" / f"{name}{end}" for name in names for end in ("_RGB.jpg", "_PreviewData.jpeg")))
    (flir / "align_train.txt").write_text("\n".join(f"{name}_PreviewData" for name in reversed(names)))
    (flir / "align_validation.txt").write_text("")
    pairs, _ = dataset_frames("flir_aligned", flir)  # the only recording needs no name
    assert [a.name for a, _ in pairs if a] == ["FLIR_00008_RGB.jpg", "FLIR_00009_RGB.jpg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "kaist"], "holds several recordings; choose one with --recording: set00/V000 (4 frames), set06"),
        (["--dataset", "kaist", "--recording", "V000"], "There is no recording V000"),
        (["--dataset", "llvip", "--recording", "01"], "is not LLVIP"),
        (["--recording", "01"], "say which with --dataset"),
    ],
)
def test_a_set_that_cannot_be_turned_is_explained(
    tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "make-bag",
        "--sequence",
        str(kaist(tmp_path / "kaist")),
        "--fps",
        "20",
        "--output",
        str(tmp_path / "X"),
    ]
    assert main([*arguments, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "X").exists()
