"""``report``: a recorded run -> one HTML page with tracks, latency, cameras in use, classes and thumbnails."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkd_ros.bags import IMAGE_TYPES, BagError, BagReader
from mmkd_ros.replay import plan_replay
from mmkd_ros.status_file import read_status
from mmkd_train.errors import UserError
from mmkd_train.report_data import RunRecord, read_run
from mmkd_train.report_page import best_tracks, page
from mmkd_train.report_pictures import ImageSource, Thumbnails, cut_thumbnails

HELP = "Make one HTML page of a recorded run: tracks, latency, cameras in use, classes, thumbnails."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``report``."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="a rosbag2 with tracks or detections")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="the page; default: beside the bag")
    parser.add_argument("--images", type=Path, metavar="BAG", help="a rosbag2 with the images; default: BAG itself")
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE.json",
        help="report of the replay (logs/replay.json of the demo), where it gave the images of --images new stamps",
    )
    parser.add_argument("--rgb-topic", default="", help="of the RGB images; default: found by name and type")
    parser.add_argument("--thermal-topic", default="", help="of the thermal images; default: found by name and type")
    parser.add_argument("--tracks-topic", default="", help="default: the only one called tracks")
    parser.add_argument("--detections-topic", default="", help="default: the only one called detections")


def run(args: argparse.Namespace) -> int:
    """Write the page; 0 when it is there."""
    output: Path = args.output or args.bag.with_suffix(".html")
    try:
        record = read_run(args.bag, args.tracks_topic, args.detections_topic)
        if not record.messages:
            raise UserError(
                f"{args.bag} holds no message of tracks or detections: nothing was published while it was recorded; "
                "look into the nodes' logs."
            )
        thumbnails, remark = _thumbnails(args, record)
        write_page(output, record, args.bag.name, thumbnails, remark)
    except (BagError, ValueError, OSError) as error:
        raise UserError(str(error)) from error
    print(f"{output}: {len(record.tracks)} tracks in {record.seconds:.1f} s, {len(thumbnails)} with pictures.")
    if remark:
        print(remark)
    return 0


def write_page(
    output: Path, record: RunRecord, source: str, thumbnails: Mapping[str, Thumbnails], remark: str = ""
) -> None:
    """Write the HTML file, making its folder."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(record, source, thumbnails, remark), encoding="utf-8")


def cut_best(record: RunRecord, source: ImageSource) -> dict[str, Thumbnails]:
    """Thumbnails of the tracks that get a card."""
    return cut_thumbnails([(track.id, track.best) for track in best_tracks(record)], source)


def _thumbnails(args: argparse.Namespace, record: RunRecord) -> tuple[dict[str, Thumbnails], str]:
    """Thumbnails, and a sentence why there are none."""
    if args.replay and not args.images:
        raise UserError("--replay tells how the images of --images were stamped; name that bag too.")
    with contextlib.ExitStack() as stack:
        bag = stack.enter_context(BagReader(args.images or args.bag))
        named = args.images or args.rgb_topic or args.thermal_topic
        if not named and not any(topic.type in IMAGE_TYPES for topic in bag.topics.values()):
            return {}, f"There are no pictures here: {args.bag} holds no images. Give the bag that does with --images."
        try:
            topics = bag.image_topics(args.rgb_topic, args.thermal_topic)
        except BagError as error:
            if named:
                raise
            return {}, f"There are no pictures here: {error} Or give the bag that holds the images with --images."
        replay = _read_replay(args.replay) if args.replay else None
        plan = plan_replay(bag, [topic.name for topic in topics], float(replay["rate"])) if replay else None
        source = ImageSource(bag, topics, plan, int(replay["start_ns"]) if replay else 0)
        thumbnails = cut_best(record, source)
    if record.tracks and not thumbnails and args.images:
        raise UserError(
            f"No image of {args.images} has the stamp of a track of {args.bag}. If it was replayed with new stamps, "
            "give the replay's report (its parameter report; logs/replay.json of the demo) with --replay; otherwise "
            "name the bag that was recorded together with the tracks."
        )
    return thumbnails, "" if thumbnails else "There are no pictures here: no image has the stamp of a track."


def _read_replay(path: Path) -> dict[str, Any]:
    """When a replay began and how fast it ran."""
    status = read_status(path)
    if not {"start_ns", "rate"} <= status.keys():
        raise UserError(f"{path} is no report of a replay (start_ns and rate); give the file that its report names.")
    return status
