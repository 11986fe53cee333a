"""Write synthetic scenes as a COCO-format set in the layout of the real pairs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmkd_train.data.synthetic.options import CLASS_NAMES, CameraMotion, SceneOptions, SyntheticFrame
from mmkd_train.data.synthetic.scene import SyntheticScene
from mmkd_train.errors import UserError

HELP = "Render synthetic RGB-thermal road scenes with boxes and track ids as a COCO-format set."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``synthesize``."""
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder to write; created if absent, must hold no other set of this name",
    )
    parser.add_argument(
        "--name", default="synthetic", help="name of the set: annotations/NAME.json and the prefix of the files"
    )
    parser.add_argument("--scenes", type=int, default=10, help="number of different scenes")
    parser.add_argument("--frames-per-scene", type=int, default=1, help="frames rendered of each scene")
    parser.add_argument(
        "--stride",
        type=int,
        default=5,
        help="frames to step from one written frame to the next, at 10 frames per second",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first scene; the next scenes take the next seeds"
    )
    parser.add_argument("--size", default="512x640", help="HxW in pixels")
    parser.add_argument(
        "--time-of-day", default="random", choices=("day", "dusk", "night", "random"), help="light of all scenes"
    )
    parser.add_argument(
        "--camera",
        default="mixed",
        choices=("static", "pan", "drive", "mixed"),
        help="camera motion; mixed takes turns",
    )
    parser.add_argument(
        "--min-box", type=float, default=8.0, help="objects lower than this many pixels are not annotated"
    )


def run(args: argparse.Namespace) -> int:
    """Render and write the set; returns 0.

    Raises:
        UserError: a number or size out of range, a set of that name already there, or a folder that cannot be written.
    """
    height, width = _size(args.size)
    for name in ("scenes", "frames_per_scene", "stride"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, got {getattr(args, name)}.")
    if not args.name or Path(args.name).name != args.name:
        raise UserError(f"--name must be a plain file name without folders, got '{args.name}'.")
    root: Path = args.output
    target = root / "annotations" / f"{args.name}.json"
    if target.exists():
        raise UserError(f"{target} exists already; choose another --name or --output, or remove it first.")
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    try:
        for folder in (root / "pairs" / "rgb", root / "pairs" / "thermal", target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with tqdm(total=args.scenes * args.frames_per_scene, desc="synthesize", unit="pair") as bar:
            for number in range(args.scenes):
                turns: tuple[CameraMotion, ...] = ("static", "drive", "static", "pan")
                camera = turns[number % 4] if args.camera == "mixed" else args.camera
                try:
                    scene = SyntheticScene(
                        SceneOptions(
                            seed=args.seed + number,
                            width=width,
                            height=height,
                            time_of_day=args.time_of_day,
                            camera=camera,
                            min_box_px=args.min_box,
                        )
                    )
                except ValueError as error:
                    raise UserError(str(error)) from error
                for k in range(args.frames_per_scene):
                    frame = scene.frame(k * args.stride)
                    file = f"{args.name}_{args.seed + number:05d}_{k * args.stride:05d}.jpg"
                    _write(root / "pairs" / "rgb" / file, np.ascontiguousarray(frame.rgb[:, :, ::-1]))
                    _write(root / "pairs" / "thermal" / file, frame.thermal)
                    images.append(
                        {
                            "id": len(images) + 1,
                            "file_name": f"pairs/rgb/{file}",
                            "thermal_file_name": f"pairs/thermal/{file}",
                            "width": width,
                            "height": height,
                            "source": "synthetic",
                            "source_id": file[:-4],
                            "group": f"{args.name}_{args.seed + number}",
                            "night": scene.night,
                            "mean_luminance": round(float(frame.rgb.mean()), 1),
                        }
                    )
                    annotations += _annotations(frame, len(images), len(annotations))
                    bar.update()
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASS_NAMES)]
        target.write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories}), encoding="utf-8"
        )
    except OSError as error:
        raise UserError(
            f"cannot write below {root}: {error}; check the folder's permissions and the free space."
        ) from error
    print(f"{len(images)} pairs with {len(annotations)} boxes written to {target}")
    return 0


def _annotations(frame: SyntheticFrame, image: int, done: int) -> list[dict[str, object]]:
    result = []
    for k in range(len(frame)):
        x0, y0, x1, y1 = (float(v) for v in frame.boxes[k])
        result.append(
            {
                "id": done + k + 1,
                "image_id": image,
                "category_id": int(frame.labels[k]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
                "track_id": int(frame.track_ids[k]),
                "visible_fraction": round(float(frame.visible_fraction[k]), 3),
            }
        )
    return result


def _write(path: Path, picture: np.ndarray) -> None:
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"could not encode {path}")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise UserError(f"--size must be HxW in pixels such as 512x640, got '{text}'.")
    return int(height), int(width)
