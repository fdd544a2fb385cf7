"""Scores of keypoints: object keypoint similarity (OKS) with its average precision, and percent of correct keypoints.

OKS and its average precision are COCO's (https://cocodataset.org/#keypoints-eval). PCK counts the keypoints that are
nearer to the truth than a share of a length (Yang and Ramanan, TPAMI 2013), here of the longer side of the box.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# As COCO's evaluation writes them, in this order.
_NAMES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')


def oks(found: np.ndarray, known: np.ndarray, areas: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """Object keypoint similarity: over the labeled keypoints the mean of exp(−d² / (2 s² k²)), s² the area, k = 2σ.

    Args:
        found: (M, K, 2) predicted, in pixels.
        known: (M, K, 3) the truth with v; keypoints with v = 0 do not count.
        areas: (M,) of the objects, in square pixels.
        sigmas: K numbers, of the keypoints.

    Returns:
        (M,) float64, 0 to 1; NaN where no keypoint is labeled.
    """
    labeled = known[..., 2] > 0
    apart = _squared(found, known)
    scale = 2.0 * np.asarray(areas, np.float64)[:, None] * (2.0 * np.asarray(sigmas, np.float64)) ** 2
    return _mean_of_labeled(np.exp(-apart / scale), labeled)


def pck(found: np.ndarray, known: np.ndarray, boxes: np.ndarray, alpha: float = 0.2) -> tuple[float, np.ndarray]:
    """Percent of the labeled keypoints that are at most ``alpha`` times the longer side of their box off.

    Args:
        found: (M, K, 2) predicted, in pixels.
        known: (M, K, 3) the truth with v; keypoints with v = 0 do not count.
        boxes: (M, 4) x, y, width, height in pixels.
        alpha: share of the side.

    Returns:
        That of all keypoints of all objects, and (K,) float64 of each keypoint; NaN for one that is never labeled.
    """
    labeled = known[..., 2] > 0
    limits = alpha * np.asarray(boxes, np.float64)[:, 2:].max(axis=1)
    right = (_squared(found, known) <= limits[:, None] ** 2) & labeled
    count = labeled.sum(axis=0)
    each = np.divide(100.0 * right.sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
    return 100.0 * float(right.sum()) / max(float(count.sum()), 1.0), each


def oks_average_precision(
    content: Mapping[str, Any],
    ids: Sequence[int],
    found: np.ndarray,
    confidences: Sequence[float],
    sigmas: Sequence[float],
) -> dict[str, float]:
    """COCO's average precision and recall over OKS of 0.50 to 0.95, by pycocotools.

    Args:
        content: of :class:`mstkit.datasets.keypoint_annotations.KeypointAnnotations`.
        ids: of M annotations, in whose boxes keypoints were looked for. The image of each is that of the annotation,
            not the object with which a prediction is compared.
        found: (M, K, 2) predicted, in pixels.
        confidences: M numbers, by which predictions are ranked.
        sigmas: K numbers, of the keypoints.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APM``, ``APL`` and the same of ``AR``, in percent; NaN where there is no object of
        that size (medium: 32² to 96² square pixels, large: more).
    """
    # Numbered anew: pycocotools counts the object of id 0 as not found.
    known = [dict(entry, id=number) for number, entry in enumerate(content['annotations'], start=1)]
    entries = {entry['id']: entry for entry in content['annotations']}
    results = []
    for number, points, confidence in zip(ids, np.asarray(found, np.float64), confidences, strict=True):
        entry = entries[number]
        triples = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        place = dict(image_id=entry['image_id'], category_id=entry['category_id'])
        results.append(place | dict(keypoints=triples.ravel().tolist(), score=float(confidence)))
    if not results:
        return dict.fromkeys(_NAMES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # progress and a table
        truth = COCO()
        truth.dataset = dict(content, annotations=known)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = (float(value) for value in evaluation.stats)
    return {name: 100.0 * value if value >= 0 else np.nan for name, value in zip(_NAMES, values, strict=True)}


def _squared(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(M, K) squared distances."""
    return ((np.asarray(found, np.float64) - known[..., :2]) ** 2).sum(axis=-1)


def _mean_of_labeled(values: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    count = labeled.sum(axis=1)
    total = np.where(labeled, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
