"""``demo``: replay a recording over DDS through the real nodes, record what they publish, and show it."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

from tqdm import tqdm

from mmkd_ros.bags import BagError, BagReader, BagTopic
from mmkd_ros.pairing import PairingOptions
from mmkd_ros.replay import plan_replay
from mmkd_ros.share import share_path
from mmkd_ros.wiring import PerceptionOptions
from mmkd_train import demo_report
from mmkd_train.bag_images import image_stamps
from mmkd_train.errors import UserError
from mmkd_train.make_bag import make_bag_from_frames
from mmkd_train.node_run import live_topics, replay_through_nodes
from mmkd_train.report import cut_best, write_page
from mmkd_train.report_data import read_run
from mmkd_train.report_pictures import ImageSource

HELP = "Run the detection and tracking nodes on a recording (the embedded one by default) and draw what they find."

_DEMO_FRAMES = 120  # 12 s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``demo``."""
    parser.add_argument(
        "--output", type=Path, default=Path("demo_out"), help="folder for the results; default: %(default)s"
    )
    parser.add_argument("--bag", type=Path, help="a rosbag2 (mcap or sqlite3) instead of the embedded recording")
    parser.add_argument("--rgb-topic", default="", help="RGB topic in the bag; default: found by name and type")
    parser.add_argument("--thermal-topic", default="", help="thermal topic in the bag; default: found by name and type")
    parser.add_argument("--weights", default="", help="detector weights; default: as in the parameter file")
    parser.add_argument("--device", default="", help="auto, cpu or cuda; default: as in the parameter file")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the replay; default: %(default)s")
    parser.add_argument("--params-file", type=Path, help="parameters of the nodes; default: config/perception.yaml")
    parser.add_argument(
        "--domain-id", type=int, help="ROS domain of the demo; default: one of its own, apart from every robot's"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo: 0 with results in the output folder, else a `UserError` (no pair was processed, for example)."""
    began = time.monotonic()
    if not 0.01 <= args.rate <= 100:
        raise UserError(f"--rate is {args.rate}, but must lie in 0.01 to 100.")
    output: Path = args.output.resolve()
    for name in ("overlay.mp4", "overlay.png", "report.html", "result.mcap", "summary.json"):
        (output / name).unlink(missing_ok=True)  # an old result must not pass for a new one
    try:
        path = args.bag.resolve() if args.bag else embedded_recording(output)
        with BagReader(path) as bag:
            topics = bag.image_topics(args.rgb_topic, args.thermal_topic)
            print(f"{path}: {topics[0].count} images on {topics[0].name}, {topics[1].count} on {topics[1].name}.")
            plan = plan_replay(bag, [topic.name for topic in topics], args.rate)
            replay = replay_through_nodes(_options(args, topics), path, topics, output, args.rate, args.domain_id)
            record = read_run(output / "result.mcap", with_boxes=True)
            summary = demo_report.summarise(record, replay)
            (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            stamps = [image_stamps(bag, t.name, plan, replay["start_ns"]) for t in topics]
            frames = demo_report.film_frames(stamps[0], stamps[1], record.tracked, round(PairingOptions().slop_s * 1e9))
            demo_report.render(bag, topics, frames, record.tracked, output)
            thumbnails = cut_best(record, ImageSource(bag, topics, plan, replay["start_ns"]))
            write_page(output / "report.html", record, path.name, thumbnails)
    except KeyboardInterrupt:
        print("Stopped; the nodes are ended.")
        return 130
    except (BagError, ValueError, RuntimeError, OSError) as error:
        raise UserError(str(error)) from error
    print(demo_report.table(summary, output, time.monotonic() - began))
    print(f"Open {output / 'report.html'} in a browser.")
    if not summary["pairs"] or not summary["detections_messages"]:
        raise UserError(
            f"No pair was processed (images used alone: {summary['single_modality']}, dropped: {summary['dropped']}); "
            f"the log of the detection node says why: {output / 'logs' / 'detection_node.log'}."
        )
    return 0


def embedded_recording(output: Path) -> Path:
    """Render the demo scene into ``demo.mcap``, unless one of the same scene and program is there.

    Returns:
        Path of the bag.
    """
    from mmkd_train.data import synthetic  # heavy, and of no use with a bag of one's own

    bag, mark = output / "demo.mcap", output / "demo.json"
    sources = sorted(Path(synthetic.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    made_by = {"scene": str(synthetic.DEMO_SCENE), "frames": _DEMO_FRAMES, "program": digest}
    if bag.is_file() and mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == made_by:
        return bag
    mark.unlink(missing_ok=True)
    scene = synthetic.SyntheticScene(synthetic.DEMO_SCENE)
    frames = map(scene.frame, tqdm(range(_DEMO_FRAMES), desc="rendering the recording", unit="frame"))
    make_bag_from_frames(
        ((frame.rgb, frame.thermal) for frame in frames), bag, synthetic.DEMO_SCENE.fps, overwrite=True
    )
    mark.write_text(json.dumps(made_by), encoding="utf-8")
    return bag


def _options(args: argparse.Namespace, topics: tuple[BagTopic, BagTopic]) -> PerceptionOptions:
    """The system that is run.

    Raises:
        UserError: there is no such parameter file.
    """
    params_file = args.params_file.resolve() if args.params_file else share_path("config/perception.yaml")
    if not params_file.is_file():
        raise UserError(f"There is no parameter file {params_file}; correct --params-file.")
    weights = str(Path(args.weights).resolve()) if Path(args.weights).is_file() else args.weights
    rgb, thermal = live_topics(topics)
    return PerceptionOptions(
        rgb_topic=rgb, thermal_topic=thermal, weights=weights, device=args.device, params_file=str(params_file)
    )
