"""Non-maximum suppression in numpy: what a model with it behind its head has to give."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphkit_passes._nms import OUTPUTS, Settings

Array = np.ndarray[Any, Any]


def detections(head: Array, kind: str, settings: Settings, *, limited: bool) -> dict[str, Array]:
    """The four outputs from what a head gave: [B, A, 5 + C], or [B, 4 + C, A] for ``yolov8``.

    ``limited``: only the best candidates of each image are looked at.
    """
    rows = np.swapaxes(head, 1, 2) if kind == "yolov8" else head
    boxes = rows[..., :4]
    scores = rows[..., 4:] if kind == "yolov8" else rows[..., 5:] * rows[..., 4:5]
    images = [_image(*pair, settings, limited) for pair in zip(boxes, scores, strict=True)]
    return {name: np.stack([i[n] for i in images]) for n, name in enumerate(OUTPUTS)}


def _image(boxes: Array, scores: Array, s: Settings, limited: bool) -> tuple[Array, Array, Array, Array]:
    """Number [1], boxes [M, 4], scores [M] and classes [M] of one image."""
    kinds = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    if s.agnostic:
        kinds, scores = scores.argmax(1)[:, None], scores.max(1, keepdims=True)
    if s.center:
        half = boxes[:, 2:] * np.float32(0.5)
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    if limited:
        order = np.argsort(-scores.reshape(-1), kind="stable")[: s.candidates]
        rows, columns = order // scores.shape[1], order % scores.shape[1]
    else:  # the same scores: the class counts first
        order = np.argsort(-scores.T.reshape(-1), kind="stable")
        rows, columns = order % len(scores), order // len(scores)
    keep = scores[rows, columns] > np.float32(s.score)
    rows, columns = rows[keep], columns[keep]
    found = _greedy(boxes[rows], kinds[rows, columns] if not s.agnostic else np.zeros(len(rows)), s)[: s.most]
    rows, columns = rows[found], columns[found]
    told = (np.zeros((s.most, 4), np.float32), np.zeros(s.most, np.float32), np.full(s.most, -1, np.int32))
    for out, values in zip(told, (boxes[rows], scores[rows, columns], kinds[rows, columns]), strict=True):
        out[: len(rows)] = values
    return (np.array([len(rows)], np.int32), *told)


def _greedy(boxes: Array, kinds: Array, s: Settings) -> list[int]:
    """Indices of the boxes, best first, that no better one of their class hides; as many as are wanted."""
    low, high = boxes[:, :2], boxes[:, 2:]
    if not s.center:  # corners may come in any order
        low, high = np.minimum(low, high), np.maximum(low, high)
    area = np.prod(high - low, 1)
    left, found = np.ones(len(boxes), bool), []
    for n in range(len(boxes)):
        if not left[n]:
            continue
        found.append(n)
        if len(found) == s.most:
            break
        shared = np.prod(np.maximum(np.minimum(high, high[n]) - np.maximum(low, low[n]), np.float32(0)), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            over = shared / (area + area[n] - shared) > np.float32(s.iou)
        left &= ~(over & (shared > 0) & (kinds == kinds[n]))
    return found
