"""Network output -> boxes: softmax, top-k, decode, per-class non-maximum suppression (OpenCV's; torchvision is
not needed)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd_ros.network.anchors import decode_boxes

_PRE_NMS = 1000  # candidates kept per image before suppression


def nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], iou: float
) -> NDArray[np.int64]:
    """Greedy per-class suppression.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        labels: (N,); boxes of different labels never suppress each other.
        iou: a box is dropped when it overlaps a better one by more than this.

    Returns:
        (K,) indices of the survivors by descending score.
    """
    if len(scores) == 0:
        return np.zeros(0, np.int64)
    corners = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1).astype(np.float64)
    suppress: Any = cv2.dnn.NMSBoxesBatched  # takes arrays; its type stubs know sequences only
    kept = suppress(corners, scores.astype(np.float32), labels.astype(np.int32), 0.0, iou)
    kept = np.asarray(kept, np.int64).reshape(-1)
    return kept[np.argsort(-scores[kept], kind="stable")]


def detect(
    logits: Tensor, offsets: Tensor, anchors: Tensor, score_threshold: float, nms_iou: float, max_detections: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes of one image.

    Args:
        logits: (A, C + 1), background last.
        offsets: (A, 4) from the anchors.
        anchors: (A, 4) xyxy in network pixels.

    Returns:
        boxes (N, 4) xyxy float32 in network pixels, scores (N,) float32 descending, labels (N,) int64.

    Raises:
        FloatingPointError: the network answered NaN.
    """
    probabilities = logits.float().softmax(dim=-1)[:, :-1]
    if bool(torch.isnan(probabilities).any()):
        raise FloatingPointError("the network answered NaN")
    classes = probabilities.shape[1]
    flat = probabilities.flatten()
    candidates = (flat > score_threshold).nonzero().squeeze(1)
    scores = flat[candidates]
    if len(scores) > _PRE_NMS:
        scores, best = scores.topk(_PRE_NMS)
        candidates = candidates[best]
    rows = candidates // classes
    boxes_np = decode_boxes(offsets[rows].float(), anchors[rows]).cpu().numpy()
    scores_np = scores.cpu().numpy()
    labels_np = (candidates % classes).cpu().numpy()
    keep = nms(boxes_np, scores_np, labels_np, nms_iou)[:max_detections]
    return boxes_np[keep], scores_np[keep], labels_np[keep]
