"""What the demo leaves behind: figures and pictures out of the replayed bag and the recorded results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmkd_ros.bags import BagReader, BagTopic
from mmkd_ros.drawing import DrawnObject, Overlay, Scene, contact_sheet
from mmkd_ros.drawing_labels import Picture
from mmkd_train.bag_images import TopicImages, nearest
from mmkd_train.report_data import DETECTIONS_SERIES, TRACKS_SERIES, RunRecord, percentiles

# A frame that the pipeline skipped shows the objects of the result before it for so long.
_HOLD_S = 0.5
_SHEET_PICTURES = 6
_SHEET_HEIGHT = 288
_VIDEO_HEIGHT = 480


# Header stamp in ns -> the tracked objects of that message.
Tracked = Mapping[int, list[DrawnObject]]


def summarise(run: RunRecord, replay: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        run: what was recorded.
        replay: last report of the replay: ``rgb``, ``thermal`` (images published) and ``start_ns``.

    Returns:
        - ``frames_rgb``, ``frames_thermal``: images that the replay published.
        - ``pairs``, ``single_modality``: what the detection node made of them.
        - ``dropped``: numbers by reason, if not 0. ``not_received`` are images that a newer one replaced before
          the detection node took them, ``superseded`` pairs that a newer one replaced before the network was
          free, the others as in the node's diagnostics.
        - ``detections_messages``, ``tracks_messages``, ``detections_total`` (objects), ``track_ids`` (identities).
        - ``seconds`` from the start of the replay to the last detections; ``fps``: detections messages in that time.
        - ``latency_ms``: publish time minus header stamp as replayed, of the tracks, which is the whole way from the
          cameras (of the detections when there are no tracks).
        - ``device``, ``weights``: as the detection node reports them.

    Raises:
        ValueError: the detection node's diagnostics are missing from the recording.
    """
    figures = run.figures
    if not figures:
        raise ValueError("The recording holds no diagnostics of detection_node; see its log in the logs folder.")
    dropped = {key.removeprefix("dropped."): int(value) for key, value in figures.items() if key.startswith("dropped.")}
    dropped["not_received"] = sum(replay[camera] - int(figures[f"frames_{camera}"]) for camera in ("rgb", "thermal"))
    detections, tracks = (run.published.get(series, []) for series in (DETECTIONS_SERIES, TRACKS_SERIES))
    last = detections[-1][0] if detections else replay["start_ns"]
    seconds = (last - replay["start_ns"]) / 1e9
    return {
        "frames_rgb": replay["rgb"],
        "frames_thermal": replay["thermal"],
        "pairs": int(figures["pairs"]),
        "single_modality": int(figures["single_rgb"]) + int(figures["single_thermal"]),
        "dropped": {reason: number for reason, number in dropped.items() if number},
        "detections_messages": len(detections),
        "tracks_messages": len(tracks),
        "detections_total": run.objects.total(),
        "track_ids": len(run.tracks),
        "fps": round(len(detections) / seconds, 2) if seconds > 0 else 0.0,
        "latency_ms": percentiles([ms for _, ms in run.longest_way], 50, 95, 99),
        "device": figures["device"],
        "weights": figures["weights"],
        "seconds": round(seconds, 2),
    }


def table(summary: Mapping[str, Any], output: Path, wall_s: float) -> str:
    """The short table that the demo ends with."""
    latency = summary["latency_ms"]
    dropped = ", ".join(f"{reason} {number}" for reason, number in summary["dropped"].items())
    rows = {
        "images": f"{summary['frames_rgb']} RGB, {summary['frames_thermal']} thermal",
        "pairs": f"{summary['pairs']}, single-modality {summary['single_modality']}, dropped {dropped or 'none'}",
        "messages": f"{summary['detections_messages']} detections, {summary['tracks_messages']} tracks",
        "objects": f"{summary['detections_total']} detections, {summary['track_ids']} track ids",
        "speed": f"{summary['fps']:.1f} messages/s on {summary['device']} for {summary['seconds']:.1f} s",
        "latency": "camera to tracks, " + ", ".join(f"{name} {_milliseconds(ms)}" for name, ms in latency.items()),
        "weights": Path(summary["weights"]).name,
        "written": f"{output}/: overlay.mp4, overlay.png, report.html, result.mcap, summary.json",
        "in all": f"{wall_s:.0f} s",
    }
    return "\n".join(f"  {name:<10}{text}" for name, text in rows.items())


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the film: indices of the images in their topics, and the replayed stamp in ns of the RGB image."""

    rgb: int | None
    thermal: int | None
    stamp: int


def film_frames(rgb: list[int], thermal: list[int], tracked: Tracked, slop_ns: int) -> list[Frame]:
    """Every RGB image with the nearest thermal image, and the thermal images that had a result without RGB.

    Args:
        rgb: replayed stamps in ns, ascending.
        thermal: the same of the thermal images.
        tracked: tells which thermal images were used alone.
        slop_ns: largest distance of a pair.
    """
    frames = []
    for index, stamp in enumerate(rgb):
        partner = nearest(thermal, stamp)
        near = partner is not None and abs(thermal[partner] - stamp) <= slop_ns
        frames.append(Frame(index, partner if near else None, stamp))
    known = set(rgb)
    frames += [Frame(None, i, s) for i, s in enumerate(thermal) if s in tracked and s not in known]
    return sorted(frames, key=lambda frame: frame.stamp)


def render(
    bag: BagReader, topics: tuple[BagTopic, BagTopic], frames: list[Frame], tracked: Tracked, output: Path
) -> None:
    """Write ``overlay.mp4`` and ``overlay.png`` into the folder ``output``.

    Raises:
        RuntimeError: the video cannot be written.
        ValueError: no frame.
    """
    if not frames:
        raise ValueError("There is no frame to draw; the recording is empty.")
    chosen = _sheet_frames(frames, tracked)
    rgb_images, thermal_images = TopicImages(bag, topics[0], False), TopicImages(bag, topics[1], True)
    overlay, sheet, video = Overlay(_VIDEO_HEIGHT), [], None
    held: tuple[int, list[DrawnObject]] = (0, [])
    start = frames[0].stamp
    try:
        for number, frame in enumerate(tqdm(frames, desc="drawing", unit="frame")):
            rgb, thermal = rgb_images.get(frame.rgb), thermal_images.get(frame.thermal)
            if rgb is None and thermal is None:
                continue
            fresh = frame.stamp in tracked
            if fresh:
                held = (frame.stamp, tracked[frame.stamp])
            objects = held[1] if frame.stamp - held[0] <= _HOLD_S * 1e9 else []
            note = f"{(frame.stamp - start) / 1e9:6.2f} s    {len(objects)} tracked" + (
                "" if fresh else "    (skipped)"
            )
            scene = Scene(rgb, thermal, objects, frame.stamp / 1e9, note, faded=not fresh)
            if fresh:
                overlay.advance(scene)
            picture = overlay.render(scene)
            video = video or _open_video(output / "overlay.mp4", picture, _frame_rate(frames))
            video.write(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
            if number in chosen:
                sheet.append(overlay.render(scene, _SHEET_HEIGHT))
    finally:
        if video is not None:
            video.release()
    if not sheet:
        raise ValueError("None of the images of the recording can be decoded; there is nothing to draw.")
    if not cv2.imwrite(str(output / "overlay.png"), contact_sheet(sheet)):
        raise RuntimeError(f"{output / 'overlay.png'} cannot be written; check the disk.")


def _open_video(path: Path, picture: Picture, rate: float) -> cv2.VideoWriter:
    size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)  # the codec wants even sides
    # MPEG-4 part 2: the one codec for mp4 that OpenCV's wheels always hold.
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not video.isOpened():
        raise RuntimeError(
            f"OpenCV cannot write {path}: its build has no MPEG-4 encoder, or the place is not writable."
        )
    return video


def _frame_rate(frames: list[Frame]) -> float:
    """Frames per second that play the film in the time of the replay, from the usual distance of its frames."""
    gaps = np.diff([frame.stamp for frame in frames])
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    return float(np.clip(round(1e9 / usual, 2), 1.0, 120.0)) if usual > 0 else 10.0


def _sheet_frames(frames: list[Frame], tracked: Tracked) -> set[int]:
    """One frame of each stretch of the film."""
    stretches = np.array_split(np.arange(len(frames)), min(_SHEET_PICTURES, len(frames)))
    return {_best_frame([int(index) for index in stretch], frames, tracked) for stretch in stretches}


def _best_frame(stretch: list[int], frames: list[Frame], tracked: Tracked) -> int:
    """That with a result and the most objects, of equal ones the middle one."""
    middle = (stretch[0] + stretch[-1]) / 2

    def merit(index: int) -> tuple[int, float]:
        return len(tracked.get(frames[index].stamp, ())), -abs(index - middle)

    shown = [index for index in stretch if frames[index].stamp in tracked]
    return max(shown or stretch, key=merit)
