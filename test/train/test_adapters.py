"""Each adapter on a made-up tree in its owner's layout: names, boxes, splits, the flaws it counts, the folder it
refuses. And the division into splits, which must never part neighbours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmkd_train.__main__ import main
from mmkd_train.convert import convert
from mmkd_train.data.adapters import ADAPTERS, CLASSES, Adapter, Frame
from mmkd_train.data.adapters.split import SplitOptions, divide, group_of
from mmkd_train.data.coco import PARTIAL_SOURCES, CocoPairs, LabelRules
from mmkd_train.errors import UserError

WIDTH, HEIGHT = 64, 48
BOX = (10, 8, 30, 40)  # xyxy


def picture(path: Path, level: int, size: tuple[int, int] = (HEIGHT, WIDTH), channels: int = 3) -> None:
    """A dark picture that is ``level`` bright inside BOX."""
    image = np.zeros((*size, channels), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = level
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100])


def voc(path: Path, *objects: tuple[str, tuple[float, ...]], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    path.write_text(f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{items}</annotation>")


def flir_aligned(root: Path) -> None:
    """Stretches of 10 pairs, 1,000 numbers apart. Flaws: no thermal, thermal of another size, an empty box, a dog."""
    names = [f"FLIR_{1000 * k + n:05d}" for k in range(1, 5) for n in range(10)]
    for name in names:
        picture(root / "JPEGImages" / f"{name}_RGB.jpg", 200)
        picture(root / "JPEGImages" / f"{name}_PreviewData.jpeg", 120, channels=1)
        voc(root / "Annotations" / f"{name}_PreviewData.xml", ("person", BOX))
    (root / "JPEGImages/FLIR_01000_PreviewData.jpeg").unlink()
    picture(root / "JPEGImages/FLIR_02000_PreviewData.jpeg", 120, (40, 64), 1)
    voc(root / "Annotations/FLIR_01001_PreviewData.xml", ("person", BOX), ("dog", BOX), ("car", (5, 5, 5, 9)))
    (root / "align_train.txt").write_text("\n".join(f"{name}_PreviewData" for name in names[:30]) + "\n")
    (root / "align_validation.txt").write_text("\n".join(names[30:]))


def llvip(root: Path) -> None:
    """Recordings 01 to 03 and 19. Flaws: a label file that is no XML, and a box outside."""
    for split, recordings in (("train", ("01", "02", "03")), ("test", ("19",))):
        for name in (f"{recording}{n:04d}" for recording in recordings for n in range(1, 9)):
            picture(root / "visible" / split / f"{name}.jpg", 200)
            picture(root / "infrared" / split / f"{name}.jpg", 120)
            voc(root / "Annotations" / f"{name}.xml", ("person", BOX))
    (root / "Annotations/190001.xml").write_text("<annotation><object>")
    voc(root / "Annotations/190002.xml", ("person", BOX), ("person", (70, 5, 90, 9)))


def kaist(root: Path) -> None:
    """Three training drives and a night test drive, XML in set00 and bbGt elsewhere. Flaws: see the test."""
    for drive in ("set00/V000", "set00/V001", "set01/V000", "set09/V000"):
        for n in range(20):
            for kind, level in (("visible", 200), ("lwir", 120)):
                picture(root / "images" / drive / kind / f"I{n:05d}.jpg", level)
            text = root / "annotations-xml-new" / drive / f"I{n:05d}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("% bbGt version=3\nperson 10 8 20 32 1 0 0 0 0 0 0\n")
    labels = root / "annotations-xml-new"
    for name in ("V000", "V001"):
        for path in (labels / "set00" / name).glob("*.txt"):
            path.with_suffix(".xml").write_text(
                "<annotation><object><name>person</name><bndbox><x>10</x><y>8</y><w>20</w><h>32</h></bndbox>"
                "<occlusion>0</occlusion></object></annotation>"
            )
            path.unlink()
    (labels / "set09/V000/I00000.txt").write_text(
        "% bbGt version=3\nperson 10 8 20 32 0 0 0 0 0 0 0\nperson 1 8 20 32 2 0 0 0 0 0 0\n"
        "people 2 8 20 32 0 0 0 0 0 0 0\nperson? 3 8 20 32 0 0 0 0 0 0 0\ncyclist 4 8 20 32 0 0 0 0 0 0 0\n"
        "person 5 8 20 32 0 0 0 0 0 1 0\n"
    )
    (labels / "set09/V000/I00001.txt").write_text("% bbGt version=3\n")
    (labels / "set09/V000/I00002.txt").write_text("person 10 8 20 32 0 0 0 0 0 0 0\n")
    (labels / "set09/V000/I00003.txt").write_text("% bbGt version=3\nperson 10 8 20\n")
    (labels / "set09/V000/I00004.txt").unlink()


def m3fd(root: Path) -> None:
    """1,000 numbers in steps of 5. Flaws: a label of another picture size, RGB missing, a lamp, a NaN."""
    for n in range(0, 1000, 5):
        picture(root / "Vis" / f"{n:05d}.png", 200)
        picture(root / "Ir" / f"{n:05d}.png", 120, channels=1)
        voc(root / "Annotation" / f"{n:05d}.xml", ("People", BOX))
    (root / "Vis/00005.png").unlink()
    voc(root / "Annotation/00010.xml", ("People", BOX), size=(128, 96))
    voc(root / "Annotation/00015.xml", ("Bus", BOX), ("Lamp", BOX), ("Car", (float("nan"), 1, 9, 9)))


def msrs(root: Path) -> None:
    """Each fourth of 400 numbers tests, as in the owner's set. Flaws: a damaged picture, two absent lists."""
    for n in range(400):
        split, name = ("test" if n % 4 == 3 else "train"), f"{n:05d}{'DN'[n // 200]}"
        picture(root / split / "vi" / f"{name}.png", 200)
        picture(root / split / "ir" / f"{name}.png", 120, channels=1)
        for kind in ("fusion", "infrared", "visible"):
            label = root / "MSRS-detection-label" / kind / split / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("2  0.3125 0.5  0.3125 0.6666667  \n\n")
    lists = root / "MSRS-detection-label"
    (root / "test/ir/00003D.png").write_bytes(b"no picture")
    (lists / "fusion/test/00007D.txt").unlink()
    (lists / "visible/test/00011D.txt").unlink()
    # Infrared: the car again, a little off, and a person; visible: the same person, and a car elsewhere.
    (lists / "infrared/test/00015D.txt").write_text("2 0.34 0.5 0.3125 0.6666667\n0 0.8 0.5 0.1 0.5\n")
    (lists / "visible/test/00015D.txt").write_text("0 0.81 0.5 0.1 0.5\n2 0.8 0.2 0.1 0.1\n")


TREES: dict[str, Callable[[Path], None]] = {
    "flir_aligned": flir_aligned,
    "llvip": llvip,
    "kaist": kaist,
    "m3fd": m3fd,
    "msrs": msrs,
}
FLAWS = {
    "flir_aligned": (
        "1 x thermal picture missing (JPEGImages/FLIR_01000_RGB.jpg)",
        "1 x thermal picture of another size than RGB (JPEGImages/FLIR_02000_RGB.jpg)",
        "1 x box of category 'dog', which is not mapped (JPEGImages/FLIR_01001_RGB.jpg)",
        "1 x box of zero area or outside the picture (JPEGImages/FLIR_01001_RGB.jpg)",
    ),
    "llvip": (
        "1 x label file that is no XML (visible/test/190001.jpg)",
        "1 x box of zero area or outside the picture (visible/test/190002.jpg)",
    ),
    "kaist": (
        "1 x label file without the header '% bbGt version=3' (images/set09/V000/visible/I00002.jpg)",
        "1 x label file with a line that has not 12 fields of numbers (images/set09/V000/visible/I00003.jpg)",
        "1 x label file missing (images/set09/V000/visible/I00004.jpg)",
    ),
    "m3fd": (
        "1 x RGB picture missing (Vis/00005.png)",
        "1 x label file made for a picture of another size (Vis/00010.png)",
        "1 x box of category 'lamp', which is not mapped (Vis/00015.png)",
        "1 x box with NaN or infinity (Vis/00015.png)",
    ),
    "msrs": (
        "1 x thermal picture cannot be decoded (test/vi/00003D.png)",
        "1 x label file missing (test/vi/00007D.png)",
        "1 x list that is missing, or has a line that is not a class and four numbers (test/vi/00011D.png)",
    ),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, str]]:
    """Name of a set -> its source folder, its output folder and the summary; made once each."""
    done: dict[str, tuple[Path, Path, str]] = {}

    def make(dataset: str) -> tuple[Path, Path, str]:
        if dataset not in done:
            source, output = tmp_path_factory.mktemp(dataset), tmp_path_factory.mktemp("out")
            TREES[dataset](source)
            options = SplitOptions(val=0.3, test=0.2)
            done[dataset] = (source, output, convert(dataset, source, output, options, progress=False))
        return done[dataset]

    return make


@pytest.mark.parametrize("dataset", ADAPTERS)
def test_a_converted_set_loads_with_its_pixels_and_boxes(
    dataset: str, converted: Callable[[str], tuple[Path, Path, str]]
) -> None:
    source, output, _ = converted(dataset)
    for split in ("train", "val", "test"):
        loaded = CocoPairs(output / "annotations" / f"{split}.json", source, LabelRules.for_classes(CLASSES))
        assert len(loaded) > 0 and not loaded.flaws
        for position, image in enumerate(loaded.images):
            assert image["source"] == dataset
            labels = loaded.labels(position)
            assert labels.labelled[CLASSES.index("person")]
            assert labels.labelled.all() == (dataset not in PARTIAL_SOURCES)
            if len(labels.boxes):
                np.testing.assert_allclose(labels.boxes[0], BOX, atol=0.01)
        sample = loaded[len(loaded) - 1]
        assert sample.rgb is not None and sample.thermal is not None
        assert sample.labels.tolist() == [CLASSES.index("car" if dataset == "msrs" else "person")]
        x1, y1, x2, y2 = (int(value) for value in sample.boxes[0].round())
        assert sample.rgb[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 190  # RGB is the brighter one here
        assert 110 < sample.thermal[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].mean() < 130
        assert sample.rgb[:, x2 + 4 :].max() < 10 and sample.thermal[:, x2 + 4 :].max() < 10


@pytest.mark.parametrize("dataset", ADAPTERS)
def test_flaws_are_named_and_counted(dataset: str, converted: Callable[[str], tuple[Path, Path, str]]) -> None:
    summary = converted(dataset)[2]
    for flaw in FLAWS[dataset]:
        assert f"left out: {flaw}" in summary
    listed = [line for line in summary.splitlines() if line.startswith("left out") and "next to" not in line]
    assert len(listed) == len(FLAWS[dataset])


@pytest.mark.parametrize("dataset", ADAPTERS)
def test_published_splits_stay_and_groups_stay_together(
    dataset: str, converted: Callable[[str], tuple[Path, Path, str]]
) -> None:
    source, output, _ = converted(dataset)
    sets = {s: json.loads((output / "annotations" / f"{s}.json").read_text()) for s in ("train", "val", "test")}
    groups = {split: {image["group"] for image in content["images"]} for split, content in sets.items()}
    assert not groups["train"] & groups["val"]
    published = {
        frame.rgb.relative_to(source).as_posix()
        for frame in ADAPTERS[dataset].find(source, None)
        if frame.split == "test"
    }
    names = {split: {image["file_name"] for image in content["images"]} for split, content in sets.items()}
    if published:
        assert names["test"] <= published and not published & (names["train"] | names["val"])
    else:
        assert not groups["test"] & (groups["train"] | groups["val"])


def test_kaist_ignores_what_its_owner_ignores(converted: Callable[[str], tuple[Path, Path, str]]) -> None:
    source, output, _ = converted("kaist")
    loaded = CocoPairs(output / "annotations/test.json", source, LabelRules.for_classes(CLASSES))
    first, second = loaded.labels(0), loaded.labels(1)
    assert first.boxes[:, 0].tolist() == [10, 1, 2, 3, 4, 5]
    assert first.ignore.tolist() == [False, True, True, True, True, True]
    assert len(second.boxes) == 0  # a header alone is an empty street
    assert all(image["night"] for image in loaded.images)
    train = json.loads((output / "annotations/train.json").read_text())
    assert not any(image["night"] for image in train["images"])


def test_msrs_ignores_what_one_camera_alone_shows(converted: Callable[[str], tuple[Path, Path, str]]) -> None:
    source, output, _ = converted("msrs")
    loaded = CocoPairs(output / "annotations/test.json", source, LabelRules.for_classes(CLASSES))
    position = [image["file_name"] for image in loaded.images].index("test/vi/00015D.png")
    labels = loaded.labels(position)
    assert [CLASSES[label] for label in labels.labels] == ["car", "person", "car"]
    assert labels.ignore.tolist() == [False, True, True]


def test_msrs_tells_day_from_night(converted: Callable[[str], tuple[Path, Path, str]]) -> None:
    images = json.loads((converted("msrs")[1] / "annotations/train.json").read_text())["images"]
    assert all(image["night"] == image["file_name"].endswith("N.png") for image in images)
    assert {image["night"] for image in images} == {True, False}


WRONG_FOLDER = {
    "flir_aligned": "looked for JPEGImages, align_train.txt, align_validation.txt; missing JPEGImages.* found other/",
    "llvip": "looked for visible/train, visible/test, infrared/train, infrared/test; .* found other/",
    "kaist": "looked for images; missing images; found other/",
    "m3fd": "looked for Vis, Ir; missing Vis, Ir; found other/",
    "msrs": "looked for train/vi, train/ir, test/vi, test/ir; .* found other/",
}
LABELS = {
    "flir_aligned": "Annotations",
    "llvip": "Annotations",
    "kaist": "annotations-xml-new",
    "m3fd": "Annotation",
    "msrs": "MSRS-detection-label",
}


@pytest.mark.parametrize("dataset", ADAPTERS)
def test_another_folder_is_refused(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=WRONG_FOLDER[dataset]):
        convert(dataset, tmp_path, tmp_path / "out", SplitOptions(), progress=False)
    with pytest.raises(UserError, match="is not a folder"):
        convert(dataset, tmp_path / "none", tmp_path / "out", SplitOptions(), progress=False)


@pytest.mark.parametrize("dataset", ADAPTERS)
def test_the_label_folder_may_lie_elsewhere(
    dataset: str, converted: Callable[[str], tuple[Path, Path, str]], tmp_path: Path
) -> None:
    source, _, summary = converted(dataset)
    labels, moved = source / LABELS[dataset], tmp_path / "labels"
    labels.rename(moved)
    options = SplitOptions(val=0.3, test=0.2)
    try:
        with pytest.raises(UserError, match=f"{LABELS[dataset]} should be .* but is not a folder"):
            convert(dataset, source, tmp_path / "out", options, progress=False)
        assert convert(dataset, source, tmp_path / "out", options, labels=moved, progress=False) == summary
    finally:
        moved.rename(labels)


def frames(count: int, split: str = "train", sequence: str = "a") -> list[Frame]:
    return [Frame(split, sequence, n, Path(), Path(), Path()) for n in range(count)]


def unread(*_: Any) -> list[Any]:
    raise AssertionError("dividing reads nothing")


def test_blocks_keep_their_distance() -> None:
    adapter = Adapter(unread, unread, {}, block=100, guard=20)
    for seed in range(5):
        divided, guarded = divide(frames(3000, split=""), adapter, SplitOptions(val=0.1, test=0.2, seed=seed))
        numbers = {split: np.array([frame.number for frame in members]) for split, members in divided.items()}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            assert np.abs(numbers[one][:, None] - numbers[other][None]).min() >= 20
        assert guarded == 3000 - sum(len(members) for members in numbers.values()) > 0
        assert len(numbers["train"]) == pytest.approx(0.72 * 3000, abs=100)  # 0.8 of it, of that 0.9
        assert 100 <= len(numbers["val"]) <= 300 and 300 <= len(numbers["test"]) <= 600


def test_the_seed_draws_and_light_is_balanced() -> None:
    adapter = Adapter(unread, unread, {})
    drives = [
        Frame("train", f"drive{d:02d}", n, Path(), Path(), Path(), night=d >= 10) for d in range(20) for n in range(10)
    ]
    first, _ = divide(drives, adapter, SplitOptions(val=0.2, seed=1))
    again, _ = divide(drives[::-1], adapter, SplitOptions(val=0.2, seed=1))
    other, _ = divide(drives, adapter, SplitOptions(val=0.2, seed=2))
    assert first == again and first != other
    assert len(first["val"]) == 40 and sum(bool(frame.night) for frame in first["val"]) == 20
    assert len({group_of(frame, 0) for frame in first["val"]}) == 4


def test_each_twentieth_frame_is_the_published_kaist_test_list() -> None:
    divided, _ = divide(frames(60, "test"), Adapter(unread, unread, {}), SplitOptions(every=20))
    assert [frame.number for frame in divided["test"]] == [19, 39, 59]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llvip(tmp_path / "set")
    command = ["convert", "--dataset", "llvip", "--source", str(tmp_path / "set"), "--output", str(tmp_path / "out")]
    assert main([*command, "--val", "1.5"]) == 2 and "val and test are shares" in capsys.readouterr().err
    assert main([*command, "--val", "0.05"]) == 2 and "no pair for the split 'val'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--splits", "test"]) == 0
    assert "test" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out/annotations").iterdir()] == ["test.json"]
    assert main([*command, "--splits", "test"]) == 2 and "exists already" in capsys.readouterr().err
