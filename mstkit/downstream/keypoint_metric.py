"""COCO's average precision of keypoints, and the percentage of correct ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mstkit.datasets.keypoint_annotations import read_keypoints
from mstkit.evaluation.protocols.keypoint_scores import oks_average_precision, pck
from mstkit.registry import METRICS
from mstkit.utils.checks import check_list, check_number

_AVERAGES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR')
_ALWAYS = ('AP', 'AP50', 'AP75', 'AR')  # the others only where there are objects of that size


@METRICS.register_module()
class KeypointMetric(BaseMetric):
    """Scores of keypoints in the annotated boxes, in percent; see :mod:`mstkit.evaluation.protocols.keypoint_scores`.

    ``keypoints/AP``, ``AP50``, ``AP75``, ``AR``, and ``APM`` and ``APL`` where there are objects of that size: COCO's
    average precision and recall over OKS, which ignores crowds and objects without labeled keypoints.
    ``keypoints/PCK@0.2``: labeled keypoints that are at most 0.2 of the longer side of the box off. All are 0 where
    nothing was predicted. The annotation file is that of the data set
    (:class:`mstkit.downstream.keypoint_folder.KeypointFolder`).

    Args:
        thresholds: of PCK, as shares of the box.
        collect_device: as in mmengine.
        prefix: of the names.

    Raises:
        UsageError: a threshold that is not positive.
    """

    default_prefix = 'keypoints'

    def __init__(
        self, thresholds: Sequence[float] = (0.2,), collect_device: str = 'cpu', prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.thresholds = check_list('KeypointMetric.thresholds', thresholds, check_number, above=0)
        self._content: dict[str, Mapping[str, Any]] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps what was predicted, and the truth."""
        for sample in data_samples:
            truth, found = sample['gt_instances'], sample['pred_instances']
            left, top, right, bottom = truth['bboxes'][0].tolist()
            seen = truth['keypoints_visible'][0, :, None].cpu().numpy()
            self.results.append(
                dict(
                    id=sample['instance_id'],
                    found=found['keypoints'][0].cpu().numpy(),
                    confidence=float(found['scores'][0]),
                    known=np.concatenate([truth['keypoints'][0].cpu().numpy(), seen], axis=1),
                    box=(left, top, right - left, bottom - top),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The scores in percent, by name without the prefix."""
        names = [f'PCK@{threshold:g}' for threshold in self.thresholds]
        if not results:
            return dict.fromkeys([*_ALWAYS, *names], 0.0)
        ids, found, confidences, known, boxes = (
            [one[key] for one in results] for key in ('id', 'found', 'confidence', 'known', 'box')
        )
        meta: Any = self.dataset_meta
        averages = oks_average_precision(self._of(set(ids)), ids, np.stack(found), confidences, meta['sigmas'])
        scores = {name: averages[name] for name in _AVERAGES if name in _ALWAYS or math.isfinite(averages[name])}
        for name, threshold in zip(names, self.thresholds, strict=True):
            scores[name] = float(pck(np.stack(found), np.stack(known), np.asarray(boxes), threshold)[0])
        return scores

    def _of(self, ids: set[int]) -> dict[str, Any]:
        """The annotations that were looked at (``indices`` of a data set may leave out some), and what is ignored."""
        meta: Any = self.dataset_meta
        path = meta['ann_file']
        if path not in self._content:
            self._content[path] = read_keypoints(path, meta['images']).content
        content = self._content[path]
        kept = [entry for entry in content['annotations'] if entry['id'] in ids or not entry['num_keypoints']]
        return dict(content, annotations=kept)
