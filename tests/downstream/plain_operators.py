"""What mmcv's operators compute, written as plain loops: the reference of their tests."""

from __future__ import annotations

import math

import numpy as np


def iou(a: np.ndarray, b: np.ndarray, offset: int = 0) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2); 0 where both are empty."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int = 0) -> list[int]:
    """The boxes that stay, best first: each that overlaps no better one that stays by more than the threshold."""
    boxes = boxes.astype(np.float64)
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def nms_per_class(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> list[int]:
    """:func:`nms` within each class, then all classes together, best first."""
    kept: list[int] = []
    for name in np.unique(classes):
        (own,) = np.nonzero(classes == name)
        kept += [int(own[i]) for i in nms(boxes[own], scores[own], threshold)]
    return sorted(kept, key=lambda i: -scores[i])


def bilinear(height: int, width: int, y: float, x: float) -> np.ndarray:
    """The weight of each pixel (height, width) in the value at (y, x)."""
    weights = np.zeros((height, width))
    if y < -1 or y > height or x < -1 or x > width:
        return weights
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    for row, down in ((top, 1 - (y - top)), (min(top + 1, height - 1), y - top)):
        for column, right in ((left, 1 - (x - left)), (min(left + 1, width - 1), x - left)):
            weights[row, column] += down * right
    return weights


def roi_weights(
    roi: np.ndarray, shape: tuple[int, int], output: tuple[int, int], scale: float, samples: int, aligned: bool
) -> np.ndarray:
    """RoIAlign of one region as what it is, a linear map: (output rows, output columns, rows, columns)."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(value) * scale - shift for value in roi)
    width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1.0), max(y2 - y1, 1.0))
    bin_height, bin_width = height / output[0], width / output[1]
    rows, columns = (samples, samples) if samples > 0 else (math.ceil(bin_height), math.ceil(bin_width))
    weights = np.zeros((*output, *shape))
    for i in range(output[0]):
        for j in range(output[1]):
            for row in range(rows):
                for column in range(columns):
                    y = y1 + (i + (row + 0.5) / rows) * bin_height
                    x = x1 + (j + (column + 0.5) / columns) * bin_width
                    weights[i, j] += bilinear(*shape, y, x)
    return weights / max(rows * columns, 1)


def roi_align(
    features: np.ndarray, rois: np.ndarray, output: tuple[int, int], scale: float, samples: int, aligned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """RoIAlign of (B, C, H, W) and (M, 5): the pooled regions (M, C, h, w), and the linear maps (M, h, w, H, W)."""
    shape = features.shape[2:]
    maps = [roi_weights(roi[1:], shape, output, scale, samples, aligned) for roi in rois]
    stacked = np.stack(maps) if maps else np.zeros((0, *output, *shape))
    return np.einsum('mhwyx,mcyx->mchw', stacked, features[rois[:, 0].astype(int)]), stacked
